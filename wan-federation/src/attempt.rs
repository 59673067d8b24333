//! One attempt at a request: a server is asked for as long as it is heard.
//!
//! A blocking query may run to its deadline, and a call into a datacenter that died ends when its
//! silence is longer than chance explains ([`crate::watch::QUIET_MIN`]), verdict or not.

use std::time::Duration;

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};
use tracing::debug;

use crate::{error::Effect, forward::Promise, routes::Reach, table::Server};

/// How long an attempt waits for a server that is not heard to be dialled or to be heard again:
/// two of them stay below 2 s.
pub const HEAR_MAX: Duration = Duration::from_millis(800);

/// The same where there may be another way: a dial over half the globe takes less.
pub const HEAR_SOON: Duration = Duration::from_millis(400);

/// What a server is asked to do with an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Answer it.
    Answer,
    /// Pass it on to its datacenter, which is another one.
    PassOn,
}

/// Why a server gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CarryError {
    /// The request never got there.
    NotSent(String),
    /// The connection was lost while the answer was awaited.
    Lost(String),
    /// The deadline passed.
    Deadline,
    /// The server refused, without any effect.
    Refused {
        code: u16,
        message: String,
        /// Whether another server may take it.
        elsewhere: bool,
    },
}

/// Takes an envelope's bytes to a server and brings back the answer's.
pub(crate) trait Carrier: Send + Sync + 'static {
    fn carry(
        &self,
        to: &Server,
        errand: Errand,
        body: Bytes,
        deadline: Instant,
    ) -> Promise<Result<Bytes, CarryError>>;
}

/// Asks one server for as long as it is heard and the deadline has not passed. It is given some time
/// to be heard in the first place.
pub(crate) async fn attempt(
    carrier: &dyn Carrier,
    server: &Server,
    errand: Errand,
    body: Bytes,
    (hear, deadline): (Duration, Instant),
) -> Result<Bytes, CarryError> {
    if Instant::now() >= deadline {
        return Err(CarryError::Deadline);
    }
    let _asking = server.demand.begin();
    let carried = carrier.carry(server, errand, body, deadline);
    tokio::select! {
        biased;
        result = carried => result,
        lost = silence(server.reach.clone(), hear) => Err(lost),
        () = tokio::time::sleep_until(deadline) => Err(CarryError::Deadline),
    }
}

/// Ends when a server is not heard, or no longer.
async fn silence(mut reach: watch::Receiver<Reach>, hear: Duration) -> CarryError {
    let hearing = async { reach.wait_for(|reach| reach.is_heard()).await.is_ok() };
    if tokio::time::timeout(hear, hearing).await != Ok(true) {
        return CarryError::Lost(format!("not heard within {} ms", hear.as_millis()));
    }
    match reach.wait_for(|reach| !reach.is_heard()).await.map(|reach| *reach) {
        Ok(Reach::Quiet) => CarryError::Lost("fell silent".to_owned()),
        Ok(_) => CarryError::Lost("the connection was lost".to_owned()),
        Err(_) => CarryError::Lost("it left".to_owned()),
    }
}

/// Ends when a server that was asked a while ago has missed a heartbeat or two: it may be dead, which
/// takes longer to be certain.
pub(crate) async fn doubt(mut reach: watch::Receiver<Reach>) {
    tokio::time::sleep(HEAR_SOON).await;
    let in_doubt =
        reach.wait_for(|reach| matches!(reach, Reach::Faint | Reach::Quiet | Reach::Down));
    if in_doubt.await.is_err() {
        // It left, which ends the attempt.
        std::future::pending::<()>().await;
    }
}

/// What the attempts so far came to.
#[derive(Debug)]
pub(crate) struct Trail {
    tried: Vec<String>,
    pub(crate) effect: Effect,
}

impl Trail {
    pub(crate) fn new() -> Self {
        Self { tried: Vec::new(), effect: Effect::None }
    }

    /// Notes that a server gave no answer, and why.
    pub(crate) fn note(&mut self, server: &Server, errand: Errand, why: &str) {
        let Server { name, dc, reason, .. } = server;
        debug!(server = %name, %dc, why, "no answer");
        let path = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        self.tried.push(match errand {
            Errand::Answer => format!("{name}: {why}{path}"),
            Errand::PassOn => format!("through {dc}, {name}: {why}{path}"),
        });
    }

    /// Notes why a way was not taken, or what became of it.
    pub(crate) fn say(&mut self, what: String) {
        self.tried.push(what);
    }

    /// Notes that what was sent may have been carried out.
    pub(crate) fn lost(&mut self) {
        self.effect = Effect::Unknown;
    }

    /// Notes what else was tried at the same time.
    pub(crate) fn join(&mut self, other: Trail) {
        self.tried.extend(other.tried);
        if other.effect == Effect::Unknown {
            self.effect = Effect::Unknown;
        }
    }

    /// Says what was tried, and what became of it.
    pub(crate) fn evidence(&self) -> String {
        if self.tried.is_empty() { "no server to ask".to_owned() } else { self.tried.join("; ") }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tried.is_empty()
    }
}
