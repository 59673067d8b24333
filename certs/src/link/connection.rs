//! One connection to a verified peer, and the task that drives it.
//!
//! The task takes the peer's streams and datagrams and keeps the heartbeats. It ends when the
//! connection ends, from either side; whoever ends it on this side says why.

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use quinn::{ConnectionError, VarInt};
use tokio::{
    sync::{Semaphore, SetOnce, watch},
    time::{Instant, sleep_until},
};

use crate::{
    identity::Identity,
    link::{
        Pace, WORD_LEN_MAX,
        endpoint::Shared,
        frame::{Beat, Datagram},
        heartbeat::{Dead, Due, Rhythm, Side, Vitals},
        serve,
        standing::{Finding, Standing},
        transport,
    },
    metrics::Reason,
    store::Edition,
};

/// Longest reason of a peer that is kept and logged.
const REASON_LEN_MAX: usize = 300;

/// Why a connection is closed, as the peer's program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// The node or its endpoint ends.
    Shutdown = 0,
    /// Another connection to the same peer stays.
    Duplicate = 1,
    /// Nothing was heard on it.
    Silent = 2,
    /// The peer was restarted and came back.
    Replaced = 3,
    /// The endpoint has no room or the handshake took too long.
    Refused = 4,
    /// The one who dialled no longer wants it.
    Unwanted = 5,
    /// The peer's certificate no longer holds.
    Distrusted = 6,
}

/// Whose certificate was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// This node refused the peer's.
    Here,
    /// The peer refused this node's.
    There,
}

/// A connection to a verified peer.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) quic: quinn::Connection,
    /// The peer's address as paths know it.
    pub(super) addr: SocketAddr,
    pub(super) peer: Arc<Identity>,
    pub(super) side: Side,
    /// The peer's instance number, once heard.
    pub(super) instance: SetOnce<u64>,
    pub(super) vitals: Mutex<Vitals>,
    /// How closely this side watches it.
    pub(super) pace: watch::Sender<Pace>,
    /// Bodies longer than a small one that may be held.
    pub(super) large: Arc<Semaphore>,
    /// Which keys this node had when the handshake began.
    edition: Edition,
    /// The peer says that it showed a certificate which it has replaced.
    pub(super) outdated: AtomicBool,
    /// Calls under way in both directions.
    busy: AtomicUsize,
    /// Why this side ended it.
    ended: OnceLock<Arc<str>>,
}

/// A call under way, counted as long as this lives.
pub(super) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    pub(super) fn new(
        shared: &Shared,
        quic: quinn::Connection,
        addr: SocketAddr,
        peer: Identity,
        side: Side,
        edition: Edition,
    ) -> Arc<Self> {
        Arc::new(Self {
            quic,
            addr,
            peer: Arc::new(peer),
            side,
            instance: SetOnce::new(),
            vitals: Mutex::new(Vitals::new(Instant::now())),
            pace: watch::Sender::default(),
            large: Arc::new(Semaphore::new(shared.config.limits.large_bodies)),
            edition,
            outdated: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            ended: OnceLock::new(),
        })
    }

    /// Counts a call in.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Ends it from this side; the peer is told why.
    pub(super) fn end(&self, close: Close, reason: &str) {
        // Only the first reason counts.
        let _ = self.ended.set(reason.into());
        self.quic.close(VarInt::from_u32(close as u32), reason.as_bytes());
    }

    /// Says why it ended.
    pub(super) fn reason(&self) -> Arc<str> {
        if let Some(reason) = self.ended.get() {
            return Arc::clone(reason);
        }
        match self.quic.close_reason() {
            Some(error) => describe(&error).into(),
            None => "still open".into(),
        }
    }

    /// Tells whether it ended because nothing was said on it for long.
    pub(super) fn timed_out(&self) -> bool {
        self.quic.close_reason() == Some(ConnectionError::TimedOut)
    }

    pub(super) fn with_vitals<T>(&self, read: impl FnOnce(&mut Vitals) -> T) -> T {
        read(&mut self.vitals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn send(&self, datagram: &Datagram) {
        // A heartbeat that can't be sent is a lost one; what that means, the silence will tell.
        let _ = self.quic.send_datagram(datagram.encode());
    }
}

/// Drives a connection until it ends.
pub(super) async fn drive(shared: Arc<Shared>, connection: Arc<Connection>) {
    tokio::join!(
        take_streams(&shared, &connection),
        take_datagrams(&shared, &connection),
        keep_heartbeats(&shared, &connection),
    );
    shared.lost(&connection);
}

async fn take_streams(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    let most = shared.config.limits.streams;
    let mut granted = transport::STREAMS_START;
    while let Ok((send, receive)) = connection.quic.accept_bi().await {
        let busy = connection.begin();
        if connection.busy() > granted as usize / 2 && granted < most {
            granted = granted.saturating_mul(2).min(most);
            connection.quic.set_max_concurrent_bi_streams(granted.into());
        }
        tokio::spawn(serve::serve(Arc::clone(shared), busy, Arc::clone(connection), send, receive));
    }
}

async fn take_datagrams(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    while let Ok(data) = connection.quic.read_datagram().await {
        match (Datagram::decode(data), connection.side) {
            (Some(Datagram::Application(data)), _) => {
                shared.service.datagram(&connection.peer, connection.addr, data);
            }
            (Some(Datagram::Ping(beat)), _) => {
                let (instance, seq) = (shared.instance, beat.seq);
                connection.send(&Datagram::Pong(Beat { instance, seq, word: word(shared) }));
                let news = connection.with_vitals(|it| it.hear_ping(Instant::now(), &beat));
                hear(shared, connection, &beat, news);
            }
            (Some(Datagram::Pong(beat)), _) => {
                let news = connection.with_vitals(|it| it.hear_pong(Instant::now(), &beat));
                hear(shared, connection, &beat, news);
            }
            (Some(Datagram::Renew), Side::ByUs) => {
                connection.outdated.store(true, Ordering::Relaxed);
            }
            // The wrong side's wish, or something of a later version.
            (Some(Datagram::Renew) | None, _) => {}
        }
    }
}

fn hear(shared: &Arc<Shared>, connection: &Arc<Connection>, beat: &Beat, news: bool) {
    if connection.instance.set(beat.instance).is_ok() {
        shared.publish(connection, beat.instance);
    } else if news {
        shared.changed();
    }
}

async fn keep_heartbeats(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    let keys = &shared.config.keys;
    let mut standing = Standing::new(keys, connection.edition, &connection.quic);
    let mut paces = connection.pace.subscribe();
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            _ = connection.quic.closed() => return,
            // Its sender lives as long as the connection.
            _ = paces.changed() => {}
            () = sleep_until(next) => {}
        };
        let due = match look(shared, connection, *paces.borrow_and_update()) {
            Ok(due) => due,
            Err(dead) => {
                shared.doubt(connection);
                connection.end(Close::Silent, &dead.to_string());
                return;
            }
        };
        next = due.look;
        match (standing.look(keys, connection), connection.side) {
            (Finding::Holds, _) => {}
            (Finding::Renew, Side::ByUs) => shared.renew(connection),
            (Finding::Renew, Side::ByPeer) => connection.send(&Datagram::Renew),
            (Finding::Refused(reason), _) => {
                shared.complain(connection.addr, "closed the connection to a peer", &reason);
                connection.end(Close::Distrusted, &reason);
                return;
            }
        }
        if let Some(seq) = due.ping {
            let instance = shared.instance;
            connection.send(&Datagram::Ping(Beat { instance, seq, word: word(shared) }));
        }
    }
}

/// Looks whether a connection is alive.
fn look(shared: &Shared, connection: &Connection, pace: Pace) -> Result<Due, Dead> {
    let proven = connection.instance.initialized();
    let rhythm = Rhythm::new(shared.config.profile, connection.side, pace, proven);
    let packets = connection.quic.stats().udp_rx.datagrams;
    let rtt = connection.quic.rtt();
    connection.with_vitals(|vitals| vitals.look(Instant::now(), packets, rhythm, rtt))
}

fn word(shared: &Shared) -> Bytes {
    let word = shared.service.word();
    // Half a word would be read as another one: rather none.
    if word.len() <= WORD_LEN_MAX { word } else { Bytes::new() }
}

/// Says in words why a connection ended.
pub(super) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::TransportError(error) if is_crypto(error.code.into()) => {
            plain(&error.reason).to_owned()
        }
        ConnectionError::ConnectionClosed(close) if is_crypto(close.error_code.into()) => {
            plain(&said(&close.reason)).to_owned()
        }
        ConnectionError::ApplicationClosed(close) => {
            format!("closed by the peer: {}", said(&close.reason))
        }
        ConnectionError::Reset => "the peer was restarted".to_owned(),
        ConnectionError::LocallyClosed => "closed by this node".to_owned(),
        other => other.to_string(),
    }
}

/// Strips what rustls puts before reasons of our own.
fn plain(reason: &str) -> &str {
    reason.strip_prefix("other error: ").unwrap_or(reason)
}

/// Tells whether a connection ended because a certificate was refused, and whose.
pub(super) fn refused(error: &ConnectionError) -> Option<Refused> {
    match error {
        ConnectionError::TransportError(error) if is_crypto(error.code.into()) => {
            Some(Refused::Here)
        }
        ConnectionError::ConnectionClosed(close) if is_crypto(close.error_code.into()) => {
            Some(Refused::There)
        }
        _ => None,
    }
}

/// Tells why a handshake was refused, unless the verifier of certificates has counted it already.
pub(super) fn uncounted(error: &ConnectionError) -> Option<Reason> {
    // The alerts that follow on a verifier's errors: handshake failure, those about certificates,
    // and decrypt error, which is about a signature.
    const JUDGED: [u64; 9] = [40, 42, 43, 44, 45, 46, 48, 49, 51];
    const CERTIFICATE_REQUIRED: u64 = 116;
    match (refused(error)?, error) {
        (Refused::There, _) => Some(Reason::ByPeer),
        (Refused::Here, ConnectionError::TransportError(error)) => {
            match u64::from(error.code) - CRYPTO.start {
                CERTIFICATE_REQUIRED => Some(Reason::NoCertificate),
                alert => (!JUDGED.contains(&alert)).then_some(Reason::Protocol),
            }
        }
        (Refused::Here, _) => None,
    }
}

/// The error codes that are TLS alerts (RFC 9001, section 4.8).
const CRYPTO: Range<u64> = 0x100..0x200;

fn is_crypto(code: u64) -> bool {
    CRYPTO.contains(&code)
}

/// Makes a peer's words fit for a log: bounded, without control characters.
fn said(reason: &[u8]) -> String {
    let reason = String::from_utf8_lossy(reason);
    let mut said: String = reason.chars().take(REASON_LEN_MAX).collect();
    said.retain(|c| !c.is_control());
    if said.is_empty() { "no reason given".to_owned() } else { said }
}
