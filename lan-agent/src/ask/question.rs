//! The questions, each with the number that it has on the wire.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use topology::Datacenter;

use super::{Feed, Union, coordinate};
use crate::catalog::{Check, Deregistration, Lookup, Node, Registration, Service, Text};

/// Most operations in one transaction, as Consul has it.
pub const TXN_OPS_MAX: usize = 128;

/// Largest value of a key unless an operator wants it otherwise, as Consul has it: 512 KiB.
pub const VALUE_LEN_MAX: usize = 512 * 1024;

/// Most bytes of keys and values in one write, whatever operators want: far below what one
/// command of a server's log holds.
pub const WRITE_LEN_MAX: usize = 4 * 1024 * 1024;

/// Longest configuration entry, in bytes of JSON: what Envoy is told in some of them is the longest part.
pub const CONFIG_ENTRY_LEN_MAX: usize = 128 * 1024;

/// From how many times the load of now on an instance counts as too much, in percent, unless somebody wants it
/// otherwise: those who plan for the loss of one of two halves have as much again to spare.
pub const OVERLOAD_PERCENT: u32 = 200;

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
        /// The value; with the key at most [`WRITE_LEN_MAX`] bytes.
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
    /// Takes a node, a service or checks into the catalog, with at most [`WRITE_LEN_MAX`] bytes of
    /// text: `true`.
    Register(Arc<Registration>),
    /// Removes a node, a service or a check from the catalog: `true`, also when it is not there.
    Deregister(Deregistration),
    /// What the catalog holds.
    Lookup(Lookup),
    /// What the catalogs of several datacenters hold.
    Union(Union),
    /// Sets a configuration entry: `true`, or `false` when the comparison failed. Written in the primary datacenter.
    ConfigSet {
        /// The entry in JSON, as the client gave it; at most [`CONFIG_ENTRY_LEN_MAX`] bytes.
        entry: Text,
        /// Set only if the modify index is this one; 0: only if there is none.
        cas: Option<u64>,
    },
    /// Deletes a configuration entry: `true`, or `false` when the comparison failed. Written in the primary datacenter.
    ConfigDelete {
        /// Its kind.
        kind: Text,
        /// Its name.
        name: Text,
        /// Delete only if the modify index is this one.
        cas: Option<u64>,
    },
    /// A configuration entry, which may be absent, or a JSON list of those of a kind.
    ConfigRead {
        /// The kind; `None` for all, which only servers ask for.
        kind: Option<Text>,
        /// The name; `None` for all of the kind.
        name: Option<Text>,
    },
    /// Sets a prepared query: `true`.
    QuerySet {
        /// Its id, a UUID.
        id: Text,
        /// The query in JSON, as the client gave it.
        query: Text,
        /// Whether there is to be none of its id; else there has to be one.
        new: bool,
    },
    /// Deletes a prepared query: `true`.
    QueryDelete {
        /// Its id.
        id: Text,
    },
    /// A JSON list of the prepared query of an id, which may be absent, or of all.
    QueryRead {
        /// The id; `None` for all.
        id: Option<Text>,
    },
    /// A prepared query as it runs by a name: a template is filled in.
    QueryExplain {
        /// The name or id.
        name: Text,
    },
    /// The leader's address as a JSON string; empty when there is none.
    StatusLeader,
    /// The addresses of the Raft peers as a JSON list.
    StatusPeers,
    /// The names of the known datacenters as a JSON list, the own one first.
    Datacenters,
    /// `/v1/operator/raft/configuration`.
    RaftConfiguration,
    /// `/v1/federation/status`: what the server that answers knows of all datacenters.
    FederationStatus,
    /// `/v1/federation/timeline`: what happened between the datacenters.
    FederationTimeline {
        /// Only what is told of this datacenter.
        about: Option<Datacenter>,
        /// Whose events.
        scope: Scope,
    },
    /// `/v1/federation/remove`: removes a datacenter from the federation, or lets it in again: `true`.
    FederationRemove {
        /// Which one.
        dc: Datacenter,
        /// What is wanted for it.
        removing: Removing,
    },
    /// `/v1/federation/failover`: where those who look services up are sent, and would be.
    FailoverExplain(FailoverExplain),
    /// Servers of other datacenters that mirror this one ([`crate::refuge`]).
    Refuges,
    /// What changed, for a mirror. A server that keeps one of another datacenter answers for that one
    /// to the servers of its own.
    Feed(Feed),
    /// Says where a node is: `true` once that is written, `false` when the catalog does not know the node. Leaders
    /// write what they were told in some seconds at once.
    CoordinateUpdate(coordinate::Update),
    /// Where nodes are: a JSON list; absent when one is asked for and nothing is known of it.
    CoordinateRead(coordinate::Read),
    /// Where the servers of all datacenters are, as far as the answering server knows: a JSON list.
    CoordinateDatacenters,
}

/// Asks where lookups go now, and would go without some datacenters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverExplain {
    /// The service; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Text>,
    /// The datacenters to do without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Datacenter>,
    /// From how many times the load of now on an instance counts as too much, in percent.
    pub overload_percent: u32,
    /// Whose callers; never [`Scope::Server`].
    pub scope: Scope,
}

/// What is wanted for a datacenter of the federation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removing {
    /// To be removed, if it is lost or left.
    IfGone,
    /// To be removed, whatever it is.
    Anyway,
    /// To be let in again.
    Undo,
}

/// Whose events a timeline has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Those of the servers of all datacenters that can be reached.
    Federation,
    /// Those of the servers of the datacenter that answers.
    Datacenter,
    /// Those of the server that answers.
    Server,
}

/// One operation of a transaction.
///
/// On the wire and in the log the two are told apart by their fields: those on keys came first and
/// have no name for what they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TxnOp {
    /// On a key or a tree of keys.
    Kv(KvOp),
    /// On the catalog.
    Catalog(Box<CatalogOp>),
}

/// What is done with a key or a tree of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvOp {
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

/// What is done with a record of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogOp {
    /// What to do with it.
    #[serde(rename = "do")]
    pub verb: CatalogVerb,
    /// The record: whole to be set, else only what names it.
    #[serde(rename = "with")]
    pub record: CatalogRecord,
    /// The index of a comparison.
    #[serde(rename = "i", default)]
    pub index: u64,
}

/// A record of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogRecord {
    /// A node, named by its id or its name.
    Node(Node),
    /// An instance on the node with this name.
    Service(Text, Service),
    /// A check on the node with this name.
    Check(Text, Check),
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

/// What an operation does with a record of the catalog, by Consul's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CatalogVerb {
    /// Sets it.
    Set,
    /// Sets it if its modify index is as given; 0: only if it is not there.
    Cas,
    /// Reads it; fails when it is not there.
    Get,
    /// Removes it with what depends on it.
    Delete,
    /// The same if its modify index is as given.
    DeleteCas,
}

impl CatalogVerb {
    /// Reads Consul's name; `None` for anything else.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "set" => CatalogVerb::Set,
            "cas" => CatalogVerb::Cas,
            "get" => CatalogVerb::Get,
            "delete" => CatalogVerb::Delete,
            "delete-cas" => CatalogVerb::DeleteCas,
            _ => return None,
        })
    }

    /// Tells whether the operation changes nothing.
    pub fn reads(self) -> bool {
        self == CatalogVerb::Get
    }
}

impl TxnOp {
    /// Tells whether the operation changes nothing.
    pub fn reads(&self) -> bool {
        match self {
            TxnOp::Kv(op) => op.verb.reads(),
            TxnOp::Catalog(op) => op.verb.reads(),
        }
    }

    /// Returns how many bytes of keys and values, or of texts, it writes.
    pub fn written_len(&self) -> usize {
        match self {
            TxnOp::Kv(op) => op.key.len() + op.value.len(),
            TxnOp::Catalog(op) => match &op.record {
                CatalogRecord::Node(node) => node.text_len(),
                CatalogRecord::Service(node, service) => node.len() + service.text_len(),
                CatalogRecord::Check(node, check) => node.len() + check.text_len(),
            },
        }
    }
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
    /// Returns how many bytes of keys and values, or of texts, it writes.
    pub fn written_len(&self) -> usize {
        match self {
            Question::KvPut { key, value, .. } => key.len() + value.len(),
            Question::Txn { ops } => ops.iter().map(TxnOp::written_len).sum(),
            Question::Register(registration) => registration.text_len(),
            Question::ConfigSet { entry, .. } => entry.len(),
            Question::QuerySet { query, .. } => query.len(),
            Question::ConfigDelete { kind, name, .. } => kind.len() + name.len(),
            Question::CoordinateUpdate(update) => update.written_len(),
            _ => 0,
        }
    }

    /// Tells whether it changes what is the same in all datacenters, and written in the primary one.
    pub fn is_for_primary(&self) -> bool {
        matches!(self, Question::ConfigSet { .. } | Question::ConfigDelete { .. })
    }

    /// Tells whether answering it changes nothing.
    pub fn reads(&self) -> bool {
        match self {
            Question::KvGet { .. }
            | Question::KvList { .. }
            | Question::KvKeys { .. }
            | Question::Lookup(_)
            | Question::Union(_)
            | Question::ConfigRead { .. }
            | Question::QueryRead { .. }
            | Question::QueryExplain { .. }
            | Question::StatusLeader
            | Question::StatusPeers
            | Question::Datacenters
            | Question::RaftConfiguration
            | Question::FederationStatus
            | Question::FederationTimeline { .. }
            | Question::FailoverExplain(_)
            | Question::Refuges
            | Question::Feed(_)
            | Question::CoordinateRead(_)
            | Question::CoordinateDatacenters => true,
            Question::KvPut { .. }
            | Question::KvDelete { .. }
            | Question::KvDeleteTree { .. }
            | Question::Register(_)
            | Question::Deregister(_)
            | Question::ConfigSet { .. }
            | Question::ConfigDelete { .. }
            | Question::QuerySet { .. }
            | Question::QueryDelete { .. }
            | Question::FederationRemove { .. }
            | Question::CoordinateUpdate(_) => false,
            Question::Txn { ops } => ops.iter().all(TxnOp::reads),
        }
    }
}
