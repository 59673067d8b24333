//! All servers of one datacenter and the others that they watch, without links, sockets or clocks: what paths
//! show is drawn by a model of their heartbeats (`certs::link` has the real ones).
//!
//! ```text
//!   ping every second --- lost? --- pong after a round trip --- lost?     none for 1.9 s: the path is dead,
//!   unanswered for longer than usual: every 250 ms                        dialled again until it is up
//! ```

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use topology::{NodeId, Role};

use super::super::*;

/// How far time goes at once.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// How often a driver looks while something happens, and at each change of a path. While nothing does
/// no verdict depends on it.
const LOOK: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_secs(5);

/// Heartbeats, as `certs::link` has them for a path that is watched.
const PING: Duration = Duration::from_secs(1);
const EAGER: Duration = Duration::from_millis(250);
const ANSWER_MAX: Duration = Duration::from_millis(1900);
const DIAL_MAX: Duration = Duration::from_secs(4);
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(3);

/// What the network does to packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// There and back.
    pub(super) rtt: Duration,
    /// Up to this much more.
    pub(super) jitter: Duration,
    /// Part of the packets that vanish each way.
    pub(super) loss: f64,
}

/// What is at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A server that answers.
    Open,
    /// One that does not, killed or frozen: what it said before still arrives.
    Silent,
    /// Nothing gets through any more.
    Cut,
}

/// A path from a server of the own datacenter.
struct Track {
    up: bool,
    /// When the first ping was sent that is not answered.
    asked: Option<Duration>,
    pinged: Duration,
    heard: Duration,
    /// When answers arrive.
    pongs: VecDeque<(Duration, u32)>,
    /// The last pings, the newest first: whether they were answered.
    window: VecDeque<bool>,
    sent: u32,
    /// When the attempt to connect ends, and whether well.
    dialed: (Duration, bool),
    /// How often it was held for dead.
    deaths: u32,
    /// When something happens next.
    due: Duration,
}

/// A server of the own datacenter.
pub(super) struct Observer {
    name: NodeName,
    watch: Watch,
    fellows: BTreeSet<NodeName>,
    tracks: BTreeMap<SocketAddr, Track>,
    look: Duration,
    /// What it held datacenters for, and since when.
    pub(super) held: BTreeMap<Datacenter, (Health, Duration)>,
    /// Every datacenter that it ever held for lost.
    pub(super) lost: BTreeSet<Datacenter>,
}

/// The world as the servers of datacenter 1 see it.
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) observers: Vec<Observer>,
    members: Vec<Member>,
    weather: Weather,
    rng: SmallRng,
    /// Servers that do not answer, or that nobody reaches.
    silent: BTreeMap<SocketAddr, Way>,
    /// Observers that reach nobody, by number.
    cut: BTreeSet<usize>,
}

pub(super) fn dc(number: u8) -> Datacenter {
    Datacenter::new(format!("dc{number}")).unwrap()
}

pub(super) fn addr(dc: u8, server: u8) -> SocketAddr {
    SocketAddr::from(([10, dc, 0, server], 8302))
}

fn profile(number: u8, server: u8) -> Profile {
    Profile {
        name: format!("s{number}-{server}").parse().unwrap(),
        id: NodeId(uuid::Uuid::nil()),
        dc: dc(number),
        role: Role::Server,
        addr: addr(number, server),
        link: None,
        wan: None,
        version: "0.1.0".into(),
        tags: BTreeMap::new(),
    }
}

impl Track {
    fn new(now: Duration, rng: &mut SmallRng) -> Self {
        Self {
            up: true,
            asked: None,
            // Pings of different paths have nothing to do with each other.
            pinged: now.saturating_sub(PING.mul_f64(rng.random())),
            heard: now,
            pongs: VecDeque::new(),
            window: VecDeque::new(),
            sent: 0,
            dialed: (Duration::ZERO, false),
            deaths: 0,
            due: now,
        }
    }

    /// Lets happen what is due; tells whether the path goes up or down.
    fn tick(&mut self, now: Duration, way: Way, weather: Weather, rng: &mut SmallRng) -> bool {
        if now < self.due {
            return false;
        }
        let was_up = self.up;
        match self.up {
            true => self.beat(now, way, weather, rng),
            false => self.dial(now, way, weather, rng),
        }
        self.due = self.next(weather);
        self.up != was_up
    }

    fn next(&self, weather: Weather) -> Duration {
        if !self.up {
            return self.dialed.0;
        }
        let dead = self.asked.map(|asked| asked + ANSWER_MAX);
        let pong = self.pongs.front().map(|(at, _)| *at);
        dead.into_iter().chain(pong).fold(self.ping_at(weather), Duration::min)
    }

    fn ping_at(&self, weather: Weather) -> Duration {
        let patience = weather.rtt * 2 + Duration::from_millis(100);
        let patience = patience.clamp(Duration::from_millis(200), Duration::from_millis(600));
        let regular = self.pinged + PING;
        match self.asked {
            Some(asked) => regular.min((self.pinged + EAGER).max(asked + patience)),
            None => regular,
        }
    }

    fn beat(&mut self, now: Duration, way: Way, weather: Weather, rng: &mut SmallRng) {
        while let Some((_, number)) = self.pongs.pop_front_if(|(at, _)| *at <= now) {
            if way != Way::Cut {
                (self.asked, self.heard) = (None, now);
                if let Some(beat) = self.window.get_mut((self.sent - number) as usize) {
                    *beat = true;
                }
            }
        }
        if self.asked.is_some_and(|asked| now >= asked + ANSWER_MAX) {
            *self = Self { up: false, deaths: self.deaths + 1, ..Self::new(now, rng) };
            self.attempt(now, way, weather, rng);
            return;
        }
        if now >= self.ping_at(weather) {
            self.sent += 1;
            self.pinged = now;
            self.asked.get_or_insert(now);
            self.window.push_front(false);
            self.window.truncate(64);
            if way == Way::Open && arrives(weather, rng) && arrives(weather, rng) {
                self.pongs.push_back((now + round_trip(weather, rng), self.sent));
            }
        }
    }

    fn dial(&mut self, now: Duration, way: Way, weather: Weather, rng: &mut SmallRng) {
        let (at, well) = self.dialed;
        if now < at {
            return;
        }
        match well && way == Way::Open {
            true => *self = Self { deaths: self.deaths, ..Self::new(now, rng) },
            false => {
                let pause = DIAL_PAUSE_MAX.mul_f64(rng.random());
                self.attempt(now + pause, way, weather, rng);
            }
        }
    }

    /// Three exchanges, each repeated after a second until it is not lost.
    fn attempt(&mut self, from: Duration, way: Way, weather: Weather, rng: &mut SmallRng) {
        let mut takes = Duration::ZERO;
        for _ in 0..3 {
            while takes < DIAL_MAX && !(arrives(weather, rng) && arrives(weather, rng)) {
                takes += Duration::from_secs(1);
            }
            takes += round_trip(weather, rng);
        }
        self.dialed = (from + takes.min(DIAL_MAX), way == Way::Open && takes < DIAL_MAX);
    }

    fn report(&self, now: Duration, weather: Weather) -> Report {
        let counted = self.window.iter().skip_while(|answered| !**answered);
        let word = Word { leader_known: true, ..Word::default() };
        Report {
            link: match self.up {
                true => Link::Up,
                false => Link::Down { reason: "no packet for 1.9s".to_owned() },
            },
            silent: now - self.heard,
            awaited: self.asked.map(|asked| now - asked),
            knocks: false,
            rtt: Some(weather.rtt),
            beats: counted.clone().count() as u32,
            beats_lost: counted.filter(|answered| !**answered).count() as u32,
            word: Some(word),
        }
    }
}

fn arrives(weather: Weather, rng: &mut SmallRng) -> bool {
    weather.loss == 0.0 || !rng.random_bool(weather.loss)
}

fn round_trip(weather: Weather, rng: &mut SmallRng) -> Duration {
    weather.rtt + weather.jitter.mul_f64(rng.random())
}

impl World {
    /// Datacenters 1 to `dcs` of so many servers; all paths that are wanted are up.
    pub(super) fn new(seed: u64, dcs: u8, servers: u8, weather: Weather) -> Self {
        let all = (1..=dcs).flat_map(|dc| (1..=servers).map(move |server| profile(dc, server)));
        let member = |profile| Member { profile, status: Status::Alive };
        let observer = |server| {
            let me = profile(1, server);
            let fellows = (1..=servers).filter(|other| *other != server);
            Observer {
                name: me.name.clone(),
                watch: Watch::new(&me, Arc::default()),
                fellows: fellows.map(|other| profile(1, other).name).collect(),
                tracks: BTreeMap::new(),
                look: Duration::ZERO,
                held: BTreeMap::new(),
                lost: BTreeSet::new(),
            }
        };
        Self {
            now: Duration::ZERO,
            observers: (1..=servers).map(observer).collect(),
            members: all.map(member).collect(),
            weather,
            rng: SmallRng::seed_from_u64(seed),
            silent: BTreeMap::new(),
            cut: BTreeSet::new(),
        }
    }

    /// Has a server not answer, or not be reached, any more.
    pub(super) fn silence(&mut self, server: SocketAddr, way: Way) {
        self.silent.insert(server, way);
    }

    /// Cuts a server of the own datacenter off from all others.
    pub(super) fn cut(&mut self, observer: usize) {
        self.cut.insert(observer);
    }

    /// Returns how many paths were held for dead.
    pub(super) fn deaths(&self) -> u32 {
        let tracks = self.observers.iter().flat_map(|observer| observer.tracks.values());
        tracks.map(|track| track.deaths).sum()
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.tick();
        }
    }

    pub(super) fn tick(&mut self) {
        self.now += TICK;
        let (now, weather) = (self.now, self.weather);
        let mut said = Vec::new();
        for (number, observer) in self.observers.iter_mut().enumerate() {
            let cut = self.cut.contains(&number);
            for (addr, track) in &mut observer.tracks {
                let way = self.silent.get(addr).copied().unwrap_or(Way::Open);
                let way = if cut { Way::Cut } else { way };
                if track.tick(now, way, weather, &mut self.rng) {
                    observer.look = now;
                }
            }
            if now < observer.look {
                continue;
            }
            let tracks = observer.tracks.iter();
            let reports = tracks.map(|(addr, track)| (*addr, track.report(now, weather))).collect();
            let scene =
                Scene { members: &self.members, reports: &reports, fellows: &observer.fellows };
            let step = observer.watch.step(now, scene);
            observer.look = now + if step.restless { LOOK } else { REST };
            observer.tracks.retain(|addr, _| step.wishes.contains_key(addr));
            for addr in step.wishes.into_keys() {
                let rng = &mut self.rng;
                observer.tracks.entry(addr).or_insert_with(|| Track::new(now, rng));
            }
            for change in step.changes {
                let health = change.verdict.health;
                if health == Health::Lost {
                    observer.lost.insert(change.dc.clone());
                }
                observer.held.insert(change.dc, (health, now));
            }
            said.extend(step.said.into_iter().map(|told| (observer.name.clone(), told)));
        }
        // The links of the own datacenter are not concerned.
        for (by, (fellow, body)) in said {
            let sight = Sight::decode(&body).unwrap();
            let told = self.observers.iter_mut().find(|observer| observer.name == fellow).unwrap();
            told.watch.told(now, by, sight);
            told.look = Duration::ZERO;
        }
    }
}
