//! Snapshots on disk and under way to followers.
//!
//! ```text
//! "CWSNAP\0\x01"
//! frame*      kind u8 | len u32 BE | crc32 u32 BE of kind and payload | payload (named map)
//! end frame   what all frames before add up to: count, bytes, crc32 of their crcs
//! ```
//!
//! The first frame is the header: the Raft metadata and the numbers of the state. Frames of keys,
//! tombstones, the catalog's rows, configuration entries, coordinates and requests follow. A frame of a kind that this version does not know is refused,
//! unless its kind has the top bit set. Every byte is covered by a checksum, and a file without
//! its end frame is no snapshot.
//!
//! A file gets its name when it is complete and durable, so that one that is half written or half
//! received is never taken for a snapshot. The newest two are kept.

mod columns;
mod decode;
mod encode;
pub mod receive;
mod store;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use decode::{Decoder, FormatError};
pub use encode::Encoder;
pub use store::{PIECE_LEN, SnapshotError, Store};

use super::protocol::SnapshotMeta;
use crate::state::{State, catalog::Indexes, clock::Clock, config_entries, requests::Age};

/// How every snapshot starts; the last byte is the version of the frame format.
pub const MAGIC: &[u8; 8] = b"CWSNAP\0\x01";

/// Size at which a frame is closed. A single value may make it larger.
pub const FRAME_LEN_AIM: usize = 128 * 1024;

/// Largest frame that is read: one entry of the largest value, or one transaction's results, fit.
pub const FRAME_LEN_MAX: usize = 80 * 1024 * 1024;

/// Set in the kind of a frame that those who don't know it may pass over.
pub const OPTIONAL: u8 = 0x80;

const HEADER: u8 = 1;
const KEYS: u8 = 2;
const TOMBSTONES: u8 = 3;
const REQUESTS: u8 = 4;
const NODES: u8 = 5;
const SERVICES: u8 = 6;
const CHECKS: u8 = 7;
const GROUPS: u8 = 8;
const CONFIG_ENTRIES: u8 = 9;
/// As with the command: whoever does not know them goes on without.
const COORDINATES: u8 = 12 | OPTIONAL;
const QUERIES: u8 = 10;
const END: u8 = 0x7f;

/// Kind, length and checksum of a frame.
const FRAME_HEAD_LEN: usize = 1 + 4 + 4;

/// A complete snapshot: a file, and what is in it when that is in memory anyway.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name of the file.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// The state in it, if it was just read.
    pub state: Option<Arc<State>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Header {
    meta: SnapshotMeta,
    applied: u64,
    kv_index: u64,
    #[serde(default)]
    kv_reaped: u64,
    #[serde(default)]
    clock: Clock,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<Uuid>,
    #[serde(default)]
    ages: Vec<Age>,
    #[serde(default)]
    catalog: Indexes,
    #[serde(default)]
    config_entries: config_entries::Indexes,
    #[serde(default)]
    coordinates_index: u64,
    #[serde(default)]
    queries_index: u64,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Sum {
    frames: u64,
    bytes: u64,
    crc: u32,
}

impl Sum {
    fn add(&mut self, frame_len: usize, crc: u32) {
        self.frames += 1;
        self.bytes += frame_len as u64;
        let mut hasher = crc32fast::Hasher::new_with_initial(self.crc);
        hasher.update(&crc.to_be_bytes());
        self.crc = hasher.finalize();
    }
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
