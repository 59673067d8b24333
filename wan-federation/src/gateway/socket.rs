//! A UDP socket that takes what has come in one go, joined by the kernel where it can, and sends it on the same way.

use std::{
    array,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use certs::link::sockets::udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

/// Most buffers that are filled in one go.
const BATCH: usize = 8;

/// Bytes of a buffer: as much as the kernel puts into one when it joins the datagrams of a sender.
const BUFFER_LEN: usize = 65536;

/// Bytes that may wait in the kernel, each way: a burst of 3,000 packets while all cores are busy. It grants as much of
/// it as `net.core.rmem_max` allows.
const BACKLOG_LEN: usize = 4 << 20;

/// The same for the socket of one flow.
const FLOW_BACKLOG_LEN: usize = 1 << 20;

/// Most rooms that are kept for later.
const ROOMS_MAX: usize = 16;

/// A UDP socket.
pub(super) struct Socket {
    peer: Option<SocketAddr>,
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Where datagrams go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) to: SocketAddr,
    /// From which address of this machine, if not from any.
    pub(super) from: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
}

/// Room for what has come. What no datagram reached of it takes no memory.
pub(super) struct Room {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH],
    filled: usize,
}

/// Datagrams of one sender that came one after the other: all are `stride` long but the last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joined<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) stride: usize,
    pub(super) from: SocketAddr,
    pub(super) asked: Option<IpAddr>,
    pub(super) ecn: Option<EcnCodepoint>,
}

/// Rooms that are not in use.
#[derive(Default)]
pub(super) struct Rooms(Mutex<Vec<Room>>);

impl Socket {
    /// Binds an address.
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        Self::open(std::net::UdpSocket::bind(addr)?, None, BACKLOG_LEN)
    }

    /// Opens a socket that speaks to one address alone.
    pub(super) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match addr {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(addr)?;
        Self::open(socket, Some(addr), FLOW_BACKLOG_LEN)
    }

    fn open(
        socket: std::net::UdpSocket,
        peer: Option<SocketAddr>,
        backlog_len: usize,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        // With less, more is lost under load.
        let _granted = state.set_recv_buffer_size((&socket).into(), backlog_len);
        let _granted = state.set_send_buffer_size((&socket).into(), backlog_len);
        Ok(Self { peer, socket: UdpSocket::from_std(socket)?, state })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Returns the address that it is connected to.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Waits until there may be datagrams.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes the datagrams that have come; there may be none.
    pub(super) fn receive(&self, room: &mut Room) -> io::Result<()> {
        let Room { bytes, metas, filled } = room;
        *filled = 0;
        let received = self.socket.try_io(Interest::READABLE, || {
            let mut buffers = bytes.chunks_exact_mut(BUFFER_LEN);
            let mut slices: [IoSliceMut<'_>; BATCH] =
                array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
            self.state.recv((&self.socket).into(), &mut slices, metas)
        });
        match received {
            Ok(count) => *filled = count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sends datagrams that are `stride` long, all but the last; tells how many could not be sent. Those who speak QUIC
    /// send again what is lost.
    pub(super) fn send(&self, bytes: &[u8], stride: usize, way: Way) -> usize {
        let stride = stride.max(1);
        let at_once = self.state.max_gso_segments().max(1) * stride;
        let mut lost = 0;
        for contents in bytes.chunks(at_once) {
            let transmit = Transmit {
                destination: way.to,
                ecn: way.ecn,
                contents,
                segment_size: (contents.len() > stride).then_some(stride),
                src_ip: way.from,
            };
            // Nobody waits for room: so the runtime, which has yet to learn that a new socket has some, is not asked.
            let sent = self.state.try_send((&self.socket).into(), &transmit);
            if sent.is_err() {
                lost += contents.len().div_ceil(stride);
            }
        }
        lost
    }
}

impl Room {
    fn new() -> Self {
        let metas = [RecvMeta::default(); BATCH];
        Self { bytes: vec![0; BATCH * BUFFER_LEN], metas, filled: 0 }
    }

    /// Returns what came.
    pub(super) fn joined(&self) -> impl Iterator<Item = Joined<'_>> {
        let buffers = self.bytes.chunks_exact(BUFFER_LEN).zip(&self.metas).take(self.filled);
        buffers.map(|(buffer, meta)| Joined {
            bytes: buffer.get(..meta.len).unwrap_or_default(),
            stride: meta.stride.max(1),
            from: meta.addr,
            asked: meta.dst_ip,
            ecn: meta.ecn,
        })
    }
}

impl Rooms {
    /// Takes one, or makes one.
    pub(super) fn take(&self) -> Room {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(Room::new)
    }

    /// Gives one back.
    pub(super) fn give(&self, room: Room) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < ROOMS_MAX {
            kept.push(room);
        }
    }
}
