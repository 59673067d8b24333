//! Reaches a peer: at most one attempt for an address at a time, which all who need it share.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use topology::gateway;
use tracing::{Instrument, debug};

use crate::{
    error::{CallError, DialError},
    link::{
        Expect, Target,
        connection::{self, Close, Connection, Refused},
        endpoint::Shared,
        heartbeat::Side,
        routes::HEAD_START,
        table::{Dialing, Next, Outcome},
        transport::{self, Timing},
    },
};

/// Most attempts that one call waits for: its own, after another's with other expectations and
/// one whose connection was lost at once.
const ATTEMPTS_MAX: usize = 3;

/// Over how long the renewals of connections are spread: thousands of clients of a server whose
/// certificate was replaced.
const RENEWAL_SPREAD: Duration = Duration::from_secs(30);

/// What there is instead of a connection, or the connection.
pub(super) enum Way {
    /// It can be used.
    Open(Arc<Connection>),
    /// An attempt goes on.
    Dialing(Dialing),
}

/// Tells all who wait for an attempt how it ended, also when it is cancelled.
struct Report(Outcome);

impl Report {
    fn tell(&self, result: Result<(), DialError>) {
        // Whoever told first is right.
        let _ = self.0.set(result);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.tell(Err(DialError::Closed));
    }
}

impl Shared {
    /// Returns the connection in use to a peer, if it is the one expected.
    pub(super) fn open(&self, to: &Target) -> Option<Result<Arc<Connection>, DialError>> {
        let live = self.live.load();
        Some(expected(to, live.get(&to.addr)?))
    }

    /// Returns a connection to a peer, made if there is none; waits until `deadline`.
    pub(super) async fn reach(
        self: &Arc<Self>,
        to: &Target,
        deadline: Instant,
    ) -> Result<Arc<Connection>, CallError> {
        let began = Instant::now();
        for _ in 0..ATTEMPTS_MAX {
            let dialing = match self.way(to)? {
                Way::Open(connection) => return Ok(expected(to, &connection)?),
                Way::Dialing(dialing) => dialing,
            };
            match timeout_at(deadline, dialing.outcome.wait()).await {
                Ok(Ok(())) => {}
                // The peer dialled us meanwhile.
                Ok(Err(_)) if self.open(to).is_some() => {}
                // Somebody expected another peer there: try with our own expectation.
                Ok(Err(_)) if dialing.expect != to.expect => self.table().hurry(to.addr),
                Ok(Err(error)) => return Err(error.clone().into()),
                Err(_) => {
                    let after = began.elapsed();
                    return Err(DialError::Timeout { addr: to.addr, after }.into());
                }
            }
        }
        let reason = "connections to it end at once".into();
        Err(DialError::Failed { addr: to.addr, reason }.into())
    }

    /// Returns the way to a peer; begins an attempt if there is none.
    pub(super) fn way(self: &Arc<Self>, to: &Target) -> Result<Way, DialError> {
        if self.closing.is_cancelled() {
            return Err(DialError::Closed);
        }
        let outcome = Outcome::default();
        let next = self.table().next(Instant::now(), to, || outcome.clone())?;
        match next {
            Next::Live(connection) => Ok(Way::Open(connection)),
            Next::Wait(dialing) => Ok(Way::Dialing(dialing)),
            Next::Begin => {
                let (shared, target) = (Arc::clone(self), to.clone());
                let report = Report(Arc::clone(&outcome));
                let attempt = async move {
                    let result = shared.establish(&target).await;
                    let failure = result.as_ref().err().map(|error| error.to_string().into());
                    shared.table().dialled(Instant::now(), target.addr, failure);
                    shared.changed();
                    report.tell(result);
                };
                // What is logged of the attempt belongs to the request that wants it.
                self.spawn(attempt.in_current_span());
                self.changed();
                Ok(Way::Dialing(Dialing { expect: to.expect.clone(), outcome }))
            }
        }
    }

    /// Makes a connection and waits until the peer is heard on it.
    async fn establish(self: &Arc<Self>, to: &Target) -> Result<(), DialError> {
        let within = Timing::new(self.config.profile).handshake;
        let addr = to.addr;
        let mut made = None;
        let result = timeout(within, self.shake_hands(to, &mut made)).await;
        result.unwrap_or_else(|_| {
            if let Some(connection) = made {
                connection.end(Close::Refused, "the handshake took too long");
            }
            Err(DialError::Timeout { addr, after: within })
        })
    }

    async fn shake_hands(
        self: &Arc<Self>,
        to: &Target,
        made: &mut Option<Arc<Connection>>,
    ) -> Result<(), DialError> {
        let addr = to.addr;
        let failed = |reason: String| DialError::Failed { addr, reason: reason.into() };
        let edition = self.config.keys.current().edition;
        let client = transport::client(&self.config.keys, self.config.profile, &to.expect)
            .map_err(|error| failed(error.to_string()))?;
        let quic = self.connect(to, client).await?;
        let peer = self.peer_of(&quic).map_err(failed)?;
        let connection = Connection::new(self, quic, addr, peer, Side::ByUs, edition);
        *made = Some(Arc::clone(&connection));
        tokio::spawn(connection::drive(Arc::clone(self), Arc::clone(&connection)));
        // In TLS 1.3 the peer judges our certificate after this side is done.
        tokio::select! {
            biased;
            _ = connection.instance.wait() => Ok(()),
            error = connection.quic.closed() => match connection::refused(&error) {
                Some(_) => Err(self.dial_error(to, &error)),
                None => Err(failed(connection.reason().to_string())),
            },
        }
    }

    /// Dials a peer where it is, or by its gateways: by the next one, too, when the one before it has not
    /// answered within its head start.
    async fn connect(
        self: &Arc<Self>,
        to: &Target,
        client: quinn::ClientConfig,
    ) -> Result<quinn::Connection, DialError> {
        let ways = self.routes.load().ways(to.addr);
        if ways.is_none() && !gateway::is_virtual(to.addr) {
            return self.dial(to, to.addr, client).await;
        }
        let ways = self.doubts().order(to.addr, &ways.unwrap_or_default());
        let mut attempts = JoinSet::new();
        for (turn, way) in (0..).zip(&ways) {
            let (shared, to, way, client) = (Arc::clone(self), to.clone(), *way, client.clone());
            let attempt = async move {
                tokio::time::sleep(HEAD_START * turn).await;
                (way, shared.dial(&to, way, client).await)
            };
            attempts.spawn(attempt.in_current_span());
        }
        let reason = "where its gateways are is not known".into();
        let mut failure = DialError::Failed { addr: to.addr, reason };
        while let Some(done) = attempts.join_next().await {
            match done {
                Ok((way, Ok(quic))) => {
                    let before = ways.iter().position(|it| *it == way).unwrap_or_default();
                    self.doubts().led(Instant::now(), way, &ways[..before]);
                    return Ok(quic);
                }
                Ok((_, Err(error))) if is_refusal(&error) => return Err(error),
                Ok((_, Err(error))) => failure = error,
                // The runtime ends.
                Err(_) => return Err(DialError::Closed),
            }
        }
        Err(failure)
    }

    async fn dial(
        &self,
        to: &Target,
        addr: SocketAddr,
        client: quinn::ClientConfig,
    ) -> Result<quinn::Connection, DialError> {
        let connecting = self.quic.connect_with(client, addr, &to.expect.server_name());
        let connecting = connecting.map_err(|error| {
            let reason = error.to_string().into();
            DialError::Failed { addr: to.addr, reason }
        })?;
        connecting.await.map_err(|error| self.dial_error(to, &error))
    }

    fn dial_error(&self, to: &Target, error: &quinn::ConnectionError) -> DialError {
        let addr = to.addr;
        let reason: Arc<str> = connection::describe(error).into();
        self.count_refusal(connection::uncounted(error));
        match connection::refused(error) {
            Some(Refused::Here) => {
                self.complain(addr, "refused the certificate of a peer that was dialled", &reason);
                DialError::RefusedPeer { addr, reason }
            }
            Some(Refused::There) => {
                self.complain(addr, "a peer that was dialled refused our certificate", &reason);
                DialError::RefusedByPeer { addr, reason }
            }
            None => DialError::Failed { addr, reason },
        }
    }

    /// Makes a new connection beside one that this side dialled, so that both show the
    /// certificates that they have now; it takes the place of the old one, which is drained. If
    /// that fails, the old one stays as long as its certificates hold.
    pub(super) fn renew(self: &Arc<Self>, old: &Arc<Connection>) {
        let (shared, old) = (Arc::clone(self), Arc::clone(old));
        self.spawn(async move {
            let wait = shared.table().jitter(RENEWAL_SPREAD);
            tokio::time::sleep(wait).await;
            let in_use =
                shared.live.load().get(&old.addr).is_some_and(|live| Arc::ptr_eq(live, &old));
            if !in_use {
                return;
            }
            let to = Target { addr: old.addr, expect: Expect::same(&old.peer) };
            if let Err(error) = shared.establish(&to).await {
                debug!(peer = %old.peer, addr = %old.addr, %error, "connection not renewed");
            }
        });
    }

    /// Keeps a connection to a peer until cancelled.
    pub(super) async fn keep(self: Arc<Self>, to: Target, token: CancellationToken) {
        let pause = Duration::from_millis(100);
        let kept = async {
            loop {
                let wait = match self.way(&to) {
                    Ok(Way::Open(connection)) => {
                        connection.quic.closed().await;
                        self.table().jitter(pause)
                    }
                    Ok(Way::Dialing(dialing)) => match dialing.outcome.wait().await {
                        // The connection may have been lost to a duplicate that is not up yet.
                        Ok(()) => self.table().jitter(pause),
                        Err(_) => pause,
                    },
                    Err(DialError::BackingOff { retry_in, .. }) => retry_in,
                    Err(_) => return,
                };
                tokio::time::sleep(wait).await;
            }
        };
        token.run_until_cancelled(kept).await;
    }
}

/// Tells whether a peer was reached, and one of both would not have the other.
fn is_refusal(error: &DialError) -> bool {
    matches!(error, DialError::RefusedPeer { .. } | DialError::RefusedByPeer { .. })
}

fn expected(to: &Target, connection: &Arc<Connection>) -> Result<Arc<Connection>, DialError> {
    if to.expect.matches(&connection.peer) {
        return Ok(Arc::clone(connection));
    }
    Err(DialError::OtherPeer {
        addr: to.addr,
        expected: to.expect.to_string(),
        found: connection.peer.to_string(),
    })
}
