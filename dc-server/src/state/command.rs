//! Commands: what the log holds, and how it looks on disk and on the wire.
//!
//! A command is a kind number and a named map, encoded once by its author and decoded once by
//! each server that applies it; everything between carries bytes. New fields are ignored by
//! older servers. A new kind stops them, with a sentence that says so, unless its number has
//! [`OPTIONAL`] set: then they pass it over.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use lan_agent::{
    ask::{AskError, Question, RequestId, TxnOp, coordinate::Update},
    catalog::{Deregistration, Registration, Text},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{config_entries::EntryRow, kv::Key};
use crate::{
    config_entry::{self, Definition},
    prepared_query::Definition as Query,
};

/// Set in the number of a kind that servers which don't know it may pass over.
pub const OPTIONAL: u16 = 0x8000;

const KV_SET: u16 = 1;
const KV_DELETE: u16 = 2;
const KV_DELETE_TREE: u16 = 3;
const TXN: u16 = 4;
const REAP_TOMBSTONES: u16 = 5;
const REGISTER: u16 = 6;
const DEREGISTER: u16 = 7;
const CONFIG_SET: u16 = 8;
const CONFIG_DELETE: u16 = 9;
const CONFIG_REPLICATE: u16 = 10;
const FOUND: u16 = 11;
/// Whoever does not know it goes on without coordinates: leaders write it unasked, also while servers are upgraded.
const COORDINATES: u16 = 20 | OPTIONAL;
const QUERY_SET: u16 = 12;
const QUERY_DELETE: u16 = 13;

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
    /// Sets a configuration entry.
    ConfigSet {
        /// The entry.
        definition: Definition,
        /// Set only if the modify index is this one; 0: only if there is none.
        cas: Option<u64>,
    },
    /// Deletes a configuration entry.
    ConfigDelete {
        /// Its kind.
        kind: Text,
        /// Its name.
        name: Text,
        /// Delete only if the modify index is this one.
        cas: Option<u64>,
    },
    /// Makes configuration entries what they are in the primary datacenter, all at once.
    ConfigReplicate {
        /// Those that are new or other there.
        set: Vec<EntryRow>,
        /// The kinds and names of those that are not there any more.
        gone: Vec<(Text, Text)>,
    },
    /// Sets a prepared query.
    QuerySet {
        /// Its id.
        id: Text,
        /// What it says; `None` for what this version can't read.
        definition: Option<Box<Query>>,
        /// Whether there is to be none of its id.
        new: bool,
    },
    /// Deletes a prepared query.
    QueryDelete {
        /// Its id.
        id: Text,
    },
    /// Gives the cluster its identity, unless it has one.
    Found {
        /// The identity.
        cluster: Uuid,
    },
    /// Says where nodes are.
    Coordinates {
        /// Each node once.
        updates: Vec<Update>,
    },
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

#[derive(Serialize, Deserialize)]
struct ConfigSetBody {
    #[serde(rename = "k")]
    kind: Text,
    #[serde(rename = "n")]
    name: Text,
    #[serde(rename = "b")]
    body: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cas: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct ConfigDeleteBody {
    #[serde(rename = "k")]
    kind: Text,
    #[serde(rename = "n")]
    name: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cas: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct ConfigReplicateBody {
    #[serde(default)]
    set: Vec<EntryRow>,
    #[serde(default)]
    gone: Vec<(Text, Text)>,
}

#[derive(Serialize, Deserialize)]
struct QuerySetBody {
    id: Text,
    #[serde(rename = "b")]
    body: Text,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    new: bool,
}

#[derive(Serialize, Deserialize)]
struct QueryDeleteBody {
    id: Text,
}

#[derive(Serialize, Deserialize)]
struct FoundBody {
    cluster: Uuid,
}

#[derive(Serialize, Deserialize)]
struct CoordinatesBody {
    updates: Vec<Update>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Tells whether a server that does not know a kind may pass over its commands.
pub fn may_be_passed_over(kind: u16) -> bool {
    kind & OPTIONAL != 0
}

impl Op {
    /// Returns what a question asks to be changed; `None` for one that only reads. Fails for what makes no sense.
    pub fn from_question(question: &Question) -> Result<Option<Self>, AskError> {
        Ok(match question {
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
            Question::ConfigSet { entry, cas } => {
                Some(Op::ConfigSet { definition: Definition::read(entry)?, cas: *cas })
            }
            Question::ConfigDelete { kind, name, cas } => {
                config_entry::check_kind(kind)?;
                Some(Op::ConfigDelete { kind: kind.clone(), name: name.clone(), cas: *cas })
            }
            Question::QuerySet { id, query, new } => {
                let definition = Some(Box::new(Query::read(query, *new)?));
                Some(Op::QuerySet { id: id.clone(), definition, new: *new })
            }
            Question::QueryDelete { id } => Some(Op::QueryDelete { id: id.clone() }),
            _ => None,
        })
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
            Op::ConfigSet { definition, cas } => {
                let Definition { kind, name, body, .. } = definition.clone();
                (CONFIG_SET, named(&ConfigSetBody { kind, name, body, cas: *cas })?)
            }
            Op::ConfigDelete { kind, name, cas } => {
                let (kind, name) = (kind.clone(), name.clone());
                (CONFIG_DELETE, named(&ConfigDeleteBody { kind, name, cas: *cas })?)
            }
            Op::ConfigReplicate { set, gone } => {
                let body = ConfigReplicateBody { set: set.clone(), gone: gone.clone() };
                (CONFIG_REPLICATE, named(&body)?)
            }
            Op::QuerySet { id, definition, new } => {
                let body = definition.as_ref().map(|it| it.body().clone()).unwrap_or_default();
                (QUERY_SET, named(&QuerySetBody { id: id.clone(), body, new: *new })?)
            }
            Op::QueryDelete { id } => (QUERY_DELETE, named(&QueryDeleteBody { id: id.clone() })?),
            Op::Found { cluster } => (FOUND, named(&FoundBody { cluster: *cluster })?),
            Op::Coordinates { updates } => {
                (COORDINATES, named(&CoordinatesBody { updates: updates.clone() })?)
            }
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
            CONFIG_SET => {
                let ConfigSetBody { kind, name, body, cas } = self.read()?;
                Op::ConfigSet { definition: Definition::kept(kind, name, body), cas }
            }
            CONFIG_DELETE => {
                let ConfigDeleteBody { kind, name, cas } = self.read()?;
                Op::ConfigDelete { kind, name, cas }
            }
            CONFIG_REPLICATE => {
                let ConfigReplicateBody { set, gone } = self.read()?;
                Op::ConfigReplicate { set, gone }
            }
            QUERY_SET => {
                let QuerySetBody { id, body, new } = self.read()?;
                Op::QuerySet { id, definition: Query::kept(&body).map(Box::new), new }
            }
            QUERY_DELETE => {
                let QueryDeleteBody { id } = self.read()?;
                Op::QueryDelete { id }
            }
            FOUND => {
                let FoundBody { cluster } = self.read()?;
                Op::Found { cluster }
            }
            COORDINATES => {
                let CoordinatesBody { updates } = self.read()?;
                Op::Coordinates { updates }
            }
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
