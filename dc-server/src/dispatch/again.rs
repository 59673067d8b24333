//! Why an ask is put again, and what is known of the attempts before.
//!
//! A write that was sent to a leader that did not answer may be applied, now or later, whoever leads
//! then. It is put again under its request id, which finds out; while nobody answers that, none may say that
//! it had no effect. That holds on the whole way back: a server that was asked by another one, or by way of
//! another datacenter, answers [`AskError::Lost`], and who asked it remembers that.

use std::future::Future;

use lan_agent::ask::AskError;

use crate::{
    coordinates::Undone,
    raft::{Leader, Leadership, RaftError, Watching},
};

/// Why an attempt did not end the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Somebody else leads, or nobody, and nothing was done: look again.
    LeaderChanged,
    /// The same, and what was sent may have been applied.
    Lost,
    /// It is over.
    Failed(AskError),
}

impl Again {
    /// Judges the error that another server of this datacenter answered.
    pub(super) fn answered(error: AskError) -> Self {
        match error {
            AskError::NoLeader => Again::LeaderChanged,
            AskError::Lost => Again::Lost,
            error => Again::Failed(error),
        }
    }
}

impl From<AskError> for Again {
    fn from(error: AskError) -> Self {
        Again::Failed(error)
    }
}

impl From<RaftError> for Again {
    fn from(error: RaftError) -> Self {
        match error {
            RaftError::NotLeader { .. } => Again::LeaderChanged,
            // The same request id finds out what became of it.
            RaftError::Unknown => Again::Lost,
            RaftError::Refused(sentence) | RaftError::Broken(sentence) => {
                Again::Failed(AskError::Failed(sentence))
            }
            RaftError::Shutdown => Again::Failed(AskError::NoLeader),
        }
    }
}

impl From<Undone> for Again {
    fn from(undone: Undone) -> Self {
        match undone {
            Undone::Refused(error) => error.into(),
            Undone::Raft(error) => error.into(),
        }
    }
}

/// What is known of the attempts at one ask.
pub(super) struct Attempts {
    reads: bool,
    lost: bool,
}

impl Attempts {
    /// Begins with none; `reads` tells that the ask changes nothing.
    pub(super) fn new(reads: bool) -> Self {
        Self { reads, lost: false }
    }

    /// Notes why an attempt did not end the request; fails with the error that ends it.
    pub(super) fn see(&mut self, again: Again) -> Result<(), AskError> {
        match again {
            Again::LeaderChanged => Ok(()),
            Again::Lost => {
                self.lost = !self.reads;
                Ok(())
            }
            Again::Failed(AskError::NoLeader) => Err(self.in_vain()),
            Again::Failed(error) if self.lost && error.had_no_effect() => {
                Err(AskError::Failed(format!("{}; trying again: {error}", AskError::Lost)))
            }
            Again::Failed(error) => Err(error),
        }
    }

    /// Returns the error that says that there will be no other attempt.
    pub(super) fn in_vain(&self) -> AskError {
        if self.lost { AskError::Lost } else { AskError::NoLeader }
    }
}

/// Waits for the outcome of a call unless another server leads: then what was sent may have been
/// applied, or be in the log of the one that leads now.
pub(super) async fn unless<T>(
    another: impl Future<Output = ()>,
    call: impl Future<Output = Result<T, Again>>,
) -> Result<T, Again> {
    tokio::select! {
        biased;
        outcome = call => outcome,
        () = another => Err(Again::Lost),
    }
}

/// Ends when another server than the one that was asked is known to lead.
pub(super) async fn another_leads(leadership: &mut Watching<Leadership>, leader: &Option<Leader>) {
    let asked = leader.as_ref().map(|leader| leader.id);
    let another = |now: &Leadership| now.leader.is_some() && now.leader != asked;
    if leadership.wait_for(another).await.is_err() {
        // Raft has stopped here and will not tell; whoever was asked may still answer.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn after(reads: bool, all: impl IntoIterator<Item = Again>) -> Result<AskError, AskError> {
        let mut attempts = Attempts::new(reads);
        all.into_iter().try_for_each(|again| attempts.see(again))?;
        Ok(attempts.in_vain())
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_for_another_leader_may_have_been_applied() {
        let given_up = unless(ready(()), pending::<Result<(), _>>()).await;
        assert_eq!(given_up, Err(Again::Lost));
        assert_eq!(unless(ready(()), ready(Ok(7))).await, Ok(7));
        assert_eq!(unless(pending(), ready(Err::<(), _>(Again::LeaderChanged))).await, {
            Err(Again::LeaderChanged)
        });
    }

    #[test]
    fn a_write_that_was_lost_once_may_have_been_applied_whatever_comes_later() {
        assert_eq!(after(false, []), Ok(AskError::NoLeader));
        assert_eq!(after(false, [Again::LeaderChanged]), Ok(AskError::NoLeader));
        assert_eq!(after(false, [Again::Lost, Again::LeaderChanged]), Ok(AskError::Lost));
        assert!(!AskError::Lost.had_no_effect());
        assert_eq!(after(true, [Again::Lost]), Ok(AskError::NoLeader));
    }

    #[test]
    fn who_passed_a_write_on_hears_that_it_was_lost() {
        for lost in [false, true] {
            let attempt = if lost { Again::from(RaftError::Unknown) } else { Again::LeaderChanged };
            let answered = Again::answered(after(false, [attempt]).unwrap());
            assert_eq!(answered, if lost { Again::Lost } else { Again::LeaderChanged });
        }
    }

    #[test]
    fn an_error_ends_it_but_cannot_say_that_a_lost_write_had_no_effect() {
        let full = || AskError::Failed("disk full".to_owned());
        assert_eq!(after(false, [Again::Lost, Again::answered(full())]), Err(full()));
        let busy = || AskError::Busy("later".to_owned());
        assert_eq!(after(false, [Again::answered(busy())]), Err(busy()));
        let error = after(false, [Again::Lost, Again::answered(busy())]).unwrap_err();
        assert!(!error.had_no_effect() && error.to_string().ends_with("trying again: later"));
        let stopped = || Again::from(RaftError::Shutdown);
        assert_eq!(after(false, [stopped()]), Err(AskError::NoLeader));
        assert_eq!(after(false, [Again::Lost, stopped()]), Err(AskError::Lost));
    }
}
