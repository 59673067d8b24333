//! The questions, each with the number that it has on the wire.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Most operations in one transaction, as Consul has it.
pub const TXN_OPS_MAX: usize = 128;

/// Largest value of a key, as Consul has it: 512 KiB.
pub const VALUE_LEN_MAX: usize = 512 * 1024;

/// What is asked. Reads answer to [`super::Consistency`]; writes go to the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// One key: a JSON list of one entry or the value's bytes; absent when there is none.
    KvGet {
        /// The key, without a leading slash.
        key: String,
        /// Answer with the value's bytes.
        raw: bool,
    },
    /// All entries below a prefix: a JSON list; absent when there is none.
    KvList {
        /// The prefix; empty for everything.
        prefix: String,
    },
    /// The keys below a prefix up to and including the first separator after it.
    KvKeys {
        /// The prefix; empty for everything.
        prefix: String,
        /// Cuts keys; empty for whole keys.
        separator: String,
    },
    /// Sets a key: `true`, or `false` when the comparison failed.
    KvPut {
        /// The key.
        key: String,
        /// The value, at most [`VALUE_LEN_MAX`] bytes.
        value: Bytes,
        /// The client's own number.
        flags: u64,
        /// Set only if the modify index is this one; 0: only if there is no such key.
        cas: Option<u64>,
    },
    /// Deletes a key: `true`, or `false` when the comparison failed.
    KvDelete {
        /// The key.
        key: String,
        /// Delete only if the modify index is this one.
        cas: Option<u64>,
    },
    /// Deletes all keys below a prefix: `true`.
    KvDeleteTree {
        /// The prefix; empty for everything.
        prefix: String,
    },
    /// All operations or none: a JSON object of results, or [`super::Outcome::Conflict`] with the
    /// errors. One that only reads answers to the consistency and is not written to the log.
    Txn {
        /// 1 to [`TXN_OPS_MAX`] operations.
        ops: Vec<TxnOp>,
    },
    /// The leader's address as a JSON string; empty when there is none.
    StatusLeader,
    /// The addresses of the Raft peers as a JSON list.
    StatusPeers,
    /// The names of the known datacenters as a JSON list, the own one first.
    Datacenters,
    /// `/v1/operator/raft/configuration`.
    RaftConfiguration,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnOp {
    /// What to do with the key.
    pub verb: KvVerb,
    /// The key, or the prefix of a tree.
    pub key: String,
    /// The value of a set.
    #[serde(default)]
    pub value: Bytes,
    /// The client's own number.
    #[serde(default)]
    pub flags: u64,
    /// The index of a comparison.
    #[serde(default)]
    pub index: u64,
}

/// What an operation of a transaction does, by Consul's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvVerb {
    /// Sets a key.
    Set,
    /// Sets a key if its modify index is as given.
    Cas,
    /// Reads a key; fails when there is none.
    Get,
    /// Reads a key; null when there is none.
    GetOrEmpty,
    /// Reads all entries below a prefix.
    GetTree,
    /// Fails unless the modify index is as given.
    CheckIndex,
    /// Fails if there is such a key.
    CheckNotExists,
    /// Deletes a key.
    Delete,
    /// Deletes all keys below a prefix.
    DeleteTree,
    /// Deletes a key if its modify index is as given.
    DeleteCas,
}

impl KvVerb {
    /// Tells whether the operation changes nothing.
    pub fn reads(self) -> bool {
        match self {
            KvVerb::Get
            | KvVerb::GetOrEmpty
            | KvVerb::GetTree
            | KvVerb::CheckIndex
            | KvVerb::CheckNotExists => true,
            KvVerb::Set | KvVerb::Cas | KvVerb::Delete | KvVerb::DeleteTree | KvVerb::DeleteCas => {
                false
            }
        }
    }
}

impl Question {
    /// Tells whether answering it changes nothing.
    pub fn reads(&self) -> bool {
        match self {
            Question::KvGet { .. }
            | Question::KvList { .. }
            | Question::KvKeys { .. }
            | Question::StatusLeader
            | Question::StatusPeers
            | Question::Datacenters
            | Question::RaftConfiguration => true,
            Question::KvPut { .. } | Question::KvDelete { .. } | Question::KvDeleteTree { .. } => {
                false
            }
            Question::Txn { ops } => ops.iter().all(|op| op.verb.reads()),
        }
    }
}
