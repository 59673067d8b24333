//! A UDP socket that takes what has come in one go, and answers from the address that was asked.
//!
//! A socket that is bound to all addresses of a machine would answer from the one that is nearest to
//! the client, who then throws the answer away when it asked at another.

use std::{
    array,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

/// Most buffers that are filled in one go. With 16 a call to the kernel is a small part of what an
/// answer costs.
const BATCH: usize = 16;

/// Bytes of a buffer: as much as the kernel puts into one when it joins the datagrams of a client.
const BUFFER_LEN: usize = 65536;

/// Bytes of questions that may wait in the kernel while all cores are busy: some thousand. It grants as much of it
/// as `net.core.rmem_max` allows.
const BACKLOG_LEN: usize = 1 << 20;

/// A UDP socket.
pub(super) struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Who sent a datagram, and where to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) addr: SocketAddr,
    asked: Option<IpAddr>,
}

/// Room for what has come. What no datagram reached of it takes no memory.
pub(super) struct Room {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH],
    filled: usize,
}

impl Datagrams {
    /// Binds a socket that shares its address with others of this process.
    pub(super) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_port(true)?;
        socket.bind(&addr.into())?;
        let state = UdpSocketState::new((&socket).into())?;
        // With less, more is lost under load.
        let _granted = state.set_recv_buffer_size((&socket).into(), BACKLOG_LEN);
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, state })
    }

    /// Waits for datagrams.
    pub(super) async fn receive(&self, room: &mut Room) -> io::Result<()> {
        let Room { bytes, metas, filled } = room;
        *filled = 0;
        let mut receive = || {
            let mut buffers = bytes.chunks_exact_mut(BUFFER_LEN);
            let mut slices: [IoSliceMut<'_>; BATCH] =
                array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
            self.state.recv((&self.socket).into(), &mut slices, metas)
        };
        loop {
            self.socket.readable().await?;
            match self.socket.try_io(Interest::READABLE, &mut receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done.map(|count| *filled = count),
            }
        }
    }

    /// Sends a datagram.
    pub(super) async fn send(&self, bytes: &[u8], to: Client) -> io::Result<()> {
        let transmit = Transmit {
            destination: to.addr,
            ecn: None,
            contents: bytes,
            segment_size: None,
            src_ip: to.asked,
        };
        let send = || self.state.try_send((&self.socket).into(), &transmit);
        loop {
            match self.socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.writable().await?;
                }
                done => return done,
            }
        }
    }
}

impl Room {
    pub(super) fn new() -> Self {
        let metas = [RecvMeta::default(); BATCH];
        Self { bytes: vec![0; BATCH * BUFFER_LEN], metas, filled: 0 }
    }

    /// Returns the datagrams that came, each with its sender.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], Client)> {
        let buffers = self.bytes.chunks_exact(BUFFER_LEN).zip(&self.metas).take(self.filled);
        buffers.flat_map(|(buffer, meta)| {
            let client = Client { addr: meta.addr, asked: meta.dst_ip };
            // Several of one client may have been joined; an empty one is no question.
            let joined = buffer.get(..meta.len).unwrap_or_default();
            joined.chunks(meta.stride.max(1)).map(move |bytes| (bytes, client))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn exchange(bound: &str, asked: &str) -> SocketAddr {
        let server = Datagrams::bind(bound.parse().unwrap()).unwrap();
        let port = server.socket.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut room = Room::new();
        for text in ["one", "two"] {
            client.send_to(text.as_bytes(), (asked, port)).await.unwrap();
        }
        let mut heard = Vec::new();
        while heard.len() < 2 {
            server.receive(&mut room).await.unwrap();
            for (bytes, from) in room.datagrams() {
                assert_eq!(from.addr, client.local_addr().unwrap());
                heard.push(bytes.to_vec());
                server.send(bytes, from).await.unwrap();
            }
        }
        assert_eq!(heard, [b"one", b"two"]);
        let mut buffer = [0; 10];
        client.recv_from(&mut buffer).await.unwrap().1
    }

    #[tokio::test]
    async fn answers_come_from_the_address_that_was_asked() {
        let from = exchange("0.0.0.0:0", "127.0.0.77").await;
        assert_eq!(from.ip().to_string(), "127.0.0.77");
        let from = exchange("127.0.0.78:0", "127.0.0.78").await;
        assert_eq!(from.ip().to_string(), "127.0.0.78");
    }

    #[test]
    fn datagrams_that_were_joined_are_taken_apart() {
        let mut room = Room::new();
        room.bytes[..5].copy_from_slice(b"aabbc");
        room.bytes[BUFFER_LEN..BUFFER_LEN + 2].copy_from_slice(b"dd");
        room.metas[0] = RecvMeta { len: 5, stride: 2, ..RecvMeta::default() };
        room.metas[1] = RecvMeta { len: 2, stride: 2, ..RecvMeta::default() };
        room.filled = 2;
        let parts: Vec<&[u8]> = room.datagrams().map(|(bytes, _)| bytes).collect();
        assert_eq!(parts, [&b"aa"[..], b"bb", b"c", b"dd"]);
    }
}
