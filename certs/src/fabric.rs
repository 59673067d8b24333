//! A network in memory, for this crate's tests: delays packets, keeps their order, can be cut.
//!
//! It runs on the runtime's clock, so that tests with a paused clock wait for nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::link::Sockets;

/// The network; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Fabric(Arc<Mutex<Wires>>);

#[derive(Debug)]
struct Wires {
    latency: Duration,
    ports: BTreeMap<SocketAddr, Arc<Port>>,
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    next_port: u16,
}

#[derive(Debug)]
struct Port {
    addr: SocketAddr,
    fabric: Fabric,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    packets: VecDeque<Packet>,
    waker: Option<Waker>,
    alarm: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Packet {
    at: Instant,
    from: SocketAddr,
    data: Vec<u8>,
}

impl Fabric {
    pub(crate) fn new(latency: Duration) -> Self {
        let wires =
            Wires { latency, ports: BTreeMap::new(), cut: BTreeSet::new(), next_port: 40_000 };
        Self(Arc::new(Mutex::new(wires)))
    }

    /// Loses all packets from now on that go from one address to the other.
    pub(crate) fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.0.lock().unwrap().cut.insert((from, to));
    }

    /// Loses nothing any more.
    pub(crate) fn heal(&self) {
        self.0.lock().unwrap().cut.clear();
    }

    /// Puts a packet on the wire as if it came from `from`.
    pub(crate) fn send(&self, from: SocketAddr, to: SocketAddr, data: Vec<u8>) {
        let (port, at) = {
            let wires = self.0.lock().unwrap();
            if wires.cut.contains(&(from, to)) {
                return;
            }
            let Some(port) = wires.ports.get(&to) else { return };
            (Arc::clone(port), Instant::now() + wires.latency)
        };
        let mut inbox = port.inbox.lock().unwrap();
        inbox.packets.push_back(Packet { at, from, data });
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

impl Sockets for Fabric {
    fn udp(&self, mut addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let mut wires = self.0.lock().unwrap();
        if addr.port() == 0 {
            wires.next_port += 1;
            addr.set_port(wires.next_port);
        }
        let port =
            Arc::new(Port { addr, fabric: self.clone(), inbox: Mutex::new(Inbox::default()) });
        // A restarted node takes its address over.
        wires.ports.insert(addr, Arc::clone(&port));
        Ok(port)
    }
}

#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Port {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.fabric.send(self.addr, transmit.destination, transmit.contents.to_vec());
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap();
        loop {
            match inbox.packets.front() {
                Some(packet) if packet.at <= Instant::now() => {
                    let packet = inbox.packets.pop_front().unwrap();
                    let len = packet.data.len();
                    bufs[0][..len].copy_from_slice(&packet.data);
                    meta[0] = RecvMeta { len, stride: len, ecn: None, ..RecvMeta::default() };
                    meta[0].addr = packet.from;
                    return Poll::Ready(Ok(1));
                }
                Some(packet) => {
                    let at = packet.at;
                    let alarm = inbox.alarm.get_or_insert_with(|| Box::pin(sleep_until(at)));
                    alarm.as_mut().reset(at);
                    if alarm.as_mut().poll(cx).is_pending() {
                        inbox.waker = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
                None => {
                    inbox.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
