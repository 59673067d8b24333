//! Checks against what they check: real servers, real programs, and all the ways to be broken.

mod driver;
pub(super) mod net;
pub(super) mod roll;

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Catalog, Config, Credentials, Engine, Finding, Runner,
    driver::{Driver, Prepare},
    prober::{Prepared, Tools, prepare},
};
use crate::{
    ask::{Answer, AskError, Blocking},
    caller::Promise,
    catalog::{Health, Lookup, Node, Text},
    definition::{CheckDefinition, OUTPUT_LEN_MAX, Probe, Thresholds},
    local::{self, Local, state::Source},
};

/// Long enough for whatever answers at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Short enough to wait for in a test, where nothing answers.
pub(super) const IMPATIENCE: Duration = Duration::from_millis(300);

/// A check with this probe, every ten seconds.
pub(super) fn definition(id: &str, probe: Probe) -> CheckDefinition {
    CheckDefinition {
        id: id.into(),
        name: id.into(),
        notes: Text::default(),
        service_id: Text::default(),
        status: Health::Critical,
        probe,
        interval: Duration::from_secs(10),
        timeout: PATIENCE,
        thresholds: Thresholds::default(),
        deregister_after: Duration::ZERO,
        output_len_max: 0,
    }
}

/// Runs a probe once.
pub(super) async fn find(probe: Probe, credentials: &Credentials, timeout: Duration) -> Finding {
    let tools = Tools::new(credentials.clone(), Engine::default());
    let definition = CheckDefinition { timeout, ..definition("c", probe) };
    match prepare(&definition, OUTPUT_LEN_MAX, &tools) {
        Prepared::Probe(mut prober) => prober.find().await,
        Prepared::Reported | Prepared::Alias { .. } => panic!("nothing to run"),
    }
}

/// A node without anything on it yet, and what runs its checks.
pub(super) struct Rig {
    pub(super) local: Local,
    pub(super) stop: CancellationToken,
    pub(super) driven: JoinHandle<()>,
}

impl Rig {
    /// Runs probes of all kinds.
    pub(super) fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self::around(|runner, local, stop| {
            let config =
                Config { seed: 7, credentials: Credentials::default(), engine: Engine::default() };
            tokio::spawn(runner.run(config, local, catalog, stop))
        })
    }

    /// Runs what is made of definitions.
    pub(super) fn preparing(prepare: Prepare) -> Self {
        Self::around(|runner, local, stop| {
            let driver = Driver::new(7, prepare, local, Arc::new(Silent));
            tokio::spawn(driver.run(runner.0, stop))
        })
    }

    fn around(run: impl FnOnce(Runner, Local, CancellationToken) -> JoinHandle<()>) -> Self {
        let node = Node { name: "n1".into(), ..Node::default() };
        let config = local::Config {
            node,
            output_delay: Duration::ZERO,
            discard_output: false,
            output_len_max: OUTPUT_LEN_MAX,
        };
        let runner = Runner::default();
        let local = Local::new(config, None, Arc::new(runner.clone()));
        let stop = CancellationToken::new();
        let driven = run(runner, local.clone(), stop.clone());
        Self { local, stop, driven }
    }

    pub(super) fn start(&self, check: CheckDefinition) {
        self.local.register_check(check, Source::Api).unwrap();
    }

    /// Returns what a check says now.
    pub(super) fn said(&self, check: &str) -> Finding {
        self.local.look(|state| {
            let check = &state.check(check).unwrap().check;
            Finding { health: check.status, output: check.output.to_string() }
        })
    }

    /// Waits until a check says something that fits.
    pub(super) async fn until(&self, check: &str, fits: impl Fn(&Finding) -> bool) -> Finding {
        let mut changes = self.local.changes();
        loop {
            let said = self.said(check);
            if fits(&said) {
                return said;
            }
            let changed = timeout(Duration::from_secs(600), changes.changed()).await;
            changed.unwrap_or_else(|_| panic!("{check} still says {said:?}")).unwrap();
        }
    }
}

/// A catalog that nobody should ask.
pub(super) struct Silent;

impl Catalog for Silent {
    fn look_up(&self, _: Lookup, _: Option<Blocking>) -> Promise<Result<Answer, AskError>> {
        Box::pin(std::future::pending())
    }
}
