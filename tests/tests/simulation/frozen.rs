//! A server that freezes while agents are connected to it alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lan_agent::{ask::Consistency, caller::Caller};
use tests::{
    asking::Asking,
    datacenter::Site,
    seeds,
    storm::Weather,
    workload::{Reading, Store, Unanswered},
};
use tokio::time::sleep;

const SERVERS: usize = 3;
const AGENT: usize = SERVERS;

/// How long until an agent has let go all servers but one: those that it was connected to in need, ten
/// seconds after the need.
const SETTLED: Duration = Duration::from_secs(20);

/// How long after the freeze somebody asks for the first time. Until then nobody makes the agent look for
/// another server. Its path falls silent for good between 1.2 and 1.7 s, as a heartbeat was heard half a
/// second before at most.
const LOOKED_AWAY: Duration = Duration::from_millis(1_100);

/// Reads what may be stale every few milliseconds, and counts who is refused.
async fn read_on(asking: Asking, done: Arc<AtomicUsize>, refused: Arc<AtomicUsize>) {
    let reading = Reading { consistency: Consistency::Stale, beyond: None };
    for _ in 0..200 {
        if let Err(Unanswered::Never | Unanswered::Unknown) = asking.read("key", reading).await {
            refused.fetch_add(1, Ordering::Relaxed);
        }
        sleep(Duration::from_millis(5)).await;
    }
    done.fetch_add(1, Ordering::Relaxed);
}

fn freezes(seed: u64) {
    let nobody = |_, _, _: Arc<dyn Caller>, _| Box::pin(async {}) as _;
    let mut site = Site::new(super::credentials(), SERVERS, 1, seed, Arc::new(nobody));
    site.endure(&Weather::default());
    site.run(SETTLED);
    let (done, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Among them is the one that the agent asks.
    for server in 0..SERVERS {
        site.endure(&Weather { frozen: [server].into(), ..Weather::default() });
        site.run(LOOKED_AWAY);
        let clock = site.clock(AGENT).expect("it runs");
        let asking = Asking::new(site.caller(AGENT).expect("it runs"), server as u64, clock);
        site.spawn(AGENT, read_on(asking, done.clone(), refused.clone()));
        let all = |_: &Site| done.load(Ordering::Relaxed) == server + 1;
        site.until(Duration::from_secs(20), "all are answered", all);
        assert_eq!(refused.load(Ordering::Relaxed), 0, "seed {seed}, server {server}");
        site.endure(&Weather::default());
        site.run(SETTLED);
    }
}

#[test]
fn a_server_that_freezes_fails_nobody_who_asks_an_agent_that_knows_only_it() {
    seeds::spread(0..6, freezes);
}

/// How soon after all servers froze an agent knows: the last heartbeat may have been heard just before. That
/// their connections are dead is certain 200 to 700 ms later.
const CUT_OFF_MAX: Duration = Duration::from_millis(1_800);

fn all_freeze(seed: u64) {
    let nobody = |_, _, _: Arc<dyn Caller>, _| Box::pin(async {}) as _;
    let mut site = Site::new(super::credentials(), SERVERS, 1, seed, Arc::new(nobody));
    site.endure(&Weather::default());
    site.run(SETTLED);
    site.endure(&Weather { frozen: (0..SERVERS).collect(), ..Weather::default() });
    let clock = site.clock(AGENT).expect("it runs");
    let refused = Arc::new(AtomicUsize::new(0));
    for number in 0..10 {
        let asking = Asking::new(site.caller(AGENT).expect("it runs"), number, clock);
        let refused = refused.clone();
        site.spawn(AGENT, async move {
            let reading = Reading { consistency: Consistency::Stale, beyond: None };
            if asking.read("key", reading).await.is_err() {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    site.until(CUT_OFF_MAX, "all are told", |_| refused.load(Ordering::Relaxed) == 10);
}

#[test]
fn who_asks_when_all_servers_freeze_is_told_before_connections_are_dead() {
    seeds::spread(0..6, all_freeze);
}
