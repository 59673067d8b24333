//! What becomes of each datagram, and which flows there are.
//!
//! A function of what it is told: no socket, no clock. A datagram of a client comes out as a [`Step`], one of a
//! server as the client that gets it, or as the [`Reason`] for which it is dropped. Every byte of a
//! client may be a stranger's, and the address that it came from may be another's.
//!
//! A flow is found by the client's address and the connection id: the one that the client chose for the server
//! at first, one that the server chose, as its long headers said, or by the tag of the server in it. Where none is,
//! an Initial packet begins one, or a packet with a short header of a client that has moved.

mod flow;
mod hellos;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use certs::initial::{Header, Kind};
use topology::gateway::ID_LEN;

use self::{
    flow::{Flow, Origin},
    hellos::{Hellos, Read},
};
use super::{
    budget::{Budgets, Source},
    ids::Id,
    map::{Map, Place},
};

/// Shortest datagram that an Initial packet of a client comes in (RFC 9000, section 14.1).
const INITIAL_LEN_MIN: usize = 1200;

/// Shortest connection id that a client may choose for a server (RFC 9000, section 7.2).
const CHOSEN_ID_LEN_MIN: usize = 8;

/// Shortest packet with a short header: its first byte, the id, and what its protection is computed from.
const SHORT_LEN_MIN: usize = 1 + ID_LEN + 4 + 16;

/// How long a flow may be unverified: a handshake takes four seconds at most.
const UNVERIFIED_MAX: Duration = Duration::from_secs(8);

/// How long a client may be silent: QUIC between datacenters gives up after 30 s.
const SILENT_MAX: Duration = Duration::from_secs(45);

/// Bounds on what is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Flows at one time: each has a socket.
    pub flows: usize,
    /// Flows whose clients have not proven that they get what is sent to them. Beyond, the oldest goes.
    pub unverified: usize,
    /// Flows of one source.
    pub per_source: usize,
    /// Unverified flows of one source.
    pub unverified_per_source: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { flows: 8192, unverified: 1024, per_source: 2048, unverified_per_source: 128 }
    }
}

/// The number of a flow; later flows have larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowId(u64);

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub addr: SocketAddr,
    /// Which address of the gateway it speaks to, if that is known.
    pub asked: Option<IpAddr>,
}

/// What becomes of a datagram of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes to the server of this flow.
    Forward(FlowId),
    /// A flow begins, or another connection in one that there is.
    Open {
        /// The flow.
        flow: FlowId,
        /// Where its server is.
        server: SocketAddr,
        /// What goes there first: what was held, and this datagram.
        first: Vec<Vec<u8>>,
    },
    /// It is held until the rest of its ClientHello is there.
    Hold,
    /// It is dropped.
    Drop(Reason),
}

/// Why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No packet that a flow could begin or go on with.
    Garbage,
    /// An Initial packet in which no ClientHello with a name is.
    Unreadable,
    /// The name is none of a server behind this gateway.
    UnknownName,
    /// It is not known where the server is.
    NoAddress,
    /// It belongs to no flow.
    UnknownFlow,
    /// Its source begins flows too fast, or all sources together do.
    Rate,
    /// Its source has as many flows as it may have.
    Source,
    /// There are as many flows as there may be.
    Full,
    /// The client would get more than three times what it sent, or sent much without ever proving its address.
    Unverified,
}

/// All reasons.
pub const REASONS: [Reason; 9] = [
    Reason::Garbage,
    Reason::Unreadable,
    Reason::UnknownName,
    Reason::NoAddress,
    Reason::UnknownFlow,
    Reason::Rate,
    Reason::Source,
    Reason::Full,
    Reason::Unverified,
];

impl Reason {
    /// Returns the reason as metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Garbage => "garbage",
            Reason::Unreadable => "unreadable",
            Reason::UnknownName => "unknown_name",
            Reason::NoAddress => "no_address",
            Reason::UnknownFlow => "unknown_flow",
            Reason::Rate => "rate",
            Reason::Source => "source",
            Reason::Full => "full",
            Reason::Unverified => "unverified",
        }
    }
}

/// The flows of a gateway.
pub struct Flows {
    map: Map,
    bounds: Bounds,
    serial: u64,
    flows: BTreeMap<FlowId, Flow>,
    by_server: BTreeMap<(SocketAddr, Place), FlowId>,
    by_id: BTreeMap<(SocketAddr, Id), FlowId>,
    /// Whose connection ids these are, by the long headers of servers.
    drawn: BTreeMap<Id, Place>,
    unverified: BTreeSet<FlowId>,
    hellos: Hellos,
    budgets: Budgets,
    ended: Vec<FlowId>,
}

impl Flows {
    /// Begins without flows.
    pub fn new(map: Map, bounds: Bounds, now: Duration) -> Self {
        Self {
            map,
            bounds,
            serial: 0,
            flows: BTreeMap::new(),
            by_server: BTreeMap::new(),
            by_id: BTreeMap::new(),
            drawn: BTreeMap::new(),
            unverified: BTreeSet::new(),
            hellos: Hellos::default(),
            budgets: Budgets::new(now),
            ended: Vec::new(),
        }
    }

    /// Returns the servers.
    pub fn map(&mut self) -> &mut Map {
        &mut self.map
    }

    /// Counts the flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Tells whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Counts the flows whose clients have proven nothing.
    pub fn unverified(&self) -> usize {
        self.unverified.len()
    }

    /// Returns the flows that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<FlowId> {
        std::mem::take(&mut self.ended)
    }

    /// Takes in a datagram of a client.
    pub fn client(&mut self, now: Duration, client: Client, datagram: &[u8]) -> Step {
        let step = match Header::read(datagram) {
            Some(Header::Short { rest }) => self.short(now, client, datagram.len(), rest),
            Some(Header::Long { kind, dcid, .. }) => self.long(now, client, datagram, (kind, dcid)),
            None => Err(Reason::Garbage),
        };
        step.unwrap_or_else(Step::Drop)
    }

    /// Takes in a datagram of a server; returns the client that gets it.
    pub fn server(&mut self, flow: FlowId, datagram: &[u8]) -> Result<Client, Reason> {
        let held = self.flows.get_mut(&flow).ok_or(Reason::UnknownFlow)?;
        if let Some(Header::Long { kind, scid, .. }) = Header::read(datagram)
            && kind != Kind::Foreign
            && let Some(id) = Id::new(scid).filter(|_| scid.len() >= ID_LEN)
        {
            let forgotten = held.learn(id);
            let (addr, place) = (held.client.addr, held.place);
            self.by_id.insert((addr, id), flow);
            self.drawn.insert(id, place);
            if let Some(old) = forgotten {
                self.by_id.remove(&(addr, old));
                self.drawn.remove(&old);
            }
        }
        let held = self.flows.get_mut(&flow).ok_or(Reason::UnknownFlow)?;
        held.answer(datagram.len()).map(|()| held.client)
    }

    /// Ends a flow for which there is no socket.
    pub fn close(&mut self, now: Duration, flow: FlowId) {
        self.end(now, flow);
        self.ended.retain(|ended| *ended != flow);
    }

    /// Ends what is over.
    pub fn expire(&mut self, now: Duration) {
        let is_over = |(_, flow): &(&FlowId, &Flow)| match flow.verified {
            true => now.saturating_sub(flow.heard) > SILENT_MAX,
            false => now.saturating_sub(flow.opened) > UNVERIFIED_MAX,
        };
        let over: Vec<FlowId> = self.flows.iter().filter(is_over).map(|(id, _)| *id).collect();
        for flow in over {
            self.end(now, flow);
        }
        self.hellos.expire(now);
        self.budgets.forget(now);
    }

    fn short(
        &mut self,
        now: Duration,
        client: Client,
        len: usize,
        rest: &[u8],
    ) -> Result<Step, Reason> {
        let bytes = rest.get(..ID_LEN).filter(|_| len >= SHORT_LEN_MIN).ok_or(Reason::Garbage)?;
        let id = Id::new(bytes).ok_or(Reason::Garbage)?;
        let place = self.drawn.get(&id).copied().or_else(|| self.map.tagged(bytes));
        let place = place.or_else(|| self.only(client.addr)).ok_or(Reason::UnknownFlow)?;
        if let Some(flow) = self.by_server.get(&(client.addr, place)).copied() {
            return self.go_on(now, client, len, (flow, id));
        }
        if !self.budgets.begin(now, Source::of(client.addr.ip())) {
            return Err(Reason::Rate);
        }
        let (flow, server) = self.open(now, client, place, Origin::Moved)?;
        self.go_on(now, client, len, (flow, id))?;
        Ok(Step::Open { flow, server, first: Vec::new() })
    }

    fn long(
        &mut self,
        now: Duration,
        client: Client,
        datagram: &[u8],
        (kind, dcid): (Kind, &[u8]),
    ) -> Result<Step, Reason> {
        if matches!(kind, Kind::Foreign | Kind::Retry) {
            return Err(Reason::Garbage);
        }
        let id = Id::new(dcid).ok_or(Reason::Garbage)?;
        if let Some(flow) = self.by_id.get(&(client.addr, id)).copied() {
            return self.go_on(now, client, datagram.len(), (flow, id));
        }
        let begins = kind == Kind::Initial && datagram.len() >= INITIAL_LEN_MIN;
        if !self.hellos.is_awaited(client.addr, id) && !begins {
            return Err(Reason::UnknownFlow);
        }
        if dcid.len() < CHOSEN_ID_LEN_MIN {
            return Err(Reason::UnknownFlow);
        }
        // Every packet that has to be opened costs something.
        if !self.budgets.begin(now, Source::of(client.addr.ip())) {
            return Err(Reason::Rate);
        }
        match self.hellos.take(now, (client.addr, id), dcid, datagram) {
            Read::Partly => Ok(Step::Hold),
            Read::Not => Err(Reason::Unreadable),
            Read::Whole { name, held } => self.begin(now, client, (id, &name), held),
        }
    }

    /// Begins a connection, in a flow of its own unless the client has one to that server.
    fn begin(
        &mut self,
        now: Duration,
        client: Client,
        (id, name): (Id, &str),
        held: Vec<Vec<u8>>,
    ) -> Result<Step, Reason> {
        let place = self.map.named(name).ok_or(Reason::UnknownName)?;
        let known = self.by_server.get(&(client.addr, place)).copied();
        let (flow, server) = match known {
            Some(flow) => {
                self.doubt(now, flow);
                (flow, self.map.addr(place).ok_or(Reason::NoAddress)?)
            }
            None => self.open(now, client, place, Origin::Handshake)?,
        };
        let Some(opened) = self.flows.get_mut(&flow) else { return Err(Reason::UnknownFlow) };
        if let Some(old) = opened.choose(id) {
            self.by_id.remove(&(client.addr, old));
        }
        self.by_id.insert((client.addr, id), flow);
        let len = held.iter().map(Vec::len).sum();
        self.go_on(now, client, len, (flow, id))?;
        Ok(Step::Open { flow, server, first: held })
    }

    /// Passes a datagram of a flow on.
    fn go_on(
        &mut self,
        now: Duration,
        client: Client,
        len: usize,
        (id, connection): (FlowId, Id),
    ) -> Result<Step, Reason> {
        let flow = self.flows.get_mut(&id).ok_or(Reason::UnknownFlow)?;
        flow.client = client;
        let was_verified = flow.verified;
        flow.hear(now, len, connection)?;
        if flow.verified && !was_verified {
            self.unverified.remove(&id);
            let budget = self.budgets.of(now, flow.source);
            budget.unverified = budget.unverified.saturating_sub(1);
        }
        Ok(Step::Forward(id))
    }

    /// Wants a client that was believed for going on to prove its address, now that it begins a connection.
    fn doubt(&mut self, now: Duration, id: FlowId) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        if flow.doubt(now) {
            self.unverified.insert(id);
            self.budgets.of(now, flow.source).unverified += 1;
        }
    }

    /// Opens a flow, if the source and all of them together may have one more.
    fn open(
        &mut self,
        now: Duration,
        client: Client,
        place: Place,
        origin: Origin,
    ) -> Result<(FlowId, SocketAddr), Reason> {
        let server = self.map.addr(place).ok_or(Reason::NoAddress)?;
        let source = Source::of(client.addr.ip());
        let Bounds { flows, unverified, per_source, unverified_per_source } = self.bounds;
        let budget = self.budgets.of(now, source);
        if budget.flows >= per_source || budget.unverified >= unverified_per_source {
            return Err(Reason::Source);
        }
        // Whoever means it has proven its address a round trip later; the oldest has not.
        if (self.unverified.len() >= unverified || self.flows.len() >= flows)
            && let Some(oldest) = self.unverified.first().copied()
        {
            self.end(now, oldest);
        }
        if self.flows.len() >= flows {
            return Err(Reason::Full);
        }
        let budget = self.budgets.of(now, source);
        budget.flows += 1;
        budget.unverified += 1;
        self.serial += 1;
        let id = FlowId(self.serial);
        self.flows.insert(id, Flow::new(now, client, place, source, origin));
        self.by_server.insert((client.addr, place), id);
        self.unverified.insert(id);
        Ok((id, server))
    }

    fn end(&mut self, now: Duration, id: FlowId) {
        let Some(flow) = self.flows.remove(&id) else { return };
        let addr = flow.client.addr;
        self.by_server.remove(&(addr, flow.place));
        for chosen in flow.chosen.iter().chain(&flow.drawn) {
            self.by_id.remove(&(addr, *chosen));
        }
        for drawn in &flow.drawn {
            self.drawn.remove(drawn);
        }
        self.unverified.remove(&id);
        let budget = self.budgets.of(now, flow.source);
        budget.flows = budget.flows.saturating_sub(1);
        if !flow.verified {
            budget.unverified = budget.unverified.saturating_sub(1);
        }
        self.ended.push(id);
    }

    /// Returns the server of the only flow of an address.
    fn only(&self, addr: SocketAddr) -> Option<Place> {
        let mut flows = self.by_server.range((addr, Place::FIRST)..=(addr, Place::LAST));
        let ((_, place), _) = flows.next()?;
        flows.next().is_none().then_some(*place)
    }
}

#[cfg(test)]
mod tests;
