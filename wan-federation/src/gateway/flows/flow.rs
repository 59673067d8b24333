//! One flow: what a client has proven, and what it may be sent.

use std::{collections::VecDeque, time::Duration};

use super::{
    super::{budget::Source, ids::Id, map::Place},
    Client, Reason,
};

/// How many times what came from a client it gets before it has proven its address (RFC 9000, section 8).
const AMPLIFICATION_MAX: u64 = 3;

/// Most bytes that go to a server from a client that proves nothing: a handshake has a few packets, which
/// may come several times.
const UNVERIFIED_LEN_MAX: u64 = 64 << 10;

/// Most connection ids of each side that are remembered of a flow: a client has a connection or two to a server,
/// and with them the id of a handshake and one or two of the server's.
const IDS_MAX: usize = 8;

/// A client and a server.
pub(super) struct Flow {
    pub(super) client: Client,
    pub(super) place: Place,
    pub(super) source: Source,
    pub(super) opened: Duration,
    /// When the client was heard last.
    pub(super) heard: Duration,
    pub(super) verified: bool,
    /// Connection ids that the client chose for the server.
    pub(super) chosen: VecDeque<Id>,
    /// Connection ids that the server drew, as its long headers said.
    pub(super) drawn: VecDeque<Id>,
    origin: Origin,
    received_len: u64,
    sent_len: u64,
}

/// How a flow began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// With the first packets of a connection.
    Handshake,
    /// In the midst of one.
    Moved,
}

impl Flow {
    pub(super) fn new(
        now: Duration,
        client: Client,
        place: Place,
        source: Source,
        origin: Origin,
    ) -> Self {
        Self {
            client,
            place,
            source,
            opened: now,
            heard: now,
            verified: false,
            chosen: VecDeque::new(),
            drawn: VecDeque::new(),
            origin,
            received_len: 0,
            sent_len: 0,
        }
    }

    /// Takes in a datagram of the client with a packet for this connection id.
    ///
    /// Whoever knows an id that the server drew has received it. Of a client that has moved only the server can
    /// know that, which makes sure of it before it sends more than three times what came (RFC 9000,
    /// section 9.3), and answers nobody who can't seal packets: here it is enough that the client goes
    /// on after an answer.
    pub(super) fn hear(&mut self, now: Duration, len: usize, id: Id) -> Result<(), Reason> {
        let proven = match self.origin {
            Origin::Handshake => self.drawn.contains(&id),
            Origin::Moved => self.sent_len > 0,
        };
        self.verified |= proven;
        let received_len = self.received_len.saturating_add(len as u64);
        if !self.verified && received_len > UNVERIFIED_LEN_MAX {
            return Err(Reason::Unverified);
        }
        self.received_len = received_len;
        self.heard = now;
        Ok(())
    }

    /// Goes on as one that began with a handshake; tells whether it was verified without one.
    pub(super) fn doubt(&mut self, now: Duration) -> bool {
        let was_believed = self.origin == Origin::Moved && self.verified;
        self.origin = Origin::Handshake;
        if was_believed {
            (self.verified, self.opened, self.received_len, self.sent_len) = (false, now, 0, 0);
        }
        was_believed
    }

    /// Tells whether the client gets a datagram of the server.
    pub(super) fn answer(&mut self, len: usize) -> Result<(), Reason> {
        let sent_len = self.sent_len.saturating_add(len as u64);
        if !self.verified && sent_len > self.received_len.saturating_mul(AMPLIFICATION_MAX) {
            return Err(Reason::Unverified);
        }
        self.sent_len = sent_len;
        Ok(())
    }

    /// Notes an id that the client chose; returns the one that is forgotten for it.
    pub(super) fn choose(&mut self, id: Id) -> Option<Id> {
        remember(&mut self.chosen, id)
    }

    /// Notes an id that the server drew; returns the one that is forgotten for it.
    pub(super) fn learn(&mut self, id: Id) -> Option<Id> {
        remember(&mut self.drawn, id)
    }
}

fn remember(ids: &mut VecDeque<Id>, id: Id) -> Option<Id> {
    if ids.contains(&id) {
        return None;
    }
    ids.push_back(id);
    if ids.len() > IDS_MAX { ids.pop_front() } else { None }
}
