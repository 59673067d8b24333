//! What this server does for those of other datacenters, and for its fellow servers.
//!
//! An envelope is checked before anyone looks at its payload: it must be for this datacenter,
//! it must not have been here before, and it must come from where its path says that it was
//! last. A certificate of one datacenter can't speak for another.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use certs::{
    identity::Identity,
    link::{Answering, Kind, Refusal, Request, Service},
};
use tokio::sync::{mpsc, oneshot};
use topology::{Datacenter, Profile};
use tracing::debug;

use crate::{
    envelope::Envelope,
    forward::Promise,
    inbox::Message,
    matrix::Written,
    metrics::Metrics,
    pool::{PACKET, ROSTER},
    sight::Sight,
    word::Word,
};

/// A request for this datacenter.
pub const ENVELOPE: Kind = Kind(1);

/// What a server sees, told to its fellow servers.
pub const SIGHT: Kind = Kind(4);

/// What a server's datacenter holds of the others; answered with its row of the matrix.
pub const ROW: Kind = Kind(5);

/// Refused: the envelope could not be read.
pub const REFUSED_ENVELOPE: u16 = Refusal::SERVICE_MIN;

/// Refused: the envelope's path or datacenter is not right for this server.
pub const REFUSED_PATH: u16 = Refusal::SERVICE_MIN + 1;

/// Refused: this server can't answer now, another one of its datacenter may. The one code that
/// lets the asker try the next server.
pub const REFUSED_ELSEWHERE: u16 = Refusal::SERVICE_MIN + 2;

/// Refused: the kind of request is not known here.
pub const REFUSED_KIND: u16 = Refusal::SERVICE_MIN + 3;

/// What the federation needs to know of the server that it is part of.
pub trait Inside: Send + Sync + 'static {
    /// Answers a request of another datacenter, by the envelope's deadline. The future is dropped
    /// when the asker goes away.
    fn answer(&self, from: Arc<Identity>, envelope: Envelope) -> Promise<Result<Bytes, Refusal>>;

    /// Says what this server has to say of itself. Must not block.
    fn word(&self) -> Word;

    /// Returns the servers of the own LAN, for those with a WAN address to be joined.
    fn lan_servers(&self) -> Vec<Profile>;
}

/// Takes what comes over the link.
pub(crate) struct Door {
    pub(crate) dc: Datacenter,
    pub(crate) inside: Arc<dyn Inside>,
    pub(crate) inbox: mpsc::Sender<Message>,
    /// The own row of the matrix as others read it.
    pub(crate) row: Arc<ArcSwap<Written>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Door {
    fn envelope(&self, peer: Arc<Identity>, request: &Request) -> Answering {
        let checked = Envelope::decode(&request.body, request.deadline)
            .map_err(|error| Refusal::new(REFUSED_ENVELOPE, error))
            .and_then(|envelope| {
                let trace = envelope.trace;
                admit(&self.dc, &peer, envelope).inspect_err(|refusal| {
                    let (trace, reason) = (trace.as_simple(), &refusal.message);
                    debug!(%trace, %peer, reason, "envelope refused");
                })
            });
        match checked {
            Ok(envelope) => {
                self.metrics.answered.increment(1);
                self.inside.answer(peer, envelope)
            }
            Err(refusal) => {
                self.metrics.answer_refused.increment(1);
                refuse(refusal)
            }
        }
    }

    fn sight(&self, peer: &Identity, from: SocketAddr, body: &[u8]) -> Answering {
        let Some(sight) = Sight::decode(body).filter(|_| peer.dc == self.dc) else {
            return refuse(Refusal::new(REFUSED_PATH, "not what a fellow server says"));
        };
        self.post(Message::Sight { from, sight });
        Box::pin(std::future::ready(Ok(Bytes::new())))
    }

    fn roster(&self, state: Bytes) -> Answering {
        let (reply, answer) = oneshot::channel();
        self.post(Message::Roster { state, reply: Some(reply) });
        Box::pin(async move {
            answer.await.map_err(|_| Refusal::new(REFUSED_ELSEWHERE, "too busy, or stopping"))
        })
    }

    /// Hands a message on, unless the task can't keep up: everything here is repeated.
    fn post(&self, message: Message) {
        if self.inbox.try_send(message).is_err() {
            self.metrics.overflow.increment(1);
        }
    }
}

impl Service for Door {
    fn call(&self, peer: Arc<Identity>, from: SocketAddr, request: Request) -> Answering {
        match request.kind {
            ENVELOPE => self.envelope(peer, &request),
            ROSTER => self.roster(request.body),
            PACKET => {
                let peer = Identity::clone(&peer);
                self.post(Message::Packet { peer, from, data: request.body });
                Box::pin(std::future::ready(Ok(Bytes::new())))
            }
            SIGHT => self.sight(&peer, from, &request.body),
            ROW => Box::pin(std::future::ready(Ok(self.row.load().bytes.clone()))),
            Kind(kind) => refuse(Refusal::new(
                REFUSED_KIND,
                format_args!("this server does not know request kind {kind}: upgrade it"),
            )),
        }
    }

    fn datagram(&self, peer: &Identity, from: SocketAddr, data: Bytes) {
        self.post(Message::Packet { peer: peer.clone(), from, data });
    }

    fn word(&self) -> Bytes {
        Word { row: self.row.load().mark, ..self.inside.word() }.encode()
    }
}

fn refuse(refusal: Refusal) -> Answering {
    Box::pin(std::future::ready(Err(refusal)))
}

/// Checks whether an envelope from this peer may be answered in this datacenter.
fn admit(dc: &Datacenter, peer: &Identity, envelope: Envelope) -> Result<Envelope, Refusal> {
    if envelope.dc != *dc {
        let wanted = &envelope.dc;
        return Err(Refusal::new(
            REFUSED_PATH,
            format_args!("this server is of {dc}, not of {wanted}"),
        ));
    }
    envelope.check_path(dc).map_err(|error| Refusal::new(REFUSED_PATH, error))?;
    match envelope.path.last() {
        Some(last) if *last == peer.dc => Ok(envelope),
        Some(last) => Err(Refusal::new(
            REFUSED_PATH,
            format_args!("the envelope says it comes from {last}, but {peer} sent it"),
        )),
        None => Err(Refusal::new(REFUSED_PATH, "the envelope says not where it comes from")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use topology::{NodeName, Role};
    use uuid::Uuid;

    use super::*;
    use crate::envelope::Consistency;

    fn dc(name: &str) -> Datacenter {
        Datacenter::new(name).unwrap()
    }

    fn admitted(to: &str, path: &[&str], from: &str) -> Result<Envelope, Refusal> {
        let envelope = Envelope {
            dc: dc(to),
            path: path.iter().map(|name| dc(name)).collect(),
            deadline: Instant::now() + Duration::from_secs(1),
            request: Uuid::nil(),
            read: true,
            consistency: Consistency::Any,
            trace: Uuid::nil(),
            payload: Bytes::new(),
        };
        let node = NodeName::new("a1").unwrap();
        admit(&dc("dc2"), &Identity::new(dc(from), Role::Server, Some(node)), envelope)
    }

    #[test]
    fn an_envelope_from_where_it_says_is_admitted() {
        assert!(admitted("dc2", &["dc1"], "dc1").is_ok());
        assert!(admitted("dc2", &["dc1", "dc3"], "dc3").is_ok());
    }

    #[test]
    fn a_server_cannot_speak_for_another_datacenter() {
        let refusal = admitted("dc2", &["dc1"], "dc3").unwrap_err();
        assert_eq!(refusal.code, REFUSED_PATH);
        assert!(refusal.message.contains("server a1 of dc3 sent it"), "{}", refusal.message);
    }

    #[test]
    fn strays_loops_and_the_nameless_are_refused() {
        assert!(admitted("dc9", &["dc1"], "dc1").is_err());
        assert!(admitted("dc2", &["dc2", "dc1"], "dc1").is_err());
        assert!(admitted("dc2", &[], "dc1").is_err());
    }
}
