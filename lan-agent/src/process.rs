//! The process that an agent runs in, as far as those who use the agent have to do with it.
//!
//! ```text
//! SIGHUP ─────────────────────────────┐
//! HTTP ──▶ Agent ──▶ Reloads ──▶ Requests ──▶ whoever started the agent
//!            ▲                        │       reads the configuration again
//!            └──── what came of it ◀──┘
//! ```
//!
//! Requests wait in line. Where nobody takes them, as in a simulation, each is refused at once.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{
    log::{Log, Silent},
    telemetry::Registry,
};

/// Most requests to reload that wait: each is answered with the configuration of a later moment.
const WAITING_MAX: usize = 16;

/// What an agent shares with the process that it runs in. Clones are handles to the same.
#[derive(Clone)]
pub struct Process {
    /// Where all counts of the process come together.
    pub registry: Registry,
    /// How the configuration is read again.
    pub reloads: Reloads,
    /// What it logs, for those who listen.
    pub log: Arc<dyn Log>,
}

impl Default for Process {
    fn default() -> Self {
        let (registry, reloads) = (Registry::default(), Reloads::default());
        Self { registry, reloads, log: Arc::new(Silent) }
    }
}

/// What a reload came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The keys whose values changed and count from now on.
    pub changed: Vec<&'static str>,
    /// The keys whose values differ from those of the start, and count after the next one.
    pub restart: Vec<&'static str>,
}

impl Reloaded {
    /// Says which keys wait for a restart; `None` when none does.
    pub fn warning(&self) -> Option<String> {
        match self.restart.as_slice() {
            [] => None,
            keys => Some(format!("needs a restart: {}", keys.join(", "))),
        }
    }
}

/// What comes of a request: the reason, when everything stays as it was.
pub type Outcome = Result<Reloaded, String>;

/// Asks for reloads.
#[derive(Clone)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<Outcome>>);

/// The reloads that are asked for.
pub struct Requests(mpsc::Receiver<oneshot::Sender<Outcome>>);

/// Makes both ends.
pub fn reloads() -> (Reloads, Requests) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Reloads(sender), Requests(receiver))
}

impl Default for Reloads {
    fn default() -> Self {
        reloads().0
    }
}

impl Reloads {
    /// Has the configuration read again.
    pub async fn reload(&self) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let nobody = || "nobody reads the configuration of this agent again".to_owned();
        self.0.send(answer).await.map_err(|_| nobody())?;
        outcome.await.unwrap_or_else(|_| Err(nobody()))
    }
}

impl Requests {
    /// Waits for a request, which is answered with what came of it. For ever, when nobody can ask.
    pub async fn next(&mut self) -> oneshot::Sender<Outcome> {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_hears_what_came_of_it() {
        let (asking, mut requests) = reloads();
        let (outcome, ()) = tokio::join!(asking.reload(), async {
            requests.next().await.send(Err("no".to_owned())).unwrap();
        });
        assert_eq!(outcome, Err("no".to_owned()));
        assert!(Reloads::default().reload().await.is_err(), "nobody is there");
    }

    #[test]
    fn keys_that_wait_for_a_restart_are_named() {
        let restart = vec!["datacenter", "ports.http"];
        let warning = Reloaded { restart, ..Reloaded::default() }.warning();
        assert_eq!(warning.as_deref(), Some("needs a restart: datacenter, ports.http"));
        assert_eq!(Reloaded::default().warning(), None);
    }
}
