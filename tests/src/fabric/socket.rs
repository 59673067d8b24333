//! A socket of the [`Fabric`]: a queue of packets that arrive at their time. It serves QUIC as
//! `AsyncUdpSocket` and everyone else by [`Socket::send`] and [`Socket::recv`].
//!
//! Sending never blocks and never fails: what the network does with a packet is its affair.

use std::{
    fmt,
    future::{Future, poll_fn},
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use certs::link::sockets::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use lan_agent::pool::packets;
use tokio::time::{Instant, Sleep};

use super::Fabric;

/// One end of the network. The address is free again when it is dropped.
pub struct Socket {
    fabric: Fabric,
    addr: SocketAddr,
    generation: u64,
    alarm: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl Socket {
    pub(super) fn new(fabric: Fabric, addr: SocketAddr, generation: u64) -> Self {
        Self { fabric, addr, generation, alarm: Mutex::new(None) }
    }

    /// Returns its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Tells this socket from others that had or have its address.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Sends a packet.
    pub fn send(&self, to: SocketAddr, data: Bytes) {
        self.fabric.send(self, to, data);
    }

    /// Waits for the next packet.
    pub async fn recv(&self) -> (SocketAddr, Bytes) {
        poll_fn(|cx| self.poll_packet(cx)).await
    }

    /// Takes the next packet that has arrived, or registers the task for when one does.
    pub fn poll_packet(&self, cx: &mut Context<'_>) -> Poll<(SocketAddr, Bytes)> {
        loop {
            let mut net = self.fabric.net();
            let Some(inbox) = net.inbox(self) else { return Poll::Pending };
            let Some(first) = inbox.packets.peek() else {
                inbox.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let arrival = self.fabric.clock.when(first.arrival());
            if arrival <= Instant::now() {
                let packet = inbox.packets.pop().expect("it was just seen");
                return Poll::Ready((packet.from, packet.data));
            }
            inbox.reader = Some(cx.waker().clone());
            drop(net);
            let mut alarm = self.alarm.lock().expect("nobody panics in here");
            let alarm = alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(arrival)));
            if alarm.deadline() != arrival {
                alarm.as_mut().reset(arrival);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut net = self.fabric.net();
        if net.inbox(self).is_some() {
            net.inboxes.remove(&self.addr);
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.addr).finish()
    }
}

impl packets::Socket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        Socket::send(self, to, Bytes::copy_from_slice(packet));
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.poll_packet(cx).map(|(from, data)| {
            let len = data.len().min(buf.len());
            buf[..len].copy_from_slice(&data[..len]);
            Ok((len, from))
        })
    }
}

/// Always ready: the network takes everything.
#[derive(Debug)]
struct Ready;

impl UdpPoller for Ready {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Ready)
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for data in transmit.contents.chunks(segment) {
            self.send(transmit.destination, Bytes::copy_from_slice(data));
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            match self.poll_packet(cx) {
                Poll::Pending => break,
                Poll::Ready((addr, data)) => {
                    let len = data.len().min(buf.len());
                    buf[..len].copy_from_slice(&data[..len]);
                    *meta = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                    count += 1;
                }
            }
        }
        if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
