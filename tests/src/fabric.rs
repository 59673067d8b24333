//! A packet network in memory, for simulations on a paused single-threaded runtime.
//!
//! ```text
//! Socket::send -> fate (cut? lost? too slow?) -> arrival time -> inbox of the receiver
//!                                                                  | its time comes
//! Socket::poll_recv <- first arrived, first out <------------------+
//! ```
//!
//! A link leads from one address to another, one way, and is first-in-first-out: independent
//! jitter would reorder packets, and QUIC takes reordering for loss. Everything that is random
//! comes from one seed, and every packet with its fate goes into a [`Trace`], so that two runs
//! of the same seed can be compared by a number.
//!
//! A packet to an address where nobody listens vanishes, as on a real network. A socket that is
//! not read holds at most [`INBOX_PACKETS_MAX`] packets and loses what comes after.
//!
//! The network has a time of its own, since it was made. Who uses it from another runtime, such as a
//! [`Machine`](crate::machine::Machine)'s, brings a [`Clock`] that tells it.

mod socket;

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
    time::Duration,
};

use bytes::Bytes;
use certs::link::{Sockets, sockets::AsyncUdpSocket};
use lan_agent::pool::packets;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

pub use socket::Socket;

/// Most packets that wait to be read: about what a 4 MiB socket buffer holds.
pub const INBOX_PACKETS_MAX: usize = 4096;

/// How a link treats its packets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Time from one end to the other.
    pub latency: Duration,
    /// Up to this much more, drawn for each packet; order is kept.
    pub jitter: Duration,
    /// Part of the packets that vanish, from 0 to 1.
    pub loss: f64,
    /// Bytes a second; `None`: no limit. A packet that would wait over a second is dropped.
    pub bandwidth: Option<u64>,
}

impl Link {
    /// A switch in one room.
    pub const LAN: Self = Self {
        latency: Duration::from_micros(200),
        jitter: Duration::from_micros(100),
        loss: 0.0,
        bandwidth: None,
    };

    /// A line between two cities: 30 ms there and back.
    pub const WAN: Self = Self {
        latency: Duration::from_millis(15),
        jitter: Duration::from_millis(2),
        loss: 0.0,
        bandwidth: None,
    };

    /// Returns the link with another loss.
    pub fn with_loss(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// Returns the link with another latency, which is half of the time there and back.
    pub fn with_latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }
}

/// What went over the network so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Of all packets: time, from, to, length, fate.
    pub hash: u64,
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that arrived or will.
    pub delivered: u64,
}

impl Trace {
    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3); // FNV-1a
        }
    }
}

/// What was sent to a port, lost or not: packets, and bytes without the headers of UDP and IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Microseconds of a second.
const MICROS: i32 = 1_000_000;

/// Tells the network's time by that of a runtime.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    begin: Instant,
    at: Duration,
    /// How many microseconds the runtime's clock is ahead after a second of the network.
    drift: i32,
}

impl Clock {
    /// A clock of the present runtime, where it is now the network's `at`.
    pub fn new(at: Duration, drift: i32) -> Self {
        Self { begin: Instant::now(), at, drift }
    }

    /// Returns what the runtime's clock shows when the network's shows `time`.
    pub fn when(&self, time: Duration) -> Instant {
        self.begin + scaled(time.saturating_sub(self.at), MICROS + self.drift, MICROS)
    }

    /// Returns what the network's clock shows now.
    pub fn now(&self) -> Duration {
        self.at + scaled(self.begin.elapsed(), MICROS, MICROS + self.drift)
    }
}

fn scaled(time: Duration, by: i32, of: i32) -> Duration {
    let nanos = time.as_nanos() * by.unsigned_abs() as u128 / of.unsigned_abs() as u128;
    Duration::from_nanos(nanos as u64)
}

/// A network. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Fabric {
    net: Arc<Mutex<Net>>,
    clock: Clock,
}

#[derive(Debug)]
struct Net {
    rng: SmallRng,
    default: Link,
    links: BTreeMap<(IpAddr, IpAddr), Link>,
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    lines: BTreeMap<(IpAddr, IpAddr), Line>,
    inboxes: BTreeMap<SocketAddr, Inbox>,
    port: u16,
    serial: u64,
    trace: Trace,
    traffic: BTreeMap<u16, Traffic>,
}

/// What a link remembers: when its last packet arrives, and until when it is busy sending.
#[derive(Debug, Clone, Copy)]
struct Line {
    last_arrival: Duration,
    busy_until: Duration,
}

/// Packets on their way to a socket, the next to arrive first.
#[derive(Debug, Default)]
struct Inbox {
    packets: BinaryHeap<Packet>,
    reader: Option<Waker>,
    generation: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    key: std::cmp::Reverse<(Duration, u64)>,
    from: SocketAddr,
    data: Bytes,
}

impl Packet {
    fn arrival(&self) -> Duration {
        self.key.0.0
    }
}

impl Fabric {
    /// Makes a network whose links are all alike until told otherwise.
    pub fn new(seed: u64, default: Link) -> Self {
        let trace = Trace { hash: 0xcbf2_9ce4_8422_2325, sent: 0, delivered: 0 };
        let net = Net {
            rng: SmallRng::seed_from_u64(seed),
            default,
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            lines: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            port: 49_152,
            serial: 0,
            trace,
            traffic: BTreeMap::new(),
        };
        Self { net: Arc::new(Mutex::new(net)), clock: Clock::new(Duration::ZERO, 0) }
    }

    /// Returns a handle for use from the runtime of a clock.
    pub fn on(&self, clock: Clock) -> Self {
        Self { net: self.net.clone(), clock }
    }

    /// Opens a socket at an address; port 0 picks one.
    pub fn socket(&self, addr: SocketAddr) -> io::Result<Socket> {
        let mut net = self.net();
        let addr = match addr.port() {
            0 => {
                net.port += 1;
                SocketAddr::new(addr.ip(), net.port)
            }
            _ => addr,
        };
        if net.inboxes.contains_key(&addr) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{addr} is taken")));
        }
        net.serial += 1;
        let generation = net.serial;
        net.inboxes.insert(addr, Inbox { generation, ..Inbox::default() });
        drop(net);
        Ok(Socket::new(self.clone(), addr, generation))
    }

    /// Sets the links between two sets of hosts, both ways.
    pub fn link(&self, one: &[IpAddr], other: &[IpAddr], link: Link) {
        let mut net = self.net();
        for (a, b) in pairs(one, other) {
            net.links.insert((a, b), link);
            net.links.insert((b, a), link);
        }
    }

    /// Sets all links that have none of their own.
    pub fn default_link(&self, link: Link) {
        self.net().default = link;
    }

    /// Cuts the links between two sets of hosts, both ways. Packets under way arrive.
    pub fn cut(&self, one: &[IpAddr], other: &[IpAddr]) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Cuts the links from some hosts to others; the way back stays.
    pub fn cut_one_way(&self, from: &[IpAddr], to: &[IpAddr]) {
        self.net().cuts.extend(pairs(from, to));
    }

    /// Heals the links between two sets of hosts, both ways.
    pub fn heal(&self, one: &[IpAddr], other: &[IpAddr]) {
        let mut net = self.net();
        for (a, b) in pairs(one, other) {
            net.cuts.remove(&(a, b));
            net.cuts.remove(&(b, a));
        }
    }

    /// Heals all links.
    pub fn heal_all(&self) {
        self.net().cuts.clear();
    }

    /// Pulls the plug of a host: its sockets neither hear nor say anything any more, and its
    /// addresses are free for those that come after.
    pub fn unplug(&self, host: IpAddr) {
        self.net().inboxes.retain(|addr, _| addr.ip() != host);
    }

    /// Returns what went over the network so far.
    pub fn trace(&self) -> Trace {
        self.net().trace
    }

    /// Returns what was sent to a port of any host so far.
    pub fn traffic(&self, port: u16) -> Traffic {
        self.net().traffic.get(&port).copied().unwrap_or_default()
    }

    fn net(&self) -> MutexGuard<'_, Net> {
        self.net.lock().expect("nobody panics in here")
    }

    fn send(&self, from: &Socket, to: SocketAddr, data: Bytes) {
        let mut net = self.net();
        let plugged = net.inbox(from).is_some();
        let now = self.clock.now();
        let reader = if plugged { net.send(now, from.addr(), to, data) } else { None };
        drop(net);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Sockets for Fabric {
    fn udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(self.socket(addr)?))
    }
}

impl packets::Packets for Fabric {
    fn bind(&self, addr: SocketAddr) -> io::Result<Box<dyn packets::Socket>> {
        Ok(Box::new(self.socket(addr)?))
    }
}

impl Net {
    /// Returns the inbox of a socket, unless it was unplugged.
    fn inbox(&mut self, socket: &Socket) -> Option<&mut Inbox> {
        let inbox = self.inboxes.get_mut(&socket.addr());
        inbox.filter(|inbox| inbox.generation == socket.generation())
    }

    /// Decides a packet's fate; returns who waits for it.
    fn send(
        &mut self,
        now: Duration,
        from: SocketAddr,
        to: SocketAddr,
        data: Bytes,
    ) -> Option<Waker> {
        let arrival = self.arrival(now, from.ip(), to.ip(), data.len());
        let nanos = |at: Duration| at.as_nanos() as u64;
        let fate = arrival.map_or(u64::MAX, nanos);
        let line = format!("{} {from} {to} {} {fate};", nanos(now), data.len());
        self.trace.note(line.as_bytes());
        self.trace.sent += 1;
        let traffic = self.traffic.entry(to.port()).or_default();
        traffic.packets += 1;
        traffic.bytes += data.len() as u64;
        let (arrival, inbox) = (arrival?, self.inboxes.get_mut(&to)?);
        if inbox.packets.len() >= INBOX_PACKETS_MAX {
            return None;
        }
        self.trace.delivered += 1;
        self.serial += 1;
        let first = inbox.packets.peek().is_none_or(|packet| arrival < packet.arrival());
        inbox.packets.push(Packet { key: std::cmp::Reverse((arrival, self.serial)), from, data });
        if first { inbox.reader.take() } else { None }
    }

    /// Tells when a packet arrives, if it does.
    fn arrival(&mut self, now: Duration, from: IpAddr, to: IpAddr, len: usize) -> Option<Duration> {
        let link = match (from == to, self.links.get(&(from, to))) {
            (true, _) => Link { latency: Duration::ZERO, jitter: Duration::ZERO, ..Link::LAN },
            (false, Some(link)) => *link,
            (false, None) => self.default,
        };
        let lost = link.loss > 0.0 && self.rng.random_bool(link.loss);
        if lost || self.cuts.contains(&(from, to)) {
            return None;
        }
        let line =
            self.lines.entry((from, to)).or_insert(Line { last_arrival: now, busy_until: now });
        let sent = match link.bandwidth {
            None => now,
            Some(bandwidth) => {
                let takes = Duration::from_nanos(len as u64 * 1_000_000_000 / bandwidth.max(1));
                let sent = line.busy_until.max(now) + takes;
                if sent > now + Duration::from_secs(1) {
                    return None;
                }
                line.busy_until = sent;
                sent
            }
        };
        let jitter = match link.jitter.as_micros() as u64 {
            0 => Duration::ZERO,
            most => Duration::from_micros(self.rng.random_range(0..=most)),
        };
        line.last_arrival = line.last_arrival.max(sent + link.latency + jitter);
        Some(line.last_arrival)
    }
}

fn pairs<'a>(
    one: &'a [IpAddr],
    other: &'a [IpAddr],
) -> impl Iterator<Item = (IpAddr, IpAddr)> + 'a {
    one.iter().flat_map(move |a| other.iter().map(move |b| (*a, *b)))
}

/// Runs a simulation on a runtime of its own, whose clock jumps from timer to timer.
pub fn simulate<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing")
        .block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 1))
    }

    async fn exchange(fabric: &Fabric, count: u32) -> Vec<u32> {
        let (a, b) = (fabric.socket(addr(1)).unwrap(), fabric.socket(addr(2)).unwrap());
        for number in 0..count {
            a.send(addr(2), Bytes::copy_from_slice(&number.to_be_bytes()));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut seen = Vec::new();
        let wait = Duration::from_secs(5);
        while let Ok((_, data)) = tokio::time::timeout(wait, b.recv()).await {
            seen.push(u32::from_be_bytes(data[..].try_into().unwrap()));
        }
        seen
    }

    #[test]
    fn packets_arrive_in_order_after_the_latency() {
        simulate(async {
            let fabric = Fabric::new(1, Link::WAN);
            let begin = Instant::now();
            let seen = exchange(&fabric, 1).await;
            assert_eq!(seen, [0]);
            assert!(begin.elapsed() >= Link::WAN.latency);
            let other = Fabric::new(1, Link { jitter: Duration::from_millis(50), ..Link::WAN });
            assert_eq!(exchange(&other, 100).await, (0..100).collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_lossy_link_loses_its_part() {
        simulate(async {
            let fabric = Fabric::new(3, Link::LAN.with_loss(0.2));
            let seen = exchange(&fabric, 1000).await;
            assert!((700..900).contains(&seen.len()), "{}", seen.len());
        });
    }

    #[test]
    fn a_cut_in_one_direction_leaves_the_other() {
        simulate(async {
            let fabric = Fabric::new(4, Link::LAN);
            let (a, b) = (fabric.socket(addr(1)).unwrap(), fabric.socket(addr(2)).unwrap());
            fabric.cut_one_way(&[addr(1).ip()], &[addr(2).ip()]);
            a.send(addr(2), Bytes::from_static(b"lost"));
            b.send(addr(1), Bytes::from_static(b"found"));
            assert_eq!(a.recv().await.1, "found");
            fabric.heal_all();
            a.send(addr(2), Bytes::from_static(b"healed"));
            assert_eq!(b.recv().await.1, "healed");
        });
    }

    #[test]
    fn a_narrow_link_takes_its_time() {
        simulate(async {
            let link = Link { bandwidth: Some(1000), ..Link::LAN };
            let fabric = Fabric::new(5, link);
            let (a, b) = (fabric.socket(addr(1)).unwrap(), fabric.socket(addr(2)).unwrap());
            let begin = Instant::now();
            for _ in 0..3 {
                a.send(addr(2), Bytes::from(vec![0; 400]));
            }
            b.recv().await;
            b.recv().await;
            assert!(begin.elapsed() >= Duration::from_millis(800));
            let wait = Duration::from_secs(9);
            assert!(tokio::time::timeout(wait, b.recv()).await.is_err(), "the third was dropped");
        });
    }

    #[test]
    fn an_address_is_free_again_when_its_socket_is_gone() {
        simulate(async {
            let fabric = Fabric::new(6, Link::LAN);
            let first = fabric.socket(addr(1)).unwrap();
            assert!(fabric.socket(addr(1)).is_err());
            drop(first);
            assert!(fabric.socket(addr(1)).is_ok());
        });
    }

    #[test]
    fn an_unplugged_host_is_deaf_and_dumb() {
        simulate(async {
            let fabric = Fabric::new(6, Link::LAN);
            let (old, b) = (fabric.socket(addr(1)).unwrap(), fabric.socket(addr(2)).unwrap());
            fabric.unplug(addr(1).ip());
            let new = fabric.socket(addr(1)).unwrap();
            old.send(addr(2), Bytes::from_static(b"old"));
            new.send(addr(2), Bytes::from_static(b"new"));
            assert_eq!(b.recv().await.1, "new");
            drop(old);
            b.send(addr(1), Bytes::from_static(b"hello"));
            assert_eq!(new.recv().await.1, "hello");
        });
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        let run = |seed| {
            simulate(async move {
                let fabric = Fabric::new(seed, Link::WAN.with_loss(0.1));
                exchange(&fabric, 200).await;
                fabric.trace()
            })
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7).hash, run(8).hash);
    }
}
