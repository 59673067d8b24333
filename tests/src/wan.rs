//! A federation on the simulated network: several datacenters of WAN servers, without Raft.
//!
//! Each server is the real `wan_federation::Federation` over the real QUIC link. What is inside
//! its datacenter is a stand-in that says who leads and answers envelopes with the server's name.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use certs::{identity::Identity, link::Refusal};
use tokio::{task::JoinHandle, time::Instant};
use topology::{Datacenter, NodeId, Profile, Role, Status, gossip};
use uuid::Uuid;
use wan_federation::{
    Consistency, Envelope, Federation, ForwardError, Health, Inside, Promise, Randomness, Verdict,
    Word,
};

use crate::{
    credentials::Credentials,
    fabric::{Fabric, Link},
};

/// The port of the WAN side.
const PORT: u16 = 8302;

/// A server by its place: datacenter and number, both from 0.
pub type Place = (usize, usize);

/// The federation, the network below it and who runs.
pub struct World {
    /// The network.
    pub fabric: Fabric,
    credentials: Arc<Credentials>,
    servers: usize,
    seed: u64,
    starts: u64,
    sites: BTreeMap<Place, Site>,
}

struct Site {
    federation: Federation,
    run: JoinHandle<()>,
}

/// What is inside a datacenter, as far as the WAN asks.
struct StandIn {
    name: String,
    leads: bool,
    lan: Arc<Mutex<Vec<Profile>>>,
}

impl Inside for StandIn {
    fn answer(&self, _from: Arc<Identity>, _asked: Envelope) -> Promise<Result<Bytes, Refusal>> {
        let name = self.name.clone();
        Box::pin(async move { Ok(name.into()) })
    }

    fn word(&self) -> Word {
        Word { leader_known: true, is_leader: self.leads, ..Word::default() }
    }

    fn lan_servers(&self) -> Vec<Profile> {
        self.lan.lock().expect("nobody panics in here").clone()
    }
}

impl World {
    /// Starts datacenters of servers with `far` links between them; the first server of each
    /// datacenter joins the very first.
    pub fn start(
        fabric: Fabric,
        credentials: Arc<Credentials>,
        (datacenters, servers): (usize, usize),
        far: Link,
        seed: u64,
    ) -> Self {
        let sites = BTreeMap::new();
        let mut world = Self { fabric, credentials, servers, seed, starts: 0, sites };
        world.fabric.default_link(far);
        for dc in 0..datacenters {
            let hosts = world.hosts(dc);
            world.fabric.link(&hosts, &hosts, Link::LAN);
            (0..servers).for_each(|number| world.run((dc, number)));
        }
        world
    }

    /// Returns the name of a datacenter.
    pub fn name(dc: usize) -> Datacenter {
        Datacenter::new(format!("dc{}", dc + 1)).expect("a name")
    }

    /// Returns the addresses of a datacenter's servers.
    pub fn hosts(&self, dc: usize) -> Vec<IpAddr> {
        (0..self.servers).map(|number| addr((dc, number)).ip()).collect()
    }

    /// Returns the addresses of all other datacenters' servers.
    pub fn others(&self, dc: usize) -> Vec<IpAddr> {
        let others = self.sites.keys().filter(|(other, _)| *other != dc);
        others.map(|place| addr(*place).ip()).collect()
    }

    /// Returns a running server.
    pub fn at(&self, place: Place) -> &Federation {
        &self.sites[&place].federation
    }

    /// Starts a server that does not run.
    pub fn run(&mut self, place: Place) {
        self.starts += 1;
        let me = profile(place);
        let (_, keys) = self.credentials.server(&me.dc, &me.name);
        let first = place != (0, 0) && place.1 == 0;
        let config = wan_federation::federation::Config {
            bind: me.addr,
            keys,
            join: first.then(|| addr((0, 0)).to_string()).into_iter().collect(),
            retry_interval: Duration::from_secs(2),
            gossip: gossip::Config::wan(),
            seed: self.seed ^ self.starts << 32,
            boot: self.starts,
            randomness: Randomness::Seeded,
            me,
        };
        let fellows = (0..self.servers).map(|number| profile((place.0, number))).collect();
        let inside = StandIn {
            name: format!("{}.{}", config.me.name, config.me.dc),
            leads: place.1 == 0,
            lan: Arc::new(Mutex::new(fellows)),
        };
        let (federation, run) =
            Federation::bind(config, &self.fabric, Arc::new(inside)).expect("a free address");
        let old = self.sites.insert(place, Site { federation, run: tokio::spawn(run) });
        assert!(old.is_none(), "{place:?} runs already");
    }

    /// Kills a server: it says nothing more.
    pub fn kill(&mut self, place: Place) {
        self.fabric.unplug(addr(place).ip());
        if let Some(site) = self.sites.remove(&place) {
            site.run.abort();
        }
    }

    /// Returns what a server holds a datacenter for.
    pub fn verdict(&self, place: Place, dc: usize) -> Option<Verdict> {
        let all = self.at(place).datacenters();
        all.into_iter().find(|(name, _)| *name == Self::name(dc)).map(|(_, verdict)| verdict)
    }

    /// Says which running server of another datacenter does not hold a datacenter for `wanted`.
    pub fn held_for(&self, dc: usize, wanted: Health) -> Result<(), String> {
        for place in self.sites.keys().filter(|(own, _)| *own != dc) {
            match self.verdict(*place, dc) {
                Some(verdict) if verdict.health == wanted => {}
                other => return Err(format!("{place:?} holds {} for {other:?}", Self::name(dc))),
            }
        }
        Ok(())
    }

    /// Says who does not hold every datacenter with running servers for healthy.
    pub fn all_healthy(&self) -> Result<(), String> {
        let dcs: Vec<usize> = self.sites.keys().map(|(dc, _)| *dc).collect();
        dcs.into_iter().try_for_each(|dc| self.held_for(dc, Health::Healthy))
    }

    /// Says who holds a datacenter with running servers for lost.
    pub fn none_lost(&self) -> Result<(), String> {
        for (dc, _) in self.sites.keys() {
            for place in self.sites.keys() {
                if let Some(verdict) = self.verdict(*place, *dc)
                    && verdict.health == Health::Lost
                {
                    return Err(format!("{place:?} holds {} for {verdict:?}", Self::name(*dc)));
                }
            }
        }
        Ok(())
    }

    /// Says whose pool does not hold exactly the running servers for alive.
    pub fn agreement(&self) -> Result<(), String> {
        for (place, site) in &self.sites {
            let members = site.federation.members();
            let alive: Vec<SocketAddr> = members
                .iter()
                .filter(|member| member.status == Status::Alive)
                .map(|member| member.profile.addr)
                .collect();
            let runs = |addr_: &SocketAddr| self.sites.keys().any(|other| addr(*other) == *addr_);
            if alive.len() != self.sites.len() || !alive.iter().all(runs) {
                return Err(format!("{place:?} holds {alive:?} for alive"));
            }
        }
        Ok(())
    }

    /// Asks a datacenter something from a server; returns who answered.
    pub async fn ask(&self, place: Place, dc: usize) -> Result<String, ForwardError> {
        let envelope = Envelope {
            dc: Self::name(dc),
            path: Vec::new(),
            deadline: Instant::now() + Duration::from_secs(10),
            request: Uuid::from_u128(1),
            read: true,
            consistency: Consistency::Leader,
            trace: Uuid::from_u128(2),
            payload: Bytes::from_static(b"who are you?"),
        };
        let answer = self.at(place).forward(envelope).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Looks every 50 ms until a condition holds; fails after `most`. Returns how long it took.
    pub async fn until(
        &self,
        most: Duration,
        what: &str,
        holds: impl Fn(&Self) -> Result<(), String>,
    ) -> Duration {
        let begin = Instant::now();
        loop {
            match holds(self) {
                Ok(()) => return begin.elapsed(),
                Err(why) => assert!(begin.elapsed() < most, "{what}: not in {most:?}: {why}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn addr((dc, number): Place) -> SocketAddr {
    let byte = |number: usize| u8::try_from(number + 1).expect("few enough");
    SocketAddr::from(([10, byte(dc), 0, byte(number)], PORT))
}

fn profile(place: Place) -> Profile {
    let addr = addr(place);
    Profile {
        name: format!("server-{}-{}", place.0 + 1, place.1 + 1).parse().expect("a name"),
        id: NodeId(Uuid::from_u128((place.0 * 100 + place.1 + 1) as u128)),
        dc: World::name(place.0),
        role: Role::Server,
        addr,
        link: None,
        wan: Some(addr),
        version: "0.1.0".to_owned(),
        tags: BTreeMap::new(),
    }
}
