//! The node's side of the federation: how it is bound, and told of the own LAN.

use std::{future::Future, net::SocketAddr, sync::Arc};

use anyhow::Context;
use certs::{
    identity::Identity,
    link::{self, Accept, Endpoint, Limits},
    store::Keys,
};
use lan_agent::{pool::Pool, refuge::Refuges, remote::ClientService};
use topology::{
    Profile,
    gossip::{self, Removal},
    member::CLUSTER_TAG,
};
use uuid::Uuid;
use wan_federation::{Detours, Federation};

use super::{Task, World};
use crate::{
    cluster_id::ClusterId,
    config,
    config_replication::Replicator,
    data_dir::DataDir,
    dispatch::{Dispatch, way::Map},
    failover::{Failover, Own},
    mirror::{self, MIRRORS_TAG, Mirrors, puller::Puller, rule::Bounds},
    raft::Raft,
    removals::Removals,
    server::InsideServer,
};

/// What the federation needs of its node.
struct Parts<'a> {
    keys: &'a Keys,
    /// The link of the own datacenter.
    lan: &'a Endpoint,
    inside: InsideServer,
    /// What was said of removed datacenters before the start.
    removed: Vec<Removal>,
    /// The cluster that this server was of before the start.
    cluster: Option<Uuid>,
}

/// Binds the WAN address unless it is disabled, with what was kept of the pool, and keeps on keeping that.
pub(super) fn enter(
    config: &config::Agent,
    world: &World,
    me: &Profile,
    (keys, lan, inside): (&Keys, &Endpoint, InsideServer),
    data_dir: Option<&DataDir>,
    raft: &Raft,
    tasks: &mut Vec<Task>,
) -> anyhow::Result<(Removals, Option<Federation>)> {
    let (removals, removed) = Removals::open(data_dir.map(DataDir::path));
    let (kept, cluster) = ClusterId::open(data_dir.map(DataDir::path));
    let parts = Parts { keys, lan, inside, removed, cluster };
    let Some((federation, run)) = bind(config, world, me, parts)? else {
        return Ok((removals, None));
    };
    tasks.push(Box::pin(run));
    tasks.push(Box::pin(removals.clone().run(federation.clone())));
    tasks.push(Box::pin(kept.run(raft.clone(), federation.clone())));
    Ok((removals, Some(federation)))
}

/// Binds the WAN address; `None` when it is disabled.
fn bind(
    config: &config::Agent,
    world: &World,
    me: &Profile,
    parts: Parts<'_>,
) -> anyhow::Result<Option<(Federation, impl Future<Output = ()> + Send + 'static + use<>)>> {
    let Some(wan) = config.addresses.wan else { return Ok(None) };
    let Parts { keys, lan, inside, removed, cluster } = parts;
    let mut tags = me.tags.clone();
    if config.federation.mirrors {
        tags.insert(MIRRORS_TAG.to_owned(), String::new());
    }
    tags.extend(cluster.map(|id| (CLUSTER_TAG.to_owned(), id.to_string())));
    let settings = wan_federation::Config {
        me: Profile { addr: wan.advertise, tags, ..me.clone() },
        bind: wan.bind,
        lan: lan.clone(),
        keys: keys.clone(),
        join: [config.join_wan.start.clone(), config.join_wan.retry.clone()].concat(),
        retry_interval: config.join_wan.interval,
        gossip: gossip::Config {
            reap_after: config.reconnect_timeout_wan,
            ..gossip::Config::wan()
        },
        seed: world.seed,
        boot: world.boot_ms,
        wall_ms: world.now_ms(),
        removed,
        randomness: wan_federation::Randomness::System,
        detours: if config.federation.detours { Detours::On } else { Detours::Off },
    };
    Federation::bind(settings, &*world.sockets, Arc::new(inside))
        .map(Some)
        .with_context(|| format!("can't listen at {} (UDP) for the WAN", wan.bind))
}

/// Binds where a client agent speaks to servers of other datacenters from, should its own be gone.
pub(super) fn refuges(
    config: &config::Agent,
    world: &World,
    (me, keys): (&Profile, &Keys),
    data_dir: Option<&DataDir>,
    tasks: &mut Vec<Task>,
) -> anyhow::Result<Refuges> {
    let addr = SocketAddr::new(config.addresses.link.bind.ip(), 0);
    let settings = link::Config {
        addr,
        me: Identity::new(me.dc.clone(), me.role, Some(me.name.clone())),
        keys: keys.clone(),
        accept: Accept::Servers,
        profile: link::Profile::Wan,
        seed: None,
        limits: Limits::default(),
    };
    let (endpoint, run) = Endpoint::bind(settings, &*world.sockets, Arc::new(ClientService))
        .with_context(|| format!("can't open a socket at {addr} (UDP) for other datacenters"))?;
    tasks.push(Box::pin(run));
    let file = data_dir.map(|dir| dir.path().join("refuges.json"));
    Ok(Refuges::open(me.dc.clone(), endpoint, file))
}

/// Tells the federation whenever servers of the own LAN come and go.
pub(super) async fn flood(federation: Federation, pool: Pool) {
    let mut members = pool.changes();
    loop {
        federation.flood();
        if members.changed().await.is_err() {
            return;
        }
    }
}

/// Returns the mirrors of other datacenters, which are empty yet.
pub(super) fn mirrors(config: &config::Agent) -> Mirrors {
    let config::agent::Federation { mirror_kv, mirror_max_age, max_stale, .. } = &config.federation;
    let bounds = Bounds { fresh: *mirror_max_age, stale: *max_stale };
    Mirrors::new(mirror::Settings { prefixes: mirror_kv.clone(), bounds })
}

/// Returns who decides which datacenter answers for a service.
pub(super) fn failover(
    config: &config::Agent,
    world: &World,
    own: Own,
    mirrors: &Mirrors,
    federation: Option<&Federation>,
) -> Arc<Failover> {
    let (policy, mirrors) = (config.failover.clone(), mirrors.clone());
    Failover::new(own, policy, config.translate_wan, mirrors, federation.cloned(), world.seed)
}

/// Returns what copies from other datacenters: their catalogs, and the configuration entries of the primary one.
pub(super) fn copiers(
    config: &config::Agent,
    world: &World,
    map: Map,
    dispatch: &Arc<Dispatch>,
    raft: &Raft,
    (mirrors, federation): (Mirrors, Option<&Federation>),
) -> Vec<Task> {
    let (dispatch, seed) = (dispatch.clone(), world.seed);
    let mut copiers: Vec<Task> = Vec::new();
    if let Some(federation) = federation.filter(|_| config.federation.mirrors).cloned() {
        let puller = Puller { mirrors, dispatch: dispatch.clone(), federation, seed };
        copiers.push(Box::pin(puller.run()));
    }
    let (raft, wanted) = (raft.clone(), config.config_entries.clone());
    copiers.push(Box::pin(Replicator { map, raft, dispatch, wanted, seed }.run()));
    copiers
}
