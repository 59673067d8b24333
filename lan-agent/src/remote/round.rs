//! The attempts at one ask, and what those that failed may have done.

use std::net::SocketAddr;

use super::ATTEMPTS_MAX;
use crate::ask::{Answer, Ask, AskError};

/// Whether attempts that failed may have had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Possible,
}

impl Effect {
    pub(super) fn or(self, other: Self) -> Self {
        if self == Effect::Possible { self } else { other }
    }

    /// Does not let an error say that nothing happened when something may have.
    pub(super) fn on(self, outcome: Result<Answer, AskError>) -> Result<Answer, AskError> {
        outcome.map_err(|error| match self {
            Effect::Possible if error.had_no_effect() => AskError::Failed(format!(
                "the connection was lost when the request had been sent, so that it may have \
                 been applied; trying again: {error}"
            )),
            Effect::Possible | Effect::None => error,
        })
    }
}

/// The attempts at one ask.
pub(super) struct Round {
    /// Whether the ask changes nothing.
    reads: bool,
    pub(super) tried: Vec<SocketAddr>,
    /// Whether there is nobody else to ask.
    pub(super) exhausted: bool,
    /// What attempts that failed may have done.
    effect: Effect,
    pub(super) refusal: Option<AskError>,
}

impl Round {
    pub(super) fn new(ask: &Ask) -> Self {
        Self {
            reads: ask.question.reads(),
            tried: Vec::new(),
            exhausted: false,
            effect: Effect::None,
            refusal: None,
        }
    }

    pub(super) fn may_go_on(&self) -> bool {
        !self.exhausted && self.tried.len() < ATTEMPTS_MAX
    }

    pub(super) fn see(&mut self, effect: Effect) {
        if !self.reads {
            self.effect = self.effect.or(effect);
        }
    }

    /// Ends with an outcome, while other attempts that nobody waits for any more go on.
    pub(super) fn conclude(
        mut self,
        outcome: Result<Answer, AskError>,
        others: usize,
    ) -> Result<Answer, AskError> {
        if others > 0 {
            self.see(Effect::Possible);
        }
        self.effect.on(outcome)
    }
}
