//! Names of others: the recursors are asked, and their answers kept for as long as they allow.
//!
//! ```text
//! kept ──▶ answer
//!   `────▶ one recursor after the other ──UDP──▶ answer, or TC ──TCP──▶ answer
//! ```
//!
//! Each question goes out from a port of its own with a random id, and an answer counts when it
//! comes from there with this id and this question. A recursor that is silent, unreachable or has
//! nothing to say but an error is followed by the next one; when all are, the client is told
//! SERVFAIL.

mod kept;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use rand::{RngExt, rngs::SmallRng, seq::SliceRandom};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout},
};
use tracing::debug;

use self::kept::Kept;
use super::{
    answer::Reply,
    settings::{Recursors, Strategy},
};

/// Most recursors that one question goes to.
const ATTEMPTS_MAX: usize = 8;

/// Longest answer that is asked for in a datagram, see [`super::message`].
const DATAGRAM_LEN_MAX: usize = 1232;

/// Asks recursors.
#[derive(Default)]
pub(super) struct Recursor {
    kept: Mutex<Kept>,
}

impl Recursor {
    /// Returns what is kept or what a recursor says; `None` when none says anything.
    pub(super) async fn ask(
        &self,
        query: &Query,
        recursors: &Recursors,
        mut random: SmallRng,
    ) -> Option<Reply> {
        if let Some(reply) = self.kept().get(query, Instant::now()) {
            return Some(reply);
        }
        let mut servers = recursors.servers.clone();
        if recursors.strategy == Strategy::Random {
            servers.shuffle(&mut random);
        }
        let mut error = None;
        for server in servers.into_iter().take(ATTEMPTS_MAX) {
            let question = question(query, random.random());
            let answer = match timeout(recursors.timeout, exchange(server, &question)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    debug!(%server, %error, "recursor");
                    continue;
                }
                Err(_) => {
                    debug!(%server, "the recursor is silent");
                    continue;
                }
            };
            let reply = Reply::of_others(answer);
            if matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain) {
                self.kept().put(query, &reply, Instant::now());
                return Some(reply);
            }
            error = Some(reply);
        }
        error
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // The table is whole between any two statements.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn question(query: &Query, id: u16) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(u16::try_from(DATAGRAM_LEN_MAX).unwrap_or(u16::MAX));
    message.set_edns(edns);
    message
}

/// Asks one recursor, over TCP when the answer does not fit into a datagram.
async fn exchange(server: SocketAddr, question: &Message) -> io::Result<Message> {
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let answer = by_udp(server, question, &bytes).await?;
    match answer.truncation {
        true => by_tcp(server, question, &bytes).await,
        false => Ok(answer),
    }
}

async fn by_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4 * DATAGRAM_LEN_MAX];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // What is not an answer to this question is somebody's attempt to guess it.
        if let Some(answer) = answer(&buffer[..len], question) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), bytes].concat()).await?;
    let len = stream.read_u16().await?;
    let mut buffer = vec![0; len.into()];
    stream.read_exact(&mut buffer).await?;
    answer(&buffer, question).ok_or_else(|| io::Error::other("an answer to another question"))
}

fn answer(bytes: &[u8], question: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.id == question.id
        && answer.message_type == MessageType::Response
        && answer.queries == question.queries;
    fits.then_some(answer)
}

#[cfg(test)]
mod tests;
