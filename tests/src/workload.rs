//! Clients that write, compare-and-set and read a few keys over HTTP, all the time, and record
//! what they were told.
//!
//! Every write carries a value of its own. A value must show under one modify index only: a
//! second one would mean that the write was applied twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::task::JoinSet;

use crate::{
    harness::client::{Client, Entry},
    linearizable::{History, Op, Outcome, Value},
};

/// How long a client waits for an answer before it goes on, not knowing.
const PATIENCE: Duration = Duration::from_secs(8);

/// Longest pause between two operations of a client. Histories stay short enough to be checked.
const PAUSE_MAX: Duration = Duration::from_millis(80);

/// Clients at work.
pub struct Workload {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    history: History,
    prefix: String,
    keys: u64,
    stop: AtomicBool,
    next: AtomicU64,
    indexes: Mutex<BTreeMap<(String, Value), u64>>,
}

impl Workload {
    /// Starts one client for each of the given, on some keys below a prefix.
    pub fn start(clients: Vec<Client>, prefix: &str, keys: u64) -> Self {
        let shared = Arc::new(Shared {
            history: History::default(),
            prefix: prefix.to_owned(),
            keys,
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            indexes: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            let (shared, client) = (Arc::clone(&shared), client.patient(PATIENCE));
            tasks.spawn(async move { shared.work(number, &client).await });
        }
        Self { shared, tasks }
    }

    /// Counts the operations whose outcome is known.
    pub fn known(&self) -> usize {
        self.shared.history.known()
    }

    /// Stops the clients, reads every key once more through `last`, and checks everything.
    pub async fn finish(mut self, last: &Client) {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a client failed");
        }
        for key in 0..self.shared.keys {
            let key = format!("{}{key}", self.shared.prefix);
            let begun = self.shared.history.begin(usize::MAX, &key, Op::Read);
            let entry = last.kv_get(&format!("{key}?consistent")).await.expect("a last read");
            begun.end(Outcome::Saw(self.shared.saw(&key, entry.as_ref())));
        }
        if let Err(flaw) = self.shared.history.check() {
            panic!("{flaw}");
        }
    }
}

impl Shared {
    async fn work(&self, number: usize, client: &Client) {
        let mut rng = SmallRng::seed_from_u64(number as u64);
        let mut seen: BTreeMap<String, Option<Entry>> = BTreeMap::new();
        while !self.stop.load(Ordering::Relaxed) {
            let key = format!("{}{}", self.prefix, rng.random_range(0..self.keys));
            match rng.random_range(0..10) {
                0..4 => {
                    if let Some(entry) = self.read(number, client, &key).await {
                        seen.insert(key, entry);
                    }
                }
                4..8 => self.write(number, client, &key, None).await,
                _ => {
                    let expected = seen.get(&key).cloned().flatten();
                    self.write(number, client, &key, Some(expected)).await;
                }
            }
            tokio::time::sleep(rng.random_range(Duration::ZERO..PAUSE_MAX)).await;
        }
    }

    async fn read(&self, number: usize, client: &Client, key: &str) -> Option<Option<Entry>> {
        let begun = self.history.begin(number, key, Op::Read);
        let entry = client.kv_get(&format!("{key}?consistent")).await.ok()?;
        begun.end(Outcome::Saw(self.saw(key, entry.as_ref())));
        Some(entry)
    }

    /// Writes; `cas` is what the client believes to be there.
    async fn write(&self, number: usize, client: &Client, key: &str, cas: Option<Option<Entry>>) {
        let value = 1 + self.next.fetch_add(1, Ordering::Relaxed);
        let (op, path) = match &cas {
            None => (Op::Write(value), key.to_owned()),
            Some(expected) => {
                let index = expected.as_ref().map_or(0, |entry| entry.modify_index);
                let old = expected.as_ref().map(number_of);
                (Op::Cas(old, value), format!("{key}?cas={index}"))
            }
        };
        let begun = self.history.begin(number, key, op);
        // An error may mean that it was applied: its outcome stays unknown.
        match client.kv_put(&path, &value.to_string()).await {
            Ok(true) => begun.end(Outcome::Done),
            Ok(false) => begun.end(Outcome::Mismatch),
            Err(_) => {}
        }
    }

    fn saw(&self, key: &str, entry: Option<&Entry>) -> Option<Value> {
        let entry = entry?;
        let value = number_of(entry);
        let mut indexes = self.indexes.lock().expect("nobody panics in here");
        let first = *indexes.entry((key.to_owned(), value)).or_insert(entry.modify_index);
        assert_eq!(first, entry.modify_index, "{key}: the write of {value} was applied twice");
        Some(value)
    }
}

fn number_of(entry: &Entry) -> Value {
    entry.value.parse().expect("only numbers were written")
}
