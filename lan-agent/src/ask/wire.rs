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

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use topology::Datacenter;

use super::{
    Answer, Ask, AskError, Blocking, Consistency, Meta, Outcome, Question, RequestId, TraceId,
    TxnOp, question,
};

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
struct ReplyHead<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerHead>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorHead<'a>>,
}

#[derive(Serialize, Deserialize)]
struct AnswerHead {
    outcome: Outcome,
    index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known_leader: Option<bool>,
    #[serde(default)]
    last_contact_us: u64,
    #[serde(default)]
    consistency: Consistency,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    path: Vec<Datacenter>,
}

#[derive(Serialize, Deserialize)]
struct ErrorHead<'a> {
    kind: u16,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dc: Option<Datacenter>,
    /// For readers that do not know the kind.
    #[serde(default)]
    no_effect: bool,
}

/// Kind numbers of questions. A number is never given away twice.
mod kind {
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
}

/// Kind numbers of errors. A number is never given away twice.
mod error_kind {
    pub(super) const BAD: u16 = 1;
    pub(super) const TOO_LARGE: u16 = 2;
    pub(super) const BUSY: u16 = 3;
    pub(super) const NO_LEADER: u16 = 4;
    pub(super) const NO_PATH: u16 = 5;
    pub(super) const NO_SERVER: u16 = 6;
    pub(super) const CUT_OFF: u16 = 7;
    pub(super) const DEADLINE: u16 = 8;
    pub(super) const FAILED: u16 = 9;
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

/// A question without fields.
#[derive(Serialize, Deserialize)]
struct Nothing {}

/// Writes an ask, its deadline as the time that is left from `now`.
pub fn encode_ask(ask: &Ask, now: Instant) -> Bytes {
    let left = ask.deadline.saturating_duration_since(now);
    let head = AskHead {
        kind: kind_of(&ask.question),
        dc: ask.dc.clone(),
        consistency: ask.consistency,
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
        blocking,
        token: head.token.into_owned(),
        trace: head.trace,
        request: head.request,
        deadline: now + left,
        question,
    })
}

/// Writes what came of an ask.
pub fn encode_reply(reply: &Result<Answer, AskError>) -> Bytes {
    match reply {
        Ok(answer) => {
            let head = ReplyHead { answer: Some(answer_head(answer)), error: None };
            let mut out = head_first(&head, answer.body.len());
            out.put_slice(&answer.body);
            out.freeze()
        }
        Err(error) => {
            let head = ReplyHead { answer: None, error: Some(error_head(error)) };
            head_first(&head, 0).freeze()
        }
    }
}

/// Reads what came of an ask; the body is a part of `bytes`, not a copy.
pub fn decode_reply(bytes: Bytes) -> Result<Answer, AskError> {
    let garbled = |why: &str| AskError::Failed(format!("the server's answer can't be read: {why}"));
    let (head, body) = split(&bytes).ok_or_else(|| garbled("it is cut short"))?;
    let head: ReplyHead<'_> =
        rmp_serde::from_slice(head).map_err(|error| garbled(&error.to_string()))?;
    match (head.answer, head.error) {
        (Some(answer), None) => Ok(Answer {
            outcome: answer.outcome,
            meta: Meta {
                index: answer.index,
                known_leader: answer.known_leader,
                last_contact: Duration::from_micros(answer.last_contact_us),
                consistency: answer.consistency,
                path: answer.path,
            },
            body: bytes.slice(bytes.len() - body.len()..),
        }),
        (None, Some(error)) => Err(read_error(error)),
        _ => Err(garbled("it is neither an answer nor an error")),
    }
}

fn kind_of(question: &Question) -> u16 {
    match question {
        Question::KvGet { .. } => kind::KV_GET,
        Question::KvList { .. } => kind::KV_LIST,
        Question::KvKeys { .. } => kind::KV_KEYS,
        Question::KvPut { .. } => kind::KV_PUT,
        Question::KvDelete { .. } => kind::KV_DELETE,
        Question::KvDeleteTree { .. } => kind::KV_DELETE_TREE,
        Question::Txn { .. } => kind::TXN,
        Question::StatusLeader => kind::STATUS_LEADER,
        Question::StatusPeers => kind::STATUS_PEERS,
        Question::Datacenters => kind::DATACENTERS,
        Question::RaftConfiguration => kind::RAFT_CONFIGURATION,
        Question::Register(_) => kind::REGISTER,
        Question::Deregister(_) => kind::DEREGISTER,
        Question::Lookup(_) => kind::LOOKUP,
    }
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
            Question::Register(_)
            | Question::Deregister(_)
            | Question::Lookup(_)
            | Question::StatusLeader
            | Question::StatusPeers
            | Question::Datacenters
            | Question::RaftConfiguration => 0,
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
        Question::StatusLeader
        | Question::StatusPeers
        | Question::Datacenters
        | Question::RaftConfiguration => write(out, &Nothing {}),
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
        kind::STATUS_LEADER => Question::StatusLeader,
        kind::STATUS_PEERS => Question::StatusPeers,
        kind::DATACENTERS => Question::Datacenters,
        kind::RAFT_CONFIGURATION => Question::RaftConfiguration,
        unknown => {
            let text = format!("this server does not know question kind {unknown}: upgrade it");
            return Err(AskError::Bad(text));
        }
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
    let len = question.written_len();
    if len > question::WRITE_LEN_MAX {
        return Err(AskError::TooLarge(format!(
            "A write of {len} bytes is too large, max size: {} bytes",
            question::WRITE_LEN_MAX
        )));
    }
    Ok(question)
}

fn answer_head(answer: &Answer) -> AnswerHead {
    AnswerHead {
        outcome: answer.outcome,
        index: answer.meta.index,
        known_leader: answer.meta.known_leader,
        last_contact_us: u64::try_from(answer.meta.last_contact.as_micros()).unwrap_or(u64::MAX),
        consistency: answer.meta.consistency,
        path: answer.meta.path.clone(),
    }
}

fn error_head(error: &AskError) -> ErrorHead<'_> {
    let (kind, text, dc) = match error {
        AskError::Bad(text) => (error_kind::BAD, text.as_str(), None),
        AskError::TooLarge(text) => (error_kind::TOO_LARGE, text.as_str(), None),
        AskError::Busy(text) => (error_kind::BUSY, text.as_str(), None),
        AskError::NoLeader => (error_kind::NO_LEADER, "", None),
        AskError::NoPath { dc } => (error_kind::NO_PATH, "", Some(dc.clone())),
        AskError::NoServer { dc, reason } => {
            (error_kind::NO_SERVER, reason.as_str(), Some(dc.clone()))
        }
        AskError::CutOff(text) => (error_kind::CUT_OFF, text.as_str(), None),
        AskError::Deadline(text) => (error_kind::DEADLINE, text.as_str(), None),
        AskError::Failed(text) => (error_kind::FAILED, text.as_str(), None),
    };
    let text = Cow::Borrowed(cut(text, HEAD_LEN_MAX / 2));
    ErrorHead { kind, text, dc, no_effect: error.had_no_effect() }
}

fn read_error(head: ErrorHead<'_>) -> AskError {
    let text = head.text.into_owned();
    match (head.kind, head.dc) {
        (error_kind::BAD, _) => AskError::Bad(text),
        (error_kind::TOO_LARGE, _) => AskError::TooLarge(text),
        (error_kind::BUSY, _) => AskError::Busy(text),
        (error_kind::NO_LEADER, _) => AskError::NoLeader,
        (error_kind::NO_PATH, Some(dc)) => AskError::NoPath { dc },
        (error_kind::NO_SERVER, Some(dc)) => AskError::NoServer { dc, reason: text },
        (error_kind::CUT_OFF, _) => AskError::CutOff(text),
        (error_kind::DEADLINE, _) => AskError::Deadline(text),
        // A kind of a later version: what matters of it is whether it may be repeated.
        _ if head.no_effect => AskError::Busy(text),
        _ => AskError::Failed(text),
    }
}

/// Cuts a text at a character, so that a head stays within its bound.
fn cut(text: &str, len_max: usize) -> &str {
    &text[..text.floor_char_boundary(len_max)]
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
