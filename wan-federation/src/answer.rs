//! What this server does for those of other datacenters.
//!
//! An envelope is checked before anyone looks at its payload: it must be for this datacenter,
//! it must not have been here before, and it must come from where its path says that it was
//! last. A certificate of one datacenter can't speak for another. An envelope for another datacenter
//! is passed on only to whoever asks for that ([`crate::relay`]).

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use certs::{
    identity::Identity,
    link::{Answering, Kind, Refusal, Request, Service},
};
use tokio::sync::{mpsc, oneshot};
use topology::{
    Datacenter, Profile, Role,
    gossip::{Removal, Rival},
};
use tracing::debug;

use crate::{
    envelope::Envelope,
    forward::{Forwarder, Promise},
    inbox::Message,
    matrix::Written,
    metrics::Metrics,
    pool::{PACKET, ROSTER},
    relay::{RELAY, Relayed},
    word::Word,
};

/// A request for this datacenter.
pub const ENVELOPE: Kind = Kind(1);

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

/// Refused: the asker's datacenter was removed from the federation.
pub const REFUSED_REMOVED: u16 = Refusal::SERVICE_MIN + 5;

/// Refused: another cluster has the name of the asker's datacenter.
pub const REFUSED_CLUSTER: u16 = Refusal::SERVICE_MIN + 6;

/// What the federation needs to know of the server that it is part of.
pub trait Inside: Send + Sync + 'static {
    /// Answers a request of another datacenter, by the envelope's deadline. The future is dropped
    /// when the asker goes away.
    fn answer(&self, from: Arc<Identity>, envelope: Envelope) -> Promise<Result<Bytes, Refusal>>;

    /// Answers an agent of another datacenter that is no server, by the request's deadline.
    fn answer_guest(
        &self,
        _from: Arc<Identity>,
        _request: Request,
    ) -> Promise<Result<Bytes, Refusal>> {
        Box::pin(std::future::ready(Err(Refusal::new(REFUSED_KIND, "only servers may ask here"))))
    }

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
    /// What was said of removed datacenters.
    pub(crate) removals: Arc<ArcSwap<Vec<Removal>>>,
    /// Who is refused for its cluster.
    pub(crate) rivals: Arc<ArcSwap<Vec<Rival>>>,
    pub(crate) metrics: Arc<Metrics>,
    /// What carries envelopes on. It needs the link, which needs the door.
    pub(crate) forwarder: Arc<OnceLock<Weak<Forwarder>>>,
}

impl Door {
    fn envelope(&self, peer: Arc<Identity>, request: &Request) -> Answering {
        match self.read(&peer, request, admit) {
            Ok(envelope) => {
                self.metrics.answered.increment(1);
                self.inside.answer(peer, envelope)
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn relay(&self, peer: Arc<Identity>, request: &Request) -> Answering {
        let envelope = match self.read(&peer, request, admit_stranger) {
            Ok(envelope) => envelope,
            Err(refusal) => return self.refuse(refusal),
        };
        let Some(forwarder) = self.forwarder.get().and_then(Weak::upgrade) else {
            return self.refuse(Refusal::new(REFUSED_ELSEWHERE, "the server is starting"));
        };
        let metrics = self.metrics.clone();
        Box::pin(async move {
            let relayed = forwarder.relay(&peer, envelope).await;
            metrics.relayed(relayed.as_ref());
            relayed.map(|relayed| Relayed::encode(&relayed))
        })
    }

    /// Reads an envelope, and checks that it may be taken in.
    fn read(&self, peer: &Identity, request: &Request, admit: Admit) -> Result<Envelope, Refusal> {
        let envelope = Envelope::decode(&request.body, request.deadline)
            .map_err(|error| Refusal::new(REFUSED_ENVELOPE, error))?;
        let trace = envelope.trace;
        admit(&self.dc, peer, envelope).inspect_err(|refusal| {
            let (trace, reason) = (trace.as_simple(), &refusal.message);
            debug!(%trace, %peer, reason, "envelope refused");
        })
    }

    fn refuse(&self, refusal: Refusal) -> Answering {
        self.metrics.answer_refused.increment(1);
        refuse(refusal)
    }

    /// Refuses who is of a datacenter that was removed; those of the own one know each other all the same.
    fn exclude(&self, peer: &Identity) -> Option<Refusal> {
        let removals = self.removals.load();
        let removal = removals.iter().find(|it| it.dc == peer.dc && !it.is_lifted)?;
        (peer.dc != self.dc).then(|| {
            let Removal { dc, by, .. } = removal;
            Refusal::new(
                REFUSED_REMOVED,
                format_args!("{dc} was removed from the federation, says {by}"),
            )
        })
    }

    /// Refuses who is of another cluster than the one that has its datacenter's name. Its packets are the pool's
    /// business, so that it is known when that is over.
    fn exclude_rival(&self, peer: &Identity, from: SocketAddr, kind: Kind) -> Option<Refusal> {
        let rivals = self.rivals.load();
        let is = |rival: &&Rival| rival.profile.addr == from && rival.profile.dc == peer.dc;
        let rival = rivals.iter().find(is).filter(|_| kind != PACKET)?;
        Some(Refusal::new(REFUSED_CLUSTER, rival))
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
        let excluded = self.exclude(&peer);
        if let Some(refusal) = excluded.or_else(|| self.exclude_rival(&peer, from, request.kind)) {
            return refuse(refusal);
        }
        if peer.role != Role::Server {
            return self.inside.answer_guest(peer, request);
        }
        match request.kind {
            ENVELOPE => self.envelope(peer, &request),
            RELAY => self.relay(peer, &request),
            ROSTER => self.roster(request.body),
            PACKET => {
                let peer = Identity::clone(&peer);
                self.post(Message::Packet { peer, from, data: request.body });
                Box::pin(std::future::ready(Ok(Bytes::new())))
            }
            ROW => Box::pin(std::future::ready(Ok(self.row.load().bytes.clone()))),
            Kind(kind) => refuse(Refusal::new(
                REFUSED_KIND,
                format_args!("this server does not know request kind {kind}: upgrade it"),
            )),
        }
    }

    fn datagram(&self, peer: &Identity, from: SocketAddr, data: Bytes) {
        // Who is no server is no member.
        if peer.role == Role::Server {
            self.post(Message::Packet { peer: peer.clone(), from, data });
        }
    }

    fn word(&self) -> Bytes {
        Word { row: self.row.load().mark, ..self.inside.word() }.encode()
    }
}

fn refuse(refusal: Refusal) -> Answering {
    Box::pin(std::future::ready(Err(refusal)))
}

/// Checks whether an envelope from this peer may be taken in by a server of this datacenter.
type Admit = fn(&Datacenter, &Identity, Envelope) -> Result<Envelope, Refusal>;

/// Checks whether an envelope from this peer may be passed on to another datacenter.
fn admit_stranger(
    dc: &Datacenter,
    peer: &Identity,
    envelope: Envelope,
) -> Result<Envelope, Refusal> {
    match envelope.dc == *dc {
        true => Err(Refusal::new(REFUSED_PATH, format_args!("this server is of {dc} itself"))),
        false => check_path(dc, peer, envelope),
    }
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
    check_path(dc, peer, envelope)
}

/// Checks whether an envelope is where its path says, and has not been here before.
fn check_path(dc: &Datacenter, peer: &Identity, envelope: Envelope) -> Result<Envelope, Refusal> {
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
    use topology::NodeName;
    use uuid::Uuid;

    use super::*;
    use crate::envelope::Consistency;

    fn dc(name: &str) -> Datacenter {
        Datacenter::new(name).unwrap()
    }

    fn admitted(to: &str, path: &[&str], from: &str) -> Result<Envelope, Refusal> {
        let (peer, envelope) = arriving(to, path, from);
        admit(&dc("dc2"), &peer, envelope)
    }

    fn passed_on(to: &str, path: &[&str], from: &str) -> Result<Envelope, Refusal> {
        let (peer, envelope) = arriving(to, path, from);
        admit_stranger(&dc("dc2"), &peer, envelope)
    }

    fn arriving(to: &str, path: &[&str], from: &str) -> (Identity, Envelope) {
        let envelope = Envelope {
            dc: dc(to),
            path: path.iter().map(|name| dc(name)).collect(),
            deadline: Instant::now() + Duration::from_secs(1),
            request: Uuid::nil(),
            read: true,
            waits: false,
            consistency: Consistency::Any,
            trace: Uuid::nil(),
            payload: Bytes::new(),
        };
        let node = NodeName::new("a1").unwrap();
        (Identity::new(dc(from), Role::Server, Some(node)), envelope)
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
        assert!(admitted("dc2", &["dc2"], "dc2").is_err());
        assert!(admitted("dc2", &["dc1", "dc2"], "dc2").is_err());
        assert!(admitted("dc2", &[], "dc1").is_err());
    }

    #[test]
    fn what_comes_home_by_way_of_another_datacenter_is_admitted() {
        assert!(admitted("dc2", &["dc2", "dc1"], "dc1").is_ok());
        assert!(admitted("dc2", &["dc2", "dc1"], "dc3").is_err());
        assert!(admitted("dc2", &["dc2", "dc3", "dc1"], "dc1").is_err());
    }

    #[test]
    fn only_what_is_for_another_datacenter_and_was_not_here_is_passed_on() {
        assert!(passed_on("dc3", &["dc1"], "dc1").is_ok());
        assert!(passed_on("dc1", &["dc1"], "dc1").is_ok(), "a detour home");
        assert!(passed_on("dc2", &["dc1"], "dc1").is_err());
        assert!(passed_on("dc3", &["dc2"], "dc2").is_err());
        assert!(passed_on("dc3", &["dc1"], "dc4").is_err());
    }
}
