//! What goes on around the cache in the background: its file, its oldest entries, and what the agent
//! knows to be gone.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info, warn};

use super::{
    BYTES_MAX, Cache, Gone,
    store::{self, Saved},
};
use crate::{agent::Agent, files};

/// How often what changed is written.
const SAVE_INTERVAL: Duration = Duration::from_secs(15);

/// After this many of them the file is written although nothing changed, so that it says how
/// fresh the answers are.
const SAVE_ANYWAY: u64 = 20;

/// How often entries are looked for that nobody wants.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(60);

/// Longest file that is read: all entries, and what surrounds them.
const FILE_LEN_MAX: u64 = 2 * BYTES_MAX as u64;

/// Where the cache is kept over restarts.
pub struct File {
    path: PathBuf,
    /// Why the last attempt to write failed, so that it is said once.
    failed: Mutex<Option<String>>,
}

impl File {
    /// Keeps the cache in this file.
    pub fn new(path: PathBuf) -> Self {
        Self { path, failed: Mutex::default() }
    }

    fn write(&self, content: &[u8]) {
        let outcome = files::replace(&self.path, content).map_err(|error| error.to_string());
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path.display();
        match (outcome, failed.as_ref()) {
            (Ok(()), Some(_)) => info!(%path, "the cache is written again"),
            (Err(error), before) if before != Some(&error) => {
                warn!(%path, %error, "the cache can't be written: it will not survive a restart");
                *failed = Some(error);
                return;
            }
            (Err(_), _) => return,
            (Ok(()), None) => {}
        }
        *failed = None;
    }
}

impl Cache {
    /// Loads what the file holds. A file that can't be read is as good as none.
    pub fn load(&self, file: &File, now_ms: u64) {
        let path = file.path.display();
        let content = match files::read(&file.path, FILE_LEN_MAX) {
            Ok(Some(content)) => content,
            Ok(None) => return,
            Err(error) => return warn!(%path, %error, "the cache can't be read"),
        };
        let (entries, unread) = store::decode(&content);
        if let Some(unread) = unread {
            warn!(%path, reason = %unread, entries = entries.len(), "not all of the cache is read");
        }
        debug!(%path, entries = entries.len(), "the cache is loaded");
        for saved in entries {
            self.restore(saved, now_ms);
        }
    }

    fn restore(&self, saved: Saved, now_ms: u64) {
        let entry = self.enter(&saved.key, now_ms);
        entry.touch(saved.read_ms.min(now_ms));
        let before = entry.weight();
        // A clock that was set back does not make answers of the future.
        entry.restore(saved.answer(), saved.confirmed_ms.min(now_ms));
        self.grow(&entry, entry.weight() as isize - before as isize);
    }

    /// Returns what the file is to hold, unless it holds that already.
    fn content(&self, now_ms: u64, anyway: bool) -> Option<Vec<u8>> {
        let table = self.0.table.load_full();
        let changed = table.values().filter(|entry| entry.unsaved.swap(false, Relaxed)).count();
        if changed == 0 && !anyway {
            return None;
        }
        let kept = table.values().filter(|entry| entry.key.token.is_empty());
        Some(store::encode(kept.filter_map(|entry| {
            let (confirmed_ms, read_ms) = (entry.confirmed_ms(now_ms), entry.read_ms());
            Some(Saved::new(entry.key.clone(), &*entry.held()?, confirmed_ms, read_ms))
        })))
    }
}

/// Writes the file a last time, as the agent stops.
pub async fn save(agent: &Agent) {
    let Some(file) = agent.cache_file.clone() else { return };
    write(&agent.cache, file, agent.now_ms(), true).await;
}

/// Looks after the cache until the agent stops.
pub async fn run(agent: Arc<Agent>) {
    let began = Instant::now();
    let tick = |every| {
        let mut tick = tokio::time::interval_at(began + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    };
    let (mut saves, mut expiries) = (tick(SAVE_INTERVAL), tick(EXPIRE_INTERVAL));
    let (mut members, mut own) = (agent.pool.changes(), agent.local.changes());
    let cache = &agent.cache;
    let mut round = 0;
    look_around(&agent);
    loop {
        tokio::select! {
            biased;
            () = agent.stopping().cancelled() => return,
            changed = members.changed() => match changed {
                Ok(()) => look_around(&agent),
                Err(_) => return,
            },
            changed = own.changed() => match changed {
                Ok(()) => look_around(&agent),
                Err(_) => return,
            },
            _ = expiries.tick() => {
                cache.expire(agent.now_ms());
                cache.0.metrics.see(&cache.holdings(agent.now_ms()));
            }
            _ = saves.tick() => {
                round += 1;
                let anyway = round % SAVE_ANYWAY == 0 && cache.len() > 0;
                if let Some(file) = agent.cache_file.clone() {
                    write(cache, file, agent.now_ms(), anyway).await;
                }
            }
        }
    }
}

/// Takes in what the LAN pool and the agent's own checks say.
fn look_around(agent: &Agent) {
    let members = agent.pool.members();
    let gone = agent.local.look(|own| Gone::of(&members, own));
    let before = agent.cache.0.gone.load();
    // What was pruned for the same stays pruned.
    if **before != gone {
        agent.cache.0.gone.store(Arc::new(gone));
    }
}

async fn write(cache: &Cache, file: Arc<File>, now_ms: u64, anyway: bool) {
    let cache = cache.clone();
    let writing = tokio::task::spawn_blocking(move || {
        if let Some(content) = cache.content(now_ms, anyway) {
            file.write(&content);
        }
    });
    if let Err(error) = writing.await {
        warn!(%error, "writing the cache was ended");
    }
}
