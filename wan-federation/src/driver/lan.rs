//! The fellow servers: which of the own datacenter's servers are there, and telling them things.
//!
//! Over the link that they have for Raft. It has heartbeats of its own, so that the end of a fellow
//! is known within 3 s.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use certs::link::{Endpoint, Path, Request, Target};
use tokio::time::Instant;
use topology::{NodeName, Profile};
use tracing::debug;

use crate::{gateways, inbox::Message, sight::SIGHT};

/// How long telling a fellow server may take: after that, it is told everything anew.
const TELL_MAX: Duration = Duration::from_secs(1);

/// Knows the fellow servers.
pub(crate) struct Lan {
    endpoint: Endpoint,
    me: NodeName,
    fellows: BTreeMap<NodeName, Fellow>,
    up: BTreeSet<NodeName>,
}

#[derive(PartialEq, Eq)]
struct Fellow {
    target: Target,
    /// The address by which the WAN pool knows it.
    wan: Option<SocketAddr>,
}

impl Lan {
    pub(crate) fn new(endpoint: Endpoint, me: NodeName) -> Self {
        Self { endpoint, me, fellows: BTreeMap::new(), up: BTreeSet::new() }
    }

    /// Takes in who the servers of the own datacenter are, and keeps links to them.
    pub(crate) fn follow(&mut self, servers: &[Profile]) {
        let fellow = |profile: &Profile| {
            let target = Target::server(&profile.dc, &profile.name, profile.link?);
            let wan = gateways::in_pool(profile).map(|(known, _)| known);
            Some((profile.name.clone(), Fellow { target, wan }))
        };
        let others = servers.iter().filter(|profile| profile.name != self.me);
        let fellows: BTreeMap<_, _> = others.filter_map(fellow).collect();
        for (name, fellow) in &fellows {
            if self.fellows.get(name) != Some(fellow) {
                self.endpoint.connect(&fellow.target);
            }
        }
        for (name, fellow) in &self.fellows {
            if fellows.get(name).is_none_or(|now| now.target != fellow.target) {
                self.endpoint.disconnect(&fellow.target);
            }
        }
        self.fellows = fellows;
    }

    /// Looks who is there now; returns the WAN addresses of those who no longer are.
    pub(crate) fn look(&mut self) -> Vec<SocketAddr> {
        let up: BTreeSet<SocketAddr> = self
            .endpoint
            .paths()
            .iter()
            .filter(|path| Path::is_up(path))
            .map(|it| it.addr)
            .collect();
        let before = std::mem::take(&mut self.up);
        let there = self.fellows.iter().filter(|(_, fellow)| up.contains(&fellow.target.addr));
        self.up = there.map(|(name, _)| name.clone()).collect();
        let lost = before.iter().filter(|name| !self.up.contains(*name));
        lost.filter_map(|name| self.fellows.get(name)?.wan).collect()
    }

    /// Returns those who were there when looked for last.
    pub(crate) fn up(&self) -> &BTreeSet<NodeName> {
        &self.up
    }

    /// Tells one what is seen; what is returned has to be driven.
    pub(crate) fn tell(
        &self,
        fellow: &NodeName,
        body: Bytes,
    ) -> Option<impl Future<Output = Option<Message>> + Send + 'static + use<>> {
        let (endpoint, target) = (self.endpoint.clone(), self.fellows.get(fellow)?.target.clone());
        let fellow = fellow.clone();
        let request = Request { kind: SIGHT, deadline: Instant::now() + TELL_MAX, body };
        Some(async move {
            let error = endpoint.call(&target, request).await.err()?;
            debug!(%fellow, %error, "fellow server not told what is seen");
            Some(Message::Missed { fellow })
        })
    }
}
