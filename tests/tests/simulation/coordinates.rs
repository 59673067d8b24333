//! Coordinates: hundreds of agents on a synthetic map, who find out where they are by pinging each other.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tests::{crowd::profile, seeds};
use topology::{
    coordinate::exchange::{Exchange, Heard},
    gossip::{Config, Engine, Input},
};

const AGENTS: usize = 300;

/// Part of the packets that vanish.
const LOSS: f64 = 0.02;

/// By how much a packet may be late, as a part of its way.
const JITTER: f64 = 0.2;

/// Where an agent really is: its room in milliseconds of round trip, and what its own link adds.
#[derive(Debug, Clone, Copy)]
struct Spot {
    room: (f64, f64),
    link: f64,
}

impl Spot {
    fn rtt(&self, other: &Self) -> Duration {
        let way = (self.room.0 - other.room.0).hypot(self.room.1 - other.room.1);
        Duration::from_secs_f64((way + self.link + other.link) / 1000.0)
    }
}

enum What {
    Ping,
    Packet { from: usize, data: Bytes },
}

/// Agents with the true distances between them, and one queue of events.
struct Map {
    spots: Vec<Spot>,
    agents: Vec<Exchange>,
    addrs: Vec<SocketAddr>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, (usize, What)>,
    serial: u64,
    sent: u64,
    rng: SmallRng,
}

impl Map {
    /// Puts agents into three rooms of one site, one of which is farther away.
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rooms = [(0.0, 0.0), (0.6, 0.2), (2.0, 1.0)];
        let spots = (0..AGENTS).map(|agent| Spot {
            room: rooms[agent % rooms.len()],
            link: rng.random_range(0.05..0.15),
        });
        let mut map = Self {
            spots: spots.collect(),
            agents: (0..AGENTS as u64).map(|agent| Exchange::new(seed ^ (agent << 32))).collect(),
            addrs: (0..AGENTS).map(|agent| profile(agent, 3).addr).collect(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            serial: 0,
            sent: 0,
            rng,
        };
        for agent in 0..AGENTS {
            let pause = map.agents[agent].pause();
            map.push(pause, agent, What::Ping);
        }
        map
    }

    fn push(&mut self, at: Duration, agent: usize, what: What) {
        self.serial += 1;
        self.queue.push(Reverse((at, self.serial)));
        self.events.insert(self.serial, (agent, what));
    }

    fn send(&mut self, now: Duration, from: usize, to: SocketAddr, data: Bytes) {
        self.sent += 1;
        if self.rng.random_bool(LOSS) {
            return;
        }
        let to = self.addrs.iter().position(|addr| *addr == to).unwrap();
        let way = self.spots[from].rtt(&self.spots[to]) / 2;
        let late = 1.0 + self.rng.random_range(0.0..JITTER);
        self.push(now + way.mul_f64(late), to, What::Packet { from, data });
    }

    fn run(&mut self, end: Duration) {
        while let Some(Reverse((now, serial))) = self.queue.peek().copied() {
            if now > end {
                return;
            }
            self.queue.pop();
            let (agent, what) = self.events.remove(&serial).unwrap();
            self.happen(now, agent, what);
        }
    }

    fn happen(&mut self, now: Duration, agent: usize, what: What) {
        match what {
            What::Ping => {
                let others: Vec<SocketAddr> =
                    self.addrs.iter().copied().filter(|addr| *addr != self.addrs[agent]).collect();
                let (to, ping) = self.agents[agent].ping(now, &others).unwrap();
                let pause = self.agents[agent].pause();
                self.push(now + pause, agent, What::Ping);
                self.send(now, agent, to, ping);
            }
            What::Packet { from, data } => {
                let heard = self.agents[agent].packet(now, self.addrs[from], &data, || true);
                if let Heard::Answer(pong) = heard {
                    self.send(now, agent, self.addrs[from], pong);
                }
            }
        }
    }

    /// Returns by how much the estimates of all pairs are off, as parts of the truth, in order.
    fn errors(&self) -> Vec<f64> {
        let mut errors = Vec::new();
        for one in 0..AGENTS {
            for other in 0..one {
                let truth = self.spots[one].rtt(&self.spots[other]).as_secs_f64();
                let estimate = self.agents[one].own().distance(self.agents[other].own());
                errors.push((estimate.as_secs_f64() - truth).abs() / truth);
            }
        }
        errors.sort_by(f64::total_cmp);
        errors
    }

    /// Returns for how many of all triples the estimates say right who of two is nearer, of those whose distances
    /// differ by more than a half.
    fn right(&self) -> f64 {
        let (mut right, mut all) = (0, 0);
        for one in 0..AGENTS {
            let (a, b) = ((one + 1) % AGENTS, (one + 5) % AGENTS);
            let truth = |other: usize| self.spots[one].rtt(&self.spots[other]);
            let guess = |other: usize| self.agents[one].own().distance(self.agents[other].own());
            let (near, far) = if truth(a) < truth(b) { (a, b) } else { (b, a) };
            if truth(near).mul_f64(1.5) < truth(far) {
                all += 1;
                right += usize::from(guess(near) < guess(far));
            }
        }
        right as f64 / all as f64
    }
}

#[test]
fn hundreds_of_agents_find_their_places_within_minutes() {
    seeds::each(1..6, |seed| {
        let mut map = Map::new(seed);
        map.run(Duration::from_secs(180));
        let sent = map.sent;
        let errors = map.errors();
        let (median, most) = (errors[errors.len() / 2], errors[errors.len() * 95 / 100]);
        let right = map.right();
        println!(
            "seed {seed}: off by {median:.3} (median), {most:.3} (95 %); order right {right:.3}"
        );
        assert!(median < 0.2, "the median estimate is off by {median}");
        assert!(most < 0.6, "one in twenty is off by {most}");
        assert!(right > 0.95, "who is nearer is told right in {right} of all cases");
        map.run(Duration::from_secs(780));
        let each = (map.sent - sent) as f64 / 600.0 / AGENTS as f64;
        println!("seed {seed}: {each:.3} packets a second and agent once they are found");
        assert!(each < 0.5, "{each} packets a second and agent");
        let errors = map.errors();
        assert!(errors[errors.len() / 2] <= median.max(0.2), "it stays so");
    });
}

#[test]
fn the_same_seed_finds_the_same_places() {
    let places = || {
        let mut map = Map::new(7);
        map.run(Duration::from_secs(30));
        map.agents.iter().map(|agent| *agent.own()).collect::<Vec<_>>()
    };
    assert_eq!(places(), places());
}

#[test]
fn who_does_not_know_the_packets_ignores_them() {
    let profile = profile(0, 1);
    let mut old = Engine::new(Config::lan(), profile, 1, 1);
    let mut out = Vec::new();
    old.handle(Duration::ZERO, Input::Start, &mut out);
    out.clear();
    let mut new = Exchange::new(1);
    let from = SocketAddr::from(([10, 1, 0, 1], 8301));
    let (_, ping) = new.ping(Duration::ZERO, &[from]).unwrap();
    assert!(Exchange::is_for(&ping));
    old.handle(Duration::ZERO, Input::Packet { from, data: ping }, &mut out);
    assert_eq!((out.len(), old.nonsense(), old.alive()), (0, 1, 1));
}
