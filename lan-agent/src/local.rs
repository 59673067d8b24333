//! What runs on this node, by the word of its own agent: services and their checks.
//!
//! ```text
//! API, files ──▶ Local ──▶ disk                 what the API registered
//!                  │  ▲
//!                  │  └── results of checks
//!                  ├────▶ Prober                starts and stops checks
//!                  └────▶ sync ──▶ servers      the catalog says the same, sooner or later
//! ```
//!
//! This is the truth for its node: what the catalog holds beside it is put right (anti-entropy).
//! [`state`] decides what is there and [`sync`] what has to be told; both are functions of values.
//! [`Local`] holds the state behind a lock that is held for statements only; it writes to the disk
//! before it says that something is registered. A sync that fails is tried again until it
//! succeeds; what is not told yet stays marked.

pub mod state;
pub mod store;
pub mod sync;

mod driver;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    catalog::{Health, Node, Text, Texts},
    definition::{CheckDefinition, ServiceDefinition},
};
use state::{Source, State, Unknown};
use store::{Store, StoreError};

pub use driver::run;

/// Runs checks; what they find out comes back by [`Local::report`].
pub trait Prober: Send + Sync + 'static {
    /// Runs a check from now on, in place of one with the same id.
    fn start(&self, check: &CheckDefinition);

    /// Ends a check and whatever it runs now.
    fn stop(&self, id: &Text);
}

/// How the agent treats what runs on its node.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node as the catalog is to show it.
    pub node: Node,
    /// How long a changed output may wait before the catalog hears of it; zero for not at all.
    pub output_delay: Duration,
    /// Whether outputs are kept at all.
    pub discard_output: bool,
    /// Most bytes that are kept of an output.
    pub output_len_max: usize,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no such service or check.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// It could not be kept on the disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The services and checks of this node. Clones are handles to the same.
#[derive(Clone)]
pub struct Local(Arc<Shared>);

struct Shared {
    discard_output: AtomicBool,
    output_len_max: usize,
    state: Mutex<State>,
    store: Option<Store>,
    prober: Arc<dyn Prober>,
    /// Something is to be told to the servers.
    untold: Notify,
    /// Grows with every change that an application can see.
    changes: watch::Sender<u64>,
    failures: AtomicU64,
    told: Mutex<ToldAt>,
}

/// When the servers knew everything.
#[derive(Debug, Clone, Copy, Default)]
struct ToldAt {
    last: Option<Instant>,
    last_full: Option<Instant>,
}

/// How far the servers know what runs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// How many attempts to tell them have failed since the last that succeeded.
    pub failures: u64,
    /// How many changes they have yet to be told.
    pub untold: usize,
    /// How long ago they were told everything.
    pub last: Option<Duration>,
    /// How long ago what they hold was compared with what is here.
    pub last_full: Option<Duration>,
}

impl Local {
    /// Starts with what the store holds. What can't be read of it is logged and left where it is.
    pub fn new(config: Config, store: Option<Store>, prober: Arc<dyn Prober>) -> Self {
        let state = State::new(config.node, config.output_delay);
        let shared = Shared {
            state: Mutex::new(state),
            store,
            prober,
            untold: Notify::new(),
            changes: watch::Sender::new(0),
            failures: AtomicU64::new(0),
            told: Mutex::default(),
            discard_output: AtomicBool::new(config.discard_output),
            output_len_max: config.output_len_max,
        };
        let local = Self(Arc::new(shared));
        local.restore();
        local
    }

    /// Registers a service with its checks. With `replace`, checks of it that are not among
    /// these are removed.
    ///
    /// What the API registers is on the disk when this returns.
    pub fn register(
        &self,
        definition: ServiceDefinition,
        source: Source,
        replace: bool,
    ) -> Result<(), LocalError> {
        let id = definition.service.id.clone();
        if let (Source::Api, Some(store)) = (source, &self.0.store) {
            store.save_service(&definition.service)?;
            definition.checks.iter().try_for_each(|check| store.save_check(check))?;
        }
        let stale: Vec<Text> = match replace {
            true => self.with(|state| state.checks_besides(&id, &definition.checks)),
            false => Vec::new(),
        };
        self.with(|state| state.register_service(definition.service, source));
        for check in definition.checks {
            self.take_check(check, source)?;
        }
        stale.iter().try_for_each(|check| self.deregister_check(check))?;
        self.changed();
        Ok(())
    }

    /// Registers a check of the node or of a service that is there.
    pub fn register_check(&self, check: CheckDefinition, source: Source) -> Result<(), LocalError> {
        self.with(|state| state.owner_of(&check.service_id).map(drop))?;
        if let (Source::Api, Some(store)) = (source, &self.0.store) {
            store.save_check(&check)?;
        }
        self.take_check(check, source)?;
        self.changed();
        Ok(())
    }

    fn take_check(&self, check: CheckDefinition, source: Source) -> Result<(), LocalError> {
        let last = self.0.store.as_ref().and_then(|store| store.last_word(&check.id));
        self.with(|state| state.register_check(check.clone(), source, last, Instant::now()))?;
        self.0.prober.start(&check);
        Ok(())
    }

    /// Removes a service and its checks.
    pub fn deregister(&self, id: &Text) -> Result<(), LocalError> {
        let checks = self.with(|state| state.deregister_service(id))?;
        if let Some(store) = &self.0.store {
            store.remove_service(id)?;
        }
        for check in &checks {
            self.forget_check(check)?;
        }
        self.changed();
        Ok(())
    }

    /// Removes a check.
    pub fn deregister_check(&self, id: &Text) -> Result<(), LocalError> {
        self.with(|state| state.deregister_check(id))?;
        self.forget_check(id)?;
        self.changed();
        Ok(())
    }

    fn forget_check(&self, id: &Text) -> Result<(), LocalError> {
        self.0.prober.stop(id);
        if let Some(store) = &self.0.store {
            store.remove_check(id)?;
        }
        Ok(())
    }

    /// Takes what a check found out, or what somebody reports of one that waits for reports.
    ///
    /// Fails when there is no such check.
    pub fn report(&self, id: &Text, health: Health, output: &str) -> Result<(), LocalError> {
        let output = if self.0.discard_output.load(Ordering::Relaxed) { "" } else { output };
        let now = Instant::now();
        let told = self.with(|state| state.report(id, health, output, now))?;
        if let (Some(word), Some(store)) = (told.word_to_keep, &self.0.store) {
            store.save_word(id, &word)?;
        }
        if told.changed {
            self.changed();
        }
        Ok(())
    }

    /// Takes a service, or the whole node for `None`, out of answers, or back into them. A reason
    /// that is empty is replaced by a sentence that says so.
    pub fn maintain(
        &self,
        service: Option<&Text>,
        enable: bool,
        reason: &str,
    ) -> Result<(), LocalError> {
        self.with(|state| state.maintain(service, enable, reason))?;
        self.changed();
        Ok(())
    }

    /// Answers from the state as it is now. The lock is held meanwhile: values only.
    pub fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        self.with(|state| at(state))
    }

    /// Returns how much is kept of what a check says, in bytes.
    pub fn kept_output(&self, check: &CheckDefinition) -> usize {
        check.kept_output(self.0.output_len_max)
    }

    /// Changes whenever something that applications see does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Tells how far the servers know what runs here.
    pub fn synced(&self) -> Synced {
        let told = *self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        Synced {
            failures: self.0.failures.load(Ordering::Relaxed),
            untold: self.look(|state| sync::plan(state).len()),
            last: told.last.map(|at| at.elapsed()),
            last_full: told.last_full.map(|at| at.elapsed()),
        }
    }

    /// Notes that the servers were told everything.
    fn told_all(&self, full: bool) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Some(Instant::now());
        told.last = now;
        if full {
            told.last_full = now;
        }
    }

    /// Keeps outputs from now on, or no longer.
    pub fn discard_output(&self, discard: bool) {
        self.0.discard_output.store(discard, Ordering::Relaxed);
    }

    /// Gives the node other metadata in the catalog.
    pub fn describe_node(&self, meta: Texts) {
        if self.with(|state| state.describe(meta)) {
            self.changed();
        }
    }

    /// Brings what files define up to what they say now: what they no longer name is removed, what
    /// they say as before goes on undisturbed.
    pub fn reload(
        &self,
        services: Vec<ServiceDefinition>,
        checks: Vec<CheckDefinition>,
    ) -> Result<(), LocalError> {
        let (old_services, old_checks) = self.with(|state| state.from_files());
        let of_services = services.iter().flat_map(|it| &it.checks);
        let kept: Vec<Text> = checks.iter().chain(of_services).map(|it| it.id.clone()).collect();
        for id in old_services {
            if !services.iter().any(|it| it.service.id == id) {
                self.deregister(&id)?;
            }
        }
        for id in old_checks.into_iter().filter(|id| !kept.contains(id)) {
            // It may be gone with its service.
            if self.look(|state| state.check(&id).is_some()) {
                self.deregister_check(&id)?;
            }
        }
        for mut service in services {
            service.checks.retain(|check| !self.runs(check));
            self.register(service, Source::File, false)?;
        }
        let mut checks = checks.into_iter().filter(|check| !self.runs(check));
        checks.try_for_each(|check| self.register_check(check, Source::File))
    }

    /// Tells whether a check that files define runs already as it is.
    fn runs(&self, check: &CheckDefinition) -> bool {
        self.look(|state| {
            let there = state.check(&check.id).filter(|it| it.source == Source::File);
            there.is_some_and(|it| it.definition.as_ref() == Some(check))
        })
    }

    fn restore(&self) {
        let Some(store) = &self.0.store else { return };
        for service in store.services() {
            self.with(|state| state.register_service(service, Source::Api));
        }
        for check in store.checks() {
            let id = check.id.clone();
            if let Err(error) = self.take_check(check, Source::Api) {
                tracing::warn!(check = %id, %error, "a check was kept whose service was not");
            }
        }
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
        self.0.untold.notify_one();
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two of its methods.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
