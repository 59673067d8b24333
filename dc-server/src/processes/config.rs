//! The configuration file of each node, as JSON with Consul's keys.

use std::path::PathBuf;

use serde_json::{Value, json};
use topology::Role;

use crate::processes::layout::{Layout, Node};

/// How many servers of each other datacenter a server is told of at the start. Knowing one is
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
        "disable_update_check": true,
        "leave_on_terminate": false,
    });
    if node.role == Role::Server {
        config["bootstrap_expect"] = json!(layout.servers_of(&node.dc).count());
        config["performance"] = json!({ "raft_multiplier": 1 });
        config["retry_join_wan"] = json!(wan_seeds(node, layout));
        config["retry_interval_wan"] = json!("1s");
    }
    if let Some(tls) = &credentials.tls {
        config["ca_file"] = json!(tls.ca);
        config["cert_file"] = json!(tls.cert);
        config["key_file"] = json!(tls.key);
        config["verify_incoming"] = json!(true);
        config["verify_outgoing"] = json!(true);
        config["verify_server_hostname"] = json!(true);
    }
    config
}

fn wan_seeds(node: &Node, layout: &Layout) -> Vec<String> {
    let others = layout.datacenters().into_iter().filter(|dc| *dc != node.dc);
    others
        .flat_map(|dc| {
            let seeds: Vec<String> =
                layout.servers_of(&dc).take(WAN_SEEDS).map(|s| s.ip.to_string()).collect();
            seeds
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use topology::plan::Plan;

    use super::*;
    use crate::processes::loopback::Block;

    fn layout() -> Layout {
        let text =
            "[[datacenter]]\nname='a'\nservers=2\nclients=1\n[[datacenter]]\nname='b'\nservers=3\n";
        let block = Block::claim(40, 8298).unwrap();
        Layout::new(&Plan::parse(text).unwrap(), &block, Path::new("/run"))
    }

    #[test]
    fn servers_know_seeds_of_other_datacenters_and_clients_do_not() {
        let layout = layout();
        let credentials = Credentials { gossip_key: "k".to_owned(), tls: None };
        let server = render(&layout.nodes[0], &layout, &credentials);
        let client = render(&layout.nodes[2], &layout, &credentials);
        assert_eq!(server["retry_join_wan"].as_array().unwrap().len(), WAN_SEEDS);
        assert_eq!(server["bootstrap_expect"], 2);
        assert_eq!(server["retry_join"].as_array().unwrap().len(), 1);
        assert_eq!(client["retry_join"].as_array().unwrap().len(), 2);
        assert!(client.get("retry_join_wan").is_none());
        assert!(client.get("ca_file").is_none());
    }
}
