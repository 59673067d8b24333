//! Precedence, defaults, rules, and what is said when something is wrong.

use std::net::SocketAddr;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{source::Format, *};
use crate::cli::flags as line;

fn host() -> Host {
    Host { name: Some("host-1".into()), addresses: vec!["10.9.8.7".parse().unwrap()] }
}

fn request(flags: &[&str]) -> Request {
    let words: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Request::from_line(&line::parse(&flags::all(), &words).unwrap()).unwrap()
}

fn text(name: &str, body: &str) -> Text {
    let format = if name.ends_with(".json") { Format::Json } else { Format::Hcl };
    Text { name: name.into(), format, body: body.into() }
}

fn built(flags: &[&str], texts: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let texts: Vec<_> = texts.iter().map(|(name, body)| text(name, body)).collect();
    build(&request(flags), &texts, &host())
}

fn agent(flags: &[&str], body: &str) -> Agent {
    built(flags, &[("a.hcl", body)]).unwrap().agent
}

fn fails(flags: &[&str], body: &str, expected: Expect) {
    expected.assert_eq(&built(flags, &[("a.hcl", body)]).unwrap_err().to_string());
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_development_mode_needs_nothing() {
    let loaded = built(&["-dev"], &[]).unwrap();
    let agent = loaded.agent;
    assert!(agent.is_server() && agent.dev);
    assert_eq!(agent.bootstrap_expect, 1);
    assert_eq!(agent.data_dir, None);
    assert_eq!(agent.node_name.as_str(), "host-1");
    assert_eq!(agent.addresses.link.bind, addr("127.0.0.1:8300"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn a_client_has_consuls_defaults() {
    let agent = agent(&["-data-dir", "/d"], "");
    assert_eq!(agent.datacenter.as_str(), "dc1");
    assert!(!agent.is_server());
    assert_eq!(agent.addresses.lan.bind, addr("0.0.0.0:8301"));
    assert_eq!(agent.addresses.lan.advertise, addr("10.9.8.7:8301"));
    assert_eq!(agent.addresses.wan, None);
    assert_eq!(agent.addresses.http, [agent::Listen::Tcp(addr("127.0.0.1:8500"))]);
    assert_eq!(agent.addresses.dns, [addr("127.0.0.1:8600")]);
    assert!(agent.leave.on_terminate && agent.leave.on_interrupt);
    assert_eq!(agent.join.interval.as_secs(), 30);
}

#[test]
fn a_server_stays_on_signals_unless_told_otherwise() {
    let leave = agent(&["-data-dir=/d", "-server"], "").leave;
    assert!(!leave.on_terminate && !leave.on_interrupt);
    let told = "leave_on_terminate = true skip_leave_on_interrupt = false";
    let leave = agent(&["-data-dir=/d", "-server"], told).leave;
    assert!(leave.on_terminate && leave.on_interrupt);
}

#[test]
fn flags_override_files_and_later_files_earlier_ones() {
    let loaded = built(
        &["-data-dir=/d", "-node", "flag"],
        &[
            ("a.hcl", "node_name = \"a\" datacenter = \"a\" ports { http = 1 dns = 2 }"),
            ("b.json", r#"{"datacenter": "b", "ports": {"http": 3}}"#),
        ],
    );
    let agent = loaded.unwrap().agent;
    assert_eq!(agent.node_name.as_str(), "flag");
    assert_eq!(agent.datacenter.as_str(), "b");
    assert_eq!(agent.addresses.http, [agent::Listen::Tcp(addr("127.0.0.1:3"))]);
    assert_eq!(agent.addresses.dns, [addr("127.0.0.1:2")]);
}

#[test]
fn fragments_come_after_files() {
    let agent = built(&["-dev", "-hcl", "datacenter = \"c\""], &[("a.hcl", "datacenter = \"a\"")]);
    assert_eq!(agent.unwrap().agent.datacenter.as_str(), "c");
}

#[test]
fn lists_add_up_with_those_of_flags_first() {
    let loaded = built(
        &["-dev", "-retry-join=f1", "-retry-join=f2"],
        &[("a.hcl", "retry_join = [\"a\"]"), ("b.hcl", "retry_join = [\"b\"]")],
    );
    assert_eq!(loaded.unwrap().agent.join.retry, ["f1", "f2", "a", "b"]);
}

#[test]
fn node_metadata_of_all_layers_is_merged() {
    let agent = agent(
        &["-dev", "-node-meta", "a:3", "-node-meta=c:x:y"],
        "node_meta { a = \"1\" b = \"2\" }",
    );
    let meta: Vec<_> = agent.node_meta.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(meta, ["a=3", "b=2", "c=x:y"]);
}

#[test]
fn null_is_as_if_it_were_not_there() {
    let loaded = built(
        &["-dev"],
        &[("a.json", r#"{"datacenter": null, "ports": {"http": null}, "ports": null}"#)],
    );
    assert_eq!(loaded.unwrap().agent.datacenter.as_str(), "dc1");
}

#[test]
fn keys_without_use_warn_once_each_even_when_null() {
    let body = r#"{"connect": {"enabled": true}, "recursors": null, "acl_datacenter": "dc9", "ui": true, "telemetry": {"statsd_address": "x"}}"#;
    let loaded = built(&["-dev"], &[("a.json", body)]).unwrap();
    assert_eq!(loaded.agent.primary_datacenter.unwrap().as_str(), "dc9");
    expect![[r#"
        a.json: connect.enabled is ignored: Causeway has no service mesh
        a.json: recursors is ignored: this version of Causeway does not use it yet
        a.json: acl_datacenter is deprecated: use primary_datacenter
        a.json: ui is deprecated: use ui_config.enabled; it is ignored: this version of Causeway does not use it yet
        a.json: telemetry.statsd_address is ignored: Causeway offers its metrics to Prometheus at /v1/agent/metrics"#]]
    .assert_eq(&loaded.warnings.join("\n"));
}

#[test]
fn unknown_keys_are_errors_that_name_the_nearest() {
    fails(
        &["-dev"],
        "ports {\n  htpp = 1\n}\nretryjoin = []\nqqq = 1",
        expect![[r#"
            a.hcl:2:3: invalid config key ports.htpp, did you mean ports.http?
            a.hcl:4:1: invalid config key retryjoin, did you mean retry_join?
            a.hcl:5:1: invalid config key qqq"#]],
    );
}

#[test]
fn bad_values_are_errors_that_say_what_was_expected() {
    fails(
        &["-dev", "-serf-lan-port=x", "-log-level", "loud"],
        r#"server = "true" ports { http = "8500" dns = 70000 } retry_join = "a" retry_interval = "5"
           reconnect_timeout = 5 node_meta { a = 1 } tls = 3 encrypt = 1 performance { raft_multiplier = "1" }"#,
        expect![[r#"
            a.hcl:1:1: server: expected true or false, found the text "true"
            a.hcl:1:25: ports.http: expected a port number (1 to 65535, or -1 to disable it), found the text "8500"
            a.hcl:1:39: ports.dns: expected a port number (1 to 65535, or -1 to disable it), found 70000
            a.hcl:1:53: retry_join: expected a list of texts, such as ["a", "b"], found the text "a"
            a.hcl:1:70: retry_interval: expected a duration in quotes, such as "10s" or "1h30m" (time: missing unit in duration "5"), found the text "5"
            a.hcl:2:12: reconnect_timeout: expected a duration in quotes, such as "10s" or "1h30m", found 5
            a.hcl:2:34: node_meta: expected a block of texts, such as { name = "value" }, found a block
            a.hcl:2:54: tls: expected a block, such as { key = value }, found 3
            a.hcl:2:62: encrypt: expected a text, found something else
            a.hcl:2:88: performance.raft_multiplier: expected a whole number, found the text "1"
            -serf-lan-port: ports.serf_lan: expected a port number (1 to 65535, or -1 to disable it), found the text "x""#]],
    );
}

#[test]
fn syntax_errors_name_file_line_and_column() {
    fails(
        &["-dev"],
        "a = ",
        expect![[r#"a.hcl:1:5: expected a value, found the end of the text"#]],
    );
    let error = built(&["-dev"], &[("a.json", "{\"a\": }")]).unwrap_err();
    expect![[r#"a.json:1:7: expected value"#]].assert_eq(&error.to_string());
    let error = built(&["-dev"], &[("a.json", "[]")]).unwrap_err();
    expect![[r#"a.json: expected an object of keys"#]].assert_eq(&error.to_string());
}

#[test]
fn rules_between_keys_are_checked() {
    fails(
        &[],
        "",
        expect!["data_dir cannot be empty: set it with -data-dir or in a file, or use -dev"],
    );
    fails(
        &["-data-dir=/d"],
        "bootstrap_expect = 3",
        expect!["'bootstrap_expect > 0' requires 'server = true'"],
    );
    fails(
        &["-data-dir=/d"],
        "bootstrap = true",
        expect!["'bootstrap = true' requires 'server = true'"],
    );
    fails(
        &["-data-dir=/d", "-server", "-bootstrap", "-bootstrap-expect=3"],
        "",
        expect!["'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive"],
    );
    fails(
        &["-dev"],
        "bootstrap_expect = 3",
        expect!["'bootstrap_expect > 1' not allowed in dev mode"],
    );
    fails(
        &["-dev"],
        "advertise_addr = \"0.0.0.0\"",
        expect!["Advertise address cannot be 0.0.0.0, :: or [::]"],
    );
}

#[test]
fn addresses_and_names_are_checked() {
    fails(&["-dev"], "bind_addr = \"\"", expect!["bind_addr cannot be empty"]);
    fails(
        &["-dev"],
        "bind_addr = \"{{ GetPrivateIP }}\"",
        expect![[
            r#"a.hcl:1:1: bind_addr: expected an IP address (go-sockaddr templates are not evaluated), found "{{ GetPrivateIP }}""#
        ]],
    );
    fails(
        &["-dev"],
        "client_addr = \"127.0.0.1 foo\"",
        expect![[r#"
            a.hcl:1:1: client_addr: expected an IP address, found "foo"
            a.hcl:1:1: client_addr: expected an IP address, found "foo""#]],
    );
    fails(
        &["-dev", "-datacenter", "a b"],
        "",
        expect![[
            r#"-datacenter: datacenter: expected a name (datacenter name "a b" can't hold ' ': use letters, digits, dashes and underscores), found "a b""#
        ]],
    );
}

#[test]
fn numbers_and_ports_are_checked() {
    fails(
        &["-dev"],
        "performance { raft_multiplier = 11 }",
        expect![
            "a.hcl:1:15: performance.raft_multiplier: expected a whole number between 1 and 10, found 11"
        ],
    );
    fails(
        &["-dev"],
        "autopilot { max_trailing_logs = -1 }",
        expect!["autopilot.max_trailing_logs cannot be -1. Must be greater than or equal to zero"],
    );
    fails(
        &["-dev"],
        "ports { server = -1 }",
        expect!["ports.server must be a valid port from 1 to 65535"],
    );
    fails(
        &["-dev"],
        "ports { serf_wan = 8301 }",
        expect!["ports.serf_wan: address 127.0.0.1:8301 already configured for ports.serf_lan"],
    );
    fails(
        &["-dev"],
        "cert_file = \"c\"",
        expect![[r#"
        tls.https: cert_file needs key_file beside it
        tls.internal_rpc: cert_file needs key_file beside it"#]],
    );
    fails(
        &["-dev"],
        "ports { https = 8501 }",
        expect!["ports.https needs tls.https.cert_file and key_file (or tls.defaults)"],
    );
}

#[test]
fn keys_ids_and_levels_are_checked() {
    fails(
        &["-dev"],
        "retry_join = [\"provider=aws tag_key=x\"]",
        expect![
            "retry_join: Causeway has no cloud auto-join: list addresses instead of provider=..."
        ],
    );
    fails(
        &["-dev"],
        "node_meta { consul-x = \"y\" }",
        expect![[
            r#"a.hcl:1:1: node_meta: expected pairs (the prefix consul- is reserved), found "consul-x" = "y""#
        ]],
    );
    fails(
        &["-dev"],
        "encrypt = \"abc\"",
        expect![
            "a.hcl:1:1: encrypt: expected a key in base64 (keygen makes one), found something else"
        ],
    );
    fails(
        &["-dev"],
        "encrypt = \"cg8StVXbQJ0gPvMd9o7y\"",
        expect![
            "a.hcl:1:1: encrypt: expected a key of 32 or 16 bytes (keygen makes one), found 15 bytes"
        ],
    );
    fails(
        &["-dev"],
        "log_level = \"BLAH\"",
        expect![[
            r#"a.hcl:1:1: log_level: expected one of TRACE, DEBUG, INFO, WARN and ERR, found "BLAH""#
        ]],
    );
    fails(
        &["-dev"],
        "node_id = \"abc\"",
        expect![
            "a.hcl:1:1: node_id: expected a UUID such as 40e4a748-2192-161a-0510-9bf59fe950b5, found abc"
        ],
    );
}

#[test]
fn client_addresses_may_be_several_and_sockets() {
    let body = "client_addr = \"127.0.0.1 [::1]\" addresses { http = \"unix:///run/c.sock 10.0.0.1\" dns = \"127.0.0.2\" }";
    let addresses = agent(&["-dev"], body).addresses;
    let http: Vec<_> = addresses.http.iter().map(ToString::to_string).collect();
    assert_eq!(http, ["unix:///run/c.sock", "10.0.0.1:8500"]);
    assert_eq!(addresses.dns, [addr("127.0.0.2:8600")]);
}

#[test]
fn ports_below_one_disable() {
    let addresses = agent(&["-dev"], "ports { http = -1 dns = 0 serf_wan = -1 }").addresses;
    assert_eq!((addresses.http.len(), addresses.dns.len(), addresses.wan), (0, 0, None));
}

#[test]
fn the_wan_has_its_own_addresses() {
    let body = "bind_addr = \"0.0.0.0\" serf_wan = \"10.0.0.2\" advertise_addr_wan = \"1.2.3.4\"";
    let wan = agent(&["-dev"], body).addresses.wan.unwrap();
    assert_eq!((wan.bind, wan.advertise), (addr("10.0.0.2:8302"), addr("1.2.3.4:8302")));
}

#[test]
fn several_private_addresses_warn_and_none_is_an_error() {
    let several = Host {
        addresses: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
        ..host()
    };
    let loaded = build(&request(&["-data-dir=/d"]), &[], &several).unwrap();
    assert_eq!(loaded.agent.addresses.lan.advertise, addr("10.0.0.1:8301"));
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    let none = Host { addresses: vec![], ..host() };
    let error = build(&request(&["-data-dir=/d"]), &[], &none).unwrap_err();
    assert!(error.to_string().starts_with("No private IPv4 address found"), "{error}");
}

#[test]
fn certificates_of_an_interface_override_the_defaults() {
    let body = "ca_file = \"ca\" tls { defaults { cert_file = \"c\" key_file = \"k\" } internal_rpc { cert_file = \"c2\" } }";
    let tls = agent(&["-dev"], body).tls;
    let link = tls.link.unwrap();
    assert_eq!(link.cert_file.to_str(), Some("c2"));
    assert_eq!(link.key_file.to_str(), Some("k"));
    assert_eq!(link.ca.len(), 1);
    assert_eq!(tls.https.unwrap().cert_file.to_str(), Some("c"));
}

#[test]
fn secrets_are_never_shown() {
    let key = "cg8StVXbQJ0gPvMd9o7yrg==";
    let agent = agent(&["-dev", "-encrypt", key], "acl { tokens { agent = \"tokentoken\" } }");
    assert_eq!(agent.encrypt.as_ref().unwrap().bytes().len(), 16);
    let shown = agent.shown().to_string() + &format!("{agent:?}");
    assert!(!shown.contains(key) && !shown.contains("tokentoken") && shown.contains("hidden"));
}

#[test]
fn definitions_are_kept_as_they_are() {
    let loaded = built(
        &["-dev"],
        &[
            (
                "a.hcl",
                "service { name = \"a\" } service { name = \"b\" } checks = [{ id = \"c\" }]",
            ),
            (
                "b.json",
                r#"{"service": {"name": "c"}, "services": [{"name": "d"}], "check": {"id": "e"}}"#,
            ),
        ],
    );
    let definitions = loaded.unwrap().agent.definitions;
    let names: Vec<_> = definitions.services.iter().map(|s| s["name"].to_string()).collect();
    assert_eq!(names, ["\"a\"", "\"b\"", "\"c\"", "\"d\""]);
    assert_eq!(definitions.checks.len(), 2);
}

#[test]
fn every_used_key_is_read() {
    let mut warnings = Vec::new();
    let settings = Settings::default();
    build::agent(&settings, &host(), false, &mut warnings).unwrap_err();
    let asked = settings.asked();
    for key in keys::all() {
        if key.fate == keys::Fate::Used && key.kind != keys::Kind::Block {
            assert!(asked.contains(key.path), "{} is used by nothing", key.path);
        }
    }
}

#[test]
fn every_key_takes_a_value_of_its_kind() {
    use serde_json::json;
    for key in keys::all() {
        let value = match key.kind {
            keys::Kind::Bool => json!(true),
            keys::Kind::Integer | keys::Kind::Port => json!(1),
            keys::Kind::Float => json!(1.5),
            keys::Kind::Text | keys::Kind::Secret => json!("x"),
            keys::Kind::Duration => json!("1s"),
            keys::Kind::Texts => json!(["x"]),
            keys::Kind::TextMap => json!({"x": "y"}),
            keys::Kind::Block => continue,
            keys::Kind::Raw => json!({}),
        };
        let checked = check::value(key, &value, "here");
        assert_eq!(checked.problems, [], "{}", key.path);
        assert_eq!(checked.settings.len(), 1, "{}", key.path);
        assert_eq!(
            checked.warnings.len(),
            usize::from(key.fate != keys::Fate::Used),
            "{}",
            key.path
        );
    }
}

#[test]
fn a_production_server_of_consul_starts() {
    let body = r#"
        # /etc/consul.d/consul.hcl
        datacenter = "east-aws"
        data_dir = "/opt/consul"
        log_level = "INFO"
        node_name = "foobar"
        server = true
        bootstrap_expect = 3
        encrypt = "qDOPBEr+/oUVeOFQOnVypxwDaHzLrD+lvjo5vCEBbZ0="
        bind_addr = "10.0.0.5"
        client_addr = "0.0.0.0"
        retry_join = ["10.0.0.6", "10.0.0.7:8301"]
        retry_join_wan = ["dc2.example.com"]
        tls {
          defaults {
            ca_file = "/etc/consul.d/ca.pem"
            cert_file = "/etc/consul.d/dc1-server-consul-0.pem"
            key_file = "/etc/consul.d/dc1-server-consul-0-key.pem"
            verify_incoming = true
            verify_outgoing = true
          }
          internal_rpc { verify_server_hostname = true }
        }
        performance { raft_multiplier = 1 }
        autopilot { cleanup_dead_servers = true last_contact_threshold = "200ms" }
        telemetry { prometheus_retention_time = "60s" disable_hostname = true }
        limits { http_max_conns_per_client = 500 }
        acl = { enabled = true, default_policy = "allow", tokens = { agent = "x" } }
        ui_config { enabled = true }
        connect { enabled = true }
        ports { grpc = 8502 https = 8501 }
    "#;
    let loaded = built(&[], &[("consul.hcl", body)]).unwrap();
    assert_eq!(loaded.agent.bootstrap_expect, 3);
    assert_eq!(loaded.agent.addresses.link.advertise, addr("10.0.0.5:8300"));
    assert_eq!(loaded.warnings.len(), 9, "{:#?}", loaded.warnings);
}

proptest! {
    #[test]
    fn building_never_panics(body in r#"[a-z_]{1,12} ?[={] ?("[a-z0-9]{0,5}"|[0-9]{1,5}|true|\[\]) ?\}?"#) {
        let _ = built(&["-dev"], &[("a.hcl", &body)]);
    }

    #[test]
    fn any_json_under_any_key_is_answered(index in 0..400usize, which in 0..7usize) {
        use serde_json::json;
        let value = [json!(null), json!(true), json!(-7), json!("x"), json!(["a", 1]), json!({"a": [{}]}), json!([{}])][which].clone();
        if let Some(key) = keys::all().nth(index) {
            let value = key.path.rsplit('.').fold(value, |inner, name| json!({ name: inner }));
            let _ = built(&["-dev"], &[("a.json", &value.to_string())]);
        }
    }
}
