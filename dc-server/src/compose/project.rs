//! The text of `docker-compose.yml`. A function of the layout.

use std::fmt::Write;

use topology::Role;

use super::subnet::Subnet;
use crate::{
    processes::layout::{DNS_PORT, Gateway, HTTP_PORT, Layout, Node},
    release,
};

/// The ports of this machine at which the first datacenter's agent is reached; the next ones follow.
const HTTP_FRONT: usize = 8501;
const DNS_FRONT: usize = 8601;

/// What a node may take: several times what it needs.
const MEMORY: &str = "512m";
const CORES: &str = "1.0";

/// Returns the text of the file.
pub fn text(layout: &Layout, subnet: Subnet) -> String {
    let mut out = format!(
        "# Written by `causeway topology render`. `docker-compose up -d` builds the image and runs all of it.\n\
         x-node: &node\n  \
         image: causeway:{version}\n  \
         build: .\n  \
         command: [\"agent\", \"-config-file\", \"/config/config.json\"]\n  \
         restart: unless-stopped\n  \
         stop_grace_period: 20s\n  \
         read_only: true\n  \
         cap_drop: [ALL]\n  \
         cap_add: [DAC_OVERRIDE]\n  \
         mem_limit: {MEMORY}\n  \
         cpus: {CORES}\n  \
         healthcheck:\n    \
         test: [\"CMD\", \"/causeway\", \"info\"]\n    \
         interval: 5s\n    \
         timeout: 3s\n    \
         retries: 5\n    \
         start_period: 20s\n\n\
         services:\n",
        version = release::VERSION,
    );
    let datacenters = layout.datacenters();
    for (nth, dc) in datacenters.iter().enumerate() {
        let front = layout.datacenter(dc).max_by_key(|node| node.role == Role::Client);
        for node in layout.datacenter(dc) {
            out += &service(node, front.is_some_and(|it| it.name == node.name).then_some(nth));
        }
        layout.gateways_of(dc).for_each(|gateway| out += &relay(gateway));
    }
    out += "\nvolumes:\n";
    for node in &layout.nodes {
        let _ = writeln!(out, "  {}: {{}}", name(node));
    }
    out += "\nnetworks:\n";
    for (nth, dc) in datacenters.iter().enumerate() {
        let _ = writeln!(
            out,
            "  {dc}: {{ ipam: {{ config: [{{ subnet: {} }}] }} }}",
            subnet.datacenter(nth)
        );
    }
    let _ = writeln!(out, "  wan: {{ ipam: {{ config: [{{ subnet: {} }}] }} }}", subnet.wan());
    out
}

/// Returns the name of a node's container, host and volume.
fn name(node: &Node) -> String {
    format!("{}-{}", node.dc, node.name)
}

/// Returns a node's part of the file; `front` is its datacenter's number if it is reached from outside.
fn service(node: &Node, front: Option<usize>) -> String {
    let (name, Node { dc, ip, wan, .. }) = (name(node), node);
    let mut out = format!("  {name}:\n    <<: *node\n    hostname: {name}\n");
    let _ = writeln!(out, "    volumes: [\"./{dc}/{}:/config:ro\", \"{name}:/data\"]", node.name);
    let _ = writeln!(out, "    networks:\n      {dc}: {{ ipv4_address: {ip} }}");
    if node.role == Role::Server {
        let _ = writeln!(out, "      wan: {{ ipv4_address: {wan} }}");
    }
    if let Some(nth) = front {
        let (http, dns) = (HTTP_FRONT + nth, DNS_FRONT + nth);
        let _ = writeln!(
            out,
            "    ports: [\"127.0.0.1:{http}:{HTTP_PORT}\", \"127.0.0.1:{dns}:{DNS_PORT}/udp\", \"127.0.0.1:{dns}:{DNS_PORT}/tcp\"]"
        );
    }
    out
}

/// Returns a gateway's part of the file. It keeps nothing, and nothing can be asked of it.
fn relay(gateway: &Gateway) -> String {
    let Gateway { dc, name, ip, wan, .. } = gateway;
    format!(
        "  {dc}-{name}:\n    <<: *node\n    hostname: {dc}-{name}\n    \
         command: [\"gateway\", \"-config-file\", \"/config/config.json\"]\n    \
         healthcheck: {{ disable: true }}\n    \
         volumes: [\"./{dc}/{name}:/config:ro\"]\n    \
         networks:\n      {dc}: {{ ipv4_address: {ip} }}\n      wan: {{ ipv4_address: {wan} }}\n"
    )
}

/// Returns what to do with it, for whoever rendered it.
pub fn how_to(layout: &Layout, dir: &str) -> String {
    let datacenters = layout.datacenters();
    let fronts = datacenters.iter().enumerate();
    let fronts = fronts.map(|(nth, dc)| {
        format!(
            "  {dc:<12} http://127.0.0.1:{:<8} DNS 127.0.0.1:{}\n",
            HTTP_FRONT + nth,
            DNS_FRONT + nth
        )
    });
    let fronts: String = fronts.collect();
    let last = datacenters.last().map(ToString::to_string).unwrap_or_default();
    format!(
        "Written to {dir}. It holds private keys: they are yours to keep.\n\n\
         Run it:   cd {dir} && docker-compose up -d\n\
         Try it:   curl 'http://127.0.0.1:{HTTP_FRONT}/v1/catalog/nodes?dc={last}'\n\
         End it:   docker-compose down -v\n\n{fronts}"
    )
}
