//! What a mirror is told when it asks what changed: made of a view, and written for the wire.
//!
//! ```text
//! batch = [0][named map]  or  [1][the same, deflated]
//! ```

use std::{
    io::{Read, Write},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use lan_agent::{ask::Feed, catalog::Text};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::state::{
    State, catalog,
    catalog::{Catalog, Part},
    kv,
    view::View,
    watch::Topic,
};

/// About how many bytes of records are told at once: some thousand nodes.
pub const PAGE_LEN: usize = 1024 * 1024;

/// Longest batch that is read: one page and the largest records that may be the last on it, the indexes of all
/// services.
const BATCH_LEN_MAX: u64 = 256 * 1024 * 1024;

/// Longest time that an answer waits for something to tell, whatever is asked for.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Shorter ones fit in a packet or two anyway.
const DEFLATE_LEN_MIN: usize = 512;

const PLAIN: u8 = 0;
const DEFLATED: u8 = 1;

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Which datacenter it is of, of all that ever had the name.
    #[serde(rename = "b")]
    pub born_ms: u64,
    /// What version of the catalog this is the difference from; 0 for nothing.
    #[serde(rename = "s")]
    pub since: u64,
    /// What version it leads to, with all of its pages.
    #[serde(rename = "v")]
    pub version: u64,
    /// After which node the page begins; `None` for the first.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Text>,
    /// The page.
    #[serde(rename = "d", default)]
    pub catalog: catalog::Difference,
    /// What changed of the keys.
    #[serde(rename = "k", default)]
    pub kv: kv::Difference,
    /// Whether whoever answers knows less than the mirror has: then there is nothing else in it.
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    pub behind: bool,
    /// For how long the answer waited: so much later than the question it was still true.
    #[serde(rename = "w", default)]
    pub waited_ms: u64,
}

/// Why bytes are no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what changed can't be read: {0}")]
pub struct Unreadable(String);

impl Batch {
    /// Tells what changed for a mirror that is so far, a page of about `len_aim` bytes at most.
    pub fn of(view: &View, feed: &Feed, len_aim: usize) -> Self {
        let state = view.load();
        let born_ms = state.clock().born_ms();
        let knows_us = feed.born_ms == born_ms;
        let newest = state.catalog();
        let (has, kv) = match knows_us {
            true => (feed.catalog, kv::Progress { index: feed.kv_index, reaped: feed.kv_reaped }),
            false => (0, kv::Progress::default()),
        };
        if has > newest.version() || kv.index > state.kv().index() {
            return Self { born_ms, behind: true, ..Self::default() };
        }
        let kv = state.kv().difference(&feed.prefixes, kv, len_aim);
        let batch = |since, version, after, catalog| Self {
            born_ms,
            since,
            version,
            after,
            catalog,
            kv,
            ..Self::default()
        };
        let older = |version| match version {
            0 => Some(Catalog::default()),
            version if version == newest.version() => Some(newest.clone()),
            version => view.version(version),
        };
        // A page that was begun goes on, if both versions are still there.
        if let Some(page) = feed.page.as_ref().filter(|_| knows_us)
            && let (Some(since), Some(upto)) = (older(has), older(page.version))
        {
            let difference = upto.difference(&since, Some(&page.after), len_aim);
            return batch(has, page.version, Some(page.after.clone()), difference);
        }
        let (has, since) = match older(has) {
            Some(since) => (has, since),
            None => (0, Catalog::default()),
        };
        let difference = newest.difference(&since, None, len_aim);
        batch(has, newest.version(), None, difference)
    }

    /// Waits until there is something to tell a mirror, for so long at most; then tells it. Returns how old it is,
    /// which is asked for before the state is looked at: whatever happens in between, it is no older.
    pub async fn when_news(
        view: &View,
        feed: &Feed,
        wait: Duration,
        age: impl FnOnce() -> Duration,
    ) -> (Self, Duration) {
        let began = Instant::now();
        // When the time is up there is nothing to tell, which is worth telling.
        let _news = timeout_at(began + wait.min(WAIT_MAX), news(view, feed)).await;
        let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let age = age();
        (Self { waited_ms, ..Self::of(view, feed, PAGE_LEN) }, age)
    }

    /// Writes it for the wire.
    pub fn encode(&self) -> Bytes {
        let written = rmp_serde::to_vec_named(self);
        assert!(written.is_ok(), "memory takes every map of text and numbers: {written:?}");
        let plain = written.unwrap_or_default();
        if plain.len() >= DEFLATE_LEN_MIN {
            let mut encoder = DeflateEncoder::new(vec![DEFLATED], Compression::fast());
            let deflated = encoder.write_all(&plain).and_then(|()| encoder.finish());
            if let Ok(deflated) = deflated {
                return deflated.into();
            }
        }
        [&[PLAIN], &*plain].concat().into()
    }

    /// Reads what came off the wire.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let wrong = |why: &dyn ToString| Unreadable(why.to_string());
        let read = |plain: &[u8]| rmp_serde::from_slice(plain).map_err(|error| wrong(&error));
        match bytes.split_first() {
            Some((&PLAIN, plain)) => read(plain),
            Some((&DEFLATED, deflated)) => {
                let mut plain = Vec::new();
                let mut decoder = DeflateDecoder::new(deflated).take(BATCH_LEN_MAX);
                decoder.read_to_end(&mut plain).map_err(|error| wrong(&error))?;
                read(&plain)
            }
            Some((form, _)) => Err(wrong(&format_args!("its form {form} is unknown"))),
            None => Err(wrong(&"it is empty")),
        }
    }
}

/// Ends when there is something to tell a mirror.
async fn news(view: &View, feed: &Feed) {
    let tables = [Part::Nodes, Part::Instances, Part::Checks(None)];
    let prefixes = feed.prefixes.iter().map(|prefix| Topic::Prefix(prefix.as_str().into()));
    let topics = tables.into_iter().map(Topic::Catalog).chain(prefixes).collect();
    let watch = view.watches().watch(topics);
    loop {
        let changed = watch.changed();
        if is_news(&view.load(), feed) {
            return;
        }
        changed.await;
    }
}

fn is_news(state: &State, feed: &Feed) -> bool {
    state.clock().born_ms() != feed.born_ms
        || state.catalog().version() > feed.catalog
        || state.kv().changed_since(&feed.prefixes, feed.kv_index)
}
