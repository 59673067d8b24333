//! What an agent answers while its servers do, don't, and do again.

use tokio::{sync::watch, task::JoinSet, time::sleep};
use topology::{Member, Role, Status};

use super::*;
use crate::{
    agent::fixture::{self, Fixture},
    ask::{Meta, Outcome},
    caller::{Caller, Promise, ServerSide},
    catalog::{Check, Form, Instance, Lookup, Node, Ran, Run, Selection, Service, Subject},
    local::state::Source,
    standing::Standing,
};

/// What the servers do.
#[derive(Clone, PartialEq)]
enum Servers {
    /// Answer with an index and a body.
    Say(u64, String),
    /// Answer the same without a leader.
    Murmur(u64, String),
    /// Take asks and never answer.
    Hang,
    /// Are gone.
    Gone,
}

/// Servers that do as told.
struct Script {
    servers: watch::Sender<Servers>,
    standing: watch::Sender<Standing>,
    asks: watch::Sender<usize>,
    is_server: bool,
}

impl Script {
    fn say(&self, index: u64, body: &str) {
        self.servers.send_replace(Servers::Say(index, body.to_owned()));
        self.reach(Reach::Led);
    }

    fn murmur(&self, index: u64, body: &str) {
        self.servers.send_replace(Servers::Murmur(index, body.to_owned()));
        self.reach(Reach::Leaderless);
    }

    fn go(&self) {
        self.servers.send_replace(Servers::Gone);
        self.reach(Reach::CutOff("test".into()));
    }

    fn reach(&self, reach: Reach) {
        self.standing.send_if_modified(|standing| standing.see(reach, Instant::now()));
    }

    fn asks(&self) -> usize {
        *self.asks.borrow()
    }
}

impl Caller for Script {
    fn ask(&self, ask: Ask) -> Promise<Result<Answer, AskError>> {
        self.asks.send_modify(|count| *count += 1);
        let mut servers = self.servers.subscribe();
        Box::pin(async move {
            let above = ask.blocking.map_or(0, |blocking| blocking.index);
            let done = |now: &Servers| match now {
                Servers::Say(index, _) | Servers::Murmur(index, _) => *index > above,
                Servers::Hang => false,
                Servers::Gone => true,
            };
            let now = servers.wait_for(done).await.unwrap().clone();
            let (index, body, led) = match now {
                Servers::Say(index, body) => (index, body, true),
                Servers::Murmur(index, body) => (index, body, false),
                Servers::Gone | Servers::Hang => return Err(AskError::CutOff("test".to_owned())),
            };
            let meta = Meta { index, known_leader: Some(led), ..Meta::default() };
            Ok(Answer { outcome: Outcome::Found, meta, body: body.into() })
        })
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    fn server(&self) -> Option<&dyn ServerSide> {
        self.is_server.then_some(self)
    }
}

impl ServerSide for Script {
    fn wan_members(&self) -> Vec<Member> {
        Vec::new()
    }

    fn wan_join(&self, _addrs: Vec<std::net::SocketAddr>) -> Promise<Result<usize, String>> {
        Box::pin(std::future::ready(Ok(0)))
    }

    fn wan_force_leave(&self, _name: &str, _prune: bool) -> Promise<Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn leave(&self) -> Promise<Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn force_leave(&self, _name: &topology::NodeName) -> Promise<Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn stats(&self) -> Vec<(&'static str, String, String)> {
        Vec::new()
    }
}

struct Rig {
    script: Arc<Script>,
    fixture: Fixture,
}

impl Rig {
    fn start() -> Self {
        Self::with(false, None)
    }

    fn with(is_server: bool, cache_file: Option<std::path::PathBuf>) -> Self {
        let script = Arc::new(Script {
            servers: watch::Sender::new(Servers::Say(5, "[]".to_owned())),
            standing: watch::Sender::new(Standing { reach: Reach::Led, since: Instant::now() }),
            asks: watch::Sender::new(0),
            is_server,
        });
        let fixture = fixture::agent(script.clone(), |config| config.cache_file = cache_file);
        tokio::spawn(cache::run(fixture.agent.clone()));
        Self { script, fixture }
    }

    async fn ask(&self, inquiry: Inquiry) -> Result<Served, AskError> {
        self.fixture.agent.look_up(inquiry).await
    }

    /// Returns the body and its age, if the cache had it.
    async fn get(&self, inquiry: Inquiry) -> (String, Option<Duration>) {
        let served = self.ask(inquiry).await.unwrap();
        (String::from_utf8(served.answer.body.to_vec()).unwrap(), served.age)
    }

    async fn asks_reach(&self, count: usize) {
        self.script.asks.subscribe().wait_for(|asks| *asks >= count).await.unwrap();
    }

    fn members(&self, members: &[(&str, Status)]) {
        let member = |(name, status): &(&str, Status)| Member {
            profile: fixture::profile(name, Role::Client),
            status: *status,
        };
        self.fixture.pool.publish(members.iter().map(member).collect());
    }
}

fn inquiry(service: &str) -> Inquiry {
    let subject = Subject::Health { service: service.into(), passing: false };
    let lookup = Lookup { subject, selection: Selection::default(), form: Form::Json };
    Inquiry {
        key: Key { dc: None, token: String::new(), lookup },
        consistency: Consistency::Default,
        max_stale: None,
        blocking: None,
        cached: None,
        trace: TraceId(uuid::Uuid::nil()),
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

fn stale(service: &str) -> Inquiry {
    Inquiry { consistency: Consistency::Stale, ..inquiry(service) }
}

fn cached(service: &str, header: &str) -> Inquiry {
    Inquiry { cached: Control::parse(header), ..inquiry(service) }
}

fn blocking(index: u64, inquiry: Inquiry) -> Inquiry {
    Inquiry { blocking: Some(Blocking { index, wait: Duration::from_secs(30) }), ..inquiry }
}

fn row(node: &str, service: &str) -> String {
    format!(r#"{{"Node":{{"Node":"{node}"}},"Service":{{"ID":"{service}"}}}}"#)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_with_cached_is_kept_fresh_by_one_query() {
    let rig = Rig::start();
    rig.script.say(5, "[1]");
    assert_eq!(rig.get(cached("web", "")).await, ("[1]".to_owned(), None));
    rig.asks_reach(2).await;
    for _ in 0..10 {
        let hit = ("[1]".to_owned(), Some(Duration::ZERO));
        assert_eq!(rig.get(cached("web", "max-age=0")).await, hit);
    }
    assert_eq!(rig.script.asks(), 2);
    sleep(SECOND).await;
    rig.script.say(6, "[2]");
    // The refresh has taken it in when it waits for the next one.
    rig.asks_reach(3).await;
    assert_eq!(rig.get(cached("web", "")).await.0, "[2]");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_clients_of_a_cold_agent_are_one_query() {
    let rig = Rig::start();
    rig.script.servers.send_replace(Servers::Hang);
    for manner in [cached("web", ""), stale("db")] {
        let before = rig.script.asks();
        let mut clients = JoinSet::new();
        for _ in 0..1000 {
            let (agent, manner) = (rig.fixture.agent.clone(), manner.clone());
            clients.spawn(async move { agent.look_up(manner).await.unwrap().answer.body });
        }
        rig.asks_reach(before + 1).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.script.asks(), before + 1);
        rig.script.say(7, "[1]");
        while let Some(body) = clients.join_next().await {
            assert_eq!(body.unwrap(), "[1]");
        }
        rig.script.servers.send_replace(Servers::Hang);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_clients_who_want_the_truth_are_two_queries() {
    let rig = Rig::start();
    rig.script.servers.send_replace(Servers::Hang);
    let mut clients = JoinSet::new();
    for _ in 0..1000 {
        let agent = rig.fixture.agent.clone();
        clients.spawn(async move { agent.look_up(inquiry("web")).await.unwrap().answer.body });
    }
    rig.asks_reach(1).await;
    rig.script.say(7, "[1]");
    while let Some(body) = clients.join_next().await {
        assert_eq!(body.unwrap(), "[1]");
    }
    assert_eq!(
        rig.script.asks(),
        2,
        "the first one's, and one for all who came after it was asked"
    );
    rig.script.say(8, "[2]");
    assert_eq!(rig.get(inquiry("web")).await.0, "[2]");
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_answers_what_may_be_stale_with_its_age_and_refuses_the_rest() {
    let rig = Rig::start();
    rig.script.say(5, "[1]");
    for remembered in [inquiry("default"), stale("stale"), cached("cached", "")] {
        assert_eq!(rig.get(remembered).await.0, "[1]");
    }
    rig.asks_reach(4).await;
    sleep(SECOND).await;
    rig.script.go();
    sleep(3 * SECOND).await;
    for service in ["default", "stale"] {
        let served = rig.ask(stale(service)).await.unwrap();
        assert_eq!((&served.answer.body[..], served.age), (&b"[1]"[..], Some(4 * SECOND)));
        assert_eq!(served.answer.meta.last_contact, 4 * SECOND);
        assert_eq!(served.answer.meta.known_leader, Some(false));
    }
    assert_eq!(rig.get(cached("cached", "")).await, ("[1]".to_owned(), Some(4 * SECOND)));
    for refused in [
        inquiry("default"),
        Inquiry { consistency: Consistency::Consistent, ..inquiry("default") },
        stale("never"),
        cached("never", ""),
        cached("cached", "must-revalidate"),
        cached("cached", "max-age=1, stale-if-error=2"),
    ] {
        let error = rig.ask(refused).await.unwrap_err();
        assert!(matches!(error, AskError::CutOff(_)), "{error}");
    }
    assert_eq!(rig.get(cached("cached", "max-age=1, stale-if-error=5")).await.0, "[1]");
}

#[tokio::test(start_paused = true)]
async fn servers_that_fall_silent_are_not_waited_for_by_those_who_may_be_told_something_stale() {
    let rig = Rig::start();
    rig.script.say(5, "[1]");
    rig.get(stale("web")).await;
    rig.script.servers.send_replace(Servers::Hang);
    let began = Instant::now();
    assert_eq!(rig.get(stale("web")).await.0, "[1]");
    assert!(began.elapsed() <= PATIENCE + Duration::from_millis(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn when_servers_are_back_refreshes_are_too() {
    let rig = Rig::start();
    rig.script.say(5, "[1]");
    rig.get(cached("web", "")).await;
    rig.asks_reach(2).await;
    rig.script.go();
    sleep(10 * SECOND).await;
    assert!(rig.get(cached("web", "")).await.1.unwrap() >= 10 * SECOND);
    rig.script.say(3, "[new cluster]");
    let asks = rig.script.asks();
    rig.asks_reach(asks + 1).await;
    sleep(SECOND).await;
    let hit = ("[new cluster]".to_owned(), Some(Duration::ZERO));
    assert_eq!(rig.get(cached("web", "")).await, hit);
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_is_told_of_a_change_and_of_the_cut() {
    let rig = Rig::start();
    rig.script.say(5, "[1]");
    assert_eq!(rig.get(cached("web", "")).await.0, "[1]");
    rig.asks_reach(2).await;
    let agent = rig.fixture.agent.clone();
    let wait = |index| {
        let agent = agent.clone();
        tokio::spawn(async move { agent.look_up(blocking(index, cached("web", ""))).await })
    };
    assert_eq!(wait(4).await.unwrap().unwrap().answer.body, "[1]");
    let waiting = wait(5);
    sleep(SECOND).await;
    rig.script.say(6, "[2]");
    assert_eq!(waiting.await.unwrap().unwrap().answer.body, "[2]");
    let until_the_end = wait(6).await.unwrap().unwrap();
    assert_eq!(until_the_end.answer.meta.index, 6);
    let waiting = wait(6);
    sleep(SECOND).await;
    rig.script.go();
    assert!(matches!(waiting.await.unwrap(), Err(AskError::CutOff(_))));
    assert!(rig.ask(blocking(6, stale("web"))).await.is_err());
    assert_eq!(rig.ask(blocking(5, stale("web"))).await.unwrap().answer.body, "[2]");
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_what_is_known_to_be_gone_is_left_out() {
    let all = [("n1", "own"), ("n1", "sick"), ("n2", "a"), ("N3", "b"), ("ext", "c")];
    let body = |left: &[(&str, &str)]| {
        let rows: Vec<_> = left.iter().map(|(node, service)| row(node, service)).collect();
        format!("[{}]", rows.join(","))
    };
    let rig = Rig::start();
    rig.script.say(5, &body(&all));
    rig.get(cached("web", "")).await;
    rig.get(stale("web")).await;
    rig.members(&[("n1", Status::Left), ("n2", Status::Alive), ("n3", Status::Failed)]);
    let json = serde_json::json!({
        "ID": "sick", "Name": "web", "Check": { "TTL": "1h", "Status": "critical" },
    });
    let sick = crate::definition::service(&json).unwrap();
    rig.fixture.agent.local.register(sick, Source::Api, false).unwrap();
    sleep(SECOND).await;
    // While a leader vouches for it, it says what is gone.
    assert_eq!(rig.get(stale("web")).await.0, body(&all));
    assert_eq!(rig.get(cached("web", "")).await.0, body(&all));
    let left = body(&[all[0], all[2], all[4]]);
    rig.script.murmur(5, &body(&all));
    assert_eq!(rig.get(stale("web")).await, (left.clone(), None));
    assert_eq!(rig.get(cached("web", "")).await.0, left);
    rig.script.go();
    for _ in 0..2 {
        assert_eq!(rig.get(stale("web")).await.0, left);
        assert_eq!(rig.get(cached("web", "")).await.0, left);
    }
    rig.members(&[("n2", Status::Failed), ("n3", Status::Alive)]);
    sleep(SECOND).await;
    assert_eq!(rig.get(stale("web")).await.0, body(&[all[0], all[3], all[4]]));
}

#[test]
fn records_are_pruned_as_json_is() {
    let node = |name: &str| Node { name: name.into(), ..Node::default() };
    let instance = |name: &str| Instance {
        node: Arc::new(node(name)),
        service: Arc::new(Service { id: "a".into(), ..Service::default() }),
        checks: vec![Arc::new(Check::default())],
        dc: None,
    };
    let all = rmp_serde::to_vec_named(&[instance("n2"), instance("n3")]).unwrap();
    let mut lookup = inquiry("web").key.lookup;
    lookup.form = Form::Records;
    let own = crate::local::state::State::new(node("n1"), Duration::ZERO);
    let failed = Member { profile: fixture::profile("n3", Role::Client), status: Status::Failed };
    let gone = Gone::of(&[failed], &own);
    let left = prune::without(&Answer::plain(all.clone()), &lookup, &gone);
    assert_eq!(left.body, rmp_serde::to_vec_named(&[instance("n2")]).unwrap());
    assert_eq!(prune::without(&Answer::plain(all.clone()), &lookup, &Gone::default()).body, all);
    // So are those that a prepared query found.
    let ran = |body: &[u8]| {
        let instances: Vec<Instance> = rmp_serde::from_slice(body).unwrap();
        let ran = Ran { service: "web".into(), ttl: Some(3), instances };
        rmp_serde::to_vec_named(&ran).unwrap()
    };
    let run = Run { name: "q".into(), limit: 0, agent: "n1".into() };
    let query = Lookup { subject: Subject::Query(run), ..lookup.clone() };
    assert_eq!(prune::without(&Answer::plain(ran(&all)), &query, &gone).body, ran(&left.body));
    let nonsense = Answer::plain("nonsense");
    assert_eq!(prune::without(&nonsense, &lookup, &gone), nonsense);
}

#[tokio::test(start_paused = true)]
async fn a_server_remembers_other_datacenters_only() {
    let rig = Rig::with(true, None);
    rig.script.say(5, "[1]");
    let mut remote = stale("web");
    remote.key.dc = Some("dc2".parse().unwrap());
    rig.get(stale("web")).await;
    rig.get(remote.clone()).await;
    assert_eq!(rig.fixture.agent.cache.holdings(0).entries, 1);
    rig.script.go();
    assert!(rig.ask(stale("web")).await.is_err());
    assert_eq!(rig.get(remote).await.0, "[1]");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_restarts_while_it_is_cut_off_still_answers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cache");
    let rig = Rig::with(false, Some(file.clone()));
    rig.script.say(5, "[1]");
    rig.get(cached("web", "")).await;
    rig.get(stale("db")).await;
    cache::save(&rig.fixture.agent).await;
    rig.fixture.stop.cancel();
    let rig = Rig::with(false, Some(file.clone()));
    rig.script.go();
    for service in ["web", "db"] {
        assert_eq!(rig.get(stale(service)).await.0, "[1]");
        assert_eq!(rig.get(cached(service, "")).await.0, "[1]");
    }
    // A file that is no cache is as good as none.
    std::fs::write(&file, "nonsense").unwrap();
    let rig = Rig::with(false, Some(file));
    rig.script.go();
    assert!(rig.ask(stale("web")).await.is_err());
}
