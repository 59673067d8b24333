//! Where everything of a running plan is: names, addresses, directories. A function of the plan.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use topology::{Datacenter, NodeName, Role, plan::Plan};

/// The port of the HTTP API.
pub const HTTP_PORT: u16 = 8500;
/// The port of DNS.
pub const DNS_PORT: u16 = 8600;
/// The port of the server link.
pub const SERVER_PORT: u16 = 8300;
/// The port of the LAN pool.
pub const LAN_PORT: u16 = 8301;
/// The port of the WAN link.
pub const WAN_PORT: u16 = 8302;

/// One node of a running plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its datacenter.
    pub dc: Datacenter,
    /// Its name in its datacenter.
    pub name: NodeName,
    /// What it does there.
    pub role: Role,
    /// The address that is all its own: it uses the standard ports.
    pub ip: Ipv4Addr,
    /// Where other datacenters reach it: the same address, or another one.
    pub wan: Ipv4Addr,
    /// Its configuration, data and log.
    pub dir: PathBuf,
}

/// Where a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// For its own datacenter.
    pub lan: Ipv4Addr,
    /// For the others.
    pub wan: Ipv4Addr,
}

/// A gateway of a running plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its datacenter.
    pub dc: Datacenter,
    /// Its name in its datacenter.
    pub name: NodeName,
    /// The address that is all its own.
    pub ip: Ipv4Addr,
    /// Where other datacenters reach it: the same address, or another one.
    pub wan: Ipv4Addr,
    /// Its configuration and log.
    pub dir: PathBuf,
}

impl Gateway {
    /// Returns its name in the whole federation: `gateway.dc`.
    pub fn label(&self) -> String {
        self.name.in_wan(&self.dc)
    }

    /// Returns the path of its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// Returns the path of its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log.txt")
    }
}

/// All nodes of a running plan, datacenter by datacenter, servers first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// The datacenter that writes what all share, if one does.
    pub primary: Option<Datacenter>,
}

impl Node {
    /// Returns where its HTTP API listens.
    pub fn http(&self) -> SocketAddr {
        (self.ip, HTTP_PORT).into()
    }

    /// Returns its name in the whole federation: `node.dc`.
    pub fn label(&self) -> String {
        self.name.in_wan(&self.dc)
    }

    /// Returns the path of its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// Returns the path of its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log.txt")
    }

    /// Returns the directory of its data.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Layout {
    /// Lays a plan out below a directory. `addresses` gives them out by the numbers of a datacenter and of a node there,
    /// both from 0.
    pub fn new(plan: &Plan, addresses: impl Fn(usize, usize) -> Addresses, dir: &Path) -> Self {
        let (mut nodes, mut gateways) = (Vec::new(), Vec::new());
        for (dc_nth, site) in plan.datacenters.iter().enumerate() {
            let servers = site.server_names().map(|name| (name, Role::Server));
            let clients = site.client_names().map(|name| (name, Role::Client));
            for (nth, (name, role)) in servers.chain(clients).enumerate() {
                let dir = dir.join(site.name.as_str()).join(name.as_str());
                let Addresses { lan: ip, wan } = addresses(dc_nth, nth);
                nodes.push(Node { dc: site.name.clone(), name, role, ip, wan, dir });
            }
            for (nth, name) in
                (usize::from(site.servers + site.clients)..).zip(site.gateway_names())
            {
                let dir = dir.join(site.name.as_str()).join(name.as_str());
                let Addresses { lan: ip, wan } = addresses(dc_nth, nth);
                gateways.push(Gateway { dc: site.name.clone(), name, ip, wan, dir });
            }
        }
        Self { nodes, gateways, primary: plan.primary.clone() }
    }

    /// Returns all servers.
    pub fn servers(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::Server)
    }

    /// Returns the nodes of a datacenter.
    pub fn datacenter<'a>(&'a self, dc: &'a Datacenter) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.dc == *dc)
    }

    /// Returns the servers of a datacenter.
    pub fn servers_of<'a>(&'a self, dc: &'a Datacenter) -> impl Iterator<Item = &'a Node> {
        self.datacenter(dc).filter(|node| node.role == Role::Server)
    }

    /// Returns the gateways of a datacenter.
    pub fn gateways_of<'a>(&'a self, dc: &'a Datacenter) -> impl Iterator<Item = &'a Gateway> {
        self.gateways.iter().filter(move |gateway| gateway.dc == *dc)
    }

    /// Returns the datacenters, each once, in the order of the plan.
    pub fn datacenters(&self) -> Vec<Datacenter> {
        let mut all: Vec<Datacenter> = self.nodes.iter().map(|node| node.dc.clone()).collect();
        all.dedup();
        all
    }
}
