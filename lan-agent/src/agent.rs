//! One node: what it is, its place in the LAN pool, and the way by which it asks.
//!
//! Everything that the local interfaces offer goes through an [`Agent`]. It holds no state of
//! its own beside the counters for ids: the pool has its task, the server its dispatch.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use topology::{Datacenter, Profile};
use uuid::{Builder, Uuid};

use crate::{
    ask::{Answer, Ask, AskError, Consistency, Question, RequestId, TraceId},
    cache::{self, Cache},
    caller::Caller,
    flights::Flights,
    local::Local,
    metrics::Metrics,
    pool::Pool,
    process::Process,
};

/// How long an ask that does not block may take when nothing else is configured.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time that a graceful leave may take before the agent stops all the same.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(15);

/// What an agent is told about itself.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its own profile in the LAN pool: name, id, datacenter, role, addresses, version.
    pub me: Profile,
    /// The datacenter whose configuration the others follow; usually the own one.
    pub primary_dc: Datacenter,
    /// The commit that the program was built from; empty when not known.
    pub revision: &'static str,
    /// The date of that commit in the form of RFC 3339; `None` when not known.
    pub build_date: Option<&'static str>,
    /// How long an ask that does not block may take.
    pub ask_timeout: Duration,
    /// How long one that leaves goes on answering, so that its clients find another one: servers
    /// do (`leave_drain_time`).
    pub drain_time: Duration,
    /// Whether those who call the agent may register checks that run programs
    /// (`enable_script_checks`).
    pub remote_scripts: bool,
    /// Whether what is in another datacenter is shown with the addresses that it has on the WAN
    /// (`translate_wan_addrs`).
    pub translate_wan: bool,
    /// The file that keeps the cache over restarts; `None` keeps nothing.
    pub cache_file: Option<PathBuf>,
    /// Makes ids; different at each start.
    pub seed: u64,
    /// When the process started, in milliseconds since 1970.
    pub started_ms: u64,
}

/// One node's life in its datacenter.
pub struct Agent {
    /// What it was told about itself.
    pub config: Config,
    /// Its place in the LAN pool.
    pub pool: Pool,
    /// The way to the servers.
    pub caller: Arc<dyn Caller>,
    /// What runs on its node.
    pub local: Local,
    /// What the servers said.
    pub cache: Cache,
    /// What they are being asked.
    pub(crate) flights: Flights,
    /// Where that is kept over restarts; `None` when it is not.
    pub(crate) cache_file: Option<Arc<cache::File>>,
    /// What it counts.
    pub metrics: Metrics,
    /// What it shares with its process.
    pub process: Process,
    settings: ArcSwap<Value>,
    ids: AtomicU64,
    started: Instant,
    stop: CancellationToken,
}

impl Agent {
    /// Puts an agent together, with what its cache held before a restart. `settings` are its whole
    /// configuration as `agent/self` shows it, secrets already hidden; `stop` is cancelled when the
    /// agent is to stop, by whoever wants it.
    pub fn new(
        config: Config,
        settings: Value,
        pool: Pool,
        caller: Arc<dyn Caller>,
        local: Local,
        process: Process,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let cache_file = config.cache_file.clone().map(|path| Arc::new(cache::File::new(path)));
        let agent = Self {
            config,
            pool,
            caller,
            local,
            cache: Cache::new(cache::BYTES_MAX),
            flights: Flights::default(),
            cache_file,
            metrics: Metrics::resolve(),
            process,
            settings: ArcSwap::from_pointee(settings),
            ids: AtomicU64::new(1),
            started: Instant::now(),
            stop,
        };
        if let Some(file) = &agent.cache_file {
            agent.cache.load(file, agent.now_ms());
        }
        Arc::new(agent)
    }

    /// Answers an ask by its deadline, counting it.
    ///
    /// Reads that block end at once when the agent stops, so that stopping takes no longer than
    /// the shortest answer.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, AskError> {
        let deadline = ask.deadline;
        let blocking = ask.blocking.is_some();
        let answer = self.caller.ask(ask);
        tokio::select! {
            biased;
            answer = tokio::time::timeout_at(deadline, answer) => match answer {
                Ok(answer) => answer,
                Err(_) => Err(AskError::Deadline("no server answered in time".to_owned())),
            },
            () = self.stop.cancelled(), if blocking => {
                Err(AskError::CutOff("this agent is stopping".to_owned()))
            }
        }
    }

    /// Makes an id that no other request has.
    pub fn new_request(&self) -> RequestId {
        RequestId(self.new_id(self.config.seed))
    }

    /// Asks the servers something for the agent itself, in their own datacenter.
    pub(crate) async fn ask_for_itself(&self, question: Question) -> Result<Answer, AskError> {
        let ask = Ask {
            dc: None,
            consistency: Consistency::Default,
            max_stale: None,
            blocking: None,
            token: String::new(),
            trace: self.new_trace(),
            request: self.new_request(),
            deadline: Instant::now() + self.config.ask_timeout,
            question,
        };
        self.ask(ask).await
    }

    /// Makes an id for what a client does.
    pub fn new_trace(&self) -> TraceId {
        // Another half of the space than requests, so that the two are never mistaken.
        TraceId(self.new_id(self.config.seed.rotate_left(32) ^ u64::MAX))
    }

    /// Leaves Raft and the pools so that nobody holds this node for failed, then stops when the
    /// time to drain is over.
    ///
    /// Fails with a sentence when the servers could not be told; the agent stops all the same.
    pub async fn leave(&self) -> Result<(), String> {
        let told = tokio::time::timeout(LEAVE_TIMEOUT, async {
            let told = match self.caller.server() {
                Some(server) => server.leave().await,
                None => Ok(()),
            };
            self.pool.leave().await;
            told
        })
        .await;
        tokio::time::sleep(self.config.drain_time).await;
        self.stop.cancel();
        told.unwrap_or_else(|_| Err("leaving took too long".to_owned()))
    }

    /// Returns the whole configuration, secrets hidden.
    pub fn settings(&self) -> Arc<Value> {
        self.settings.load_full()
    }

    /// Shows another configuration from now on.
    pub fn show_settings(&self, settings: Value) {
        self.settings.store(Arc::new(settings));
    }

    /// Is cancelled when the agent is to stop.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns how long the agent has been running.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the present in milliseconds since 1970, by the time of the start and the monotonic clock.
    pub fn now_ms(&self) -> u64 {
        let age = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.config.started_ms.saturating_add(age)
    }

    fn new_id(&self, high: u64) -> Uuid {
        let low = self.ids.fetch_add(1, Ordering::Relaxed);
        let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        Builder::from_random_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
pub(crate) mod fixture;
