//! The configuration file of each node, as JSON with Consul's keys.

use std::path::PathBuf;

use serde_json::{Value, json};
use topology::Role;

use crate::processes::layout::{Gateway, Layout, Node, WAN_PORT};

/// How many servers, or gateways, of each other datacenter a server is told of at the start. Knowing one is
/// enough; a second one helps when the first is not up yet.
const WAN_SEEDS: usize = 2;

/// What the nodes need to trust each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The LAN pool's key, in base64.
    pub gossip_key: String,
    /// The certificate and key files; `None` runs without TLS.
    pub tls: Option<TlsFiles>,
}

/// The files of a node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The node's certificate.
    pub cert: PathBuf,
    /// The node's private key.
    pub key: PathBuf,
}

/// Returns the configuration of a node.
pub fn render(node: &Node, layout: &Layout, credentials: &Credentials) -> Value {
    let lan: Vec<String> = layout
        .servers_of(&node.dc)
        .filter(|other| *other != node)
        .map(|s| s.ip.to_string())
        .collect();
    let mut config = json!({
        "datacenter": node.dc.as_str(),
        "node_name": node.name.as_str(),
        "server": node.role == Role::Server,
        "bind_addr": node.ip.to_string(),
        "client_addr": node.ip.to_string(),
        "data_dir": node.data(),
        "encrypt": credentials.gossip_key,
        "retry_join": lan,
        "retry_interval": "1s",
        "log_level": "INFO",
        "leave_on_terminate": false,
    });
    if let Some(primary) = &layout.primary {
        config["primary_datacenter"] = json!(primary.as_str());
    }
    if node.role == Role::Server {
        config["bootstrap_expect"] = json!(layout.servers_of(&node.dc).count());
        config["performance"] = json!({ "raft_multiplier": 1 });
        config["retry_join_wan"] = json!(wan_seeds(node, layout));
        config["retry_interval_wan"] = json!("1s");
        let gateways: Vec<String> =
            layout.gateways_of(&node.dc).map(|it| it.wan.to_string()).collect();
        if !gateways.is_empty() {
            config["federation"] = json!({ "gateways": gateways });
        }
    }
    match &credentials.tls {
        Some(TlsFiles { ca, cert, key }) => {
            let files = json!({ "ca_file": ca, "cert_file": cert, "key_file": key });
            config["tls"] = json!({ "defaults": files });
        }
        // Without certificates it may be another program, and that asks for updates.
        None => config["disable_update_check"] = json!(true),
    }
    config
}

/// Returns the configuration of a gateway.
pub fn render_gateway(gateway: &Gateway, layout: &Layout) -> Value {
    let servers = layout.servers_of(&gateway.dc);
    let servers: Vec<String> =
        servers.map(|it| format!("{}={}:{WAN_PORT}", it.name, it.wan)).collect();
    json!({
        "bind": format!("{}:{WAN_PORT}", gateway.ip),
        "datacenter": gateway.dc.as_str(),
        "servers": servers,
    })
}

fn wan_seeds(node: &Node, layout: &Layout) -> Vec<String> {
    let others = layout.datacenters().into_iter().filter(|dc| *dc != node.dc);
    others
        .flat_map(|dc| {
            let gateways: Vec<_> = layout.gateways_of(&dc).map(|gateway| gateway.wan).collect();
            let servers = layout.servers_of(&dc).map(|server| server.wan);
            let seeds = if gateways.is_empty() { servers.collect() } else { gateways };
            seeds.into_iter().take(WAN_SEEDS).map(|seed| seed.to_string()).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use topology::plan::Plan;

    use super::*;
    use crate::{
        config::{self, flags::Request, source},
        processes::loopback::Block,
    };

    fn layout() -> Layout {
        let text = "primary='b'\n[[datacenter]]\nname='a'\nservers=3\nclients=1\n[[datacenter]]\nname='b'\nservers=3\n";
        let block = Block::claim(40, 8298).unwrap();
        Layout::new(&Plan::parse(text).unwrap(), block.addresses(), Path::new("/run"))
    }

    #[test]
    fn servers_know_seeds_of_other_datacenters_and_clients_do_not() {
        let layout = layout();
        let credentials = Credentials { gossip_key: "k".to_owned(), tls: None };
        let server = render(&layout.nodes[0], &layout, &credentials);
        let client = render(&layout.nodes[3], &layout, &credentials);
        assert_eq!(server["retry_join_wan"].as_array().unwrap().len(), WAN_SEEDS);
        assert_eq!(server["bootstrap_expect"], 3);
        assert_eq!(server["retry_join"].as_array().unwrap().len(), 2);
        assert_eq!(client["retry_join"].as_array().unwrap().len(), 3);
        assert!(client.get("retry_join_wan").is_none());
        assert!(client.get("tls").is_none());
    }
    #[test]
    fn who_is_behind_gateways_is_reached_through_them() {
        let text = "[[datacenter]]\nname='a'\nservers=1\n[[datacenter]]\nname='b'\nservers=2\ngateways=3\n";
        let block = Block::claim(41, 8298).unwrap();
        let plan = Plan::parse(text).unwrap();
        let layout = Layout::new(&plan, block.addresses(), Path::new("/run"));
        let credentials = Credentials { gossip_key: "k".to_owned(), tls: None };
        let gateways: Vec<String> = layout.gateways.iter().map(|it| it.wan.to_string()).collect();
        assert_eq!(gateways.len(), 3);
        let before = render(&layout.nodes[0], &layout, &credentials);
        assert_eq!(before["retry_join_wan"], json!(gateways[..WAN_SEEDS]));
        assert!(before.get("federation").is_none());
        let behind = render(&layout.nodes[1], &layout, &credentials);
        assert_eq!(behind["federation"]["gateways"], json!(gateways));
        assert_eq!(behind["retry_join_wan"], json!([layout.nodes[0].ip.to_string()]));
        let gateway = render_gateway(&layout.gateways[0], &layout);
        let server = |nth: usize| format!("server-{nth}={}:8302", layout.nodes[nth].ip);
        assert_eq!(gateway["servers"], json!([server(1), server(2)]));
    }

    #[test]
    fn the_agent_takes_the_configuration_without_a_warning() {
        let layout = layout();
        let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(PathBuf::from);
        let credentials = Credentials {
            gossip_key: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
            tls: Some(TlsFiles { ca, cert, key }),
        };
        for node in &layout.nodes {
            let text = source::Text {
                name: "config.json".into(),
                format: source::Format::Json,
                body: render(node, &layout, &credentials).to_string(),
            };
            let host = config::Host { name: None, addresses: Vec::new() };
            let loaded = config::build(&Request::default(), &[text], &host).unwrap();
            assert_eq!(loaded.agent.is_server(), node.role == Role::Server);
            assert!(loaded.agent.tls.link.is_some());
            assert_eq!(loaded.agent.primary().as_str(), "b");
            assert_eq!(loaded.warnings, Vec::<String>::new());
        }
    }
}
