//! Runs the watches of an agent's configuration.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use topology::Datacenter;
use tracing::{debug, warn};

use super::{
    Handler, Progress, Watch,
    handler::{News, tell},
};
use crate::{
    agent::Agent,
    ask::{Ask, Blocking, Consistency, Outcome},
    checks::Calls,
    http::rules::Bounds,
};

/// The watches that run. Dropping it ends them.
#[derive(Clone)]
pub struct Watches(Arc<Shared>);

struct Shared {
    agent: Arc<Agent>,
    running: Mutex<Vec<AbortOnDropHandle<()>>>,
}

/// What came of a look.
type Looked = Result<(u64, Value), String>;

impl Watches {
    /// Runs none yet.
    pub fn new(agent: Arc<Agent>) -> Self {
        Self(Arc::new(Shared { agent, running: Mutex::default() }))
    }

    /// Runs these from now on, in place of those before, whose handlers may end what they do. Each
    /// handler hears of its value anew.
    ///
    /// Must be called within a tokio runtime.
    pub fn set(&self, watches: &[Watch]) {
        let start = |watch: &Watch| {
            let running = run(self.0.agent.clone(), watch.clone());
            AbortOnDropHandle::new(tokio::spawn(running))
        };
        let new: Vec<_> = watches.iter().map(start).collect();
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

/// Watches until the agent stops.
async fn run(agent: Arc<Agent>, watch: Watch) {
    let (calls, mut progress) = (Calls::default(), Progress::default());
    let kind = watch.view.kind();
    loop {
        let looked = tokio::select! {
            biased;
            () = agent.stopping().cancelled() => return,
            looked = look(&agent, &watch, progress.index()) => looked,
        };
        match looked {
            Ok((index, value)) => {
                if progress.take(index, &value) {
                    let line = format!("{value}\n");
                    let news = News { index, line: &line };
                    let handler = name(&watch.handler);
                    match tell(&watch.handler, &calls, news).await {
                        Ok(output) => debug!(kind, handler, output, "watch handler ran"),
                        Err(error) => warn!(kind, handler, %error, "watch handler failed"),
                    }
                }
            }
            Err(error) => {
                let pause = progress.fail();
                warn!(kind, %error, retry = ?pause, "watch failed");
                tokio::select! {
                    biased;
                    () = agent.stopping().cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        }
    }
}

/// Waits for something beyond an index.
async fn look(agent: &Agent, watch: &Watch, index: Option<u64>) -> Looked {
    let own = &agent.config.me.dc;
    let dc = match watch.datacenter.as_str() {
        "" => None,
        name => Some(Datacenter::new(name).map_err(|error| error.to_string())?),
    };
    let wait = Bounds::default().wait_default;
    let time =
        index.map_or(agent.config.ask_timeout, |_| wait + wait / 16 + agent.config.ask_timeout);
    let ask = Ask {
        dc: dc.filter(|dc| dc != own),
        consistency: if watch.stale { Consistency::Stale } else { Consistency::Default },
        max_stale: None,
        blocking: index.map(|index| Blocking { index, wait }),
        token: watch.token.clone(),
        trace: agent.new_trace(),
        request: agent.new_request(),
        deadline: Instant::now() + time,
        question: watch.view.question(),
    };
    let answer = agent.ask(ask).await.map_err(|error| error.to_string())?;
    let body = match answer.outcome {
        Outcome::Absent => None,
        Outcome::Found | Outcome::Conflict => Some(&*answer.body),
    };
    let value = watch.view.value(body);
    let value = value.map_err(|error| format!("the servers' answer can't be read: {error}"))?;
    Ok((answer.meta.index.max(1), value))
}

/// What the log calls a handler.
fn name(handler: &Handler) -> String {
    match handler {
        Handler::Program(args) => args.join(" "),
        Handler::Shell(line) => line.clone(),
        Handler::Http(http) => http.url.to_string(),
    }
}
