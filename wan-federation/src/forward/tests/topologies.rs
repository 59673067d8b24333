//! Random federations on a paused clock: every datacenter has the real forwarder, and between them is
//! a carrier whose links live, are cut, or die while requests are under way.

use std::sync::OnceLock;

use certs::identity::Identity;
use proptest::prelude::*;
use topology::Role;

use super::*;
use crate::{
    matrix::{Cell, Matrix, Row, Told},
    relay::Relayed,
};

/// How long a request's asker listens.
const DEADLINE: Duration = Duration::from_secs(9);

/// How long it may take until there is an answer or an error when nobody is to be reached: two
/// seconds, and what the detours take: a round trip, and a dial in vain.
const ERROR_MAX: Duration = Duration::from_millis(2000 + detour::ATTEMPTS_MAX as u64 * 600);

/// The path from one datacenter to another, as it is and as it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// It carries everything.
    Lives,
    /// It is cut and known to be.
    Cut,
    /// It is cut, which is about to show.
    Dies,
    /// It carries everything, and is not watched: it has to be dialled.
    Sleeps,
    /// It is cut and not watched, so that nobody knows.
    Hides,
}

/// A federation: `lines[from][to]`, and round trips between the datacenters in milliseconds.
#[derive(Debug, Clone)]
struct Map {
    lines: Vec<Vec<Line>>,
    millis: Vec<Vec<u64>>,
    /// Whether what is cut is held for lost already, here and by what the others say of themselves.
    judged: bool,
    servers: u8,
}

impl Map {
    fn count(&self) -> usize {
        self.lines.len()
    }

    /// Packets have to come through in both directions.
    fn lives(&self, from: usize, to: usize) -> bool {
        matches!(self.line(from, to), Line::Lives | Line::Sleeps)
    }

    /// Both directions are what one of them is: it takes both to speak.
    fn line(&self, from: usize, to: usize) -> Line {
        self.lines[from.min(to)][from.max(to)]
    }

    fn trip(&self, from: usize, to: usize) -> Duration {
        Duration::from_millis(self.millis[from.min(to)][from.max(to)])
    }

    /// Whether there is a way of at most two hops; home always takes two.
    fn has_way(&self, from: usize, to: usize) -> bool {
        let others = (0..self.count()).filter(|it| *it != from && *it != to);
        let direct = from != to && self.lives(from, to);
        direct || others.into_iter().any(|it| self.lives(from, it) && self.lives(it, to))
    }
}

fn dc(number: usize) -> Datacenter {
    Datacenter::new(format!("dc{number}")).unwrap()
}

fn number(dc: &Datacenter) -> usize {
    dc.as_str()[2..].parse().unwrap()
}

/// Carries what leaves one datacenter.
struct Lines {
    from: usize,
    map: Arc<Map>,
    world: Arc<World>,
}

#[derive(Default)]
struct World {
    forwarders: OnceLock<Vec<Forwarder>>,
    /// Which ways envelopes had taken when they were answered.
    arrived: Mutex<Vec<Vec<Datacenter>>>,
    carried: Mutex<usize>,
    reaches: Mutex<BTreeMap<(usize, usize, NodeName), watch::Sender<Reach>>>,
}

impl World {
    /// Lets a path to a server be heard.
    fn hear(&self, from: usize, to: &Server) {
        let reaches = self.reaches.lock().unwrap();
        let reach = &reaches[&(from, number(&to.dc), to.name.clone())];
        reach.send_replace(Reach::Live);
    }
}

impl Carrier for Lines {
    fn carry(
        &self,
        to: &Server,
        errand: Errand,
        body: Bytes,
        deadline: Instant,
    ) -> Promise<Result<Bytes, CarryError>> {
        let (from, target) = (self.from, number(&to.dc));
        let (map, world) = (self.map.clone(), self.world.clone());
        *world.carried.lock().unwrap() += 1;
        let to = to.clone();
        Box::pin(async move {
            if !map.lives(from, target) {
                return std::future::pending().await;
            }
            if to.reach() == Reach::Dialing {
                tokio::time::sleep(map.trip(from, target)).await;
                world.hear(from, &to);
            }
            tokio::time::sleep(map.trip(from, target) / 2).await;
            let envelope = Envelope::decode(&body, deadline).unwrap();
            assert_eq!(envelope.path.last(), Some(&dc(from)), "it says where it was last");
            envelope.check_path(&dc(target)).unwrap();
            let reply = match errand {
                Errand::Answer => {
                    assert_eq!(envelope.dc, dc(target));
                    world.arrived.lock().unwrap().push(envelope.path);
                    Ok(Bytes::from_static(b"answer"))
                }
                Errand::PassOn => {
                    assert_ne!(envelope.dc, dc(target));
                    let node = NodeName::new("s1").unwrap();
                    let asker = Identity::new(dc(from), Role::Server, Some(node));
                    let forwarder = &world.forwarders.get().unwrap()[target];
                    match forwarder.relay(&asker, envelope).await {
                        Ok(relayed) => Relayed::decode(relayed.encode()),
                        Err(refusal) => Err(CarryError::Refused {
                            code: refusal.code,
                            message: refusal.message,
                            elsewhere: true,
                        }),
                    }
                }
            };
            tokio::time::sleep(map.trip(from, target) / 2).await;
            reply
        })
    }
}

/// Lets a path that died look as it does: heartbeats are missed, until it is silent.
async fn fade(reach: watch::Sender<Reach>) {
    tokio::time::sleep(FAINT_MIN).await;
    reach.send_replace(Reach::Faint);
    tokio::time::sleep(QUIET_MIN - FAINT_MIN).await;
    reach.send_replace(Reach::Quiet);
}

/// What datacenter `from` knows of datacenter `to`.
fn remote(map: &Map, world: &World, from: usize, to: usize) -> Remote {
    let line = map.line(from, to);
    let server = |place: u8| {
        let reach = watch::Sender::new(match line {
            Line::Lives | Line::Dies => Reach::Live,
            Line::Sleeps | Line::Hides => Reach::Dialing,
            Line::Cut => Reach::Down,
        });
        let receiver = reach.subscribe();
        let name = NodeName::new(format!("s{place}")).unwrap();
        match line {
            Line::Dies => drop(tokio::spawn(fade(reach))),
            _ => drop(world.reaches.lock().unwrap().insert((from, to, name.clone()), reach)),
        }
        Server {
            dc: dc(to),
            name,
            addr: "127.0.0.1:8302".parse().unwrap(),
            rtt: Some(map.trip(from, to)),
            // The first server of each datacenter is the one that asks: it knows no leader.
            word: Some(Word { leader_known: place > 1, is_leader: place == 2, ..Word::default() }),
            reach: receiver,
            reason: String::new(),
            demand: Demand::new(Arc::default()),
        }
    };
    let health = match line {
        Line::Cut if map.judged => Health::Lost,
        _ => Health::Healthy,
    };
    let verdict = Verdict { health, since: Duration::ZERO, evidence: "cut".to_owned() };
    Remote { verdict, servers: (1..=map.servers).map(server).collect(), gates: Gates::default() }
}

/// What the datacenters say of their paths.
fn matrix(map: &Map) -> Arc<Matrix> {
    let row = |from: usize| {
        let cell = |to: usize| {
            let lost = map.line(from, to) == Line::Cut;
            let health = Some(if lost { Health::Lost } else { Health::Healthy });
            (dc(to), Cell { health, rtt: Some(map.trip(from, to)) })
        };
        let row = Row((0..map.count()).filter(|to| *to != from).map(cell).collect());
        let by = NodeName::new("s1").unwrap();
        (dc(from), Told { row, by, at: Duration::ZERO, current: true })
    };
    Arc::new(Matrix { rows: (0..map.count()).map(row).collect() })
}

async fn travel(map: Map, to: usize, consistency: Consistency) -> Result<(), TestCaseError> {
    let map = Arc::new(map);
    let world = Arc::new(World::default());
    let forwarder = |from: usize| {
        let others = (0..map.count()).filter(|to| *to != from);
        let remotes = others.map(|to| (dc(to), remote(&map, &world, from, to))).collect();
        let matrix = if map.judged { matrix(&map) } else { Arc::default() };
        let table = Arc::new(ArcSwap::from_pointee(Table { remotes, matrix }));
        let lines = Arc::new(Lines { from, map: map.clone(), world: world.clone() });
        Forwarder::new(dc(from), Detours::On, Instant::now(), table, lines)
    };
    let forwarders = (0..map.count()).map(forwarder).collect();
    assert!(world.forwarders.set(forwarders).is_ok());
    let envelope =
        Envelope { dc: dc(to), deadline: Instant::now() + DEADLINE, ..envelope(consistency, 0) };
    let start = Instant::now();
    let result = world.forwarders.get().unwrap()[0].forward(envelope).await;
    let took = start.elapsed();

    prop_assert!(took <= DEADLINE);
    prop_assert!(took <= ERROR_MAX, "{took:?}: {result:?}");
    // A request that was under way when its datacenter died.
    if to != 0 && map.line(0, to) == Line::Dies {
        prop_assert!(took <= Duration::from_secs(2), "{took:?}: {result:?}");
    }
    let most = ATTEMPTS_MAX + detour::ATTEMPTS_MAX * (1 + ATTEMPTS_MAX);
    prop_assert!(*world.carried.lock().unwrap() <= most);
    match result {
        Ok(forwarded) => {
            let hops: Vec<usize> = forwarded.path.iter().map(number).collect();
            prop_assert!(hops.len() <= 3, "{hops:?}");
            prop_assert_eq!((hops[0], hops[hops.len() - 1]), (0, to));
            prop_assert!(hops.windows(2).all(|hop| map.lives(hop[0], hop[1])), "{:?}", hops);
            let passed = forwarded.path[..hops.len() - 1].to_vec();
            prop_assert!(
                world.arrived.lock().unwrap().contains(&passed),
                "the way is the true one"
            );
        }
        Err(error) => prop_assert!(!map.has_way(0, to), "there is a way: {}", error),
    }
    Ok(())
}

fn any_map() -> impl Strategy<Value = Map> {
    // As long as nothing is known of who can reach whom, all others have to be few enough to be
    // asked. When it is known, only those that are about to be cut have to be.
    (2..=detour::ATTEMPTS_MAX + 2, any::<bool>(), 2u8..4).prop_flat_map(
        |(count, judged, servers)| {
            let line = prop_oneof![
                3 => Just(Line::Lives),
                3 => Just(Line::Cut),
                1 => Just(Line::Dies),
            1 => Just(Line::Sleeps),
            1 => Just(Line::Hides),
            ];
            let lines = proptest::collection::vec(proptest::collection::vec(line, count), count);
            let millis =
                proptest::collection::vec(proptest::collection::vec(0u64..200, count), count);
            (lines, millis).prop_map(move |(lines, millis)| Map { lines, millis, judged, servers })
        },
    )
}

proptest! {
    #[test]
    fn a_way_of_two_hops_is_found_when_there_is_one_and_never_a_loop(
        map in any_map(),
        home: bool,
        leader: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let consistency = if leader { Consistency::Leader } else { Consistency::Any };
        runtime.block_on(travel(map, usize::from(!home), consistency))?;
    }
}
