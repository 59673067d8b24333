//! Commands: what the log holds, and how it looks on disk and on the wire.
//!
//! A command is a kind number and a named map, encoded once by its author and decoded once by
//! each server that applies it; everything between carries bytes. New fields are ignored by
//! older servers. A new kind stops them, with a sentence that says so, unless its number has
//! [`OPTIONAL`] set: then they pass it over.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use lan_agent::{
    ask::{Question, RequestId, TxnOp},
    catalog::{Deregistration, Registration},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::kv::Key;

/// Set in the number of a kind that servers which don't know it may pass over.
pub const OPTIONAL: u16 = 0x8000;

const KV_SET: u16 = 1;
const KV_DELETE: u16 = 2;
const KV_DELETE_TREE: u16 = 3;
const TXN: u16 = 4;
const REAP_TOMBSTONES: u16 = 5;
const REGISTER: u16 = 6;
const DEREGISTER: u16 = 7;

/// What a command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    KvSet {
        /// The key.
        key: Key,
        /// The value.
        value: Bytes,
        /// The client's own number.
        flags: u64,
        /// Set only if the modify index is this one; 0: only if there is no such key.
        cas: Option<u64>,
    },
    /// Deletes a key.
    KvDelete {
        /// The key.
        key: Key,
        /// Delete only if the modify index is this one.
        cas: Option<u64>,
    },
    /// Deletes all keys below a prefix.
    KvDeleteTree {
        /// The prefix; empty for everything.
        prefix: Key,
    },
    /// All operations or none.
    Txn {
        /// The operations.
        ops: Vec<TxnOp>,
    },
    /// Forgets the deletions up to and including an index.
    ReapTombstones {
        /// The index.
        upto: u64,
    },
    /// Takes a node, a service and checks into the catalog.
    Register(Arc<Registration>),
    /// Removes a node, a service or a check from the catalog.
    Deregister(Deregistration),
}

/// Why a command can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A newer server wrote it.
    #[error(
        "the log holds a command of kind {kind}, which this version does not know: upgrade this server"
    )]
    UnknownKind {
        /// The number of the kind.
        kind: u16,
    },
    /// The bytes are not what the kind says.
    #[error("the log holds a command of kind {kind} that can't be read: {why}")]
    Malformed {
        /// The number of the kind.
        kind: u16,
        /// What the decoder said.
        why: String,
    },
}

/// A command as the log holds it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Makes a repeated write apply once; `None` for what a leader does on its own account.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// When its leader wrote it, in milliseconds since 1970 by its own clock: moves the time that
    /// the servers agree on.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub stamp_ms: Option<u64>,
    /// The number of the kind.
    #[serde(rename = "k")]
    pub kind: u16,
    /// The named map.
    #[serde(rename = "b")]
    pub body: Bytes,
}

#[derive(Serialize, Deserialize)]
struct SetBody {
    key: Key,
    value: Bytes,
    #[serde(default, skip_serializing_if = "is_zero")]
    flags: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cas: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct DeleteBody {
    key: Key,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cas: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct DeleteTreeBody {
    prefix: Key,
}

#[derive(Serialize, Deserialize)]
struct TxnBody {
    ops: Vec<TxnOp>,
}

#[derive(Serialize, Deserialize)]
struct ReapBody {
    upto: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Tells whether a server that does not know a kind may pass over its commands.
pub fn may_be_passed_over(kind: u16) -> bool {
    kind & OPTIONAL != 0
}

impl Op {
    /// Returns what a question asks to be changed; `None` for one that only reads.
    pub fn from_question(question: &Question) -> Option<Self> {
        match question {
            _ if question.reads() => None,
            Question::KvPut { key, value, flags, cas } => Some(Op::KvSet {
                key: key.as_str().into(),
                value: value.clone(),
                flags: *flags,
                cas: *cas,
            }),
            Question::KvDelete { key, cas } => {
                Some(Op::KvDelete { key: key.as_str().into(), cas: *cas })
            }
            Question::KvDeleteTree { prefix } => {
                Some(Op::KvDeleteTree { prefix: prefix.as_str().into() })
            }
            Question::Txn { ops } => Some(Op::Txn { ops: ops.clone() }),
            Question::Register(registration) => Some(Op::Register(registration.clone())),
            Question::Deregister(what) => Some(Op::Deregister(what.clone())),
            _ => None,
        }
    }

    fn encode(&self) -> Result<(u16, Vec<u8>), rmp_serde::encode::Error> {
        use rmp_serde::to_vec_named as named;
        Ok(match self {
            Op::KvSet { key, value, flags, cas } => {
                let body =
                    SetBody { key: key.clone(), value: value.clone(), flags: *flags, cas: *cas };
                (KV_SET, named(&body)?)
            }
            Op::KvDelete { key, cas } => {
                (KV_DELETE, named(&DeleteBody { key: key.clone(), cas: *cas })?)
            }
            Op::KvDeleteTree { prefix } => {
                (KV_DELETE_TREE, named(&DeleteTreeBody { prefix: prefix.clone() })?)
            }
            Op::Txn { ops } => (TXN, named(&TxnBody { ops: ops.clone() })?),
            Op::ReapTombstones { upto } => (REAP_TOMBSTONES, named(&ReapBody { upto: *upto })?),
            Op::Register(registration) => (REGISTER, named(&**registration)?),
            Op::Deregister(what) => (DEREGISTER, named(what)?),
        })
    }
}

impl Command {
    /// Encodes an operation, under the id of the request that asked for it.
    pub fn new(request: Option<RequestId>, op: &Op) -> Self {
        // Writing plain maps of numbers, text and bytes into memory can't fail; should it ever,
        // the empty body is refused by everyone who reads it.
        let (kind, body) = op.encode().unwrap_or_default();
        Self { request, stamp_ms: None, kind, body: body.into() }
    }

    /// Decodes the operation.
    pub fn op(&self) -> Result<Op, Refused> {
        Ok(match self.kind {
            KV_SET => {
                let SetBody { key, value, flags, cas } = self.read()?;
                Op::KvSet { key, value, flags, cas }
            }
            KV_DELETE => {
                let DeleteBody { key, cas } = self.read()?;
                Op::KvDelete { key, cas }
            }
            KV_DELETE_TREE => {
                let DeleteTreeBody { prefix } = self.read()?;
                Op::KvDeleteTree { prefix }
            }
            TXN => {
                let TxnBody { ops } = self.read()?;
                Op::Txn { ops }
            }
            REAP_TOMBSTONES => {
                let ReapBody { upto } = self.read()?;
                Op::ReapTombstones { upto }
            }
            REGISTER => Op::Register(Arc::new(self.read()?)),
            DEREGISTER => Op::Deregister(self.read()?),
            kind => return Err(Refused::UnknownKind { kind }),
        })
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        rmp_serde::from_slice(&self.body)
            .map_err(|error| Refused::Malformed { kind: self.kind, why: error.to_string() })
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command(kind {}, {} bytes)", self.kind, self.body.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
