//! The caller's side of a call: one stream, written at once, read to its end.
//!
//! A call that is dropped resets its stream, so that the peer neither takes a half-written body
//! for a whole one nor goes on with work that nobody waits for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::time::{Instant, timeout_at};

use crate::{
    error::CallError,
    link::{
        REPLY_LEN_MAX, REQUEST_LEN_MAX, Reply, Request,
        connection::Connection,
        frame::{Header, STATUS_LEN},
    },
};

/// The stream code of a call that the caller gave up.
pub(super) const CANCELLED: VarInt = VarInt::from_u32(1);

/// How much sooner than the caller a peer may find the deadline passed: it is told the time that is left in whole
/// milliseconds, and timers count in these.
const AHEAD_MAX: Duration = Duration::from_millis(5);

/// Resets the stream unless all was written.
struct Outgoing {
    stream: SendStream,
    whole: bool,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if !self.whole {
            // It fails if the stream has ended already, which is as good.
            let _ = self.stream.reset(CANCELLED);
        }
    }
}

/// Sends a request and waits for its reply until the request's deadline.
pub(super) async fn call(
    connection: &Arc<Connection>,
    request: Request,
) -> Result<Reply, CallError> {
    let len = request.body.len();
    if len > REQUEST_LEN_MAX {
        return Err(CallError::TooLarge { len, len_max: REQUEST_LEN_MAX });
    }
    let _busy = connection.begin();
    let mut sent = false;
    let deadline = request.deadline;
    let exchanged = timeout_at(deadline, exchange(connection, request, &mut sent)).await;
    exchanged.unwrap_or(Err(CallError::Deadline { sent }))
}

async fn exchange(
    connection: &Arc<Connection>,
    request: Request,
    sent: &mut bool,
) -> Result<Reply, CallError> {
    let lost = |sent| CallError::Lost { reason: connection.reason(), sent };
    let (send, mut receive) = connection.quic.open_bi().await.map_err(|_| lost(false))?;
    let mut outgoing = Outgoing { stream: send, whole: false };
    let deadline = request.deadline;
    let left = deadline.saturating_duration_since(Instant::now());
    let header = Header { kind: request.kind, left };
    *sent = true;
    match outgoing.stream.write_all_chunks(&mut [header.encode(), request.body]).await {
        // The peer has answered without reading all: it refuses.
        Ok(()) | Err(WriteError::Stopped(_)) => {}
        Err(_) => return Err(lost(true)),
    }
    // It fails if the peer has stopped the stream: its answer says why.
    let _ = outgoing.stream.finish();
    outgoing.whole = true;
    read_reply(connection.addr, &mut receive).await.map_err(|error| match error {
        Unread::Lost => lost(true),
        Unread::Reset if Instant::now() + AHEAD_MAX >= deadline => {
            CallError::Deadline { sent: true }
        }
        Unread::Reset => {
            CallError::Lost { reason: "the peer gave up on the request".into(), sent: true }
        }
        Unread::TooLong => CallError::ReplyTooLarge { len_max: REPLY_LEN_MAX },
        Unread::Refused(error) => error,
    })
}

enum Unread {
    Lost,
    Reset,
    TooLong,
    Refused(CallError),
}

async fn read_reply(peer: SocketAddr, receive: &mut RecvStream) -> Result<Reply, Unread> {
    let mut body = match read_to_end(receive, REPLY_LEN_MAX + STATUS_LEN).await {
        Ok(body) => body,
        Err(Stopped::TooLong) => return Err(Unread::TooLong),
        Err(Stopped::Read(ReadError::Reset(_))) => return Err(Unread::Reset),
        Err(Stopped::Read(_)) => return Err(Unread::Lost),
    };
    let Ok(code) = body.try_get_u16() else { return Err(Unread::Reset) };
    if code == 0 {
        return Ok(Reply { body });
    }
    let message = String::from_utf8_lossy(&body).into_owned();
    Err(Unread::Refused(CallError::Refused { peer, code, message }))
}

/// Why a stream was not read to its end.
pub(super) enum Stopped {
    TooLong,
    Read(ReadError),
}

/// Reads a stream to its end; without a copy if it came in one piece.
pub(super) async fn read_to_end(
    receive: &mut RecvStream,
    len_max: usize,
) -> Result<Bytes, Stopped> {
    let Some(first) = read_chunk(receive).await? else { return Ok(Bytes::new()) };
    let Some(second) = read_chunk(receive).await? else { return bounded(first, len_max) };
    let mut whole = BytesMut::with_capacity((first.len() + second.len()).next_power_of_two());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while whole.len() <= len_max {
        match read_chunk(receive).await? {
            Some(chunk) => whole.extend_from_slice(&chunk),
            None => return Ok(whole.freeze()),
        }
    }
    Err(Stopped::TooLong)
}

fn bounded(body: Bytes, len_max: usize) -> Result<Bytes, Stopped> {
    if body.len() <= len_max { Ok(body) } else { Err(Stopped::TooLong) }
}

async fn read_chunk(receive: &mut RecvStream) -> Result<Option<Bytes>, Stopped> {
    let chunk = receive.read_chunk(usize::MAX, true).await.map_err(Stopped::Read)?;
    Ok(chunk.map(|chunk| chunk.bytes))
}
