//! A server: an agent that is its own caller, plus Raft plus federation.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use certs::{
    identity::Identity,
    link::{Kind, Refusal, Request},
};
use lan_agent::{
    ask::{Answer, Ask, AskError, wire::encode_reply},
    caller::{Caller, Promise, ServerSide},
    pool::Pool,
    refuge::REFUGE,
    standing::{Reach, Standing},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use topology::{Member, NodeName, Profile, Role, Status};
use wan_federation::{
    Envelope, Federation, Inside, Word,
    answer::{REFUSED_ELSEWHERE, REFUSED_KIND},
};

use crate::{
    dispatch::{Dispatch, way::Origin},
    raft::Raft,
    status,
};

/// What makes an agent a server; its local interfaces ask it directly.
#[derive(Clone)]
pub struct Server {
    /// Answers asks.
    pub dispatch: Arc<Dispatch>,
    /// What the datacenter agrees on.
    pub raft: Raft,
    /// The way to other datacenters; `None` when it is disabled.
    pub federation: Option<Federation>,
    /// The LAN pool.
    pub pool: Pool,
    /// Whether there is a leader.
    pub standing: watch::Receiver<Standing>,
}

impl Caller for Server {
    fn ask(&self, ask: Ask) -> Promise<Result<Answer, AskError>> {
        let dispatch = self.dispatch.clone();
        Box::pin(async move { dispatch.ask(ask, Origin::Agent).await })
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    fn server(&self) -> Option<&dyn ServerSide> {
        Some(self)
    }
}

/// How often a server looks whether it still hears its leader, and a leader whether a quorum still
/// follows it: nobody tells.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Tells whether a server knows a leader: how it stands, and what keeps that up to date until Raft
/// ends.
pub fn follow_leader(
    raft: Raft,
) -> (watch::Receiver<Standing>, impl Future<Output = ()> + Send + use<>) {
    let start = Standing { reach: Reach::Leaderless, since: Instant::now() };
    let (tell, standing) = watch::channel(start);
    let mut leadership = raft.leadership();
    let follow = async move {
        loop {
            leadership.mark_unchanged();
            raft.hear_oneself();
            let reach = if raft.leader().is_some() { Reach::Led } else { Reach::Leaderless };
            tell.send_if_modified(|standing| standing.see(reach, Instant::now()));
            if matches!(timeout(LOOK_AGAIN, leadership.changed()).await, Ok(Err(_))) {
                return;
            }
        }
    };
    (standing, follow)
}

impl ServerSide for Server {
    fn wan_members(&self) -> Vec<Member> {
        self.federation.as_ref().map(|wan| wan.members().to_vec()).unwrap_or_default()
    }

    fn wan_join(&self, addrs: Vec<SocketAddr>) -> Promise<Result<usize, String>> {
        let federation = self.federation.clone();
        Box::pin(async move {
            let federation = federation.ok_or_else(no_wan)?;
            federation.join(addrs).await.map_err(|error| error.to_string())
        })
    }

    fn wan_force_leave(&self, name: &str, prune: bool) -> Promise<Result<(), String>> {
        let (federation, name) = (self.federation.clone(), name.to_owned());
        Box::pin(async move {
            let federation = federation.ok_or_else(no_wan)?;
            federation.force_leave(&name, prune).await.map_err(|error| error.to_string())
        })
    }

    fn leave(&self) -> Promise<Result<(), String>> {
        let server = self.clone();
        Box::pin(async move {
            let handed_over = server.raft.transfer_leadership().await;
            if let Some(federation) = &server.federation {
                federation.leave().await.map_err(|error| error.to_string())?;
            }
            handed_over.map_err(|error| error.to_string())
        })
    }

    fn force_leave(&self, _name: &NodeName) -> Promise<Result<(), String>> {
        // The LAN pool now holds the server for left; the leader takes it out of Raft for that.
        Box::pin(std::future::ready(Ok(())))
    }

    fn stats(&self) -> Vec<(&'static str, String, String)> {
        let known = self.federation.as_ref().map_or(1, |it| it.datacenters().len());
        let mut stats = status::stats(&self.raft, &self.pool.members(), known);
        stats.extend(self.federation.iter().flat_map(Federation::stats));
        let ages = self.dispatch.mirrors().ages().into_iter();
        let age = |age: Duration| format!("{:.1}", age.as_secs_f64());
        stats.extend(ages.map(|(dc, it)| ("wan", format!("{dc}_mirror_age_s"), age(it))));
        stats
    }
}

fn no_wan() -> String {
    "the WAN pool is disabled here: set ports.serf_wan".to_owned()
}

/// What the federation needs of its server. It is bound before the server is put together, as
/// that needs the federation; what comes in before that is sent on to another server.
#[derive(Clone, Default)]
pub struct InsideServer(Arc<OnceLock<Server>>);

impl InsideServer {
    /// Starts to answer. Only the first time counts.
    pub fn open(&self, server: Server) {
        if self.0.set(server).is_err() {
            tracing::warn!("the federation was opened twice");
        }
    }
}

impl Inside for InsideServer {
    fn answer(&self, _from: Arc<Identity>, envelope: Envelope) -> Promise<Result<Bytes, Refusal>> {
        let Some(server) = self.0.get() else {
            let refusal = Refusal::new(REFUSED_ELSEWHERE, "the server is starting");
            return Box::pin(std::future::ready(Err(refusal)));
        };
        let dispatch = server.dispatch.clone();
        let origin = if envelope.goes_home() { Origin::Detour } else { Origin::Federation };
        Box::pin(async move {
            match dispatch.answer_remote(&envelope.payload, origin).await {
                // Who passed it on asks the next server, and the one that asked first looks again.
                Err(error @ AskError::NoLeader) if origin == Origin::Detour => {
                    Err(Refusal::new(REFUSED_ELSEWHERE, error))
                }
                answered => Ok(encode_reply(&answered)),
            }
        })
    }

    fn answer_guest(
        &self,
        _from: Arc<Identity>,
        request: Request,
    ) -> Promise<Result<Bytes, Refusal>> {
        let refuse = |code, why: String| -> Promise<Result<Bytes, Refusal>> {
            Box::pin(std::future::ready(Err(Refusal::new(code, why))))
        };
        let Some(server) = self.0.get() else {
            return refuse(REFUSED_ELSEWHERE, "the server is starting".to_owned());
        };
        if request.kind != REFUGE {
            let Kind(kind) = request.kind;
            return refuse(REFUSED_KIND, format!("only servers may send requests of kind {kind}"));
        }
        let dispatch = server.dispatch.clone();
        Box::pin(async move {
            let answering = dispatch.answer_guest(&request.body);
            let late = |_| Err(AskError::Deadline("the answer did not come in time".to_owned()));
            let answered = timeout_at(request.deadline, answering).await.unwrap_or_else(late);
            Ok(encode_reply(&answered))
        })
    }

    fn word(&self) -> Word {
        let Some(server) = self.0.get() else { return Word::default() };
        Word {
            leader_known: server.raft.leader().is_some(),
            is_leader: server.raft.is_leader(),
            term: server.raft.term(),
            applied: server.raft.applied(),
            load: server.dispatch.load(),
            ..Word::default()
        }
    }

    fn lan_servers(&self) -> Vec<Profile> {
        let Some(server) = self.0.get() else { return Vec::new() };
        let members = server.pool.members();
        let servers = members
            .iter()
            .filter(|member| member.profile.role == Role::Server && member.status == Status::Alive);
        servers.map(|member| member.profile.clone()).collect()
    }
}
