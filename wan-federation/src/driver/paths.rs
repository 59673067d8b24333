//! The paths to the servers of other datacenters: what the link says of them, which are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use certs::link::{self, Endpoint, PathState, Target};
use topology::Member;

use crate::{
    pool,
    watch::{Link, Report, Wish},
    word::Word,
};

/// How long a server that tried to connect is held to be alive for that: it tries again within 3 s
/// after each attempt, which takes up to 4 s.
const KNOCK_MAX: Duration = Duration::from_secs(10);

/// Keeps the paths that are wanted.
pub(crate) struct Paths {
    endpoint: Endpoint,
    kept: BTreeMap<SocketAddr, Wish>,
    /// Those of them that were up.
    up: BTreeSet<SocketAddr>,
}

impl Paths {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, kept: BTreeMap::new(), up: BTreeSet::new() }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// Returns what the link says of the paths to members; a path to somebody else than the
    /// member of that address is none.
    pub(crate) fn reports<'a>(
        &self,
        member_at: impl Fn(SocketAddr) -> Option<&'a Member>,
    ) -> BTreeMap<SocketAddr, Report> {
        let paths = self.endpoint.paths().into_iter();
        paths.filter_map(|path| Some((path.addr, report(&path, member_at(path.addr)?)))).collect()
    }

    /// Returns the servers whose paths closed since the last call.
    pub(crate) fn closed(&mut self, reports: &BTreeMap<SocketAddr, Report>) -> Vec<SocketAddr> {
        let is_up = |addr: &SocketAddr| reports.get(addr).is_some_and(|it| it.link == Link::Up);
        let closed = self.up.iter().filter(|addr| self.kept.contains_key(addr) && !is_up(addr));
        let closed = closed.copied().collect();
        self.up = self.kept.keys().copied().filter(is_up).collect();
        closed
    }

    /// Keeps these paths at their pace and no others. The rest end when nobody uses them, or at
    /// once when their servers are no members any more.
    pub(crate) fn keep(
        &mut self,
        wishes: BTreeMap<SocketAddr, Wish>,
        is_member: impl Fn(SocketAddr) -> bool,
    ) {
        for (addr, wish) in &self.kept {
            let now = wishes.get(addr);
            if now.is_some_and(|now| now.server == wish.server) {
                continue;
            }
            match now.is_none() && is_member(*addr) {
                true => self.endpoint.release(&target(*addr, wish)),
                false => self.endpoint.disconnect(&target(*addr, wish)),
            }
        }
        for (addr, wish) in &wishes {
            if self.kept.get(addr) != Some(wish) {
                self.endpoint.watch(&target(*addr, wish), wish.pace);
            }
        }
        self.kept = wishes;
    }
}

fn target(addr: SocketAddr, wish: &Wish) -> Target {
    let (dc, name) = &wish.server;
    Target { addr, expect: pool::expect_server(dc, name) }
}

/// Tells whether a server tries to connect since it was heard last.
fn knocks(path: &link::Path) -> bool {
    path.knocked.is_some_and(|at| {
        at.elapsed() < KNOCK_MAX && path.last_heard.is_none_or(|heard| at > heard)
    })
}

fn report(path: &link::Path, member: &Member) -> Report {
    let expected = pool::expect(&member.profile);
    let link = match (&path.state, &path.peer) {
        (PathState::Up { .. }, Some(peer)) if !expected.matches(peer) => {
            Link::Down { reason: format!("its address answers as {peer}") }
        }
        (PathState::Up { .. }, _) => Link::Up,
        (PathState::Dialing { after: None }, _) => Link::Dialing,
        (PathState::Dialing { after: Some((_, reason)) }, _)
        | (PathState::Down { reason, .. }, _) => Link::Down { reason: reason.to_string() },
    };
    Report {
        knocks: link != Link::Up && knocks(path),
        link,
        silent: path.last_heard.map_or(Duration::ZERO, |at| at.elapsed()),
        awaited: path.awaited.map(|at| at.elapsed()),
        rtt: path.rtt,
        beats: path.beats,
        beats_lost: path.beats_lost,
        word: Word::decode(&path.word),
    }
}
