//! Datacenters in storms: partitions, pauses, clocks that leap and drift, power failures, full disks.
//!
//! Whoever is at a node writes, compares, deletes and reads all the time. Then the storm is over:
//! every node, server or client agent, has to serve again, the servers have to hold the same, and the
//! history has to be linearizable, which covers lost and doubled writes. Stale reads have to be no older
//! than they say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lan_agent::{ask::Consistency, caller::Caller};
use tests::{
    asking::Asking,
    datacenter::Site,
    fabric::{Clock, Trace},
    linearizable::Call,
    seeds,
    storm::{Kind, Season, Storm, Weather},
    workload::{Reading, Record},
};
use tokio::time::sleep;

const KEYS: u64 = 3;
const AGENTS: usize = 2;

/// How long a new datacenter may take until everyone is served.
const START_MAX: Duration = Duration::from_secs(30);

/// How long it may take until everyone is served again. An election takes a second or two, a
/// connection is given up after 2.2 s and dialled again within a second or two; a server that was
/// taken out of Raft is let in again by the leader.
const RECOVERY_MAX: Duration = Duration::from_secs(20);

/// Pause between two tries to be served.
const AGAIN: Duration = Duration::from_millis(50);

/// What goes wrong, the worse the more often.
const KINDS: [Kind; 16] = [
    Kind::Split,
    Kind::Split,
    Kind::Alone,
    Kind::Alone,
    Kind::Deaf,
    Kind::Mute,
    Kind::Estranged,
    Kind::Lossy,
    Kind::Slow,
    Kind::Frozen,
    Kind::Frozen,
    Kind::Frozen,
    Kind::Dead,
    Kind::Dead,
    Kind::AllDead,
    Kind::Full,
];

/// Says what the weather was when a run fails.
struct Report<'a>(&'a Storm);

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("\n{}", self.0);
        }
    }
}

fn site(seed: u64, servers: usize, record: &Record) -> Site {
    let record = record.clone();
    let resident = move |node: usize, starts: u64, caller: Arc<dyn Caller>, clock: Clock| {
        let (name, client) = ((node as u64) << 32 | starts, node);
        let seed = seed.rotate_left(32) ^ name;
        Box::pin(record.clone().work(client, seed, Asking::new(caller, name, clock))) as _
    };
    Site::new(super::credentials(), servers, AGENTS, seed, Arc::new(resident))
}

/// Waits until every node has read and written every key.
fn everyone_is_served(site: &mut Site, record: &Record, most: Duration) {
    site.until(most, "everyone runs", |site| {
        (0..site.len()).all(|node| site.caller(node).is_some())
    });
    let way = |node| site.caller(node).zip(site.clock(node));
    let nodes: Vec<_> = (0..site.len()).filter_map(way).collect();
    let served = Arc::new(AtomicUsize::new(0));
    for (node, (caller, clock)) in nodes.iter().enumerate() {
        let name = u64::MAX ^ (node as u64) << 32 ^ site.now().as_millis() as u64;
        let (store, record, served) =
            (Asking::new(caller.clone(), name, *clock), record.clone(), served.clone());
        site.spawn(node, async move {
            let reading = Reading { consistency: Consistency::Consistent, beyond: None };
            for key in record.keys() {
                while record.read(node, &store, &key, reading).await.is_none() {
                    sleep(AGAIN).await;
                }
                while !record.set(node, &store, &key).await {
                    sleep(AGAIN).await;
                }
            }
            served.fetch_add(1, Ordering::Relaxed);
        });
    }
    let count = nodes.len();
    site.until(most, "everyone is served", |_| served.load(Ordering::Relaxed) == count);
}

fn simulated(seed: u64, servers: usize) -> (Trace, BTreeMap<String, Vec<Call>>) {
    let season = Season {
        servers,
        agents: AGENTS,
        lasts: Duration::from_secs(10),
        calm_max: Duration::from_millis(1500),
        squall_max: Duration::from_secs(6),
        kinds: &KINDS,
    };
    let storm = Storm::brew(seed, &season);
    let _report = Report(&storm);
    let record = Record::new("key-", KEYS);
    let mut site = site(seed, servers, &record);
    site.endure(&Weather::default());
    everyone_is_served(&mut site, &record, START_MAX);
    let begin = site.now();
    let mut sky = storm.sky();
    for turn in storm.turns() {
        let passed = site.now() - begin;
        site.run(turn.saturating_sub(passed));
        let passed = site.now() - begin;
        if let Some(weather) = sky.turn(passed, || site.leader()) {
            site.endure(&weather);
        }
    }
    everyone_is_served(&mut site, &record, RECOVERY_MAX);
    record.stop();
    site.until(RECOVERY_MAX, "all servers hold the same", |site| {
        (1..servers).all(|server| site.state(server) == site.state(0))
    });
    record.check();
    assert!(record.known() > 100, "the clients got nearly nothing done: {}", record.known());
    (site.fabric.trace(), record.calls())
}

#[test]
fn histories_of_storms_over_three_servers_are_linearizable() {
    seeds::spread(0..60, |seed| drop(simulated(seed, 3)));
}

#[test]
fn histories_of_storms_over_five_servers_are_linearizable() {
    seeds::spread(100..116, |seed| drop(simulated(seed, 5)));
}

/// Contents of packets differ, as keys are drawn anew; nothing that happens may depend on them.
#[test]
fn the_same_seed_gives_the_same_bytes() {
    let hashes = Mutex::new(BTreeSet::new());
    seeds::spread(1000..1002, |seed| {
        let (one, other) = (simulated(seed, 3), simulated(seed, 3));
        assert_eq!(one.1, other.1, "seed {seed}: the clients saw something else");
        assert_eq!(one.0, other.0, "seed {seed}: the packets differ");
        let new = hashes.lock().unwrap().insert(one.0.hash);
        assert!(new, "seed {seed}: what another seed did");
    });
}
