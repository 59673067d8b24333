//! Datacenters of real processes in storms: frozen for longer than a lease, killed, cut off from each
//! other in every way that the relay knows, while clients of all agents work on a few keys.
//!
//! The weather comes from a seed, what the processes make of it does not: a seed that failed may have
//! to be run again and again.

use std::{collections::BTreeSet, time::Duration};

use tests::{
    harness::cluster::{Cluster, Shape},
    seeds,
    storm::{Kind, Season, Storm, Weather},
    workload::Workload,
};
use tokio::time::{Instant, sleep_until};

/// What goes wrong, the worse the more often.
const KINDS: [Kind; 12] = [
    Kind::Split,
    Kind::Alone,
    Kind::Deaf,
    Kind::Mute,
    Kind::Estranged,
    Kind::Slow,
    Kind::Frozen,
    Kind::Frozen,
    Kind::Frozen,
    Kind::Dead,
    Kind::Dead,
    Kind::AllDead,
];

/// Keys that are worked on.
const KEYS: u64 = 4;

/// How long a server may take to say who leads: one that is frozen never does.
const ASK_FOR: Duration = Duration::from_millis(200);

/// How many answers the clients get at the least, whatever the weather: in ten seconds of ten, without,
/// there are some thousand.
const KNOWN_MIN: usize = 200;

/// A cluster and what it endures at present.
struct Site {
    cluster: Cluster,
    frozen: BTreeSet<usize>,
}

impl Site {
    /// Asks the servers one after the other who leads, until one knows.
    async fn leader(&self) -> Option<usize> {
        for place in self.cluster.servers("dc1") {
            if let Ok(leader) = self.cluster.leader_of(place, ASK_FOR).await {
                return Some(leader);
            }
        }
        None
    }

    /// Makes the weather so, whatever it was before.
    fn endure(&mut self, weather: &Weather) {
        let host = |place: &usize| self.cluster.agents[*place].host;
        let cut = weather.cut.iter().map(|(from, to)| (host(from), host(to))).collect();
        self.cluster.relay.as_ref().unwrap().only(&cut, weather.delay);
        for place in 0..self.cluster.agents.len() {
            let runs = self.cluster.agents[place].is_running();
            match (weather.down.contains(&place), runs) {
                (true, true) => {
                    self.cluster.agents[place].kill();
                    self.frozen.remove(&place);
                }
                (false, false) => self.cluster.spawn(place),
                (true, false) | (false, true) => {}
            }
            let freeze = weather.frozen.contains(&place) && !weather.down.contains(&place);
            match (freeze, self.frozen.contains(&place)) {
                (true, false) => {
                    self.cluster.agents[place].signal("STOP");
                    self.frozen.insert(place);
                }
                (false, true) => {
                    self.cluster.agents[place].signal("CONT");
                    self.frozen.remove(&place);
                }
                (true, true) | (false, false) => {}
            }
        }
    }
}

async fn endures(seed: u64, servers: u8) {
    let shape = Shape { dc: "dc1", servers, clients: 1 };
    let season = Season {
        servers: servers.into(),
        agents: 1,
        lasts: Duration::from_secs(20),
        calm_max: Duration::from_secs(3),
        squall_max: Duration::from_secs(6),
        kinds: &KINDS,
    };
    let storm = Storm::brew(seed, &season);
    println!("{storm}");
    let cluster = Cluster::plan_relayed(&[shape]).await;
    let mut site = Site { cluster, frozen: BTreeSet::new() };
    site.cluster.launch().await;
    let workload = Workload::start(site.cluster.agents.iter().cycle().take(8), "load/", KEYS);
    let begin = Instant::now();
    let mut sky = storm.sky();
    for turn in storm.turns() {
        sleep_until(begin + turn).await;
        let leader = site.leader().await;
        if let Some(weather) = sky.turn(begin.elapsed(), || leader) {
            site.endure(&weather);
        }
    }
    site.cluster.ready().await;
    assert!(workload.known() > KNOWN_MIN, "only {} operations were answered", workload.known());
    let last = site.cluster.agents.last().unwrap();
    workload.finish(last).await;
}

fn storms(seeds: std::ops::Range<u64>, servers: u8) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    seeds::each(seeds, |seed| runtime.block_on(endures(seed, servers)));
}

#[test]
fn histories_of_three_servers_in_storms_are_linearizable() {
    storms(1..3, 3);
}

#[test]
fn histories_of_five_servers_in_a_storm_are_linearizable() {
    storms(3..4, 5);
}
