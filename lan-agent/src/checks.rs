//! Finds out how the services of this node, and the node itself, are.
//!
//! ```text
//!  Local ──start, stop──▶ Runner ──▶ driver ──when due──▶ prober: script, http, tcp ...
//!    ▲                               │  ▲                   │
//!    └──── health, output ──── judge ◀──┘ └──── finding ────┘
//! ```
//!
//! One task, the [`driver`], owns all checks that are run: when each is due ([`schedule`]), which
//! run now, and how many results in a row it takes until a check says something else
//! ([`thresholds`]). A check that is not due costs no timer and no task of its own. Runs are bounded
//! in number, time, memory and processes: one that does not end in time is cut off, and one of a
//! check that is stopped at once. What a run finds out always comes as a sentence for people, never
//! as an error. Checks that wait for reports (TTL) are the affair of [`crate::local`].

mod schedule;
mod thresholds;

mod output;

mod driver;
mod lane;
mod prober;

mod process;

mod script;

mod dial;
mod exchange;
mod tls;

mod grpc;
mod h2ping;
mod http;
mod tcp;
mod udp;

mod docker;

mod os_service;

mod calls;

mod alias;

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::{alias::Catalog, docker::Engine, output::beginning, tls::Credentials};
pub(crate) use self::{
    calls::{Calls, Request},
    output::Tail,
};
use self::{
    driver::Driver,
    prober::{Tools, prepare},
};
use crate::{
    catalog::{Health, Text},
    definition::CheckDefinition,
    local::{Local, Prober},
};

/// What the checks of an agent are told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Makes random choices; different at each start.
    pub seed: u64,
    /// Whom checks believe over TLS, and what they show.
    pub credentials: Credentials,
    /// Docker's engine.
    pub engine: Engine,
}

/// Starts and stops checks; clones speak to the same driver.
#[derive(Debug, Clone, Default)]
pub struct Runner(Arc<Wishes>);

/// What is wanted of checks and was not done yet: for each the last wish, so that there are never
/// more than checks.
#[derive(Debug, Default)]
struct Wishes {
    open: Mutex<BTreeMap<Text, Wish>>,
    made: Notify,
}

/// What is wanted of a check.
#[derive(Debug)]
enum Wish {
    Run {
        definition: Arc<CheckDefinition>,
        /// Whether it was stopped before.
        afresh: bool,
    },
    Stop,
}

/// What a run found out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    health: Health,
    output: String,
}

impl Runner {
    /// Runs checks until `stop` is cancelled. When this ends, nothing is left of what ran.
    pub async fn run(
        self,
        config: Config,
        local: Local,
        catalog: Arc<dyn Catalog>,
        stop: CancellationToken,
    ) {
        let tools = Tools::new(config.credentials, config.engine);
        let kept = local.clone();
        let prepare = Box::new(move |check: &_| prepare(check, kept.kept_output(check), &tools));
        Driver::new(config.seed, prepare, local, catalog).run(self.0, stop).await;
    }
}

impl Prober for Runner {
    /// Runs a check, in the place of the one of this id if there is one. One that runs by this very
    /// definition already goes on as if nothing had been said.
    fn start(&self, check: &CheckDefinition) {
        self.0.make(&check.id, |last| Wish::Run {
            definition: Arc::new(check.clone()),
            afresh: matches!(last, Some(Wish::Stop | Wish::Run { afresh: true, .. })),
        });
    }

    /// Stops a check and kills what runs for it.
    fn stop(&self, id: &Text) {
        self.0.make(id, |_| Wish::Stop);
    }
}

impl Wishes {
    fn make(&self, check: &Text, wish: impl FnOnce(Option<&Wish>) -> Wish) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let wish = wish(open.get(check));
        open.insert(check.clone(), wish);
        self.made.notify_one();
    }

    fn take(&self) -> BTreeMap<Text, Wish> {
        mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Finding {
    fn passing(output: String) -> Self {
        Self { health: Health::Passing, output }
    }

    fn warning(output: String) -> Self {
        Self { health: Health::Warning, output }
    }

    fn critical(output: String) -> Self {
        Self { health: Health::Critical, output }
    }
}

#[cfg(test)]
mod tests;
