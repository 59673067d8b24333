//! Errors in bytes: a kind number and a sentence, which readers that don't know the kind keep.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use topology::Datacenter;

use super::HEAD_LEN_MAX;
use crate::ask::{AskError, error};

/// An error in the head of a reply.
#[derive(Serialize, Deserialize)]
pub(super) struct ErrorHead<'a> {
    pub(super) kind: u16,
    #[serde(borrow, default)]
    pub(super) text: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dc: Option<Datacenter>,
    /// For readers that do not know the kind.
    #[serde(default)]
    pub(super) no_effect: bool,
}

/// Kind numbers of errors. A number is never given away twice.
mod kind {
    pub(super) const BAD: u16 = 1;
    pub(super) const TOO_LARGE: u16 = 2;
    pub(super) const BUSY: u16 = 3;
    pub(super) const NO_LEADER: u16 = 4;
    pub(super) const NO_PATH: u16 = 5;
    pub(super) const NO_SERVER: u16 = 6;
    pub(super) const CUT_OFF: u16 = 7;
    pub(super) const DEADLINE: u16 = 8;
    pub(super) const FAILED: u16 = 9;
    pub(super) const LOST: u16 = 10;
}

impl<'a> ErrorHead<'a> {
    /// Writes an error.
    pub(super) fn of(error: &'a AskError) -> Self {
        let (kind, text, dc) = match error {
            AskError::Bad(text) => (kind::BAD, text.as_str(), None),
            AskError::TooLarge(text) => (kind::TOO_LARGE, text.as_str(), None),
            AskError::Busy(text) => (kind::BUSY, text.as_str(), None),
            AskError::NoLeader => (kind::NO_LEADER, "", None),
            // For readers that do not know the kind.
            AskError::Lost => (kind::LOST, error::LOST, None),
            AskError::NoPath { dc } => (kind::NO_PATH, "", Some(dc.clone())),
            AskError::NoServer { dc, reason } => {
                (kind::NO_SERVER, reason.as_str(), Some(dc.clone()))
            }
            AskError::CutOff(text) => (kind::CUT_OFF, text.as_str(), None),
            AskError::Deadline(text) => (kind::DEADLINE, text.as_str(), None),
            AskError::Failed(text) => (kind::FAILED, text.as_str(), None),
        };
        let text = Cow::Borrowed(cut(text, HEAD_LEN_MAX / 2));
        ErrorHead { kind, text, dc, no_effect: error.had_no_effect() }
    }

    /// Reads an error.
    pub(super) fn read(self) -> AskError {
        let text = self.text.into_owned();
        match (self.kind, self.dc) {
            (kind::BAD, _) => AskError::Bad(text),
            (kind::TOO_LARGE, _) => AskError::TooLarge(text),
            (kind::BUSY, _) => AskError::Busy(text),
            (kind::NO_LEADER, _) => AskError::NoLeader,
            (kind::LOST, _) => AskError::Lost,
            (kind::NO_PATH, Some(dc)) => AskError::NoPath { dc },
            (kind::NO_SERVER, Some(dc)) => AskError::NoServer { dc, reason: text },
            (kind::CUT_OFF, _) => AskError::CutOff(text),
            (kind::DEADLINE, _) => AskError::Deadline(text),
            // A kind of a later version: what matters of it is whether it may be repeated.
            _ if self.no_effect => AskError::Busy(text),
            _ => AskError::Failed(text),
        }
    }
}

/// Cuts a text at a character, so that a head stays within its bound.
fn cut(text: &str, len_max: usize) -> &str {
    &text[..text.floor_char_boundary(len_max)]
}
