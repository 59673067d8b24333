//! What runs on the node: its services, their checks, and their way into the catalog.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use lan_agent::{
    catalog::{Node, Text, Texts},
    checks::{self, Credentials, Engine, Runner},
    local::{self, Local, store::Store},
};
use topology::Profile;

use crate::{config, data_dir::DataDir};

/// The name that Consul's clients expect in every node's metadata.
const SEGMENT: &str = "consul-network-segment";

/// Opens what the API registered and adds what files define.
pub(super) fn open(
    config: &config::Agent,
    me: &Profile,
    data_dir: Option<&DataDir>,
    runner: &Runner,
) -> anyhow::Result<Local> {
    let settings = local::Config {
        node: node(config, me),
        output_delay: config.checks.update_interval,
        discard_output: config.checks.discard_output,
        output_len_max: config.checks.output_len_max,
    };
    let store = data_dir.map(|dir| Store::open(dir.path())).transpose()?;
    let local = Local::new(settings, store, Arc::new(runner.clone()));
    let config::agent::Definitions { services, checks, .. } = config.definitions.clone();
    local.reload(services, checks)?;
    Ok(local)
}

/// How this node runs checks: over TLS they believe those whom this system believes, or whom the
/// node itself does.
pub(super) fn checks(
    config: &config::Agent,
    seed: u64,
    docker_host: Option<&str>,
) -> checks::Config {
    let credentials = match &config.tls.link {
        Some(pem) if config.checks.agent_tls => Credentials {
            authorities: pem.ca.clone(),
            own: Some((pem.cert_file.clone(), pem.key_file.clone())),
        },
        _ => Credentials::default(),
    };
    checks::Config { seed, credentials, engine: Engine::at(docker_host.unwrap_or_default()) }
}

/// The node as the catalog is to show it.
fn node(config: &config::Agent, me: &Profile) -> Node {
    let lan = me.addr.ip();
    let wan = me.wan.map_or(lan, |wan| wan.ip());
    Node {
        name: text(me.name.as_str()),
        id: text(&me.id.to_string()),
        address: text(&lan.to_string()),
        tagged_addresses: [tagged("lan", lan), tagged("wan", wan)].into_iter().flatten().collect(),
        meta: meta(config),
    }
}

/// What the catalog is to show as the node's metadata.
pub(super) fn meta(config: &config::Agent) -> Texts {
    let mut meta: Texts =
        config.node_meta.iter().map(|(name, value)| (text(name), text(value))).collect();
    meta.entry(text(SEGMENT)).or_default();
    meta
}

/// An address by its tag, and by its tag with its kind.
fn tagged(tag: &str, ip: IpAddr) -> BTreeMap<Text, Text> {
    let kind = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let address = text(&ip.to_string());
    BTreeMap::from([(text(tag), address.clone()), (text(&format!("{tag}_{kind}")), address)])
}

fn text(text: &str) -> Text {
    text.into()
}
