//! Why a request for another datacenter got no answer.

use std::time::Duration;

use topology::Datacenter;

use crate::envelope::EnvelopeError;

/// What a request that got no answer may have done over there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it never got there.
    None,
    /// Nobody knows: it was sent, and the answer did not come.
    Unknown,
}

/// Why a request for another datacenter got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// No server of the datacenter was ever heard of, or all of them left.
    #[error("no path to datacenter {dc}: no server of it is known")]
    UnknownDatacenter {
        /// As asked.
        dc: Datacenter,
    },
    /// The datacenter is held for lost: nothing was sent.
    #[error("datacenter {dc} is lost since {}: {evidence}", Seconds(*since))]
    Lost {
        /// As asked.
        dc: Datacenter,
        /// How long ago that was decided.
        since: Duration,
        /// What was seen by whom.
        evidence: String,
    },
    /// No server of the datacenter answered, or its breaker is open.
    #[error("no server of datacenter {dc} can be reached: {evidence}")]
    Unreachable {
        /// As asked.
        dc: Datacenter,
        /// What was tried, and what became of it.
        evidence: String,
        /// What the request may have done.
        effect: Effect,
    },
    /// As many requests for the datacenter are under way as there may be: nothing was sent.
    #[error("{under_way} requests for datacenter {dc} are under way already")]
    Busy {
        /// As asked.
        dc: Datacenter,
        /// How many.
        under_way: usize,
    },
    /// A server took the request and did not answer in time.
    #[error("datacenter {dc} did not answer in time: {evidence}")]
    Deadline {
        /// As asked.
        dc: Datacenter,
        /// Who was asked, and for how long.
        evidence: String,
        /// What the request may have done.
        effect: Effect,
    },
    /// A server of the datacenter refused the request: it had no effect.
    #[error("{server} refused: {message}")]
    Refused {
        /// Who refused.
        server: String,
        /// Why, for programs: one of the link's codes.
        code: u16,
        /// Why, for people.
        message: String,
    },
    /// The envelope must not be sent.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

impl ForwardError {
    /// Tells what the request may have done over there.
    pub fn effect(&self) -> Effect {
        match self {
            ForwardError::Unreachable { effect, .. } | ForwardError::Deadline { effect, .. } => {
                *effect
            }
            ForwardError::UnknownDatacenter { .. }
            | ForwardError::Lost { .. }
            | ForwardError::Busy { .. }
            | ForwardError::Refused { .. }
            | ForwardError::Envelope(_) => Effect::None,
        }
    }

    /// Returns the kind of error as metrics name it.
    pub fn kind(&self) -> &'static str {
        match self {
            ForwardError::UnknownDatacenter { .. } => "unknown",
            ForwardError::Lost { .. } => "lost",
            ForwardError::Unreachable { .. } => "unreachable",
            ForwardError::Busy { .. } => "busy",
            ForwardError::Deadline { .. } => "deadline",
            ForwardError::Refused { .. } => "refused",
            ForwardError::Envelope(_) => "envelope",
        }
    }
}

/// Why something could not be done to the WAN pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// None of the addresses answered.
    #[error("no address to join by answered: {}", reasons.join("; "))]
    NobodyAnswered {
        /// What became of each.
        reasons: Vec<String>,
    },
    /// Nobody of that name is in the pool.
    #[error("no node found with name {name:?}")]
    UnknownMember {
        /// As given.
        name: String,
    },
    /// A member that is alive can't be forced out: it would come back at once.
    #[error("{name} is alive: only a failed member can be forced to leave")]
    StillAlive {
        /// As given.
        name: String,
    },
    /// The federation's task has ended.
    #[error("this server is stopping")]
    Stopped,
}

/// Shows a duration in seconds with one digit.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1}s", self.0.as_secs_f64())
    }
}
