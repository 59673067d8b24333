//! The watch over one other datacenter, from silence to verdict and back, by values alone.

use topology::{NodeId, Role};

use super::*;

fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn addr(name: &str) -> SocketAddr {
    let (site, number) = name.split_at(1);
    let site = if site == "a" { 1 } else { 2 };
    format!("127.0.{site}.{number}:8302").parse().unwrap()
}

fn profile(name: &str) -> Profile {
    Profile {
        name: node(name),
        id: NodeId(uuid::Uuid::nil()),
        dc: dc(if name.starts_with('a') { "dc1" } else { "dc2" }),
        role: Role::Server,
        addr: addr(name),
        link: None,
        wan: None,
        version: "0.1.0".into(),
        tags: BTreeMap::new(),
    }
}

fn members() -> Vec<Member> {
    ["a1", "a2", "b1", "b2"]
        .map(|name| Member { profile: profile(name), status: Status::Alive })
        .to_vec()
}

fn heard(silent: Duration) -> Report {
    let word = Some(Word { leader_known: true, ..Word::default() });
    Report { link: Link::Up, silent, rtt: Some(Duration::from_millis(9)), word }
}

fn lost() -> Report {
    let link = Link::Down { reason: "no heartbeat for 2.2s".into() };
    Report { link, silent: Duration::from_secs(3), rtt: None, word: None }
}

fn all(reports: [(&str, Report); 3]) -> BTreeMap<SocketAddr, Report> {
    reports.into_iter().map(|(name, report)| (addr(name), report)).collect()
}

fn well() -> BTreeMap<SocketAddr, Report> {
    all(["a2", "b1", "b2"].map(|name| (name, heard(Duration::ZERO))))
}

fn dark() -> BTreeMap<SocketAddr, Report> {
    all([("a2", heard(Duration::ZERO)), ("b1", lost()), ("b2", lost())])
}

const SECOND: Duration = Duration::from_secs(1);

/// Another server of dc1 that sees what `reports` say, and the sight it tells at `now`.
fn fellow_sight(watch: &mut Watch, now: Duration, reports: &BTreeMap<SocketAddr, Report>) {
    let mut fellow = Watch::new(profile("a2"));
    fellow.step(Duration::ZERO, &members(), &well());
    fellow.step(now.saturating_sub(verdict::DOWN_MIN), &members(), reports);
    let sight = fellow.step(now, &members(), reports).sight;
    watch.told(now, node("a2"), sight);
}

#[test]
fn a_dark_datacenter_is_lost_when_the_fellow_agrees() {
    let mut watch = Watch::new(profile("a1"));
    let step = watch.step(Duration::ZERO, &members(), &well());
    assert_eq!(step.changes[0].verdict.health, Health::Healthy);
    fellow_sight(&mut watch, SECOND, &well());
    watch.step(SECOND, &members(), &dark());
    let later = SECOND + verdict::DOWN_MIN;
    let step = watch.step(later, &members(), &dark());
    assert!(step.changes.iter().all(|change| change.verdict.health != Health::Lost));
    fellow_sight(&mut watch, later, &dark());
    let step = watch.step(later, &members(), &dark());
    assert_eq!(step.changes[0].verdict.health, Health::Lost);
    assert!(step.changes[0].verdict.evidence.contains("no heartbeat for 2.2s; seen by a1, a2"));
}

#[test]
fn a_fellow_that_fell_silent_is_no_observer() {
    let mut watch = Watch::new(profile("a1"));
    watch.step(Duration::ZERO, &members(), &well());
    fellow_sight(&mut watch, SECOND, &well());
    watch.step(SECOND, &members(), &dark());
    let later = SECOND + SIGHT_AGE_MAX + SECOND;
    let step = watch.step(later, &members(), &dark());
    assert_eq!(step.table.remotes["dc2"].verdict.health, Health::Lost);
}

#[test]
fn silence_is_faint_then_quiet_before_the_link_gives_up() {
    let mut watch = Watch::new(profile("a1"));
    let table = watch.step(Duration::ZERO, &members(), &well()).table;
    let reach = || table.remotes["dc2"].servers[0].reach();
    assert_eq!(reach(), Reach::Live);
    for (silent, wanted) in [(FAINT_MIN, Reach::Faint), (QUIET_MIN, Reach::Quiet)] {
        let reports = all(["a2", "b1", "b2"].map(|name| (name, heard(silent))));
        watch.step(SECOND, &members(), &reports);
        assert_eq!(reach(), wanted);
    }
    watch.step(SECOND, &members(), &dark());
    assert_eq!(reach(), Reach::Down);
}

#[test]
fn a_server_that_was_never_heard_is_down_after_a_while() {
    let mut watch = Watch::new(profile("a1"));
    let nothing = BTreeMap::new();
    let step = watch.step(Duration::ZERO, &members(), &nothing);
    assert_eq!(step.sight.0[&(dc("dc2"), node("b1"))].path, Path::Unknown);
    let step = watch.step(UNSEEN_MAX, &members(), &nothing);
    assert_eq!(step.sight.0[&(dc("dc2"), node("b1"))].path, Path::Down);
}

#[test]
fn a_datacenter_that_nobody_belongs_to_any_more_is_forgotten() {
    let mut watch = Watch::new(profile("a1"));
    watch.step(Duration::ZERO, &members(), &well());
    let step = watch.step(SECOND, &members()[..2], &well());
    assert!(step.table.remotes.is_empty());
}

#[test]
fn the_return_of_a_datacenter_mends_its_breaker() {
    let mut watch = Watch::new(profile("a1"));
    let table = watch.step(Duration::ZERO, &members(), &well()).table;
    let gate = table.remotes["dc2"].gates.direct.clone();
    watch.step(SECOND, &members(), &dark());
    watch.step(SECOND * 2, &members(), &dark());
    for _ in 0..crate::breaker::FAILURES_MAX {
        gate.enter().unwrap().finish(crate::breaker::Outcome::Failed);
    }
    assert!(gate.is_open());
    watch.step(SECOND * 3, &members(), &well());
    let step = watch.step(SECOND * 4, &members(), &well());
    assert_eq!(step.changes[0].verdict.health, Health::Healthy);
    assert!(!gate.is_open());
}
