//! What crosses to other datacenters and back: envelopes around asks, answers, and why there is none.

use lan_agent::ask::{
    Answer, Ask, AskError, Consistency,
    wire::{decode_reply, encode_ask},
};
use tokio::time::Instant;
use topology::Datacenter;
use wan_federation::{Effect, Envelope, ForwardError, Forwarded};

/// Puts an ask into an envelope for a datacenter.
pub(super) fn envelope(ask: &Ask, dc: Datacenter) -> Envelope {
    let any_server = ask.question.reads() && ask.consistency == Consistency::Stale;
    Envelope {
        dc,
        path: Vec::new(),
        deadline: ask.deadline,
        request: ask.request.0,
        read: ask.question.reads(),
        waits: ask.blocking.is_some(),
        consistency: match any_server {
            true => wan_federation::Consistency::Any,
            false => wan_federation::Consistency::Leader,
        },
        trace: ask.trace.0,
        payload: encode_ask(ask, Instant::now()),
    }
}

/// Reads what another datacenter, or the own one by way of another, answered.
pub(super) fn answer_of(forwarded: Forwarded) -> Result<Answer, AskError> {
    let Forwarded { answer, path } = forwarded;
    let mut answer = decode_reply(answer)?;
    answer.meta.path = path;
    Ok(answer)
}

/// Says why another datacenter did not answer.
pub(super) fn forward_error(ask: &Ask, error: ForwardError) -> AskError {
    let reason = error.to_string();
    match error {
        ForwardError::Unreachable { effect: Effect::Unknown, .. } if !ask.question.reads() => {
            AskError::Failed(format!("{reason}; the write may have been applied"))
        }
        ForwardError::UnknownDatacenter { dc } => AskError::NoPath { dc },
        ForwardError::Lost { dc, .. } | ForwardError::Unreachable { dc, .. } => {
            AskError::NoServer { dc, reason }
        }
        ForwardError::Deadline { .. } => AskError::Deadline(reason),
        _ => AskError::Failed(reason),
    }
}
