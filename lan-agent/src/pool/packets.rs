//! Where the pool's packets come from and go to: the kernel's UDP, or a simulated network.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    task::{Context, Poll},
};

use tokio::{io::ReadBuf, net::UdpSocket};

/// Bytes that the kernel keeps of what arrives while the pool is busy: a join storm of 5,000
/// nodes is some 4 MiB.
const RECEIVE_BUFFER_LEN: usize = 4 << 20;

/// Makes sockets.
pub trait Packets: Send + Sync {
    /// Opens a socket at an address; port 0 takes a free one.
    fn bind(&self, addr: SocketAddr) -> io::Result<Box<dyn Socket>>;
}

/// A socket for packets. A network may lose, repeat and reorder them.
pub trait Socket: Send + Sync + 'static {
    /// Returns where it takes packets.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Sends a packet without waiting; one that can't go out now is lost with an error.
    fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()>;

    /// Takes the next packet into `buf`, cutting it where `buf` ends, and says from whom it is;
    /// or has the task woken when there is one.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>>;
}

/// Waits for the next packet.
pub(super) async fn recv(socket: &dyn Socket, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    poll_fn(|cx| socket.poll_recv(cx, buf)).await
}

/// The kernel's UDP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Packets for Kernel {
    fn bind(&self, addr: SocketAddr) -> io::Result<Box<dyn Socket>> {
        let domain = socket2::Domain::for_address(addr);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None)?;
        // The kernel gives less where its limit is lower; that only costs packets.
        let _sized = socket.set_recv_buffer_size(RECEIVE_BUFFER_LEN);
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        Ok(Box::new(UdpSocket::from_std(socket.into())?))
    }
}

impl Socket for UdpSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        UdpSocket::local_addr(self)
    }

    fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        self.try_send_to(packet, to).map(|_len| ())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut read = ReadBuf::new(buf);
        self.poll_recv_from(cx, &mut read).map_ok(|from| (read.filled().len(), from))
    }
}
