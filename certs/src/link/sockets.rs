//! Where an endpoint's packets go: the kernel's sockets, or the simulation's.

use std::{io, net::SocketAddr, sync::Arc};

pub use quinn::{AsyncUdpSocket, UdpPoller, udp};
use quinn::{Runtime, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

/// Buffers of a UDP socket, each way: a burst of 3,000 packets at full size while the runtime is
/// busy. The kernel grants less if `net.core.rmem_max` is lower.
const SOCKET_BUFFER_LEN: usize = 4 << 20;

/// Opens UDP sockets.
pub trait Sockets: Send + Sync {
    /// Opens a socket bound to an address; port 0 takes a free one.
    fn udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>>;
}

/// The kernel's sockets, with large buffers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Sockets for Kernel {
    fn udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        for resized in [
            socket.set_recv_buffer_size(SOCKET_BUFFER_LEN),
            socket.set_send_buffer_size(SOCKET_BUFFER_LEN),
        ] {
            if let Err(error) = resized {
                debug!(%error, "UDP socket keeps its small buffer");
            }
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        TokioRuntime.wrap_udp_socket(socket.into())
    }
}
