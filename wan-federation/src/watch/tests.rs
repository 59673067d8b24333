//! The watch over one other datacenter, from silence to verdict and back, by values alone.

mod endurance;
mod model;

use topology::{NodeId, Role};

use super::*;
use crate::{breaker, demand, routes::Reach, share::WATCHERS};

const SECOND: Duration = Duration::from_secs(1);

fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).unwrap()
}

fn key(name: &str) -> Key {
    (dc(if name.starts_with('a') { "dc1" } else { "dc2" }), name.parse().unwrap())
}

fn addr(name: &str) -> SocketAddr {
    let (site, number) = name.split_at(1);
    let site = if site == "a" { 1 } else { 2 };
    format!("127.0.{site}.{number}:8302").parse().unwrap()
}

fn profile(name: &str) -> Profile {
    let (dc, name_) = key(name);
    Profile {
        name: name_,
        id: NodeId(uuid::Uuid::nil()),
        dc,
        role: Role::Server,
        addr: addr(name),
        link: None,
        wan: None,
        version: "0.1.0".into(),
        tags: BTreeMap::new(),
    }
}

fn heard() -> Report {
    Report {
        link: Link::Up,
        silent: Duration::ZERO,
        awaited: None,
        knocks: false,
        rtt: Some(Duration::from_millis(9)),
        beats: 10,
        beats_lost: 0,
        word: Some(Word { leader_known: true, ..Word::default() }),
    }
}

fn lost() -> Report {
    let link = Link::Down { reason: "no packet for 2.9s".into() };
    Report { link, silent: SECOND * 3, rtt: None, word: None, ..heard() }
}

/// A server of dc1 and what it sees; dc1 has servers a1, a2, ..., dc2 has b1, b2, ...
struct Server {
    watch: Watch,
    wake: Arc<Notify>,
    members: Vec<Member>,
    fellows: BTreeSet<NodeName>,
    reports: BTreeMap<SocketAddr, Report>,
}

impl Server {
    fn new(name: &str, own: usize, remote: usize) -> Self {
        let names = |letter, count| (1..=count).map(move |number| format!("{letter}{number}"));
        let member = |name: String| Member { profile: profile(&name), status: Status::Alive };
        let wake = Arc::new(Notify::new());
        let fellows = names('a', own).filter(|fellow| fellow != name);
        Self {
            watch: Watch::new(&profile(name), wake.clone()),
            wake,
            members: names('a', own).chain(names('b', remote)).map(member).collect(),
            fellows: fellows.map(|fellow| fellow.parse().unwrap()).collect(),
            reports: names('b', remote).map(|name| (addr(&name), heard())).collect(),
        }
    }

    fn see(&mut self, report: Report) {
        self.reports.values_mut().for_each(|held| held.clone_from(&report));
    }

    fn step(&mut self, now: Duration) -> Step {
        let (members, reports, fellows) = (&self.members, &self.reports, &self.fellows);
        self.watch.step(now, Scene { members, reports, fellows })
    }

    /// Hears what a fellow sees.
    fn hear(&mut self, now: Duration, fellow: &str, sees: Path) {
        let remote = self.members.iter().filter(|member| member.profile.dc.as_str() == "dc2");
        let seen = Seen { path: sees, age: SECOND, ..Seen::NOTHING };
        let servers = remote.map(|it| (key(it.profile.name.as_str()), seen.clone())).collect();
        self.watch.told(now, fellow.parse().unwrap(), Sight { whole: true, servers });
    }

    fn health(&self) -> Health {
        self.watch.sites["dc2"].judge.verdict().health
    }
}

fn pace(step: &Step, name: &str) -> Option<Pace> {
    step.wishes.get(&addr(name)).map(|wish| wish.pace)
}

#[test]
fn a_dark_datacenter_is_lost_when_the_fellow_agrees() {
    let mut a1 = Server::new("a1", 2, 2);
    let step = a1.step(Duration::ZERO);
    assert_eq!(step.changes[0].verdict.health, Health::Healthy);
    a1.hear(SECOND, "a2", Path::Up);
    a1.see(lost());
    a1.step(SECOND);
    let step = a1.step(SECOND * 2);
    assert!(step.changes.iter().all(|change| change.verdict.health != Health::Lost));
    a1.hear(SECOND * 3, "a2", Path::Down);
    let step = a1.step(SECOND * 3);
    assert_eq!(step.changes[0].verdict.health, Health::Lost);
    let evidence = &step.changes[0].verdict.evidence;
    assert!(evidence.contains("no packet for 2.9s; seen by a1, a2"), "{evidence}");
}

#[test]
fn a_fellow_that_is_gone_is_no_observer() {
    let mut a1 = Server::new("a1", 2, 2);
    a1.step(Duration::ZERO);
    a1.hear(SECOND, "a2", Path::Up);
    a1.see(lost());
    a1.step(SECOND);
    a1.step(SECOND * 2);
    assert_ne!(a1.health(), Health::Lost);
    a1.fellows.clear();
    a1.step(SECOND * 3);
    assert_eq!(a1.health(), Health::Lost);
}

#[test]
fn an_answer_that_is_awaited_makes_a_server_faint_then_quiet() {
    let mut a1 = Server::new("a1", 1, 1);
    let table = a1.step(Duration::ZERO).table;
    let reach = || table.remotes["dc2"].servers[0].reach();
    assert_eq!(reach(), Reach::Live);
    for (awaited, wanted) in [
        (FAINT_MIN - SECOND / 10, Reach::Live),
        (FAINT_MIN, Reach::Faint),
        (QUIET_MIN, Reach::Quiet),
    ] {
        a1.see(Report { awaited: Some(awaited), silent: SECOND * 2, ..heard() });
        a1.step(SECOND);
        assert_eq!(reach(), wanted);
    }
    a1.see(lost());
    a1.step(SECOND);
    assert_eq!(reach(), Reach::Down);
    a1.see(Report { silent: STALE_MIN, ..heard() });
    a1.step(SECOND);
    assert_eq!(reach(), Reach::Quiet);
}

#[test]
fn a_server_that_was_never_heard_is_down_after_a_while() {
    let mut a1 = Server::new("a1", 1, 2);
    a1.reports.clear();
    let path = |server: &Server| server.watch.servers[&key("b1")].path;
    a1.step(Duration::ZERO);
    assert_eq!(path(&a1), Path::Unknown);
    a1.step(UNSEEN_MAX);
    assert_eq!(path(&a1), Path::Down);
}

#[test]
fn a_datacenter_that_nobody_belongs_to_any_more_is_forgotten() {
    let mut a1 = Server::new("a1", 2, 2);
    a1.step(Duration::ZERO);
    a1.members.truncate(2);
    let step = a1.step(SECOND);
    assert!(step.table.remotes.is_empty() && step.wishes.is_empty());
}

#[test]
fn the_return_of_a_datacenter_mends_its_breaker() {
    let mut a1 = Server::new("a1", 1, 2);
    let table = a1.step(Duration::ZERO).table;
    let gate = table.remotes["dc2"].gates.direct.clone();
    a1.see(lost());
    a1.step(SECOND);
    a1.step(SECOND * 2);
    for _ in 0..breaker::FAILURES_MAX {
        gate.enter().unwrap().finish(breaker::Outcome::Failed);
    }
    assert!(gate.is_open());
    a1.see(heard());
    a1.step(SECOND * 3);
    let step = a1.step(SECOND * 4);
    assert_eq!(step.changes[0].verdict.health, Health::Healthy);
    assert!(!gate.is_open());
}

#[test]
fn each_of_five_watches_its_share_and_tells_the_others_of_it() {
    let mut watchers = BTreeMap::new();
    for name in ["a1", "a2", "a3", "a4", "a5"] {
        let mut server = Server::new(name, 5, 5);
        let step = server.step(Duration::ZERO);
        assert!(!step.wishes.is_empty() && step.wishes.len() < 5, "{:?}", step.wishes);
        for wish in step.wishes.values() {
            assert_eq!(wish.pace, Pace::Watch);
            *watchers.entry(wish.server.1.clone()).or_insert(0) += 1;
        }
        assert_eq!(step.said.len(), 4);
        let told = Sight::decode(&step.said[0].1).unwrap();
        let watched: BTreeSet<Key> = step.wishes.into_values().map(|wish| wish.server).collect();
        assert!(told.servers.keys().eq(&watched));
    }
    assert!(watchers.len() == 5 && watchers.values().all(|count| *count >= WATCHERS));
}

#[test]
fn what_a_fellow_server_watched_is_taken_over_when_it_is_gone() {
    let mut a1 = Server::new("a1", 3, 3);
    let before = a1.step(Duration::ZERO).wishes.len();
    a1.fellows.remove("a2");
    assert_eq!(a1.step(SECOND).wishes.len(), 3);
    assert!(before < 3);
}

#[tokio::test(start_paused = true)]
async fn while_a_datacenter_is_asked_all_its_servers_are_watched_closely() {
    let mut a1 = Server::new("a1", 5, 5);
    let step = a1.step(Duration::ZERO);
    let watched = step.wishes.len();
    assert!(a1.step(SECOND * 60).restless.eq(&false));
    let demand = step.table.remotes["dc2"].servers[0].demand.clone();
    drop(demand.begin());
    a1.wake.notified().await;
    let step = a1.step(SECOND * 61);
    assert!(step.restless);
    assert!((1..=5).all(|number| pace(&step, &format!("b{number}")) == Some(Pace::Brisk)));
    tokio::time::advance(demand::LINGER).await;
    let step = a1.step(SECOND * 72);
    assert_eq!(step.wishes.len(), watched);
    assert!(step.wishes.values().all(|wish| wish.pace == Pace::Watch));
}

#[test]
fn a_server_that_others_watch_is_known_by_what_they_tell() {
    let mut a1 = Server::new("a1", 5, 5);
    let step = a1.step(Duration::ZERO);
    let other = (1..=5).map(|n| format!("b{n}")).find(|name| pace(&step, name).is_none()).unwrap();
    a1.reports.remove(&addr(&other));
    let told = |a1: &mut Server, now, path| {
        let word = Some(Word { is_leader: true, ..Word::default() });
        let rtt = Some(SECOND / 20);
        let seen = Seen { path, rtt, word, ..Seen::NOTHING };
        let servers = [(key(&other), seen)].into();
        a1.watch.told(now, "a2".parse().unwrap(), Sight { whole: false, servers });
        let table = a1.step(now).table;
        let servers = &table.remotes["dc2"].servers;
        servers.iter().find(|server| server.name.as_str() == other).unwrap().clone()
    };
    let up = told(&mut a1, SECOND, Path::Up);
    assert_eq!((up.reach(), up.rtt), (Reach::Dialing, Some(SECOND / 20)));
    assert!(up.candidate().is_leader);
    let down = told(&mut a1, SECOND * 2, Path::Down);
    assert_eq!(down.reach(), Reach::Down);
    assert!(!down.candidate().is_leader);
}

#[test]
fn a_look_is_due_soon_after_something_changed() {
    let mut a1 = Server::new("a1", 1, 1);
    assert!(a1.step(Duration::ZERO).restless);
    assert!(!a1.step(UNREST).restless);
    a1.see(Report { awaited: Some(FAINT_MIN), ..heard() });
    assert!(a1.step(SECOND * 20).restless);
    a1.see(lost());
    assert!(a1.step(SECOND * 21).restless);
    assert!(!a1.step(SECOND * 21 + UNREST).restless, "what lasts is no news");
}
