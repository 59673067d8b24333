//! What the leader of a datacenter does for it, and how there comes to be one.
//!
//! [`Duties::run`] looks at the LAN pool and at Raft whenever either changes, and every second. It asks
//! the pure parts what to do and does one thing at a time: [`bootstrap`] until there is a log,
//! [`autopilot`], [`registrar`] and the reaping of tombstones while this server leads. What fails is
//! logged and planned again at the next look.

pub mod autopilot;
pub mod bootstrap;
pub mod registrar;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use certs::link::{Endpoint, Kind, Refusal, Request, Target};
use futures::{StreamExt, TryStreamExt, stream};
use lan_agent::pool::Pool;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use topology::{Datacenter, Member, NodeName, Status};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    raft::{Raft, RaftError, protocol::Peer},
    state::{
        Applied, Command, Op,
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

/// Most changes of the catalog under way at once: they share their way to the disk.
const CATALOG_CHANGES_MAX: usize = 64;

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
    /// Its name.
    pub me: NodeName,
    /// `bootstrap_expect`; `None` joins a cluster that is there.
    pub expect: Option<usize>,
    /// Who votes, and when no longer.
    pub autopilot: Settings,
    /// The identity that this server gives the cluster if it has none; `None` where there is no WAN.
    pub cluster: Option<Uuid>,
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
    /// When the catalog was last brought up to what the pool knows; `None` when it has to be now.
    reconciled: Option<Instant>,
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
            reconciled: None,
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
                Ok(()) = members.changed() => self.reconciled = None,
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
            self.reconcile(&members).await;
            return;
        }
        self.reconciled = None;
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
            let _again = report("membership", self.change(change)).await;
        }
        if let Some(cluster) = self.config.cluster.filter(|_| self.raft.state().cluster().is_none())
        {
            info!(%cluster, "giving the cluster its identity");
            let command = Command::new(None, &Op::Found { cluster });
            let founding = async { self.raft.write(command).await.map(|_applied| ()) };
            let _again = report("giving the cluster its identity", founding).await;
        }
        if self.reaped.elapsed() >= GRANULARITY {
            self.reaped = Instant::now();
            let index = self.raft.state().kv().index();
            if let Some(upto) = self.reaper.tick(self.start.elapsed(), index) {
                let command = Command::new(None, &Op::ReapTombstones { upto });
                let reaping = async { self.raft.write(command).await.map(|_applied| ()) };
                let _again = report("reaping tombstones", reaping).await;
            }
        }
    }

    /// Brings the catalog up to what the pool knows, when that has changed, and now and then.
    async fn reconcile(&mut self, members: &[Member]) {
        if self.reconciled.is_some_and(|when| when.elapsed() < registrar::RECONCILE) {
            return;
        }
        let state = self.raft.state();
        let settled = self.start.elapsed();
        let changes = registrar::plan(members, state.catalog(), &self.config.me, settled);
        let done = changes.is_empty();
        if !done {
            info!(changes = changes.len(), "bringing the catalog up to what the pool knows");
        }
        let raft = &self.raft;
        let write = |op: Op| async move { raft.write(Command::new(None, &op)).await };
        let written = stream::iter(changes)
            .map(write)
            .buffer_unordered(CATALOG_CHANGES_MAX)
            .try_for_each(|applied| async move {
                if let Applied::Refused(refusal) = applied {
                    warn!(reason = %refusal.sentence, "the catalog refuses a node of the pool");
                }
                Ok(())
            });
        // Changes may lead to others: it is done when there are none.
        if report("reconciling the catalog", written).await.is_ok() && done {
            self.reconciled = Some(Instant::now());
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
        let _again = report("bootstrap", self.raft.bootstrap(servers)).await;
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

/// What failed is planned again at the next look.
struct Again;

/// Does something that may fail or take too long, and logs why.
async fn report(
    what: &'static str,
    doing: impl Future<Output = Result<(), RaftError>>,
) -> Result<(), Again> {
    match timeout(CHANGE_TIMEOUT, doing).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => warn!(what, %error, "will be tried again"),
        Err(_) => warn!(what, "took too long, will be tried again"),
    }
    Err(Again)
}
