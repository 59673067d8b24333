//! `/v1/federation/status`: the datacenters as one server sees them.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use topology::{
    Datacenter, NodeName, Profile, Status,
    gossip::{Removal, Rival},
};
use wan_federation::{
    Matrix, Report,
    report::{Server, Site, Way},
    verdict::{Path, Seen},
};

use super::{millis, seconds};

/// What the own datacenter says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The server that answers.
    pub me: NodeName,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeName>,
    /// The Raft term it is in.
    pub term: u64,
    /// The last index of the Raft log that it applied.
    pub applied: u64,
}

/// All datacenters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Overview {
    datacenter: Datacenter,
    server: NodeName,
    datacenters: Vec<Shown>,
    matrix: Vec<Row>,
    removed: Vec<Removed>,
    refused: Vec<Refused>,
}

/// A datacenter that is kept out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Removed {
    name: Datacenter,
    time_ms: u64,
    by: String,
}

/// A server that is refused because another cluster has the name of its datacenter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    name: String,
    address: String,
    cluster: String,
    reason: String,
    time_ms: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    name: Datacenter,
    own: bool,
    health: &'static str,
    /// Nothing for the own datacenter, on which there are no verdicts.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_seconds: Option<f64>,
    evidence: String,
    #[serde(rename = "RTTMillis")]
    rtt: Option<f64>,
    leader: Option<NodeName>,
    /// How old the answering server's mirror of it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror_age_seconds: Option<f64>,
    servers: Vec<ShownServer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<Ways>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownServer {
    name: NodeName,
    address: String,
    status: &'static str,
    path: &'static str,
    #[serde(rename = "RTTMillis")]
    rtt: Option<f64>,
    loss_percent: Option<f64>,
    leader: bool,
    term: Option<u64>,
    applied: Option<u64>,
    load: Option<u32>,
    watched_by: Vec<Watcher>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Watcher {
    server: NodeName,
    path: &'static str,
    for_seconds: f64,
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ways {
    direct: ShownWay,
    detours: ShownWay,
    relays: ShownWay,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownWay {
    breaker: &'static str,
    under_way: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    from: Datacenter,
    told_by: NodeName,
    told_seconds_ago: f64,
    current: bool,
    to: Vec<Cell>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Cell {
    datacenter: Datacenter,
    health: &'static str,
    #[serde(rename = "RTTMillis")]
    rtt: Option<f64>,
}

/// How old the mirrors of other datacenters are.
pub type Mirrored = BTreeMap<Datacenter, Duration>;

/// Puts together what is shown: the own datacenter first, then the others by name.
pub fn overview(me: &Profile, home: &Home, report: &Report, mirrored: &Mirrored) -> Overview {
    let others = report.sites.iter().map(|(dc, site)| Shown {
        mirror_age_seconds: mirrored.get(dc).copied().map(seconds),
        ..other(dc, site)
    });
    Overview {
        datacenter: me.dc.clone(),
        server: me.name.clone(),
        datacenters: std::iter::once(own(&me.dc, home, report)).chain(others).collect(),
        matrix: rows(report),
        removed: removed(report),
        refused: report.refused.iter().map(refused).collect(),
    }
}

fn own(dc: &Datacenter, home: &Home, report: &Report) -> Shown {
    let server = |(name, (addr, status)): (&NodeName, &(std::net::SocketAddr, Status))| {
        let is_me = *name == home.me;
        ShownServer {
            name: name.clone(),
            address: addr.to_string(),
            status: status.as_str(),
            path: if *status == Status::Alive { "up" } else { "down" },
            rtt: None,
            loss_percent: None,
            leader: home.leader.as_ref() == Some(name),
            term: is_me.then_some(home.term),
            applied: is_me.then_some(home.applied),
            load: None,
            watched_by: Vec::new(),
        }
    };
    let (health, evidence) = match &home.leader {
        Some(leader) => ("healthy", format!("{leader} leads")),
        None => ("leaderless", format!("{} knows no leader", home.me)),
    };
    Shown {
        name: dc.clone(),
        own: true,
        health,
        held_seconds: None,
        evidence,
        rtt: None,
        leader: home.leader.clone(),
        mirror_age_seconds: None,
        servers: report.home.iter().map(server).collect(),
        requests: None,
    }
}

fn other(dc: &Datacenter, site: &Site) -> Shown {
    let ways = |it: &Site| Ways {
        direct: way(it.direct),
        detours: way(it.detours),
        relays: way(it.relays),
    };
    Shown {
        name: dc.clone(),
        own: false,
        health: site.verdict.health.as_str(),
        held_seconds: Some(seconds(site.held)),
        evidence: site.verdict.evidence.clone(),
        rtt: site.rtt.map(millis),
        leader: site.leader.clone(),
        mirror_age_seconds: None,
        servers: site.servers.iter().map(|(name, server)| shown(name, server)).collect(),
        requests: Some(ways(site)),
    }
}

fn shown(name: &NodeName, server: &Server) -> ShownServer {
    ShownServer {
        name: name.clone(),
        address: server.addr.to_string(),
        status: server.status.as_str(),
        path: path(&server.seen),
        rtt: server.rtt.map(millis),
        loss_percent: server.loss().map(|loss| (loss * 1000.0).round() / 10.0),
        leader: server.word.is_some_and(|word| word.is_leader),
        term: server.word.map(|word| word.term),
        applied: server.word.map(|word| word.applied),
        load: server.word.map(|word| word.load),
        watched_by: server.seen.iter().map(watcher).collect(),
    }
}

fn watcher((name, seen): (&NodeName, &Seen)) -> Watcher {
    Watcher {
        server: name.clone(),
        path: path_name(seen.path),
        for_seconds: seconds(seen.age),
        reason: seen.reason.clone(),
    }
}

/// Returns what the watchers see together: up if any of them has a path.
fn path(seen: &BTreeMap<NodeName, Seen>) -> &'static str {
    let any = |path: Path| seen.values().any(|seen| seen.path == path);
    let found = [Path::Up, Path::Down].into_iter().find(|path| any(*path));
    path_name(found.unwrap_or(Path::Unknown))
}

fn path_name(path: Path) -> &'static str {
    match path {
        Path::Up => "up",
        Path::Down => "down",
        Path::Unknown => "unknown",
    }
}

fn way(way: Way) -> ShownWay {
    ShownWay { breaker: if way.open { "open" } else { "closed" }, under_way: way.under_way }
}

fn removed(report: &Report) -> Vec<Removed> {
    let removals = report.removals.iter().filter(|removal| !removal.is_lifted);
    let one = |it: &Removal| Removed { name: it.dc.clone(), time_ms: it.at_ms, by: it.by.clone() };
    removals.map(one).collect()
}

fn refused((time_ms, rival): &(u64, Rival)) -> Refused {
    let profile = &rival.profile;
    Refused {
        name: profile.name.in_wan(&profile.dc),
        address: profile.addr.to_string(),
        cluster: rival.cluster().to_owned(),
        reason: rival.to_string(),
        time_ms: *time_ms,
    }
}

fn rows(report: &Report) -> Vec<Row> {
    let Matrix { rows } = &*report.matrix;
    let cell = |(dc, cell): (&Datacenter, &wan_federation::matrix::Cell)| Cell {
        datacenter: dc.clone(),
        health: cell.health.map_or("unknown", |health| health.as_str()),
        rtt: cell.rtt.map(millis),
    };
    let row = |(dc, told): (&Datacenter, &wan_federation::matrix::Told)| Row {
        from: dc.clone(),
        told_by: told.by.clone(),
        told_seconds_ago: report.told.get(dc).copied().map_or(0.0, seconds),
        current: told.current,
        to: told.row.0.iter().map(cell).collect(),
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests;
