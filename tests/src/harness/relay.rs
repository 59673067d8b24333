//! Every packet between agents goes through here, so that a test can cut, delay and lose.
//!
//! ```text
//! agent A (binds a) --> b' | relay | --> agent B (binds b) sees the packet come from a'
//! ```
//!
//! An agent binds its own address and advertises another, at which the relay listens. Whoever
//! sends to the advertised address is known by the address it sends from, and the packet goes
//! on from *its* advertised address: agents only ever see advertised ones. Works without root
//! and without namespaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinHandle};

/// The ports that agents speak to each other on: server link, LAN pool, WAN.
pub const PORTS: [u16; 3] = [8300, 8301, 8302];

/// Longest packet that is relayed: what UDP can carry.
const PACKET_LEN_MAX: usize = 65_535;

/// What happens between two agents, one way.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    cut: bool,
    delay: Duration,
}

/// Relays until it is dropped.
#[derive(Debug)]
pub struct Relay {
    ways: Arc<Mutex<BTreeMap<(IpAddr, IpAddr), Way>>>,
    relayed: Arc<AtomicU64>,
    hosts: BTreeSet<IpAddr>,
    tasks: Vec<JoinHandle<()>>,
}

/// One port of all agents: the sockets at the advertised addresses, and who is behind them.
struct Port {
    number: u16,
    sockets: BTreeMap<IpAddr, UdpSocket>,
    advertised: BTreeMap<IpAddr, IpAddr>,
    relayed: Arc<AtomicU64>,
    /// Where agents that bind another port were seen: clients' links take any that is free.
    seen: Mutex<BTreeMap<IpAddr, u16>>,
}

impl Port {
    fn see(&self, from: SocketAddr) {
        self.seen.lock().expect("nobody panics in here").insert(from.ip(), from.port());
    }

    fn of(&self, bound: IpAddr) -> SocketAddr {
        let seen = self.seen.lock().expect("nobody panics in here");
        SocketAddr::new(bound, seen.get(&bound).copied().unwrap_or(self.number))
    }
}

impl Relay {
    /// Listens at the advertised address of each agent: pairs of (bound, advertised).
    pub async fn bind(hosts: &[(IpAddr, IpAddr)]) -> io::Result<Self> {
        let ways: Arc<Mutex<BTreeMap<(IpAddr, IpAddr), Way>>> = Arc::default();
        let relayed: Arc<AtomicU64> = Arc::default();
        let mut tasks = Vec::new();
        for number in PORTS {
            let mut sockets = BTreeMap::new();
            for (_, advertised) in hosts {
                sockets.insert(*advertised, UdpSocket::bind((*advertised, number)).await?);
            }
            let advertised = hosts.iter().copied().collect();
            let port = Arc::new(Port {
                number,
                sockets,
                advertised,
                relayed: relayed.clone(),
                seen: Mutex::default(),
            });
            for (bound, advertised) in hosts {
                let (port, ways) = (Arc::clone(&port), Arc::clone(&ways));
                tasks.push(tokio::spawn(relay(port, ways, *advertised, *bound)));
            }
        }
        Ok(Self { ways, relayed, hosts: hosts.iter().map(|(bound, _)| *bound).collect(), tasks })
    }

    /// Counts the packets that were sent on so far.
    pub fn relayed(&self) -> u64 {
        self.relayed.load(Ordering::Relaxed)
    }

    /// Cuts every way between these agents (by bound address) and all others.
    pub fn isolate(&self, hosts: &[IpAddr]) {
        self.change(hosts, |way| way.cut = true);
    }

    /// Cuts every way between two groups of agents (by bound address).
    pub fn cut(&self, some: &[IpAddr], others: &[IpAddr]) {
        let mut ways = self.ways.lock().expect("nobody panics in here");
        for (one, other) in some.iter().flat_map(|one| others.iter().map(move |it| (*one, *it))) {
            ways.entry((one, other)).or_default().cut = true;
            ways.entry((other, one)).or_default().cut = true;
        }
    }

    /// Delays packets between these agents and all others, each way.
    pub fn delay(&self, hosts: &[IpAddr], delay: Duration) {
        self.change(hosts, |way| way.delay = delay);
    }

    /// Cuts these ways, from one agent to another, delays packets on all others, and heals what was
    /// cut or delayed before.
    pub fn only(&self, cut: &BTreeSet<(IpAddr, IpAddr)>, delay: Duration) {
        let pairs = self.hosts.iter().flat_map(|one| self.hosts.iter().map(|other| (*one, *other)));
        let ways = pairs.map(|pair| (pair, Way { cut: cut.contains(&pair), delay }));
        *self.ways.lock().expect("nobody panics in here") = ways.collect();
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.ways.lock().expect("nobody panics in here").clear();
    }

    fn change(&self, hosts: &[IpAddr], change: impl Fn(&mut Way)) {
        let mut ways = self.ways.lock().expect("nobody panics in here");
        for host in hosts {
            for other in self.hosts.iter().filter(|other| !hosts.contains(other)) {
                change(ways.entry((*host, *other)).or_default());
                change(ways.entry((*other, *host)).or_default());
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Carries what is sent to one advertised address to the agent behind it.
async fn relay(
    port: Arc<Port>,
    ways: Arc<Mutex<BTreeMap<(IpAddr, IpAddr), Way>>>,
    advertised: IpAddr,
    bound: IpAddr,
) {
    let mut buffer = vec![0; PACKET_LEN_MAX];
    loop {
        // A closed port on the far side shows as an error of the next receive: not our affair.
        let Ok((len, from)) = port.sockets[&advertised].recv_from(&mut buffer).await else {
            continue;
        };
        let way = ways.lock().expect("nobody panics in here").get(&(from.ip(), bound)).copied();
        let way = way.unwrap_or_default();
        let Some(source) = port.advertised.get(&from.ip()).copied() else { continue };
        port.see(from);
        if way.cut {
            continue;
        }
        port.relayed.fetch_add(1, Ordering::Relaxed);
        let to = port.of(bound);
        if way.delay.is_zero() {
            let _lost_like_any_packet = port.sockets[&source].send_to(&buffer[..len], to).await;
        } else {
            let (port, data) = (Arc::clone(&port), buffer[..len].to_vec());
            tokio::spawn(async move {
                tokio::time::sleep(way.delay).await;
                let _lost_like_any_packet = port.sockets[&source].send_to(&data, to).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::block::Block;

    #[tokio::test]
    async fn packets_come_from_the_advertised_address() {
        let block = Block::claim();
        let pairs = [(block.host(1), block.host(101)), (block.host(2), block.host(102))];
        let relay = Relay::bind(&pairs).await.unwrap();
        let one = UdpSocket::bind((block.host(1), 8300)).await.unwrap();
        let other = UdpSocket::bind((block.host(2), 8300)).await.unwrap();
        let mut buffer = [0; 16];

        one.send_to(b"hello", (block.host(102), 8300)).await.unwrap();
        let (len, from) = other.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], from), (&b"hello"[..], (block.host(101), 8300).into()));

        relay.isolate(&[block.host(2)]);
        one.send_to(b"lost", (block.host(102), 8300)).await.unwrap();
        // What was sent before the way was healed is gone once something later arrived.
        let probe = async {
            loop {
                relay.heal();
                other.send_to(b"back", from).await.unwrap();
                let mut buffer = [0; 16];
                let wait = Duration::from_millis(100);
                if tokio::time::timeout(wait, one.recv_from(&mut buffer)).await.is_ok() {
                    break;
                }
            }
        };
        probe.await;
    }
}
