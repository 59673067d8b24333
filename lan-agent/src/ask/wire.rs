//! How asks and answers look in bytes.
//!
//! ```text
//! ask    = [length of the head u32 BE][head: named map][question: named map]
//! reply  = [length of the head u32 BE][head: named map][body as the application reads it]
//! ```
//!
//! The head of an ask holds the kind number of its question; the head of a reply holds either
//! what the answer says of itself or the error. Maps are MessagePack with field names: a field
//! that the reader does not know is ignored, one that the writer did not know has its default.
//! A question kind that the reader does not know is refused with a sentence; an error kind that
//! it does not know keeps its sentence. Bytes that are none of this are [`AskError::Bad`] on
//! the server's side and [`AskError::Failed`] on the asker's; nothing panics.

mod failure;
mod kind;
mod queries;
mod reply;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use topology::Datacenter;

pub use reply::{decode_reply, encode_reply};

use queries::{QueryDelete, QueryExplain, QueryRead, QuerySet};

use super::{
    Ask, AskError, Blocking, Consistency, Question, RequestId, TraceId, TxnOp, feed::PREFIXES_MAX,
    question, union::NAMED_MAX,
};
use crate::catalog::Text;

/// Longest head: a token and an error's sentence are the only parts that grow.
const HEAD_LEN_MAX: usize = 64 * 1024;

/// Length of the number before a head.
const PREFIX_LEN: usize = 4;

/// Longest time that a deadline may be away, whatever a peer says: the longest blocking query
/// is 10 minutes and a sixteenth.
pub const DEADLINE_MAX: Duration = Duration::from_secs(900);

#[derive(Serialize, Deserialize)]
struct AskHead<'a> {
    kind: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dc: Option<Datacenter>,
    #[serde(default)]
    consistency: Consistency,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_stale_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait_ms: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    token: Cow<'a, str>,
    trace: TraceId,
    request: RequestId,
    deadline_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct KvGet<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default)]
    raw: bool,
}

#[derive(Serialize, Deserialize)]
struct KvTree<'a> {
    #[serde(borrow)]
    prefix: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct KvKeys<'a> {
    #[serde(borrow)]
    prefix: Cow<'a, str>,
    #[serde(borrow, default)]
    separator: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct KvPut<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    value: Bytes,
    #[serde(default)]
    flags: u64,
    #[serde(default)]
    cas: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct KvDelete<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default)]
    cas: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Txn<'a> {
    ops: Cow<'a, [TxnOp]>,
}

#[derive(Serialize, Deserialize)]
struct ConfigSet<'a> {
    #[serde(borrow)]
    entry: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cas: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct ConfigDelete {
    kind: Text,
    name: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cas: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct ConfigRead {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Text>,
}

#[derive(Serialize, Deserialize)]
struct Timeline {
    #[serde(default)]
    about: Option<Datacenter>,
    scope: question::Scope,
}

#[derive(Serialize, Deserialize)]
struct Remove {
    dc: Datacenter,
    removing: question::Removing,
}

/// A question without fields.
#[derive(Serialize, Deserialize)]
struct Nothing {}

/// Writes an ask, its deadline as the time that is left from `now`.
pub fn encode_ask(ask: &Ask, now: Instant) -> Bytes {
    let left = ask.deadline.saturating_duration_since(now);
    let head = AskHead {
        kind: kind::of(&ask.question),
        dc: ask.dc.clone(),
        consistency: ask.consistency,
        max_stale_ms: ask.max_stale.map(millis),
        index: ask.blocking.map(|blocking| blocking.index),
        wait_ms: ask.blocking.map(|blocking| millis(blocking.wait)),
        token: Cow::Borrowed(&ask.token),
        trace: ask.trace,
        request: ask.request,
        deadline_ms: millis(left),
    };
    let mut out = head_first(&head, question_len(&ask.question));
    write_question(&mut out, &ask.question);
    out.freeze()
}

/// Reads an ask that came in at `now`.
///
/// Fails with [`AskError::Bad`]: also when this version does not know the question.
pub fn decode_ask(bytes: &[u8], now: Instant) -> Result<Ask, AskError> {
    let (head, body) = split(bytes).ok_or_else(|| malformed("ask", "it is cut short"))?;
    let head: AskHead<'_> = read(head, "ask")?;
    let question = read_question(head.kind, body)?;
    let left = Duration::from_millis(head.deadline_ms).min(DEADLINE_MAX);
    let blocking = match head.index {
        None | Some(0) => None,
        Some(index) => {
            Some(Blocking { index, wait: Duration::from_millis(head.wait_ms.unwrap_or_default()) })
        }
    };
    Ok(Ask {
        dc: head.dc,
        consistency: head.consistency,
        max_stale: head.max_stale_ms.map(Duration::from_millis),
        blocking,
        token: head.token.into_owned(),
        trace: head.trace,
        request: head.request,
        deadline: now + left,
        question,
    })
}

/// About how many bytes a question takes, so that its buffer is allocated once.
fn question_len(question: &Question) -> usize {
    const FIELDS: usize = 64;
    FIELDS
        + match question {
            Question::KvPut { key, value, .. } => key.len() + value.len(),
            Question::KvGet { key, .. } | Question::KvDelete { key, .. } => key.len(),
            Question::KvList { prefix }
            | Question::KvKeys { prefix, .. }
            | Question::KvDeleteTree { prefix } => prefix.len(),
            Question::Txn { ops } => ops.iter().map(|op| FIELDS + op.written_len()).sum(),
            Question::ConfigSet { entry, .. } => entry.len(),
            Question::QuerySet { query, .. } => query.len(),
            Question::Register(_)
            | Question::Deregister(_)
            | Question::ConfigDelete { .. }
            | Question::ConfigRead { .. }
            | Question::QueryDelete { .. }
            | Question::QueryRead { .. }
            | Question::QueryExplain { .. }
            | Question::Lookup(_)
            | Question::Union(_)
            | Question::StatusLeader
            | Question::StatusPeers
            | Question::Datacenters
            | Question::RaftConfiguration
            | Question::FederationStatus
            | Question::FederationTimeline { .. }
            | Question::FederationRemove { .. }
            | Question::FailoverExplain(_)
            | Question::Refuges
            | Question::Feed(_)
            | Question::CoordinateRead(_)
            | Question::CoordinateDatacenters => 0,
            Question::CoordinateUpdate(update) => update.written_len(),
        }
}

fn write_question(out: &mut BytesMut, question: &Question) {
    match question {
        Question::KvGet { key, raw } => write(out, &KvGet { key: key.into(), raw: *raw }),
        Question::KvList { prefix } | Question::KvDeleteTree { prefix } => {
            write(out, &KvTree { prefix: prefix.into() });
        }
        Question::KvKeys { prefix, separator } => {
            write(out, &KvKeys { prefix: prefix.into(), separator: separator.into() });
        }
        Question::KvPut { key, value, flags, cas } => {
            write(out, &KvPut { key: key.into(), value: value.clone(), flags: *flags, cas: *cas })
        }
        Question::KvDelete { key, cas } => write(out, &KvDelete { key: key.into(), cas: *cas }),
        Question::Txn { ops } => write(out, &Txn { ops: Cow::Borrowed(ops) }),
        Question::Register(registration) => write(out, &**registration),
        Question::Deregister(deregistration) => write(out, deregistration),
        Question::Lookup(lookup) => write(out, lookup),
        Question::Union(union) => write(out, union),
        Question::ConfigSet { entry, cas } => {
            write(out, &ConfigSet { entry: (&**entry).into(), cas: *cas });
        }
        Question::ConfigDelete { kind, name, cas } => {
            write(out, &ConfigDelete { kind: kind.clone(), name: name.clone(), cas: *cas });
        }
        Question::ConfigRead { kind, name } => {
            write(out, &ConfigRead { kind: kind.clone(), name: name.clone() });
        }
        Question::QuerySet { id, query, new } => {
            write(out, &QuerySet { id: id.clone(), query: query.clone(), new: *new });
        }
        Question::QueryDelete { id } => write(out, &QueryDelete { id: id.clone() }),
        Question::QueryRead { id } => write(out, &QueryRead { id: id.clone() }),
        Question::QueryExplain { name } => write(out, &QueryExplain { name: name.clone() }),
        Question::FederationTimeline { about, scope } => {
            write(out, &Timeline { about: about.clone(), scope: *scope });
        }
        Question::FederationRemove { dc, removing } => {
            write(out, &Remove { dc: dc.clone(), removing: *removing });
        }
        Question::FailoverExplain(explain) => write(out, explain),
        Question::Feed(feed) => write(out, feed),
        Question::CoordinateUpdate(update) => write(out, update),
        Question::CoordinateRead(wanted) => write(out, wanted),
        Question::StatusLeader
        | Question::StatusPeers
        | Question::Datacenters
        | Question::RaftConfiguration
        | Question::FederationStatus
        | Question::Refuges
        | Question::CoordinateDatacenters => write(out, &Nothing {}),
    }
}

fn read_question(kind: u16, body: &[u8]) -> Result<Question, AskError> {
    let question = match kind {
        kind::KV_GET => {
            let it: KvGet<'_> = read(body, "question")?;
            Question::KvGet { key: it.key.into_owned(), raw: it.raw }
        }
        kind::KV_LIST => {
            Question::KvList { prefix: read::<KvTree<'_>>(body, "question")?.prefix.into_owned() }
        }
        kind::KV_KEYS => {
            let it: KvKeys<'_> = read(body, "question")?;
            let (prefix, separator) = (it.prefix.into_owned(), it.separator.into_owned());
            Question::KvKeys { prefix, separator }
        }
        kind::KV_PUT => {
            let it: KvPut<'_> = read(body, "question")?;
            let key = it.key.into_owned();
            Question::KvPut { key, value: it.value, flags: it.flags, cas: it.cas }
        }
        kind::KV_DELETE => {
            let it: KvDelete<'_> = read(body, "question")?;
            Question::KvDelete { key: it.key.into_owned(), cas: it.cas }
        }
        kind::KV_DELETE_TREE => Question::KvDeleteTree {
            prefix: read::<KvTree<'_>>(body, "question")?.prefix.into_owned(),
        },
        kind::TXN => Question::Txn { ops: read::<Txn<'_>>(body, "question")?.ops.into_owned() },
        kind::REGISTER => Question::Register(Arc::new(read(body, "question")?)),
        kind::DEREGISTER => Question::Deregister(read(body, "question")?),
        kind::LOOKUP => Question::Lookup(read(body, "question")?),
        kind::UNION => Question::Union(read(body, "question")?),
        kind::CONFIG_SET => {
            let ConfigSet { entry, cas } = read(body, "question")?;
            Question::ConfigSet { entry: entry.into(), cas }
        }
        kind::CONFIG_DELETE => {
            let ConfigDelete { kind, name, cas } = read(body, "question")?;
            Question::ConfigDelete { kind, name, cas }
        }
        kind::CONFIG_READ => {
            let ConfigRead { kind, name } = read(body, "question")?;
            Question::ConfigRead { kind, name }
        }
        kind::FAILOVER_EXPLAIN => Question::FailoverExplain(read(body, "question")?),
        kind::FEED => Question::Feed(read(body, "question")?),
        kind::REFUGES => Question::Refuges,
        kind::COORDINATE_UPDATE => Question::CoordinateUpdate(read(body, "question")?),
        kind::COORDINATE_READ => Question::CoordinateRead(read(body, "question")?),
        kind::COORDINATE_DATACENTERS => Question::CoordinateDatacenters,
        kind::STATUS_LEADER => Question::StatusLeader,
        kind::STATUS_PEERS => Question::StatusPeers,
        kind::DATACENTERS => Question::Datacenters,
        kind::RAFT_CONFIGURATION => Question::RaftConfiguration,
        kind::FEDERATION_STATUS => Question::FederationStatus,
        kind::FEDERATION_TIMELINE => {
            let Timeline { about, scope } = read(body, "question")?;
            Question::FederationTimeline { about, scope }
        }
        kind::FEDERATION_REMOVE => {
            let Remove { dc, removing } = read(body, "question")?;
            Question::FederationRemove { dc, removing }
        }
        other => queries::read_question(other, body)?,
    };
    bounded(question)
}

/// Holds questions from the link to the bounds that no operator can change.
fn bounded(question: Question) -> Result<Question, AskError> {
    if let Question::Txn { ops } = &question
        && ops.len() > question::TXN_OPS_MAX
    {
        return Err(AskError::TooLarge(format!(
            "Transaction contains too many operations ({} > {})",
            ops.len(),
            question::TXN_OPS_MAX
        )));
    }
    if let Question::Feed(feed) = &question
        && feed.prefixes.len() > PREFIXES_MAX
    {
        let count = feed.prefixes.len();
        let text = format!("{count} prefixes of keys are too many, max: {PREFIXES_MAX}");
        return Err(AskError::TooLarge(text));
    }
    if let Question::Union(union) = &question
        && union.of.len() > NAMED_MAX
    {
        let count = union.of.len();
        return Err(AskError::TooLarge(format!(
            "{count} datacenters are too many, max: {NAMED_MAX}"
        )));
    }
    if let Question::ConfigSet { entry, .. } = &question
        && entry.len() > question::CONFIG_ENTRY_LEN_MAX
    {
        let (len, len_max) = (entry.len(), question::CONFIG_ENTRY_LEN_MAX);
        let text = format!("A config entry of {len} bytes is too large, max size: {len_max} bytes");
        return Err(AskError::TooLarge(text));
    }
    let len = question.written_len();
    if len > question::WRITE_LEN_MAX {
        return Err(AskError::TooLarge(format!(
            "A write of {len} bytes is too large, max size: {} bytes",
            question::WRITE_LEN_MAX
        )));
    }
    Ok(question)
}

fn head_first(head: &impl Serialize, body_len: usize) -> BytesMut {
    const HEAD_LEN_USUAL: usize = 192;
    let mut out = BytesMut::with_capacity(PREFIX_LEN + HEAD_LEN_USUAL + body_len);
    out.put_u32(0);
    write(&mut out, head);
    let len = u32::try_from(out.len() - PREFIX_LEN).unwrap_or(u32::MAX);
    out[..PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
    out
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX_LEN>()?;
    let len = usize::try_from(u32::from_be_bytes(*prefix)).ok()?;
    if len > HEAD_LEN_MAX { None } else { rest.split_at_checked(len) }
}

fn write(out: &mut BytesMut, value: &impl Serialize) {
    let mut serializer = rmp_serde::Serializer::new(out.writer()).with_struct_map();
    let written = value.serialize(&mut serializer);
    assert!(written.is_ok(), "memory takes every map of text, numbers and bytes: {written:?}");
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, AskError> {
    rmp_serde::from_slice(bytes).map_err(|error| malformed(what, &error.to_string()))
}

fn malformed(what: &str, why: &str) -> AskError {
    AskError::Bad(format!("the {what} can't be read: {why}"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
