//! Failover of lookups: three datacenters whose instances come and go, whose links are cut, and which crash.
//!
//! In each datacenter somebody changes the instances of one service, and somebody looks it up all the time. Whatever
//! happens, nobody is shown an instance that its datacenter did not hold for passing, as of the age that the answer gives
//! itself. Who was away comes back after the hold-down, not before; when all is calm everybody is where the policy says,
//! and `failover explain` knows where that is, also without a datacenter that is then lost.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use dc_server::failover::policy::{Policy, Preference};
use lan_agent::{
    ask::{Ask, Consistency, FailoverExplain, Question, RequestId, TraceId, question::Scope},
    caller::Caller,
    catalog::{Check, Form, Health, Lookup, Node, Registration, Selection, Service, Subject, Text},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng, seq::SliceRandom};
use serde_json::Value;
use tests::{
    chronicle::{Chronicle, Instance, Told},
    datacenter::Site,
    fabric::Clock,
    seeds,
};
use tokio::time::{Instant, sleep};
use topology::Datacenter;
use uuid::Uuid;

const DATACENTERS: usize = 3;

/// Instances of the service in each datacenter.
const INSTANCES: Instance = 2;

/// How long it may take until everybody is where the policy says: verdicts, mirrors, and the longest hold-down.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the writers are to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mood {
    /// Make so many instances of each datacenter pass, and leave them alone.
    Calm([Instance; DATACENTERS]),
    /// Change instances of this datacenter all the time, while those of all others pass; `None`: of all.
    Noise(Option<usize>),
}

/// A world of one seed.
struct World {
    site: Site,
    mood: Arc<Mutex<Mood>>,
    chronicle: Chronicle,
    rng: SmallRng,
    hold_down: Duration,
    /// In which order datacenters stand in for others.
    order: Vec<usize>,
}

fn name(number: usize) -> Datacenter {
    Datacenter::new(format!("dc{}", number + 1)).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let hold_down = Duration::from_millis(rng.random_range(2_000..8_000));
        let mut order: Vec<usize> = (0..DATACENTERS).collect();
        order.shuffle(&mut rng);
        let to = Preference::These(order.iter().map(|number| name(*number)).collect());
        let policy = Policy { to, hold_down, ..Policy::default() };
        let mood = Arc::new(Mutex::new(Mood::Calm([INSTANCES; DATACENTERS])));
        let chronicle = Chronicle::default();
        let (shared, record) = (mood.clone(), chronicle.clone());
        let resident = move |node: usize, starts: u64, caller: Arc<dyn Caller>, clock: Clock| {
            let asker =
                Asker { node, caller, clock, name: seed << 40 | (node as u64) << 32 | starts };
            let (mood, chronicle) = (shared.clone(), record.clone());
            Box::pin(async move {
                tokio::join!(asker.write(&mood, &chronicle), asker.read(&chronicle));
            }) as _
        };
        let resident = Arc::new(resident);
        let credentials = super::credentials();
        let mut site = Site::federated(credentials, DATACENTERS, policy, rng.random(), resident);
        (0..DATACENTERS).for_each(|number| site.start(number));
        Self { site, mood, chronicle, rng, hold_down, order }
    }

    fn is_in(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Returns who answers in a datacenter when so many instances pass in each.
    fn meant(&self, asked: usize, passing: &[Instance; DATACENTERS]) -> usize {
        let others = self.order.iter().copied().filter(|other| *other != asked);
        let mut all = [asked].into_iter().chain(others);
        all.find(|dc| passing[*dc] > 0).unwrap_or(asked)
    }

    /// Makes so many instances pass in each datacenter, waits until those who run are all where they are meant to be, and
    /// sees that they stay.
    fn settles(&mut self, passing: [Instance; DATACENTERS], running: &[usize]) {
        self.is_in(Mood::Calm(passing));
        let mut reachable = passing;
        (0..DATACENTERS).filter(|dc| !running.contains(dc)).for_each(|dc| reachable[dc] = 0);
        let meant = running.iter().map(|dc| (*dc, vec![name(self.meant(*dc, &reachable))]));
        let meant: BTreeMap<usize, Vec<Datacenter>> = meant.collect();
        let chronicle = self.chronicle.clone();
        let arrived = |now: Duration| {
            let told = chronicle.told_since(now.saturating_sub(Duration::from_secs(2)));
            meant.iter().all(|(dc, served)| {
                let mut own = told.iter().filter(|told| told.by == *dc).peekable();
                own.peek().is_some() && own.all(|told| told.served == *served)
            })
        };
        // What was is no sign: first verdicts and mirrors have to hear of it.
        self.site.run(Duration::from_secs(5));
        let what = format!("{passing:?} of {running:?} answered by {meant:?}");
        self.site.until(SETTLES_WITHIN, &what, |site| arrived(site.now()));
        let begin = self.site.now();
        self.site.run(self.hold_down + Duration::from_secs(1));
        for told in chronicle.told_since(begin) {
            assert_eq!(told.served, meant[&told.by], "all was calm: {told:?}");
        }
    }

    /// Lets one datacenter's instances come and go while all others are well.
    fn noise_around(&mut self, one: usize) {
        self.settles([INSTANCES; DATACENTERS], &[0, 1, 2]);
        let begin = self.site.now();
        self.is_in(Mood::Noise(Some(one)));
        self.site.run(Duration::from_secs(60));
        let turns = self.chronicle.turns(&name(one));
        let deputy = vec![name(self.meant(one, &std::array::from_fn(|dc| (dc != one).into())))];
        let (mut before, mut returns) = (None, 0);
        for told in self.chronicle.told_since(begin) {
            if told.by != one {
                assert_eq!(told.served, [name(told.by)], "nothing is wrong there: {told:?}");
                continue;
            }
            let own = told.served == [name(one)];
            assert!(own || told.served == deputy, "{told:?}");
            let was_own = before.replace(own).unwrap_or(true);
            let back = turns.iter().rfind(|(at, some)| *some && *at <= told.ended);
            if own && !was_own {
                let since = back.expect("there is one").0;
                // Its clock may run a little fast.
                let held_down = (told.ended - since).mul_f64(1.03) >= self.hold_down;
                assert!(held_down, "since {since:?}: {told:?} within {:?}", self.hold_down);
                returns += 1;
            }
            let gone = |(at, some): &(Duration, bool)| !some && *at <= told.ended;
            assert!(own || turns.iter().any(gone), "it was always there: {told:?}");
        }
        println!("dc{} came back {returns} times", one + 1);
    }

    /// Cuts, crashes and restarts datacenters while all instances come and go.
    fn storm(&mut self, time: Duration) {
        self.is_in(Mood::Noise(None));
        let end = self.site.now() + time;
        while self.site.now() < end {
            let (one, other) =
                (self.rng.random_range(0..DATACENTERS), self.rng.random_range(0..DATACENTERS));
            let (from, to) = ([self.site.host(one)], [self.site.host(other)]);
            match self.rng.random_range(0..8) {
                0 | 1 if one != other => self.site.fabric.cut(&from, &to),
                2 if one != other => self.site.fabric.cut_one_way(&from, &to),
                3 | 4 => self.site.crash(one),
                5 => self.site.fabric.heal_all(),
                _ => self.site.start(one),
            }
            self.site.run(Duration::from_millis(self.rng.random_range(500..6_000)));
        }
        self.site.fabric.heal_all();
        (0..DATACENTERS).for_each(|number| self.site.start(number));
    }

    /// Returns where the callers of each datacenter go now, and would go without some, as one server explains it.
    fn explained(&mut self, by: usize, lost: &[usize]) -> BTreeMap<String, [Vec<String>; 2]> {
        let question = Question::FailoverExplain(FailoverExplain {
            service: Some("web".into()),
            lost: lost.iter().map(|dc| name(*dc)).collect(),
            overload_percent: 200,
            scope: Scope::Federation,
        });
        let (caller, answer) = (self.site.caller(by).unwrap(), Arc::new(Mutex::new(None)));
        let asker = Asker { node: by, caller, clock: self.site.clock(by).unwrap(), name: 1 };
        let slot = answer.clone();
        self.site.spawn(by, async move {
            let told = asker.ask(question, Consistency::Default, 1).await.unwrap();
            *slot.lock().unwrap() = Some(told.body);
        });
        self.site.until(PATIENCE, "explained", |_| answer.lock().unwrap().is_some());
        let body = answer.lock().unwrap().take().unwrap();
        let report: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(report["Unknown"], Value::Array(Vec::new()), "{report}");
        let callers = report["Services"][0]["Callers"].as_array().unwrap().clone();
        let where_to = |share: &Value| share["Datacenter"].as_str().unwrap().to_owned();
        let all = |it: &Value| it.as_array().unwrap().iter().map(where_to).collect();
        let caller = |it: &Value| (where_to(it), [all(&it["Now"]), all(&it["Then"])]);
        callers.iter().map(caller).collect()
    }

    /// Returns the last answer's datacenters of those who run, as far as there were instances.
    fn last_told(&self, running: &[usize]) -> BTreeMap<String, Vec<String>> {
        let told = self.chronicle.told_since(Duration::ZERO);
        let last = |dc: &usize| {
            let told: &Told = told.iter().rfind(|told| told.by == *dc).unwrap();
            let served = told.served.iter().filter(|_| !told.shown.is_empty());
            (name(*dc).to_string(), served.map(ToString::to_string).collect())
        };
        running.iter().map(last).collect()
    }
}

/// Somebody at a node.
struct Asker {
    node: usize,
    caller: Arc<dyn Caller>,
    clock: Clock,
    /// Different in each start of each node.
    name: u64,
}

impl Asker {
    async fn ask(
        &self,
        question: Question,
        consistency: Consistency,
        number: u64,
    ) -> Result<lan_agent::ask::Answer, lan_agent::ask::AskError> {
        let id = Uuid::from_u64_pair(self.name, number);
        let ask = Ask {
            dc: None,
            consistency,
            max_stale: None,
            blocking: None,
            token: String::new(),
            trace: TraceId(id),
            request: RequestId(id),
            deadline: Instant::now() + PATIENCE,
            question,
        };
        self.caller.ask(ask).await
    }

    /// Changes instances as the mood is; what was not acknowledged is asked for again.
    async fn write(&self, mood: &Mutex<Mood>, chronicle: &Chronicle) {
        let dc = name(self.node);
        let mut rng = SmallRng::seed_from_u64(self.name);
        let mut passes = [None::<bool>; INSTANCES as usize];
        for asked in 0.. {
            let pending = chronicle.last(&dc).filter(|(_, change)| change.done.is_none());
            let change = pending.or_else(|| {
                let mood = mood.lock().unwrap().clone();
                let (instance, value) = self.next(&mood, &passes, &mut rng)?;
                chronicle.begin(&dc, instance, value, self.clock.now());
                chronicle.last(&dc)
            });
            if let Some((number, change)) = change {
                let registration = instance(change.instance, change.passes, number);
                let question = Question::Register(Arc::new(registration));
                let id = 1 << 63 | asked;
                if self.ask(question, Consistency::Default, id).await.is_ok() {
                    chronicle.end(&dc, number, self.clock.now());
                    passes[change.instance as usize] = Some(change.passes);
                }
            }
            let pause = rng.random_range(50..1_500);
            sleep(Duration::from_millis(if passes.contains(&None) { 10 } else { pause })).await;
        }
    }

    /// Returns the next change, if there is any to make.
    fn next(
        &self,
        mood: &Mood,
        passes: &[Option<bool>],
        rng: &mut SmallRng,
    ) -> Option<(Instance, bool)> {
        let noisy = *mood == Mood::Noise(None) || *mood == Mood::Noise(Some(self.node));
        let wanted = |instance: Instance| match mood {
            Mood::Calm(passing) => instance < passing[self.node],
            Mood::Noise(_) => true,
        };
        // After a start nothing is known of the instances.
        let missing = (0..INSTANCES).find(|it| passes[*it as usize].is_none());
        if noisy && missing.is_none() {
            return Some((rng.random_range(0..INSTANCES), rng.random_bool(0.4)));
        }
        let wrong = (0..INSTANCES).find(|it| passes[*it as usize] != Some(wanted(*it)));
        missing.or(wrong).map(|instance| (instance, wanted(instance)))
    }

    /// Looks the service up all the time.
    async fn read(&self, chronicle: &Chronicle) {
        let mut rng = SmallRng::seed_from_u64(!self.name);
        for asked in 0.. {
            let consistency = if rng.random() { Consistency::Default } else { Consistency::Stale };
            let subject = Subject::Health { service: "web".into(), passing: rng.random() };
            let lookup = Lookup { subject, selection: Selection::default(), form: Form::Json };
            let begun = self.clock.now();
            if let Ok(answer) = self.ask(Question::Lookup(lookup), consistency, asked).await {
                let rows: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
                let shown = rows.iter().filter_map(|row| shown(row, &name(self.node)));
                chronicle.tell(Told {
                    by: self.node,
                    begun,
                    ended: self.clock.now(),
                    age: answer.meta.last_contact,
                    served: answer.meta.served.to_vec(),
                    shown: shown.collect(),
                });
            }
            sleep(Duration::from_millis(rng.random_range(20..300))).await;
        }
    }
}

/// Returns an instance as a writer registers it: the output of its check is the number of the change.
fn instance(number: Instance, passes: bool, change: usize) -> Registration {
    let text = |text: String| Text::from(text);
    let id = text(format!("web{number}"));
    let check = Check {
        id: "up".into(),
        name: "up".into(),
        status: if passes { Health::Passing } else { Health::Critical },
        output: text(change.to_string()),
        service_id: id.clone(),
        ..Check::default()
    };
    Registration {
        node: Node {
            name: text(format!("host{number}")),
            address: text(format!("192.0.2.{}", number + 1)),
            ..Node::default()
        },
        service: Some(Service { id, name: "web".into(), ..Service::default() }),
        checks: vec![check],
        ..Registration::default()
    }
}

/// Reads a row of an answer; `None` for an own instance that does not pass, which lookups may want to see.
fn shown(row: &Value, home: &Datacenter) -> Option<(Datacenter, Instance, usize)> {
    let check = &row["Checks"][0];
    let dc = Datacenter::new(row["Node"]["Datacenter"].as_str().unwrap()).unwrap();
    let passes = check["Status"] == "passing";
    assert!(passes || dc == *home, "it stands in for others: {row}");
    let id = row["Service"]["ID"].as_str().unwrap();
    let instance = id.strip_prefix("web").unwrap().parse().unwrap();
    passes.then(|| (dc, instance, check["Output"].as_str().unwrap().parse().unwrap()))
}

#[test]
fn lookups_never_show_what_its_source_held_for_critical_and_go_where_explain_says() {
    seeds::spread(0..10, |seed| {
        let mut world = World::new(seed);
        let noisy = world.rng.random_range(0..DATACENTERS);
        world.noise_around(noisy);
        world.storm(Duration::from_secs(60));
        let passing = std::array::from_fn(|_| world.rng.random_range(0..=INSTANCES));
        world.settles(passing, &[0, 1, 2]);
        let (asked, lost) =
            (world.rng.random_range(0..DATACENTERS), world.rng.random_range(0..DATACENTERS));
        let explained = world.explained(asked, &[lost]);
        let now = explained.iter().map(|(dc, [now, _])| (dc.clone(), now.clone()));
        assert_eq!(now.collect::<BTreeMap<_, _>>(), world.last_told(&[0, 1, 2]));
        world.site.crash(lost);
        let left: Vec<usize> = (0..DATACENTERS).filter(|dc| *dc != lost).collect();
        world.settles(passing, &left);
        let then = explained.into_iter().filter(|(dc, _)| *dc != name(lost).to_string());
        let then: BTreeMap<_, _> = then.map(|(dc, [_, then])| (dc, then)).collect();
        assert_eq!(then, world.last_told(&left));
        let (all, elsewhere) = world.chronicle.check(name);
        println!("seed {seed}: {all} answers, {elsewhere} of them from elsewhere");
        assert!(elsewhere > 0, "nobody was away in seed {seed}");
    });
}
