//! Kind numbers of questions. A number is never given away twice.

use crate::ask::Question;

pub(super) const KV_GET: u16 = 1;
pub(super) const KV_LIST: u16 = 2;
pub(super) const KV_KEYS: u16 = 3;
pub(super) const KV_PUT: u16 = 4;
pub(super) const KV_DELETE: u16 = 5;
pub(super) const KV_DELETE_TREE: u16 = 6;
pub(super) const TXN: u16 = 7;
pub(super) const STATUS_LEADER: u16 = 8;
pub(super) const STATUS_PEERS: u16 = 9;
pub(super) const DATACENTERS: u16 = 10;
pub(super) const RAFT_CONFIGURATION: u16 = 11;
pub(super) const REGISTER: u16 = 12;
pub(super) const DEREGISTER: u16 = 13;
pub(super) const LOOKUP: u16 = 14;
pub(super) const FEED: u16 = 15;
pub(super) const REFUGES: u16 = 16;
pub(super) const CONFIG_SET: u16 = 17;
pub(super) const CONFIG_DELETE: u16 = 18;
pub(super) const CONFIG_READ: u16 = 19;
pub(super) const FEDERATION_STATUS: u16 = 20;
pub(super) const FEDERATION_TIMELINE: u16 = 21;
pub(super) const FEDERATION_REMOVE: u16 = 22;
pub(super) const FAILOVER_EXPLAIN: u16 = 23;
pub(super) const UNION: u16 = 24;
pub(super) const QUERY_SET: u16 = 25;
pub(super) const QUERY_DELETE: u16 = 26;
pub(super) const QUERY_READ: u16 = 27;
pub(super) const QUERY_EXPLAIN: u16 = 28;
pub(super) const COORDINATE_UPDATE: u16 = 40;
pub(super) const COORDINATE_READ: u16 = 41;
pub(super) const COORDINATE_DATACENTERS: u16 = 42;

/// Returns the number of a question.
pub(super) fn of(question: &Question) -> u16 {
    match question {
        Question::KvGet { .. } => KV_GET,
        Question::KvList { .. } => KV_LIST,
        Question::KvKeys { .. } => KV_KEYS,
        Question::KvPut { .. } => KV_PUT,
        Question::KvDelete { .. } => KV_DELETE,
        Question::KvDeleteTree { .. } => KV_DELETE_TREE,
        Question::Txn { .. } => TXN,
        Question::StatusLeader => STATUS_LEADER,
        Question::StatusPeers => STATUS_PEERS,
        Question::Datacenters => DATACENTERS,
        Question::RaftConfiguration => RAFT_CONFIGURATION,
        Question::Register(_) => REGISTER,
        Question::Deregister(_) => DEREGISTER,
        Question::Lookup(_) => LOOKUP,
        Question::Union(_) => UNION,
        Question::FederationStatus => FEDERATION_STATUS,
        Question::FederationTimeline { .. } => FEDERATION_TIMELINE,
        Question::FederationRemove { .. } => FEDERATION_REMOVE,
        Question::FailoverExplain(_) => FAILOVER_EXPLAIN,
        Question::Feed(_) => FEED,
        Question::Refuges => REFUGES,
        Question::ConfigSet { .. } => CONFIG_SET,
        Question::ConfigDelete { .. } => CONFIG_DELETE,
        Question::ConfigRead { .. } => CONFIG_READ,
        Question::QuerySet { .. } => QUERY_SET,
        Question::QueryDelete { .. } => QUERY_DELETE,
        Question::QueryRead { .. } => QUERY_READ,
        Question::QueryExplain { .. } => QUERY_EXPLAIN,
        Question::CoordinateUpdate(_) => COORDINATE_UPDATE,
        Question::CoordinateRead(_) => COORDINATE_READ,
        Question::CoordinateDatacenters => COORDINATE_DATACENTERS,
    }
}
