//! Clients that write, compare-and-set, delete and read a few keys all the time, and record what
//! they were told.
//!
//! Reads of consistency `default` and `consistent` are part of the history, and so are those that
//! wait for a change. `stale` ones are not: they must not be older than they say ([`freshness`]), and asked
//! of one server again and again, their index must never go back, but for a restart of that server. Every write carries a value of its own; a value
//! must show under one modify index only: a second one would mean that it was applied twice. A
//! write of which its client was told that it had no effect must never show.
//!
//! Whatever has keys and values is a [`Store`]: real agents over HTTP, and simulated ones.
//!
//! [`freshness`]: crate::freshness

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use lan_agent::ask::Consistency;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    freshness::{Claim, Freshness},
    harness::{
        agent::Agent,
        client::{Client, Entry},
    },
    linearizable::{Call, History, Op, Outcome, Value},
};

/// How long a client waits for an answer before it goes on, not knowing.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// Longest pause between two operations of a client. Histories stay short enough to be checked.
const PAUSE_MAX: Duration = Duration::from_millis(80);

/// How long a read waits for a change, if it does.
const WAIT: Duration = Duration::from_secs(1);

/// How a read is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// How fresh it has to be.
    pub consistency: Consistency,
    /// The index above which it is answered, and how long it may wait for that.
    pub beyond: Option<(u64, Duration)>,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The entry, if there is one.
    pub entry: Option<Entry>,
    /// `X-Consul-Index`.
    pub index: u64,
    /// `X-Consul-LastContact`.
    pub last_contact: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// What was asked was not done and never will be.
    Never,
    /// Nobody knows.
    Unknown,
}

/// A way to keys and values.
pub trait Store: Send + Sync + 'static {
    /// Reads a key.
    fn read(
        &self,
        key: &str,
        reading: Reading,
    ) -> impl Future<Output = Result<Seen, Unanswered>> + Send;

    /// Sets a key, if its modify index is `cas` or that is none; `false`: it is not.
    fn set(
        &self,
        key: &str,
        value: Value,
        cas: Option<u64>,
    ) -> impl Future<Output = Result<bool, Unanswered>> + Send;

    /// Deletes a key.
    fn delete(&self, key: &str) -> impl Future<Output = Result<bool, Unanswered>> + Send;

    /// Returns the time by a clock that all who ask have in common.
    fn now(&self) -> Duration;

    /// Tells whether it is always the same server that answers what may be stale.
    fn is_one_server(&self) -> bool;
}

/// What all clients did and saw; clones share it.
#[derive(Clone)]
pub struct Record(Arc<Shared>);

struct Shared {
    history: History,
    prefix: String,
    keys: u64,
    stop: AtomicBool,
    next: AtomicU64,
    indexes: Mutex<BTreeMap<(String, Value), u64>>,
    /// Writes that were acknowledged, and when.
    acknowledged: Mutex<Vec<(String, Value, Duration)>>,
    freshness: Mutex<Freshness>,
    stale: AtomicU64,
    /// What was wrong beside the order of things.
    flaws: Mutex<Vec<String>>,
}

/// What a client remembers of a key.
#[derive(Default)]
struct Memory {
    /// What it was last told is there.
    seen: Option<Seen>,
    /// The index of the last stale read.
    stale: u64,
}

impl Record {
    /// Begins a record of so many keys below a prefix.
    pub fn new(prefix: &str, keys: u64) -> Self {
        Self(Arc::new(Shared {
            history: History::default(),
            prefix: prefix.to_owned(),
            keys,
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            indexes: Mutex::default(),
            acknowledged: Mutex::default(),
            freshness: Mutex::default(),
            stale: AtomicU64::new(0),
            flaws: Mutex::default(),
        }))
    }

    /// Counts the operations whose outcome is known.
    pub fn known(&self) -> usize {
        self.0.history.known()
    }

    /// Counts the stale reads that were answered.
    pub fn stale(&self) -> u64 {
        self.0.stale.load(Ordering::Relaxed)
    }

    /// Returns all operations of the history, by key.
    pub fn calls(&self) -> BTreeMap<String, Vec<Call>> {
        self.0.history.calls()
    }

    /// Returns the keys.
    pub fn keys(&self) -> Vec<String> {
        (0..self.0.keys).map(|key| format!("{}{key}", self.0.prefix)).collect()
    }

    /// Has all clients stop after what they are at.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }

    /// Is a client: works on the keys until it is told to stop. The seed decides what it does.
    pub async fn work(self, client: usize, seed: u64, store: impl Store) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut memory: BTreeMap<String, Memory> = BTreeMap::new();
        while !self.0.stop.load(Ordering::Relaxed) {
            let key = format!("{}{}", self.0.prefix, rng.random_range(0..self.0.keys));
            let known = memory.entry(key.clone()).or_default();
            match rng.random_range(0..20) {
                0..2 => self.read_stale(client, &store, &key, known).await,
                2..10 => {
                    let consistency = match rng.random() {
                        true => Consistency::Default,
                        false => Consistency::Consistent,
                    };
                    let index = known.seen.as_ref().map(|seen| seen.index);
                    let waits = rng.random_bool(0.1);
                    let beyond = index.filter(|_| waits).map(|index| (index.max(1), WAIT));
                    let reading = Reading { consistency, beyond };
                    known.seen =
                        self.read(client, &store, &key, reading).await.or(known.seen.take());
                }
                10..15 => drop(self.set(client, &store, &key).await),
                15 => self.delete(client, &store, &key).await,
                _ => {
                    let expected = known.seen.as_ref().and_then(|seen| seen.entry.clone());
                    self.compare_and_set(client, &store, &key, expected).await;
                }
            }
            tokio::time::sleep(rng.random_range(Duration::ZERO..PAUSE_MAX)).await;
        }
    }

    /// Reads a key; `None` when there was no answer.
    pub async fn read(
        &self,
        client: usize,
        store: &impl Store,
        key: &str,
        reading: Reading,
    ) -> Option<Seen> {
        let begun = self.0.history.begin(client, key, Op::Read);
        let seen = store.read(key, reading).await.ok()?;
        begun.end(Outcome::Saw(self.saw(key, seen.entry.as_ref())));
        locked(&self.0.freshness).prove(key, store.now(), seen.index);
        Some(seen)
    }

    /// Sets a key to a new value; tells whether that was acknowledged.
    pub async fn set(&self, client: usize, store: &impl Store, key: &str) -> bool {
        let value = self.value();
        let begun = self.0.history.begin(client, key, Op::Write(value));
        let outcome = store.set(key, value, None).await;
        match outcome {
            Ok(true) => {
                begun.end(Outcome::Done);
                self.acknowledge(key, value, store.now());
            }
            Ok(false) => self.flaw(format!("{key}: a set of {value} compared something")),
            Err(Unanswered::Never) => begun.never(),
            Err(Unanswered::Unknown) => {}
        }
        outcome == Ok(true)
    }

    async fn delete(&self, client: usize, store: &impl Store, key: &str) {
        let begun = self.0.history.begin(client, key, Op::Delete);
        match store.delete(key).await {
            Ok(_) => begun.end(Outcome::Done),
            Err(Unanswered::Never) => begun.never(),
            Err(Unanswered::Unknown) => {}
        }
    }

    /// Compares with what the client believes to be there.
    async fn compare_and_set(
        &self,
        client: usize,
        store: &impl Store,
        key: &str,
        expected: Option<Entry>,
    ) {
        let value = self.value();
        let old = expected.as_ref().map(number_of);
        let index = expected.map_or(0, |entry| entry.modify_index);
        let begun = self.0.history.begin(client, key, Op::Cas(old, value));
        match store.set(key, value, Some(index)).await {
            Ok(true) => {
                begun.end(Outcome::Done);
                self.acknowledge(key, value, store.now());
            }
            Ok(false) => begun.end(Outcome::Mismatch),
            Err(Unanswered::Never) => begun.never(),
            Err(Unanswered::Unknown) => {}
        }
    }

    async fn read_stale(&self, client: usize, store: &impl Store, key: &str, known: &mut Memory) {
        let reading = Reading { consistency: Consistency::Stale, beyond: None };
        let begin = store.now();
        let Ok(seen) = store.read(key, reading).await else {
            // The server may have been restarted.
            known.stale = 0;
            return;
        };
        self.0.stale.fetch_add(1, Ordering::Relaxed);
        self.saw(key, seen.entry.as_ref());
        let Seen { index, last_contact, .. } = seen;
        let claim = Claim { client, key: key.to_owned(), begin, last_contact, index };
        locked(&self.0.freshness).claim(claim);
        if store.is_one_server() && seen.index < known.stale {
            let (before, index) = (known.stale, seen.index);
            self.flaw(format!("{key}: client {client} read index {index} after {before}"));
        }
        known.stale = seen.index;
    }

    fn acknowledge(&self, key: &str, value: Value, at: Duration) {
        locked(&self.0.acknowledged).push((key.to_owned(), value, at));
    }

    fn value(&self) -> Value {
        1 + self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    fn saw(&self, key: &str, entry: Option<&Entry>) -> Option<Value> {
        let entry = entry?;
        let (value, index) = (number_of(entry), entry.modify_index);
        let mut indexes = locked(&self.0.indexes);
        let first = *indexes.entry((key.to_owned(), value)).or_insert(index);
        if first != index {
            self.flaw(format!("{key}: the write of {value} was applied at {first} and at {index}"));
        }
        Some(value)
    }

    fn flaw(&self, what: String) {
        locked(&self.0.flaws).push(what);
    }

    /// Adds stale reads that were older than they said to the flaws. What was acknowledged shows when
    /// somebody has read it, which tells its index.
    fn check_freshness(&self) {
        let mut freshness = locked(&self.0.freshness);
        let indexes = locked(&self.0.indexes);
        for (key, value, at) in locked(&self.0.acknowledged).drain(..) {
            if let Some(index) = indexes.get(&(key.clone(), value)) {
                freshness.prove(&key, at, *index);
            }
        }
        freshness.flaws().for_each(|flaw| self.flaw(flaw));
    }

    /// Checks everything that was recorded.
    ///
    /// # Panics
    /// When something is wrong with it.
    pub fn check(&self) {
        self.check_freshness();
        let flaws = locked(&self.0.flaws).join("\n");
        assert!(flaws.is_empty(), "{flaws}");
        if let Err(flaw) = self.0.history.check() {
            panic!("{flaw}");
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics in here")
}

fn number_of(entry: &Entry) -> Value {
    entry.value.parse().expect("only numbers were written")
}

/// Clients of real agents at work.
pub struct Workload {
    record: Record,
    begin: Instant,
    tasks: JoinSet<()>,
}

impl Workload {
    /// Starts a client of each of the agents, on some keys below a prefix.
    pub fn start<'a>(agents: impl Iterator<Item = &'a Agent>, prefix: &str, keys: u64) -> Self {
        let record = Record::new(prefix, keys);
        let (mut tasks, begin) = (JoinSet::new(), Instant::now());
        for (number, agent) in agents.enumerate() {
            let is_server = agent.config["server"] == true;
            let store = Http { client: agent.client().patient(PATIENCE), is_server, begin };
            tasks.spawn(record.clone().work(number, number as u64, store));
        }
        Self { record, begin, tasks }
    }

    /// Counts the operations whose outcome is known.
    pub fn known(&self) -> usize {
        self.record.known()
    }

    /// Stops the clients, reads every key once more through `last`, and checks everything.
    pub async fn finish(mut self, last: &Agent) {
        let last = Http { client: last.client(), is_server: false, begin: self.begin };
        self.record.stop();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client failed");
        }
        let reading = Reading { consistency: Consistency::Consistent, beyond: None };
        for key in self.record.keys() {
            let seen = self.record.read(usize::MAX, &last, &key, reading).await;
            seen.expect("a last read");
        }
        self.record.check();
    }
}

/// An agent's HTTP interface.
struct Http {
    client: Client,
    is_server: bool,
    begin: Instant,
}

impl Store for Http {
    async fn read(&self, key: &str, reading: Reading) -> Result<Seen, Unanswered> {
        let mut path = format!("/v1/kv/{key}?");
        path += match reading.consistency {
            Consistency::Default => "",
            Consistency::Consistent => "consistent",
            Consistency::Stale => "stale",
        };
        if let Some((index, wait)) = reading.beyond {
            path += &format!("&index={index}&wait={}s", wait.as_secs());
        }
        let response = self.client.get(&path).await.map_err(|_| Unanswered::Unknown)?;
        let entry = match response.status {
            StatusCode::OK => Some(Entry::read(&response.body).expect("an entry")),
            StatusCode::NOT_FOUND => None,
            _ => return Err(Unanswered::Unknown),
        };
        Ok(Seen { entry, index: response.index(), last_contact: response.last_contact() })
    }

    async fn set(&self, key: &str, value: Value, cas: Option<u64>) -> Result<bool, Unanswered> {
        let cas = cas.map_or(String::new(), |index| format!("?cas={index}"));
        let set = self.client.kv_put(&format!("{key}{cas}"), &value.to_string()).await;
        set.map_err(|_| Unanswered::Unknown)
    }

    async fn delete(&self, key: &str) -> Result<bool, Unanswered> {
        let path = format!("/v1/kv/{key}");
        let response = self.client.send(Method::DELETE, &path, Bytes::new()).await;
        let answered = response.ok().filter(|response| response.status == StatusCode::OK);
        answered.map(|_| true).ok_or(Unanswered::Unknown)
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn is_one_server(&self) -> bool {
        self.is_server
    }
}
