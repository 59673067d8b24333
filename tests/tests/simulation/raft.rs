//! Three Raft servers over simulated links: crashes, disks that forget, partitions, loss.
//!
//! Clients write, compare-and-set and read all the time through whatever server they believe in,
//! and repeat writes of unknown outcome under the same request id. Then the faults stop, the
//! group has to work again, and the history has to be linearizable: that covers lost and
//! doubled writes as well as stale reads.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use dc_server::{
    raft::{Raft, RaftError, Read},
    state::{Applied, Command, Op as Change},
};
use lan_agent::ask::RequestId;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tests::{
    credentials::Credentials,
    fabric::{Fabric, Link, Trace, simulate},
    linearizable::{Call, History, Op, Outcome, Value},
    raft_group::Group,
    seeds,
};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

const SERVERS: usize = 3;
const CLIENTS: usize = 4;
const KEYS: u64 = 3;

/// How long faults go on.
const FAULTY: Duration = Duration::from_secs(6);

/// How long the group may take to work again after that. An election takes a second or two, a
/// connection is given up after 2.2 s and dialled again within a second or two.
const RECOVERY_MAX: Duration = Duration::from_secs(15);

/// How long a client waits for one server.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What all parts of a run share. It runs on one thread.
struct Run {
    group: Group,
    history: History,
    next: RefCell<u64>,
}

/// What one try at one server came to.
enum Tried {
    /// An answer.
    Answered(Outcome),
    /// Nothing was done, and this server may know who to ask.
    Elsewhere(Option<u64>),
    /// Nobody knows.
    Unknown,
}

/// Certificates are made once: their contents differ, their lengths don't.
fn credentials() -> Arc<Credentials> {
    static CREDENTIALS: OnceLock<Arc<Credentials>> = OnceLock::new();
    CREDENTIALS.get_or_init(Arc::default).clone()
}

fn unique(run: &Run) -> u64 {
    let mut next = run.next.borrow_mut();
    *next += 1;
    *next
}

fn handle(run: &Run, server: usize) -> Option<Raft> {
    run.group.raft(server)
}

fn value(raft: &Raft, key: &str) -> Option<(Value, u64)> {
    let state = raft.state();
    let entry = state.kv().get(key)?;
    let bytes = entry.value[..].try_into().expect("eight bytes were written");
    Some((Value::from_be_bytes(bytes), entry.modify_index))
}

async fn write(raft: &Raft, request: u64, op: &Change) -> Tried {
    let request = RequestId(Uuid::from_u128(u128::from(request)));
    let command = Command::new(Some(request), op);
    match timeout(PATIENCE, raft.write(command)).await {
        Ok(Ok(Applied::Done(true))) => Tried::Answered(Outcome::Done),
        Ok(Ok(Applied::Done(false))) => Tried::Answered(Outcome::Mismatch),
        Ok(Ok(other)) => panic!("a write was answered with {other:?}"),
        Ok(Err(RaftError::NotLeader { leader })) => Tried::Elsewhere(leader.map(|(id, _)| id)),
        Ok(Err(RaftError::Refused(_))) => Tried::Elsewhere(None),
        Ok(Err(RaftError::Unknown | RaftError::Broken(_) | RaftError::Shutdown)) | Err(_) => {
            Tried::Unknown
        }
    }
}

async fn read(raft: &Raft, how: Read, key: &str) -> Tried {
    match timeout(PATIENCE, raft.confirm(how)).await {
        Ok(Ok(())) => Tried::Answered(Outcome::Saw(value(raft, key).map(|(value, _)| value))),
        Ok(Err(RaftError::NotLeader { leader })) => Tried::Elsewhere(leader.map(|(id, _)| id)),
        Ok(Err(_)) | Err(_) => Tried::Elsewhere(None),
    }
}

/// One operation of a client, through one server after the other until it is answered or the
/// client gives up. Returns the server that answered.
async fn operate(run: &Run, rng: &mut SmallRng, client: usize, first: usize) -> usize {
    let key = format!("key-{}", rng.random_range(0..KEYS));
    let mut server = first;
    let (op, change, how) = choose(run, rng, &key, server);
    let request = unique(run);
    let begun = run.history.begin(client, &key, op);
    let mut unknown = false;
    for _ in 0..rng.random_range(1..12) {
        let tried = match (handle(run, server), &change) {
            (None, _) => Tried::Elsewhere(None),
            (Some(raft), None) => read(&raft, how, &key).await,
            (Some(raft), Some(change)) => write(&raft, request, change).await,
        };
        match tried {
            Tried::Answered(outcome) => {
                begun.end(outcome);
                return server;
            }
            Tried::Elsewhere(Some(id)) => server = id as usize - 1,
            Tried::Elsewhere(None) => server = rng.random_range(0..SERVERS),
            Tried::Unknown => {
                unknown = true;
                server = rng.random_range(0..SERVERS);
            }
        }
        sleep(Duration::from_millis(rng.random_range(5..100))).await;
    }
    if !unknown && change.is_some() {
        // Every server said that it did nothing: then nothing may ever be seen of it.
        begun.never();
    }
    server
}

fn choose(run: &Run, rng: &mut SmallRng, key: &str, server: usize) -> (Op, Option<Change>, Read) {
    let how = if rng.random_bool(0.5) { Read::Lease } else { Read::Index };
    let set = |new: u64, cas| Change::KvSet {
        key: key.into(),
        value: Bytes::copy_from_slice(&new.to_be_bytes()),
        flags: 0,
        cas,
    };
    match rng.random_range(0..10) {
        0..4 => (Op::Read, None, how),
        4..7 => {
            let new = unique(run);
            (Op::Write(new), Some(set(new, None)), how)
        }
        7 => (Op::Delete, Some(Change::KvDelete { key: key.into(), cas: None }), how),
        _ => {
            // Compare with what this server has, however old: then the comparison fails.
            let found = handle(run, server).and_then(|raft| value(&raft, key));
            let new = unique(run);
            let cas = Some(found.map_or(0, |(_, index)| index));
            (Op::Cas(found.map(|(value, _)| value), new), Some(set(new, cas)), how)
        }
    }
}

async fn client(run: Rc<Run>, number: usize, seed: u64, end: Instant) {
    let mut rng = SmallRng::seed_from_u64(seed ^ (number as u64 + 1) << 40);
    let mut server = number % SERVERS;
    while Instant::now() < end {
        server = operate(&run, &mut rng, number, server).await;
        sleep(Duration::from_millis(rng.random_range(1..60))).await;
    }
}

/// Breaks something, waits, and mostly mends it.
async fn fault(run: &Run, rng: &mut SmallRng) {
    let server = rng.random_range(0..SERVERS);
    let target = match rng.random_bool(0.5) {
        true => run.group.leader().unwrap_or(server),
        false => server,
    };
    let group = &run.group;
    let (host, others) = (group.host(target), group.others(target));
    match rng.random_range(0..8) {
        0..3 => group.crash(target).await,
        3 => {
            for server in 0..SERVERS {
                group.crash(server).await;
            }
        }
        4 => group.fabric.cut(&[host], &others),
        5 => group.fabric.cut_one_way(&[host], &others),
        6 => group.fabric.default_link(Link::LAN.with_loss(0.1)),
        _ => group.disk(target).set_full(true),
    }
    sleep(Duration::from_millis(rng.random_range(50..2500))).await;
    if rng.random_bool(0.7) {
        mend(run).await;
    }
    sleep(Duration::from_millis(rng.random_range(0..1500))).await;
}

/// Heals the network and starts what does not run. A disk that was full has to be opened anew.
async fn mend(run: &Run) {
    run.group.fabric.heal_all();
    run.group.fabric.default_link(Link::LAN);
    for server in 0..SERVERS {
        let broken = handle(run, server).is_some_and(|raft| raft.status().broken.is_some());
        run.group.disk(server).set_full(false);
        if broken {
            run.group.crash(server).await;
        }
        run.group.restart(server).await;
    }
}

async fn play(seed: u64) -> (Trace, BTreeMap<String, Vec<Call>>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let fabric = Fabric::new(rng.random(), Link::LAN);
    let group = Group::start(fabric.clone(), credentials(), SERVERS, seed).await;
    let run = Rc::new(Run { group, history: History::default(), next: RefCell::new(0) });
    let end = Instant::now() + FAULTY + RECOVERY_MAX;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::task::spawn_local(client(run.clone(), number, seed, end)))
        .collect();
    sleep(Duration::from_secs(1)).await;
    let faulty = Instant::now() + FAULTY;
    while Instant::now() < faulty {
        fault(&run, &mut rng).await;
    }
    mend(&run).await;
    recovers(&run).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    run.history.check().unwrap_or_else(|flaw| panic!("{flaw}"));
    (fabric.trace(), run.history.calls())
}

/// Demands that every key can be read and written again, and that all servers end up equal.
async fn recovers(run: &Run) {
    let mut rng = SmallRng::seed_from_u64(0);
    let begin = Instant::now();
    for key in 0..KEYS {
        let key = format!("key-{key}");
        for read_only in [true, false] {
            let new = unique(run);
            let op = if read_only { Op::Read } else { Op::Write(new) };
            let set = Change::KvSet {
                key: key.as_str().into(),
                value: Bytes::copy_from_slice(&new.to_be_bytes()),
                flags: 0,
                cas: None,
            };
            loop {
                assert!(begin.elapsed() < RECOVERY_MAX, "{key}: no {op:?} after the faults");
                let begun = run.history.begin(CLIENTS, &key, op);
                let leader = run.group.leader().unwrap_or(rng.random_range(0..SERVERS));
                let raft = handle(run, leader).expect("all run");
                let tried = match read_only {
                    true => read(&raft, Read::Index, &key).await,
                    false => write(&raft, new, &set).await,
                };
                if let Tried::Answered(outcome) = tried {
                    begun.end(outcome);
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn simulated(seed: u64) -> (Trace, BTreeMap<String, Vec<Call>>) {
    simulate(LocalSet::new().run_until(play(seed)))
}

#[test]
fn no_acknowledged_write_is_lost_and_histories_are_linearizable() {
    seeds::spread(0..200, |seed| {
        let (_, calls) = simulated(seed);
        let known = calls.values().flatten().filter(|call| call.outcome != Outcome::Unknown);
        assert!(known.count() > 30, "seed {seed}: the clients got nearly nothing done");
    });
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 1000..1002 {
        let (one, other) = (simulated(seed), simulated(seed));
        assert_eq!(one.1, other.1, "seed {seed}: the clients saw something else");
        assert_eq!(one.0, other.0, "seed {seed}: the packets differ");
    }
    assert_ne!(simulated(1000).0.hash, simulated(1001).0.hash);
}
