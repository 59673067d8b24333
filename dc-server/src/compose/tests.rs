//! What is rendered of a plan.

use std::os::unix::fs::MetadataExt;

use expect_test::expect;

use super::*;
use crate::{
    compose::subnet::DEFAULT,
    config::{self, flags::Request, source},
};

/// Two datacenters, the first one with a client agent, the second one behind a gateway.
const PLAN: &str = "
[[datacenter]]
name = 'a'
servers = 1
clients = 1
[[datacenter]]
name = 'b'
servers = 1
gateways = 1
";

/// The head of a program that needs no other file.
fn alone() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes
}

fn settings(dir: &Path) -> Settings {
    let binary = dir.join("program");
    fs::write(&binary, alone()).unwrap();
    Settings {
        plan: Plan::parse(PLAN).unwrap(),
        dir: dir.join("out"),
        binary,
        subnet: DEFAULT,
        now: OffsetDateTime::now_utc(),
    }
}

#[test]
fn the_project_has_a_network_for_each_datacenter_and_one_that_only_servers_are_on() {
    let layout = Layout::new(
        &Plan::parse(PLAN).unwrap(),
        |dc, node| DEFAULT.addresses(dc, node),
        Path::new("/nowhere"),
    );
    let text = project::text(&layout, DEFAULT);
    let services = &text[text.find("services:").unwrap()..];
    expect![[r#"
        services:
          a-server-1:
            <<: *node
            hostname: a-server-1
            volumes: ["./a/server-1:/config:ro", "a-server-1:/data"]
            networks:
              a: { ipv4_address: 10.77.1.10 }
              wan: { ipv4_address: 10.77.129.10 }
          a-client-1:
            <<: *node
            hostname: a-client-1
            volumes: ["./a/client-1:/config:ro", "a-client-1:/data"]
            networks:
              a: { ipv4_address: 10.77.1.11 }
            ports: ["127.0.0.1:8501:8500", "127.0.0.1:8601:8600/udp", "127.0.0.1:8601:8600/tcp"]
          b-server-1:
            <<: *node
            hostname: b-server-1
            volumes: ["./b/server-1:/config:ro", "b-server-1:/data"]
            networks:
              b: { ipv4_address: 10.77.2.10 }
              wan: { ipv4_address: 10.77.130.10 }
            ports: ["127.0.0.1:8502:8500", "127.0.0.1:8602:8600/udp", "127.0.0.1:8602:8600/tcp"]
          b-gateway-1:
            <<: *node
            hostname: b-gateway-1
            command: ["gateway", "-config-file", "/config/config.json"]
            healthcheck: { disable: true }
            volumes: ["./b/gateway-1:/config:ro"]
            networks:
              b: { ipv4_address: 10.77.2.11 }
              wan: { ipv4_address: 10.77.130.11 }

        volumes:
          a-server-1: {}
          a-client-1: {}
          b-server-1: {}

        networks:
          a: { ipam: { config: [{ subnet: 10.77.1.0/24 }] } }
          b: { ipam: { config: [{ subnet: 10.77.2.0/24 }] } }
          wan: { ipam: { config: [{ subnet: 10.77.128.0/17 }] } }
    "#]]
    .assert_eq(services);
}

#[test]
fn agents_take_what_is_rendered_and_only_the_owner_reads_keys() {
    let temp = tempfile::tempdir().unwrap();
    let settings = settings(temp.path());
    let layout = render(&settings).unwrap();
    for node in &layout.nodes {
        let text = source::Text {
            name: "config.json".into(),
            format: source::Format::Json,
            body: fs::read_to_string(node.config()).unwrap(),
        };
        let host = config::Host { name: None, addresses: Vec::new() };
        let loaded = config::build(&Request::default(), &[text], &host).unwrap();
        assert_eq!(loaded.agent.is_server(), node.role == Role::Server);
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(fs::metadata(node.dir.join("key.pem")).unwrap().mode() & 0o777, 0o600);
        assert!(node.dir.join("ca.pem").exists());
    }
    assert_eq!(fs::read(settings.dir.join(PROGRAM)).unwrap(), alone());
    let again = render(&settings).unwrap_err().to_string();
    assert!(again.contains("is not empty"), "{again}");
}

#[test]
fn a_program_that_needs_others_is_refused_before_anything_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let settings = settings(temp.path());
    fs::write(&settings.binary, "#!/bin/sh\n").unwrap();
    let error = render(&settings).unwrap_err().to_string();
    assert!(error.contains("is no program for Linux") && error.contains("make release"), "{error}");
    assert!(!settings.dir.exists());
}
