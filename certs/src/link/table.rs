//! What is known of each peer's address: the connection in use, attempts, failures, wishes.
//!
//! A function of what it is told: no socket, no clock. [`Table::live`] is the part that calls
//! need; it is published as an immutable map after each change.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use imbl::OrdMap;
use rand::rngs::SmallRng;
use tokio::{sync::SetOnce, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    error::DialError,
    identity::Identity,
    link::{
        Expect, Pace, Path, PathState, Target, backoff::Backoff, connection::Connection,
        heartbeat::Side,
    },
};

/// Most addresses without a connection that failures are remembered of, unless they are to be
/// kept connected: a pool's members that come and go.
const FAILED_MAX: usize = 1024;

/// Connections in use by address.
pub(super) type Live = OrdMap<SocketAddr, Arc<Connection>>;

/// How an attempt to connect ended, once it did. Those who wait for it go on in the order in which
/// they came.
pub(super) type Outcome = Arc<SetOnce<Result<(), DialError>>>;

/// All that is known, by address.
pub(super) struct Table {
    entries: BTreeMap<SocketAddr, Entry>,
    live: Live,
    backoff: Backoff,
    random: SmallRng,
}

#[derive(Default)]
struct Entry {
    /// To be kept connected until this is cancelled.
    keep: Option<CancellationToken>,
    /// How closely its connections are watched.
    pace: Pace,
    /// When the peer tried to connect last.
    knocked: Option<Instant>,
    live: Option<Up>,
    dialing: Option<Dialing>,
    failures: u32,
    not_before: Option<Instant>,
    down: Option<(Instant, Arc<str>)>,
    last: Last,
}

struct Up {
    since: Instant,
    instance: u64,
    connection: Arc<Connection>,
}

#[derive(Clone)]
pub(super) struct Dialing {
    pub(super) expect: Expect,
    pub(super) outcome: Outcome,
}

/// What was known of the peer when its last connection ended.
#[derive(Default, Clone)]
struct Last {
    peer: Option<Arc<Identity>>,
    heard: Option<Instant>,
    word: Bytes,
    awaited: Option<Instant>,
    counts: (u32, u32),
}

/// What to do to have a connection.
pub(super) enum Next {
    /// Use this one.
    Live(Arc<Connection>),
    /// Wait for an attempt that goes on.
    Wait(Dialing),
    /// Begin the attempt that was entered.
    Begin,
}

/// What becomes of the connection that was not chosen.
pub(super) enum Displaced {
    /// There was none, or its other side takes care of it.
    None,
    /// It is drained and then closed.
    Drain(Arc<Connection>),
    /// It leads nowhere and is closed.
    Close(Arc<Connection>),
}

impl Table {
    pub(super) fn new(backoff: Backoff, random: SmallRng) -> Self {
        Self { entries: BTreeMap::new(), live: Live::new(), backoff, random }
    }

    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// Enters the wish to keep a connection; `None` if it was entered before.
    pub(super) fn keep(&mut self, to: &Target) -> Option<CancellationToken> {
        let entry = self.entries.entry(to.addr).or_default();
        if entry.keep.is_some() {
            return None;
        }
        let token = CancellationToken::new();
        entry.keep = Some(token.clone());
        Some(token)
    }

    /// Sets how closely the connections to a peer are watched that is to be kept connected.
    pub(super) fn pace(&mut self, addr: SocketAddr, pace: Pace) {
        let Some(entry) = self.entries.get_mut(&addr).filter(|entry| entry.keep.is_some()) else {
            return;
        };
        entry.pace = pace;
        if let Some(up) = &entry.live {
            up.connection.pace.send_if_modified(|held| std::mem::replace(held, pace) != pace);
        }
    }

    /// Takes the wish back, and leaves the connection to its other uses.
    pub(super) fn release(&mut self, addr: SocketAddr) {
        self.pace(addr, Pace::Rest);
        let Some(entry) = self.entries.get_mut(&addr) else { return };
        if let Some(keep) = entry.keep.take() {
            keep.cancel();
        }
        if entry.live.is_none() && entry.dialing.is_none() {
            self.entries.remove(&addr);
        }
    }

    /// Notes that a peer that is to be kept connected tries to connect.
    pub(super) fn knocked(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr).filter(|entry| entry.keep.is_some()) {
            entry.knocked = Some(now);
        }
    }

    /// Takes the wish back. Returns the connection that this side dialled for it.
    pub(super) fn forget(&mut self, addr: SocketAddr) -> Option<Arc<Connection>> {
        self.pace(addr, Pace::Rest);
        let entry = self.entries.get_mut(&addr)?;
        entry.keep.take()?.cancel();
        match &entry.live {
            Some(up) => (up.connection.side == Side::ByUs).then(|| Arc::clone(&up.connection)),
            None => {
                if entry.dialing.is_none() {
                    self.entries.remove(&addr);
                }
                None
            }
        }
    }

    /// Takes the wish back. Returns the connection that this side dialled, for whatever reason.
    pub(super) fn retire(&mut self, addr: SocketAddr) -> Option<Arc<Connection>> {
        self.release(addr);
        let up = self.entries.get(&addr)?.live.as_ref()?;
        (up.connection.side == Side::ByUs).then(|| Arc::clone(&up.connection))
    }

    /// Tells whether there is a wish to keep a connection.
    pub(super) fn is_kept(&self, addr: SocketAddr) -> bool {
        self.entries.get(&addr).is_some_and(|entry| entry.keep.is_some())
    }

    /// Decides how to have a connection. [`Next::Begin`] enters an attempt with that outcome.
    pub(super) fn next(
        &mut self,
        now: Instant,
        to: &Target,
        attempt: impl FnOnce() -> Outcome,
    ) -> Result<Next, DialError> {
        let entry = self.entries.entry(to.addr).or_default();
        if let Some(up) = &entry.live {
            return Ok(Next::Live(Arc::clone(&up.connection)));
        }
        if let Some(dialing) = &entry.dialing {
            return Ok(Next::Wait(dialing.clone()));
        }
        if let (Some(at), Some((_, last))) = (entry.not_before, &entry.down)
            && at > now
        {
            let retry_in = at.duration_since(now);
            return Err(DialError::BackingOff { addr: to.addr, last: Arc::clone(last), retry_in });
        }
        entry.dialing = Some(Dialing { expect: to.expect.clone(), outcome: attempt() });
        Ok(Next::Begin)
    }

    /// Notes that the attempt ended; the failure with its reason, if it failed.
    pub(super) fn dialled(&mut self, now: Instant, addr: SocketAddr, failure: Option<Arc<str>>) {
        let Some(entry) = self.entries.get_mut(&addr) else { return };
        entry.dialing = None;
        let Some(reason) = failure else { return };
        entry.failures = entry.failures.saturating_add(1);
        entry.not_before = Some(now + self.backoff.after(entry.failures, &mut self.random));
        let since = entry.down.as_ref().map_or(now, |(since, _)| *since);
        entry.down = Some((since, reason));
        self.bound();
    }

    /// Takes a connection on which the peer was heard into use, unless a duplicate is preferred.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        me: u64,
        connection: &Arc<Connection>,
        instance: u64,
    ) -> Displaced {
        let entry = self.entries.entry(connection.addr).or_default();
        let (displaced, since) = match &entry.live {
            None => (Displaced::None, now),
            Some(up) if up.instance != instance => {
                (Displaced::Close(Arc::clone(&up.connection)), now)
            }
            Some(up) if new_stays(me, instance, up.connection.side, connection.side) => {
                (drained(&up.connection), up.since)
            }
            Some(_) => return drained(connection),
        };
        connection.pace.send_replace(entry.pace);
        entry.live = Some(Up { since, instance, connection: Arc::clone(connection) });
        entry.failures = 0;
        entry.not_before = None;
        entry.down = None;
        self.live.insert(connection.addr, Arc::clone(connection));
        displaced
    }

    /// Notes that a connection ended. Tells whether it was the one in use.
    pub(super) fn lost(
        &mut self,
        now: Instant,
        connection: &Arc<Connection>,
        reason: Arc<str>,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&connection.addr) else { return false };
        if !entry.live.as_ref().is_some_and(|up| Arc::ptr_eq(&up.connection, connection)) {
            return false;
        }
        entry.live = None;
        entry.down = Some((now, reason));
        entry.last = Last::of(connection);
        self.live.remove(&connection.addr);
        // A client that dialled in comes back from another port, and who was not needed for
        // half a minute is not missed.
        let unused = connection.side == Side::ByPeer || connection.timed_out();
        if entry.keep.is_none() && entry.dialing.is_none() && unused {
            self.entries.remove(&connection.addr);
        }
        self.bound();
        true
    }

    /// Allows the next attempt at once.
    pub(super) fn hurry(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.not_before = None;
        }
    }

    /// Describes every address, in their order.
    pub(super) fn paths(&self) -> Vec<Path> {
        self.entries.iter().filter_map(|(addr, entry)| entry.path(*addr)).collect()
    }

    /// Draws a wait between zero and `longest`.
    pub(super) fn jitter(&mut self, longest: Duration) -> Duration {
        use rand::RngExt;
        longest.mul_f64(self.random.random_range(0.0..1.0))
    }

    fn bound(&mut self) {
        let idle =
            |entry: &Entry| entry.keep.is_none() && entry.live.is_none() && entry.dialing.is_none();
        if self.entries.len() - self.live.len() <= FAILED_MAX {
            return;
        }
        let oldest = self
            .entries
            .iter()
            .filter(|(_, entry)| idle(entry))
            .min_by_key(|(_, entry)| entry.down.as_ref().map(|(since, _)| *since))
            .map(|(addr, _)| *addr);
        if let Some(addr) = oldest {
            self.entries.remove(&addr);
        }
    }
}

/// Decides which of two connections to one instance stays, equally on both sides: the one dialled
/// by the smaller instance; of two dialled by the same side the newer one.
fn new_stays(me: u64, peer: u64, old: Side, new: Side) -> bool {
    let preferred = if me <= peer { Side::ByUs } else { Side::ByPeer };
    old == new || new == preferred
}

/// The side that dialled a duplicate drains it.
fn drained(loser: &Arc<Connection>) -> Displaced {
    match loser.side {
        Side::ByUs => Displaced::Drain(Arc::clone(loser)),
        Side::ByPeer => Displaced::None,
    }
}

impl Last {
    fn of(connection: &Connection) -> Self {
        connection.with_vitals(|vitals| Self {
            peer: Some(Arc::clone(&connection.peer)),
            heard: Some(vitals.heard),
            awaited: vitals.asked,
            word: vitals.word.clone(),
            counts: vitals.counts(),
        })
    }
}

impl Entry {
    fn path(&self, addr: SocketAddr) -> Option<Path> {
        let (state, rtt, last) = match (&self.live, &self.dialing, &self.down) {
            (Some(up), _, _) => {
                let state = PathState::Up { since: up.since };
                (state, Some(up.connection.quic.rtt()), Last::of(&up.connection))
            }
            (None, Some(_), down) => {
                (PathState::Dialing { after: down.clone() }, None, self.last.clone())
            }
            (None, None, Some((since, reason))) => {
                let state = PathState::Down { since: *since, reason: Arc::clone(reason) };
                (state, None, self.last.clone())
            }
            (None, None, None) => return None,
        };
        let (beats, beats_lost) = last.counts;
        let Last { peer, heard: last_heard, awaited, word, .. } = last;
        let knocked = self.knocked;
        Some(Path { peer, addr, state, rtt, beats, beats_lost, last_heard, awaited, knocked, word })
    }
}
