//! The clients of a drill: for every pair of datacenters a few that ask in the one for the other,
//! through its servers and client agents in turn, and write down what came of every request.
//!
//! A client repeats a round: create a key of its own, read it back, count a shared counter up by
//! check-and-set, read a key stale, put another key of its own, read that confirmed by a quorum.
//! Nobody else writes a client's own keys and it writes each once, so that a write that was
//! applied twice shows.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use topology::Datacenter;

use crate::{
    drill::{
        history::{Entry, Kind, Operation, Outcome},
        kv::Listed,
    },
    http_client::{HttpClient, HttpError},
    processes::layout::Layout,
};

/// Clients for each ordered pair of datacenters.
const CLIENTS_PER_PAIR: usize = 2;

/// How often a client sends a request: with nine pairs about 300 requests a second, which leaves
/// a machine of two processors that runs twelve agents some room.
const REQUEST_EVERY: Duration = Duration::from_millis(60);

/// How long a client waits: longer than any bound, so that a request that hangs is seen to.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// Everything that a drill writes begins with this.
pub const PREFIX: &str = "drill/";

/// The counter that all clients of a datacenter count up.
pub const COUNTER: &str = "drill/counter";

/// Answers and errors so far, to be shown while the drill runs.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<Datacenter, (AtomicU64, AtomicU64)>,
}

impl Tally {
    /// Returns answers and errors of the requests for a datacenter.
    pub fn of(&self, to: &Datacenter) -> (u64, u64) {
        self.counts.get(to).map_or((0, 0), |(answers, errors)| {
            (answers.load(Ordering::Relaxed), errors.load(Ordering::Relaxed))
        })
    }

    fn count(&self, operation: &Operation) {
        let Some((answers, errors)) = self.counts.get(&operation.to) else { return };
        let which = if operation.is_answer() { answers } else { errors };
        which.fetch_add(1, Ordering::Relaxed);
    }
}

/// The running clients.
#[derive(Debug)]
pub struct Workload {
    clients: JoinSet<Vec<Operation>>,
    stop: watch::Sender<bool>,
    tally: Arc<Tally>,
}

impl Workload {
    /// Starts all clients; their times count from `zero`.
    pub fn start(http: &HttpClient, layout: &Layout, zero: Instant) -> Self {
        let datacenters = layout.datacenters();
        let counts = datacenters.iter().map(|dc| (dc.clone(), Default::default())).collect();
        let tally = Arc::new(Tally { counts });
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for from in &datacenters {
            let entries = entries(layout, from);
            for to in &datacenters {
                for nth in 0..CLIENTS_PER_PAIR {
                    let client = Client {
                        http: http.clone(),
                        entries: entries.clone(),
                        to: to.clone(),
                        name: format!("{from}-{nth}"),
                        zero,
                        sent: nth,
                        last_own: None,
                        tally: tally.clone(),
                        operations: Vec::new(),
                    };
                    clients.spawn(client.run(stopped.clone()));
                }
            }
        }
        Self { clients, stop, tally }
    }

    /// Returns how many clients there are.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Returns the counts so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Tells the clients to stop, waits for what they have under way, and returns all that they
    /// did.
    pub async fn stop(self) -> Vec<Operation> {
        self.stop.send_replace(true);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

fn entries(layout: &Layout, dc: &Datacenter) -> Vec<(Arc<Entry>, std::net::SocketAddr)> {
    layout
        .datacenter(dc)
        .map(|node| {
            let entry = Entry { dc: node.dc.clone(), label: node.label(), role: node.role };
            (Arc::new(entry), node.http())
        })
        .collect()
}

/// One of the clients.
struct Client {
    http: HttpClient,
    entries: Vec<(Arc<Entry>, std::net::SocketAddr)>,
    to: Datacenter,
    name: String,
    zero: Instant,
    /// How many requests were sent: decides whom to ask next and names the keys.
    sent: usize,
    /// The last key of its own that was acknowledged.
    last_own: Option<Arc<str>>,
    tally: Arc<Tally>,
    operations: Vec<Operation>,
}

impl Client {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Vec<Operation> {
        let mut tick = interval(REQUEST_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let round = [
            Kind::Create,
            Kind::Read,
            Kind::Increment,
            Kind::ReadStale,
            Kind::Put,
            Kind::ReadConsistent,
        ];
        for kind in round.into_iter().cycle() {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                _ = tick.tick() => (),
            }
            match kind {
                Kind::Create | Kind::Put => self.write_own(kind).await,
                Kind::Increment => self.increment().await,
                Kind::Read | Kind::ReadConsistent | Kind::ReadStale => self.read_own(kind).await,
            }
        }
        self.operations
    }

    async fn write_own(&mut self, kind: Kind) {
        let key: Arc<str> = format!("{PREFIX}{}/{:06}", self.name, self.sent).into();
        let condition = if kind == Kind::Create { "&cas=0" } else { "" };
        let body = key.to_string();
        if self.write(kind, key.clone(), condition, body).await {
            self.last_own = Some(key);
        }
    }

    async fn read_own(&mut self, kind: Kind) {
        let Some(key) = self.last_own.clone() else { return };
        let (found, outcome) = match self.read(kind, &key).await {
            Ok(pair) => (pair, Outcome::Done),
            Err(outcome) => (None, outcome),
        };
        // A stale answer may come from before the write; any other one must have it.
        if outcome == Outcome::Done && found.is_none() && kind != Kind::ReadStale {
            let lost = Outcome::Wrong(format!("{key} was acknowledged and is not there"));
            if let Some(last) = self.operations.last_mut() {
                last.outcome = lost;
            }
        }
    }

    async fn increment(&mut self) {
        let key: Arc<str> = COUNTER.into();
        let Ok(pair) = self.read(Kind::Read, &key).await else { return };
        let (index, count) = match pair {
            None => (0, 0),
            Some(pair) => (pair.modify_index, pair.text().parse().unwrap_or(0u64)),
        };
        let condition = format!("&cas={index}");
        self.write(Kind::Increment, key, &condition, (count + 1).to_string()).await;
    }

    /// Sends a write and says whether it was acknowledged.
    async fn write(&mut self, kind: Kind, key: Arc<str>, condition: &str, body: String) -> bool {
        let (via, at) = self.next_entry();
        let path = format!("/v1/kv/{key}?dc={}{condition}", self.to);
        let start = self.zero.elapsed();
        let outcome = match self.http.put(at, &path, body, ANSWER_WITHIN).await {
            Ok(answer) if !answer.status.is_success() => {
                Outcome::Error { status: answer.status.as_u16(), text: answer.text() }
            }
            Ok(answer) => match answer.text().as_str() {
                "true" => Outcome::Done,
                "false" => Outcome::Conflict,
                other => Outcome::Wrong(format!("a write was answered with {other:?}")),
            },
            Err(error) => failed(error),
        };
        let done = outcome == Outcome::Done;
        self.record(via, kind, key, start, outcome);
        done
    }

    /// Sends a read; a key that is not there is an answer.
    async fn read(&mut self, kind: Kind, key: &Arc<str>) -> Result<Option<Listed>, Outcome> {
        let (via, at) = self.next_entry();
        let mode = match kind {
            Kind::ReadConsistent => "&consistent",
            Kind::ReadStale => "&stale",
            _ => "",
        };
        let path = format!("/v1/kv/{key}?dc={}{mode}", self.to);
        let start = self.zero.elapsed();
        let result = match self.http.get(at, &path, ANSWER_WITHIN).await {
            Ok(answer) if answer.status.as_u16() == 404 => Ok(None),
            Ok(answer) if answer.status.is_success() => {
                match serde_json::from_slice::<Vec<Listed>>(&answer.body) {
                    Ok(pairs) => Ok(pairs.into_iter().next()),
                    Err(error) => Err(Outcome::Wrong(format!("not an answer: {error}"))),
                }
            }
            Ok(answer) => {
                Err(Outcome::Error { status: answer.status.as_u16(), text: answer.text() })
            }
            Err(error) => Err(failed(error)),
        };
        let outcome = result.as_ref().err().cloned().unwrap_or(Outcome::Done);
        self.record(via, kind, key.clone(), start, outcome);
        result
    }

    fn next_entry(&mut self) -> (Arc<Entry>, std::net::SocketAddr) {
        let next = self.entries[self.sent % self.entries.len()].clone();
        self.sent += 1;
        next
    }

    fn record(
        &mut self,
        via: Arc<Entry>,
        kind: Kind,
        key: Arc<str>,
        start: Duration,
        outcome: Outcome,
    ) {
        let end = self.zero.elapsed();
        let operation = Operation { via, to: self.to.clone(), kind, key, start, end, outcome };
        self.tally.count(&operation);
        self.operations.push(operation);
    }
}

fn failed(error: HttpError) -> Outcome {
    match error {
        HttpError::Connect { .. } => Outcome::NoConnection(error.to_string()),
        _ => Outcome::Silence(error.to_string()),
    }
}
