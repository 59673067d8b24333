//! Storms: what goes wrong in a datacenter, when, and for how long; drawn from a seed.
//!
//! ```text
//! Storm::brew(seed) -> squalls ----begin, end----> Sky -> Weather, as it is now
//!                      t=0.8s for 2.1s: node 2 alone          | cut, frozen, down, ...
//!                      t=1.4s for 4.0s: the leader frozen     v
//!                                                   whoever has nodes makes it so
//! ```
//!
//! Functions of values: the simulation and the tests of real processes have the same weather. Squalls
//! overlap. Who leads is looked up when a squall that hits the leader begins. A node is known by
//! its number: servers first, then client agents.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The nodes are split in two.
    Split,
    /// One is cut off from all others.
    Alone,
    /// One hears nothing, but is heard.
    Deaf,
    /// One is not heard, but hears.
    Mute,
    /// Two do not hear each other, but everyone else.
    Estranged,
    /// A part of all packets is lost.
    Lossy,
    /// All packets take long.
    Slow,
    /// One stands still.
    Frozen,
    /// One is dead: its process is killed, or its power fails.
    Dead,
    /// All servers are.
    AllDead,
    /// The disk of one takes no more writes.
    Full,
}

/// What there is to break, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Season<'a> {
    /// Servers.
    pub servers: usize,
    /// Client agents.
    pub agents: usize,
    /// No squall begins later.
    pub lasts: Duration,
    /// The longest time between the beginnings of two squalls.
    pub calm_max: Duration,
    /// The longest squall.
    pub squall_max: Duration,
    /// What may go wrong; more often what is there more often.
    pub kinds: &'a [Kind],
}

/// Who is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The server that leads when it begins.
    Leader,
    /// A node.
    Node(usize),
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// These are cut off from all others.
    Split(BTreeSet<usize>),
    /// Something happens to one.
    One(Kind, Target),
    /// Two do not hear each other.
    Estranged(usize, usize),
    /// So many percent of all packets are lost.
    Lossy(u8),
    /// Packets take so much longer.
    Slow(Duration),
    /// All servers are dead.
    AllDead,
}

/// A fault that begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Squall {
    /// When it begins, from the beginning of the storm on.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What goes wrong.
    pub fault: Fault,
}

/// Squalls in the order in which they begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storm {
    seed: u64,
    nodes: usize,
    servers: usize,
    squalls: Vec<Squall>,
}

/// How it is now: what each driver makes of it is its affair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weather {
    /// Ways that are cut, from one node to another.
    pub cut: BTreeSet<(usize, usize)>,
    /// Percent of packets that are lost.
    pub loss: u8,
    /// How much longer packets take.
    pub delay: Duration,
    /// Nodes that stand still.
    pub frozen: BTreeSet<usize>,
    /// Nodes that are dead.
    pub down: BTreeSet<usize>,
    /// Nodes whose disk is full.
    pub full: BTreeSet<usize>,
}

/// What is going on, as time passes.
pub struct Sky<'a> {
    storm: &'a Storm,
    /// Squalls that have begun and not ended, with the node that was hit.
    now: BTreeMap<usize, Option<usize>>,
}

impl Storm {
    /// Draws a storm.
    ///
    /// # Panics
    /// When nothing may go wrong, or there are fewer than two servers.
    pub fn brew(seed: u64, season: &Season<'_>) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut squalls = Vec::new();
        let mut at = Duration::ZERO;
        loop {
            at += rng.random_range(Duration::ZERO..season.calm_max);
            if at >= season.lasts {
                break;
            }
            let kind = *season.kinds.choose(&mut rng).expect("something may go wrong");
            let fault = draw(kind, season, &mut rng);
            // Short ones are more frequent: what goes wrong before anybody noticed is nasty.
            let part: f64 = rng.random::<f64>() * rng.random::<f64>();
            squalls.push(Squall { at, lasts: season.squall_max.mul_f64(part), fault });
        }
        let nodes = season.servers + season.agents;
        Self { seed, nodes, servers: season.servers, squalls }
    }

    /// Returns the moments at which something begins or ends, in their order.
    pub fn turns(&self) -> Vec<Duration> {
        let ends = self.squalls.iter().map(|squall| squall.at + squall.lasts);
        let mut turns: Vec<_> = self.squalls.iter().map(|squall| squall.at).chain(ends).collect();
        turns.sort();
        turns
    }

    /// Returns the sky before anything begins.
    pub fn sky(&self) -> Sky<'_> {
        Sky { storm: self, now: BTreeMap::new() }
    }
}

fn draw(kind: Kind, season: &Season<'_>, rng: &mut SmallRng) -> Fault {
    let nodes = season.servers + season.agents;
    match kind {
        Kind::Split => {
            let mut side: BTreeSet<usize> = (0..nodes).filter(|_| rng.random()).collect();
            // Servers on both sides, whatever else.
            side.insert(0);
            side.remove(&(season.servers - 1));
            Fault::Split(side)
        }
        Kind::Estranged => {
            let one = rng.random_range(0..season.servers);
            Fault::Estranged(one, (one + rng.random_range(1..season.servers)) % season.servers)
        }
        Kind::Lossy => Fault::Lossy(rng.random_range(5..25)),
        Kind::Slow => Fault::Slow(Duration::from_millis(rng.random_range(20..400))),
        Kind::AllDead => Fault::AllDead,
        Kind::Full => Fault::One(kind, server(season, rng)),
        Kind::Alone | Kind::Deaf | Kind::Mute | Kind::Frozen | Kind::Dead => {
            match rng.random_range(0..5) {
                0 => Fault::One(kind, Target::Node(rng.random_range(0..nodes))),
                _ => Fault::One(kind, server(season, rng)),
            }
        }
    }
}

/// The leader as often as any server.
fn server(season: &Season<'_>, rng: &mut SmallRng) -> Target {
    match rng.random() {
        true => Target::Leader,
        false => Target::Node(rng.random_range(0..season.servers)),
    }
}

impl Sky<'_> {
    /// Lets the time be `now`, counted from the beginning of the storm; `leader` tells who leads.
    /// Returns the weather if it has changed.
    pub fn turn(&mut self, now: Duration, leader: impl Fn() -> Option<usize>) -> Option<Weather> {
        let before = self.weather();
        for (number, squall) in self.storm.squalls.iter().enumerate() {
            if now < squall.at {
                break;
            }
            if squall.at + squall.lasts <= now {
                self.now.remove(&number);
            } else if let Entry::Vacant(free) = self.now.entry(number) {
                let hit = match squall.fault {
                    Fault::One(_, Target::Leader) => Some(leader().unwrap_or(0)),
                    Fault::One(_, Target::Node(node)) => Some(node),
                    _ => None,
                };
                free.insert(hit);
            }
        }
        let after = self.weather();
        (before != after).then_some(after)
    }

    /// Returns what all squalls that go on come to.
    fn weather(&self) -> Weather {
        let mut weather = Weather::default();
        for (number, hit) in &self.now {
            self.add(&self.storm.squalls[*number].fault, *hit, &mut weather);
        }
        weather
    }

    fn add(&self, fault: &Fault, hit: Option<usize>, weather: &mut Weather) {
        let all = 0..self.storm.nodes;
        let others = |node: usize| all.clone().filter(move |other| *other != node);
        match (fault, hit) {
            (Fault::Split(side), _) => {
                for one in side {
                    for other in all.clone().filter(|other| !side.contains(other)) {
                        weather.cut.extend([(*one, other), (other, *one)]);
                    }
                }
            }
            (Fault::Estranged(one, other), _) => {
                weather.cut.extend([(*one, *other), (*other, *one)]);
            }
            (Fault::Lossy(percent), _) => weather.loss = weather.loss.max(*percent),
            (Fault::Slow(delay), _) => weather.delay = weather.delay.max(*delay),
            (Fault::AllDead, _) => weather.down.extend(0..self.storm.servers),
            (Fault::One(Kind::Deaf, _), Some(node)) => {
                weather.cut.extend(others(node).map(|other| (other, node)));
            }
            (Fault::One(Kind::Mute, _), Some(node)) => {
                weather.cut.extend(others(node).map(|other| (node, other)));
            }
            (Fault::One(Kind::Frozen, _), Some(node)) => drop(weather.frozen.insert(node)),
            (Fault::One(Kind::Dead, _), Some(node)) => drop(weather.down.insert(node)),
            (Fault::One(Kind::Full, _), Some(node)) => drop(weather.full.insert(node)),
            (Fault::One(..), Some(node)) => {
                let pairs = others(node).flat_map(|other| [(node, other), (other, node)]);
                weather.cut.extend(pairs);
            }
            (Fault::One(..), None) => {}
        }
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "storm of seed {} over {} servers:", self.seed, self.servers)?;
        for Squall { at, lasts, fault } in &self.squalls {
            writeln!(
                f,
                "  at {:.3} s for {:.3} s: {fault:?}",
                at.as_secs_f64(),
                lasts.as_secs_f64()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Kind; 11] = [
        Kind::Split,
        Kind::Alone,
        Kind::Deaf,
        Kind::Mute,
        Kind::Estranged,
        Kind::Lossy,
        Kind::Slow,
        Kind::Frozen,
        Kind::Dead,
        Kind::AllDead,
        Kind::Full,
    ];

    fn season(kinds: &[Kind]) -> Season<'_> {
        Season {
            servers: 3,
            agents: 2,
            lasts: Duration::from_secs(60),
            calm_max: Duration::from_secs(1),
            squall_max: Duration::from_secs(5),
            kinds,
        }
    }

    #[test]
    fn the_same_seed_brews_the_same_storm() {
        let season = season(&ALL);
        assert_eq!(Storm::brew(1, &season), Storm::brew(1, &season));
        assert_ne!(Storm::brew(1, &season).squalls, Storm::brew(2, &season).squalls);
    }

    #[test]
    fn every_storm_ends() {
        let season = season(&ALL);
        for seed in 0..20 {
            let storm = Storm::brew(seed, &season);
            let mut sky = storm.sky();
            let mut last = None;
            for now in storm.turns() {
                last = sky.turn(now, || Some(1)).or(last);
            }
            assert_eq!(last, Some(Weather::default()), "seed {seed}");
        }
    }

    #[test]
    fn the_leader_is_the_one_when_it_begins() {
        let leader = Fault::One(Kind::Frozen, Target::Leader);
        let squall = |at| Squall {
            at: Duration::from_secs(at),
            lasts: Duration::from_secs(5),
            fault: leader.clone(),
        };
        let storm = Storm { seed: 0, nodes: 3, servers: 3, squalls: vec![squall(1), squall(3)] };
        let mut sky = storm.sky();
        let mut frozen = |now, leader| {
            let weather = sky.turn(Duration::from_secs(now), || Some(leader));
            weather.map(|weather| weather.frozen.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(frozen(0, 0), None);
        assert_eq!(frozen(1, 2), Some(vec![2]));
        assert_eq!(frozen(3, 1), Some(vec![1, 2]));
        assert_eq!(frozen(6, 0), Some(vec![1]));
        assert_eq!(frozen(8, 0), Some(vec![]));
    }

    #[test]
    fn who_is_deaf_is_heard() {
        let fault = Fault::One(Kind::Deaf, Target::Node(1));
        let squall = Squall { at: Duration::ZERO, lasts: Duration::from_secs(1), fault };
        let storm = Storm { seed: 0, nodes: 3, servers: 3, squalls: vec![squall] };
        let weather = storm.sky().turn(Duration::ZERO, || None).unwrap();
        assert_eq!(weather.cut, BTreeSet::from([(0, 1), (2, 1)]));
    }
}
