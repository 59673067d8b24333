//! What came of an ask, as bytes.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};
use topology::Datacenter;

use super::{failure::ErrorHead, head_first, split};
use crate::ask::{Answer, AskError, Consistency, Meta, Outcome, Part};

#[derive(Serialize, Deserialize)]
pub(super) struct ReplyHead<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<AnswerHead>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<ErrorHead<'a>>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AnswerHead {
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
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    mirrored: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    served: Vec<Datacenter>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Part>,
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
            let head = ReplyHead { answer: None, error: Some(ErrorHead::of(error)) };
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
                mirrored: answer.mirrored,
                served: answer.served,
                parts: answer.parts,
            },
            body: bytes.slice(bytes.len() - body.len()..),
        }),
        (None, Some(error)) => Err(error.read()),
        _ => Err(garbled("it is neither an answer nor an error")),
    }
}

fn answer_head(answer: &Answer) -> AnswerHead {
    AnswerHead {
        outcome: answer.outcome,
        index: answer.meta.index,
        known_leader: answer.meta.known_leader,
        last_contact_us: u64::try_from(answer.meta.last_contact.as_micros()).unwrap_or(u64::MAX),
        consistency: answer.meta.consistency,
        path: answer.meta.path.clone(),
        mirrored: answer.meta.mirrored,
        served: answer.meta.served.clone(),
        parts: answer.meta.parts.clone(),
    }
}
