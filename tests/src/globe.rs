//! A federation in one process: real federation handles over real links, on a [`Fabric`].
//!
//! Each datacenter has a few servers, `a1`, `a2`, ... in dc1, `b1`, ... in dc2, which are linked among each
//! other, too; behind each is an inside that answers with its name at once. A datacenter has a leader while most of its
//! servers run: the first of them. Killing a server cuts its wires before it ends, so that
//! nobody hears a goodbye, as with SIGKILL.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use certs::{
    ca::{Algorithm, Authority, Subject},
    identity::{Domains, Identity},
    link::{
        self, Accept, Answering, Endpoint, Limits, Refusal, Request, Service, Sockets,
        sockets::AsyncUdpSocket,
    },
    store::{Bundle, Clock, Keys},
};
use time::OffsetDateTime;
use tokio::{task::JoinHandle, time::Instant};
use topology::{Datacenter, NodeId, NodeName, Profile, Role, gossip};
use uuid::Uuid;
use wan_federation::{
    Config, Consistency, Detours, Envelope, Federation, ForwardError, Forwarded, Health, Inside,
    Randomness, Word, sight::SIGHT,
};

use crate::fabric::{Fabric, Link};

/// How long a request may take before its asker gives up: far more than any bound.
const DEADLINE: Duration = Duration::from_secs(60);

/// The time of day when every globe begins: links derive their identifiers from it too, so that it
/// must not be the machine's.
const BEGIN: OffsetDateTime =
    OffsetDateTime::UNIX_EPOCH.saturating_add(time::Duration::days(20_000));

/// The servers that run, by datacenter.
type Running = Arc<Mutex<BTreeMap<u8, BTreeSet<u8>>>>;

struct Wires(Fabric);

impl Sockets for Wires {
    fn udp(&self, addr: SocketAddr) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(self.0.socket(addr)?))
    }
}

/// A server by datacenter and number, both from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The datacenter.
    pub dc: u8,
    /// The server there.
    pub server: u8,
}

impl Place {
    /// Returns its name: a letter for the datacenter, then its number; two letters from the 27th
    /// datacenter on.
    pub fn name(self) -> NodeName {
        let letter = |n: u8| char::from(b'a' + n);
        let (high, low) = ((self.dc - 1) / 26, (self.dc - 1) % 26);
        let name = match high {
            0 => format!("{}{}", letter(low), self.server),
            _ => format!("{}{}{}", letter(high - 1), letter(low), self.server),
        };
        NodeName::new(name).expect("short and plain")
    }

    /// Returns its address.
    pub fn addr(self) -> SocketAddr {
        SocketAddr::from(([10, self.dc, 0, self.server], 8302))
    }

    /// Returns the address of its link in its datacenter.
    fn link(self) -> SocketAddr {
        SocketAddr::from(([10, self.dc, 0, self.server], 8300))
    }
}

/// Returns the name of a datacenter.
pub fn datacenter(dc: u8) -> Datacenter {
    Datacenter::new(format!("dc{dc}")).expect("short and plain")
}

struct Heart {
    place: Place,
    servers: u8,
    running: Running,
}

impl Heart {
    fn leader(&self) -> Option<u8> {
        let running = self.running.lock().expect("nobody panics in here");
        let mine = running.get(&self.place.dc)?;
        (mine.len() * 2 > usize::from(self.servers)).then(|| mine.first().copied()).flatten()
    }
}

impl Inside for Heart {
    fn answer(
        &self,
        _: Arc<Identity>,
        _: Envelope,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>> {
        let name = Bytes::from(self.place.name().to_string());
        Box::pin(async move { Ok(name) })
    }

    fn word(&self) -> Word {
        let leader = self.leader();
        Word {
            leader_known: leader.is_some(),
            is_leader: leader == Some(self.place.server),
            ..Word::default()
        }
    }

    fn lan_servers(&self) -> Vec<Profile> {
        let running = self.running.lock().expect("nobody panics in here");
        let mine = running.get(&self.place.dc).into_iter().flatten();
        let dc = self.place.dc;
        mine.map(|server| profile(Place { dc, server: *server })).collect()
    }
}

/// What comes in over the link of a datacenter.
#[derive(Default)]
struct Lan(OnceLock<Federation>);

impl Service for Lan {
    fn call(&self, peer: Arc<Identity>, _: SocketAddr, request: Request) -> Answering {
        let (federation, fellow) = (self.0.get(), peer.node.as_ref());
        let taken = request.kind == SIGHT
            && federation.zip(fellow).is_some_and(|(wan, name)| wan.told(name, &request.body));
        let refused = || Refusal::new(Refusal::SERVICE_MIN, "not what a fellow server tells");
        let answer = taken.then(Bytes::new).ok_or_else(refused);
        Box::pin(std::future::ready(answer))
    }

    fn datagram(&self, _: &Identity, _: SocketAddr, _: Bytes) {}

    fn word(&self) -> Bytes {
        Bytes::new()
    }
}

fn profile(place: Place) -> Profile {
    Profile {
        name: place.name(),
        id: NodeId(Uuid::from_u128(u128::from(place.dc) << 8 | u128::from(place.server))),
        dc: datacenter(place.dc),
        role: Role::Server,
        addr: place.addr(),
        link: Some(place.link()),
        wan: Some(place.addr()),
        version: "0.1.0".to_owned(),
        tags: BTreeMap::new(),
    }
}

/// All datacenters. Needs a runtime whose clock is paused.
pub struct Globe {
    /// The network between them.
    pub fabric: Fabric,
    servers: u8,
    seed: u64,
    clock: Clock,
    authority: Authority,
    running: Running,
    sites: BTreeMap<Place, Site>,
    boots: u64,
    /// How many datacenters there are.
    dcs: u8,
}

struct Site {
    federation: Federation,
    runs: [JoinHandle<()>; 2],
}

impl Globe {
    /// Makes the network and the authority; nobody runs yet.
    pub fn new(seed: u64, servers: u8, wan: Link) -> Self {
        let clock = Clock::Simulated { start: BEGIN, at: Instant::now() };
        let authority = Authority::create("globe", Algorithm::Ed25519, clock.now(), 2)
            .expect("an authority needs nothing");
        let fabric = Fabric::new(seed, wan);
        Self {
            fabric,
            servers,
            seed,
            clock,
            authority,
            running: Running::default(),
            sites: BTreeMap::new(),
            boots: 0,
            dcs: 0,
        }
    }

    /// Starts all servers of datacenters 1 to `dcs`; the first of each knows where dc1 is.
    pub fn start_all(&mut self, dcs: u8) {
        self.dcs = dcs;
        for dc in 1..=dcs {
            self.fabric.link(&self.hosts(dc), &self.hosts(dc), Link::LAN);
            self.start_datacenter(dc);
        }
    }

    /// Starts all servers of a datacenter.
    pub fn start_datacenter(&mut self, dc: u8) {
        for server in 1..=self.servers {
            self.start(Place { dc, server });
        }
    }

    /// Returns the addresses of a datacenter's servers.
    pub fn hosts(&self, dc: u8) -> Vec<IpAddr> {
        (1..=self.servers).map(|server| Place { dc, server }.addr().ip()).collect()
    }

    /// Starts a server, or starts it again.
    pub fn start(&mut self, place: Place) {
        self.boots += 1;
        let everyone = self.everyone();
        self.fabric.heal(&[place.addr().ip()], &everyone);
        let mut running = self.running.lock().expect("nobody panics in here");
        running.entry(place.dc).or_default().insert(place.server);
        drop(running);
        let identity = Identity::new(datacenter(place.dc), Role::Server, Some(place.name()));
        let subject = Subject::new(identity.clone());
        let issued = self.authority.issue(&subject, self.clock.now(), 1);
        let issued = issued.expect("an authority issues certificates");
        let bundle = Bundle {
            certificates: issued.certificate_pem,
            key: issued.key_pem,
            authorities: vec![self.authority.certificate_pem().to_owned()],
        };
        let keys = Keys::memory(bundle, Domains::default(), self.clock).expect("they fit");
        let seed = self.seed ^ self.boots << 32;
        let wires = Wires(self.fabric.clone());
        let service = Arc::new(Lan::default());
        let lan = link::Config {
            addr: place.link(),
            me: identity,
            keys: keys.clone(),
            accept: Accept::OwnDatacenter(datacenter(place.dc)),
            profile: link::Profile::Lan,
            seed: Some(seed),
            limits: Limits::default(),
        };
        let (lan, run_lan) =
            Endpoint::bind(lan, &wires, service.clone()).expect("the address is free");
        let door = Place { dc: if place.dc == 1 { 2 } else { 1 }, server: 1 };
        let config = Config {
            me: profile(place),
            bind: place.addr(),
            lan,
            keys,
            join: if place.server == 1 { vec![door.addr().to_string()] } else { Vec::new() },
            retry_interval: Duration::from_secs(5),
            gossip: gossip::Config::wan(),
            seed,
            boot: self.boots,
            wall_ms: self.wall_ms(),
            removed: Vec::new(),
            randomness: Randomness::Seeded,
            detours: Detours::On,
        };
        let inside = Heart { place, servers: self.servers, running: self.running.clone() };
        let (federation, run) =
            Federation::bind(config, &wires, Arc::new(inside)).expect("the address is free");
        // Nothing else sets it.
        let _ = service.0.set(federation.clone());
        let runs = [tokio::spawn(run), tokio::spawn(run_lan)];
        self.sites.insert(place, Site { federation, runs });
    }

    /// Ends a server without a goodbye.
    pub fn kill(&mut self, place: Place) {
        self.fabric.cut(&[place.addr().ip()], &self.everyone());
        let mut running = self.running.lock().expect("nobody panics in here");
        running.entry(place.dc).or_default().remove(&place.server);
        drop(running);
        if let Some(site) = self.sites.remove(&place) {
            site.runs.iter().for_each(JoinHandle::abort);
        }
        self.fabric.unplug(place.addr().ip());
    }

    /// Ends all servers of a datacenter at one time, without a goodbye.
    pub fn kill_datacenter(&mut self, dc: u8) {
        for server in 1..=self.servers {
            self.kill(Place { dc, server });
        }
    }

    /// Returns the servers that run, outside of a datacenter.
    pub fn outside(&self, dc: u8) -> Vec<Place> {
        self.sites.keys().copied().filter(|place| place.dc != dc).collect()
    }

    /// Returns a running server's handle.
    pub fn at(&self, place: Place) -> &Federation {
        &self.sites[&place].federation
    }

    /// Returns what a server holds a datacenter for.
    pub fn held(&self, place: Place, dc: u8) -> Option<Health> {
        let wanted = datacenter(dc);
        let all = self.at(place).datacenters();
        all.into_iter().find(|(dc, _)| *dc == wanted).map(|(_, verdict)| verdict.health)
    }

    /// Tells whether all servers outside of a datacenter hold it for something.
    pub fn all_hold(&self, dc: u8, health: Health) -> bool {
        self.outside(dc).iter().all(|place| self.held(*place, dc) == Some(health))
    }

    /// Tells whether every server knows every other and holds all datacenters for healthy.
    pub fn is_well(&self) -> bool {
        let alive = |place: Place| {
            self.at(place).members().iter().filter(|member| member.is_alive()).count()
        };
        self.sites.keys().all(|place| {
            alive(*place) == self.sites.len()
                && self
                    .sites
                    .keys()
                    .all(|other| self.held(*place, other.dc) == Some(Health::Healthy))
        })
    }

    /// Lets time pass until something is so; returns how long it took.
    pub async fn until(
        &self,
        within: Duration,
        what: &str,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let begin = Instant::now();
        while !is_so(self) {
            if begin.elapsed() > within {
                self.fail(what, within);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begin.elapsed()
    }

    fn fail(&self, what: &str, within: Duration) -> ! {
        for (place, site) in &self.sites {
            eprintln!("{}:", place.name());
            for (_, key, value) in site.federation.stats() {
                eprintln!("  {key} = {value}");
            }
        }
        panic!("not so within {within:?}: {what}");
    }

    /// Asks a datacenter for something that only its leader has.
    pub fn ask(
        &self,
        from: Place,
        dc: u8,
    ) -> impl Future<Output = Result<Forwarded, ForwardError>> + Send + use<> {
        let federation = self.at(from).clone();
        let envelope = Envelope {
            dc: datacenter(dc),
            path: Vec::new(),
            deadline: Instant::now() + DEADLINE,
            request: Uuid::from_u128(7),
            read: true,
            waits: false,
            consistency: Consistency::Leader,
            trace: Uuid::from_u128(8),
            payload: Bytes::from_static(b"opaque"),
        };
        async move { federation.forward(envelope).await }
    }

    /// Returns the time of day in milliseconds since 1970.
    pub fn wall_ms(&self) -> u64 {
        let now = self.clock.now().unix_timestamp_nanos() / 1_000_000;
        u64::try_from(now).expect("it began after 1970")
    }

    fn everyone(&self) -> Vec<IpAddr> {
        (1..=self.dcs).flat_map(|dc| self.hosts(dc)).collect()
    }
}
