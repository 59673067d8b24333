//! What a server does for two other datacenters that have no path to each other: it passes a
//! request on, once.
//!
//! ```text
//!   dc1                     dc3 (this one)                    dc2
//!    |--- RELAY (envelope) --->|--- ENVELOPE ------------------>|
//!    |<-- the answer, or ------|<---------------- its answer ---|
//!    |    that it was lost     |                                |
//! ```
//!
//! It passes on only what one of the wanted datacenter's servers is going to take that is heard right now,
//! or can be dialled, and says at once when there is none. It gives up on a server that misses a heartbeat, because
//! whoever asked has other ways, unless the request waits for a change. What it passes on never goes further than there. A reply
//! begins with a byte that tells an answer from the word that what was sent may have been carried
//! out; a refusal says, as everywhere, that nothing was done.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};
use certs::{
    identity::Identity,
    link::{Kind, Refusal},
};

use crate::{
    answer::REFUSED_ELSEWHERE,
    attempt::{CarryError, HEAR_SOON},
    detour::Detours,
    envelope::Envelope,
    error::{Effect, ForwardError},
    forward::{Forwarder, known},
    journey::{Choice, Journey},
    routes::Need,
};

/// An envelope for another datacenter, to be passed on.
pub const RELAY: Kind = Kind(6);

/// Refused: this server can't pass the request on, another one may.
pub const REFUSED_RELAY: u16 = Refusal::SERVICE_MIN + 4;

/// Begins the reply that holds an answer.
const ANSWER: u8 = 0;

/// Begins the reply that says that the request was passed on and the answer lost.
const LOST: u8 = 1;

/// What came of a request that was passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// The answer.
    Answer(Bytes),
    /// It was sent, and there is no answer, for this reason.
    Lost(String),
}

impl Relayed {
    /// Writes what came of it as it travels.
    pub(crate) fn encode(&self) -> Bytes {
        let (tag, rest) = match self {
            Relayed::Answer(answer) => (ANSWER, &answer[..]),
            Relayed::Lost(why) => (LOST, why.as_bytes()),
        };
        let mut bytes = BytesMut::with_capacity(1 + rest.len());
        bytes.put_u8(tag);
        bytes.put_slice(rest);
        bytes.freeze()
    }

    /// Reads what came of it. What can't be read is as good as lost.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Bytes, CarryError> {
        match bytes.first() {
            Some(&ANSWER) => Ok(bytes.split_off(1)),
            Some(&LOST) => Err(CarryError::Lost(String::from_utf8_lossy(&bytes[1..]).into_owned())),
            _ => Err(CarryError::Lost("the reply makes no sense".to_owned())),
        }
    }
}

impl Forwarder {
    /// Passes an envelope of `asker` on to its datacenter by its deadline.
    pub(crate) async fn relay(
        &self,
        asker: &Identity,
        envelope: Envelope,
    ) -> Result<Relayed, Refusal> {
        if self.detours == Detours::Off {
            return Err(unable(format_args!("{} passes nothing on for others", self.dc)));
        }
        let table = self.table.load_full();
        let remote = known(&table, &envelope.dc).map_err(unable)?;
        let verdict = &remote.verdict;
        if !verdict.health.takes_requests() {
            let (health, evidence) = (verdict.health, &verdict.evidence);
            return Err(unable(format_args!("{health} here, too: {evidence}")));
        }
        let need = match envelope.goes_home() {
            true => Need::Leader,
            false => remote.need(envelope.consistency),
        };
        let envelope = envelope.leaving(&self.dc).map_err(unable)?;
        let journey = Journey::new(&*self.carrier, &envelope, Some(remote), HEAR_SOON);
        let mut journey = journey.map_err(unable)?.promptly();
        // What comes home must not come back to who can't answer it.
        journey
            .left
            .retain(|server| server.dc != asker.dc || Some(&server.name) != asker.node.as_ref());
        let step = journey.ask_directly(&remote.gates.relays, None, Choice::Prompt(need)).await;
        match step {
            ControlFlow::Break(Ok(answer)) => Ok(Relayed::Answer(answer)),
            ControlFlow::Break(Err(error)) => refuse(error),
            ControlFlow::Continue(()) if journey.attempts == 0 => {
                let what = match need {
                    Need::Path => "is heard",
                    Need::Leader => "is heard and knows a leader",
                };
                Err(unable(format_args!("no server of {} {what} here", envelope.dc)))
            }
            ControlFlow::Continue(()) => refuse(journey.failed()),
        }
    }
}

/// Says why there is no answer: by a refusal only if nothing was done.
fn refuse(error: ForwardError) -> Result<Relayed, Refusal> {
    match (error.effect(), error) {
        (Effect::Unknown, error) => Ok(Relayed::Lost(error.to_string())),
        (Effect::None, ForwardError::Refused { server, code, message })
            if code != REFUSED_ELSEWHERE =>
        {
            Err(Refusal::new(code, format_args!("{server}: {message}")))
        }
        (Effect::None, error) => Err(unable(error)),
    }
}

fn unable(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(REFUSED_RELAY, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes_stay() {
        assert_eq!(Relayed::Answer(Bytes::from_static(b"yes")).encode(), b"\0yes"[..]);
        assert_eq!(Relayed::Lost("fell silent".to_owned()).encode(), b"\x01fell silent"[..]);
    }

    #[test]
    fn an_answer_comes_back_and_everything_else_is_lost() {
        let answer = Relayed::Answer(Bytes::from_static(b"yes")).encode();
        assert_eq!(Relayed::decode(answer), Ok(Bytes::from_static(b"yes")));
        let lost = Relayed::Lost("fell silent".to_owned()).encode();
        assert_eq!(Relayed::decode(lost), Err(CarryError::Lost("fell silent".to_owned())));
        for garbage in [&b""[..], b"\x07what", b"\x01\xff"] {
            let read = Relayed::decode(Bytes::copy_from_slice(garbage));
            assert!(matches!(read, Err(CarryError::Lost(_))), "{garbage:?}");
        }
    }

    #[test]
    fn a_refusal_says_that_nothing_was_done_and_is_only_given_then() {
        let dc = || "dc2".parse().unwrap();
        let lost = ForwardError::Unreachable {
            dc: dc(),
            evidence: "b1: fell silent".to_owned(),
            effect: Effect::Unknown,
        };
        assert!(matches!(refuse(lost), Ok(Relayed::Lost(_))));
        let refused = |code| ForwardError::Refused {
            server: "b1.dc2".to_owned(),
            code,
            message: "no".to_owned(),
        };
        assert_eq!(refuse(refused(99)), Err(Refusal::new(99, "b1.dc2: no")));
        assert_eq!(refuse(refused(REFUSED_ELSEWHERE)).unwrap_err().code, REFUSED_RELAY);
        let unknown = ForwardError::UnknownDatacenter { dc: dc() };
        assert_eq!(refuse(unknown).unwrap_err().code, REFUSED_RELAY);
    }
}
