//! What the leader of a datacenter does for it, and how there comes to be one.
//!
//! [`Duties::run`] looks at the LAN pool and at Raft whenever either changes, and every second. It asks
//! the pure parts what to do and does one thing at a time: [`bootstrap`] until there is a log,
//! [`autopilot`] and the reaping of tombstones while this server leads. What fails is logged and
//! planned again at the next look.

pub mod autopilot;
pub mod bootstrap;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use certs::link::{Endpoint, Kind, Refusal, Request, Target};
use lan_agent::pool::Pool;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use topology::{Datacenter, Member, NodeName, Status};
use tracing::{info, warn};

use crate::{
    raft::{Raft, RaftError, protocol::Peer},
    state::{
        Command, Op,
        reaper::{GRANULARITY, Reaper},
    },
};
use autopilot::{Candidate, Change, Peers, Settings};
use bootstrap::Step;

/// The kind of request by which a server asks others to agree to the first voters.
pub const BOOTSTRAP: Kind = Kind(3);

/// How often the duties are looked at when nothing changes.
const LOOK: Duration = Duration::from_secs(1);

/// How long a change of membership may take: a quorum answers within a heartbeat or two.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take to agree to the first voters.
const AGREE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a server stands by its agreement: longer than the one who asks waits for the others.
const AGREEMENT_FOR: Duration = Duration::from_secs(10);

/// Refused: the server does not agree.
const DISAGREES: u16 = Refusal::SERVICE_MIN + 4;

/// What a server proposes to those that it chose.
#[derive(Serialize, Deserialize)]
struct Proposal {
    voters: BTreeSet<u64>,
}

/// How this server takes part.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its datacenter.
    pub dc: Datacenter,
    /// `bootstrap_expect`; `None` joins a cluster that is there.
    pub expect: Option<usize>,
    /// Who votes, and when no longer.
    pub autopilot: Settings,
}

/// What this server agreed to, shared with the link that others ask over.
#[derive(Clone, Default)]
pub struct Agreement(Arc<Mutex<Option<Agreed>>>);

/// A choice of first voters, and when it was agreed to.
struct Agreed {
    voters: BTreeSet<u64>,
    when: Instant,
}

impl Agreement {
    /// Answers a proposal of the first voters.
    pub async fn answer(
        &self,
        raft: &Raft,
        expect: Option<usize>,
        body: &[u8],
    ) -> Result<Bytes, Refusal> {
        let proposal: Proposal =
            rmp_serde::from_slice(body).map_err(|error| Refusal::new(Refusal::MALFORMED, error))?;
        self.agree(raft, expect, &proposal.voters)
            .await
            .map(|()| Bytes::new())
            .map_err(|reason| Refusal::new(DISAGREES, reason))
    }

    async fn agree(
        &self,
        raft: &Raft,
        expect: Option<usize>,
        voters: &BTreeSet<u64>,
    ) -> Result<(), String> {
        let has_log = raft.is_bootstrapped().await.map_err(|error| error.to_string())?;
        let mut agreed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let valid = agreed.as_ref().filter(|agreed| agreed.when.elapsed() < AGREEMENT_FOR);
        bootstrap::agrees(has_log, expect, valid.map(|agreed| &agreed.voters), voters)?;
        *agreed = Some(Agreed { voters: voters.clone(), when: Instant::now() });
        Ok(())
    }
}

/// The task that looks after the datacenter's servers.
pub struct Duties {
    config: Config,
    raft: Raft,
    pool: Pool,
    link: Endpoint,
    agreement: Agreement,
    /// Since when each member has been held for what it is.
    since: BTreeMap<NodeName, (Status, Instant)>,
    /// Since when this server leads.
    leads: Option<Instant>,
    reaper: Reaper,
    reaped: Instant,
    start: Instant,
}

impl Duties {
    /// Puts the task together.
    pub fn new(
        config: Config,
        raft: Raft,
        pool: Pool,
        link: Endpoint,
        agreement: Agreement,
    ) -> Self {
        let start = Instant::now();
        Self {
            config,
            raft,
            pool,
            link,
            agreement,
            since: BTreeMap::new(),
            leads: None,
            reaper: Reaper::default(),
            reaped: start,
            start,
        }
    }

    /// Looks after the servers until it is dropped.
    pub async fn run(mut self) {
        let mut members = self.pool.changes();
        let mut leadership = self.raft.leadership();
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Ok(()) = members.changed() => {}
                Ok(()) = leadership.changed() => {}
                _ = tick.tick() => {}
            }
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let members = self.pool.members();
        self.note(&members);
        let since = |member: &Member| match self.since.get(&member.profile.name) {
            Some((_, when)) => when.elapsed(),
            None => Duration::ZERO,
        };
        let pool = autopilot::candidates(members.iter(), since);
        if self.raft.is_leader() {
            let since = self.leads.get_or_insert_with(Instant::now).elapsed();
            self.lead(since, &pool).await;
            return;
        }
        if self.leads.take().is_some() {
            self.reaper = Reaper::default();
        }
        if let Some(expect) = self.config.expect {
            self.bootstrap(expect, &pool).await;
        }
    }

    /// Notes since when each member has been held for what it is.
    fn note(&mut self, members: &[Member]) {
        let now = Instant::now();
        self.since.retain(|name, _| members.iter().any(|member| member.profile.name == *name));
        for member in members {
            let held =
                self.since.entry(member.profile.name.clone()).or_insert((member.status, now));
            if held.0 != member.status {
                *held = (member.status, now);
            }
        }
    }

    async fn lead(&mut self, since: Duration, pool: &BTreeMap<u64, Candidate>) {
        let peers = peers(&self.raft);
        let leader = autopilot::Leader { id: self.raft.id(), since };
        if let Some(change) = autopilot::plan(&self.config.autopilot, leader, &peers, pool) {
            info!(?change, "changing who takes part in Raft");
            report("membership", self.change(change)).await;
        }
        if self.reaped.elapsed() >= GRANULARITY {
            self.reaped = Instant::now();
            let index = self.raft.state().kv().index();
            if let Some(upto) = self.reaper.tick(self.start.elapsed(), index) {
                let command = Command::new(None, &Op::ReapTombstones { upto });
                report("reaping tombstones", async {
                    self.raft.write(command).await.map(|_applied| ())
                })
                .await;
            }
        }
    }

    async fn change(&self, change: Change) -> Result<(), RaftError> {
        match change {
            Change::AddLearner { id, name, link } => {
                self.raft.add_learner(id, Peer { name, addr: link }).await
            }
            Change::Promote(id) => self.raft.promote(BTreeSet::from([id])).await,
            Change::Remove(id) => self.raft.remove(BTreeSet::from([id])).await,
        }
    }

    /// Takes a step towards the first log entry, if there is none yet.
    async fn bootstrap(&mut self, expect: usize, pool: &BTreeMap<u64, Candidate>) {
        match self.raft.is_bootstrapped().await {
            Ok(false) => {}
            Ok(true) | Err(_) => {
                self.config.expect = None;
                return;
            }
        }
        let Step::Initiate { voters } = bootstrap::plan(self.raft.id(), expect, pool) else {
            return;
        };
        let chosen = || pool.values().filter(|server| voters.contains(&server.id));
        for server in chosen() {
            if let Err(reason) = self.ask_to_agree(server, expect, &voters).await {
                info!(server = %server.name, %reason, "does not agree to the first voters");
                return;
            }
        }
        let servers = chosen()
            .map(|server| (server.id, Peer { name: server.name.clone(), addr: server.link }))
            .collect();
        info!(servers = voters.len(), "starting a new datacenter");
        report("bootstrap", self.raft.bootstrap(servers)).await;
    }

    async fn ask_to_agree(
        &self,
        server: &Candidate,
        expect: usize,
        voters: &BTreeSet<u64>,
    ) -> Result<(), String> {
        if server.id == self.raft.id() {
            return self.agreement.agree(&self.raft, Some(expect), voters).await;
        }
        let proposal = Proposal { voters: voters.clone() };
        let body = rmp_serde::to_vec_named(&proposal).map_err(|error| error.to_string())?;
        let deadline = Instant::now() + AGREE_TIMEOUT;
        let request = Request { kind: BOOTSTRAP, deadline, body: body.into() };
        let target = Target::server(&self.config.dc, &server.name, server.link);
        let answered = self.link.call(&target, request).await;
        answered.map(|_agreed| ()).map_err(|error| error.to_string())
    }
}

/// Reads out of Raft who takes part.
fn peers(raft: &Raft) -> Peers {
    let mut peers = Peers::default();
    for server in raft.servers() {
        peers.links.insert(server.id, server.addr);
        if server.voter {
            peers.voters.insert(server.id);
        } else {
            peers.learners.insert(server.id);
        }
    }
    peers
}

/// Does something that may fail or take too long; either is planned again at the next look.
async fn report(what: &'static str, doing: impl Future<Output = Result<(), RaftError>>) {
    match timeout(CHANGE_TIMEOUT, doing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(what, %error, "will be tried again"),
        Err(_) => warn!(what, "took too long, will be tried again"),
    }
}
