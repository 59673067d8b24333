//! The peer's side of a call: reads the request, lets the service answer, writes the reply.
//!
//! Each step has a deadline: a stream that trickles costs its slot for a bounded time, and work
//! is dropped when the caller stops waiting.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{RecvStream, SendStream};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout_at},
};
use tracing::debug;

use crate::link::{
    REQUEST_LEN_MAX, Refusal, Request,
    call::CANCELLED,
    connection::{Busy, Connection},
    endpoint::Shared,
    frame::{DONE, HEADER_LEN, Header},
    transport::Timing,
};

/// How long a body may take, whatever the deadline says: 16 MiB at half a megabyte a second.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Longest body of which as many are held as there are streams.
const SMALL_BODY_LEN: usize = 64 << 10;

/// Longest reason that a refusal carries.
const MESSAGE_LEN_MAX: usize = 4 << 10;

/// A request that was read, with what it holds of the connection's share.
struct Incoming {
    request: Request,
    _large: Option<OwnedSemaphorePermit>,
}

/// Why there is no request.
enum Unread {
    /// Say so to the caller.
    Refuse(Refusal),
    /// The caller is gone or broke the protocol.
    Gone,
}

/// Serves one stream.
pub(super) async fn serve(
    shared: Arc<Shared>,
    _busy: Busy,
    connection: Arc<Connection>,
    mut send: SendStream,
    mut receive: RecvStream,
) {
    let incoming = match read_request(&shared, &connection, &mut receive).await {
        Ok(incoming) => incoming,
        Err(Unread::Refuse(refusal)) => {
            // The reply must reach the caller before its stream is stopped.
            let within = Instant::now() + Timing::new(shared.config.profile).header;
            write_reply(&mut send, Err(refusal), within).await;
            return;
        }
        Err(Unread::Gone) => {
            abandon(&mut send);
            return;
        }
    };
    let deadline = incoming.request.deadline;
    let answering =
        shared.service.call(Arc::clone(&connection.peer), connection.addr, incoming.request);
    let stopped = send.stopped();
    let answer = tokio::select! {
        biased;
        answer = timeout_at(deadline, answering) => answer.ok(),
        _ = stopped => None,
    };
    match answer {
        Some(answer) => write_reply(&mut send, answer, deadline).await,
        None => abandon(&mut send),
    }
}

async fn read_request(
    shared: &Shared,
    connection: &Connection,
    receive: &mut RecvStream,
) -> Result<Incoming, Unread> {
    let began = Instant::now();
    let header_until = began + Timing::new(shared.config.profile).header;
    let mut body = Buffer::default();
    let mut ended = false;
    while !ended && body.len() < HEADER_LEN {
        ended = read_more(receive, &mut body, header_until).await?;
    }
    if body.len() < HEADER_LEN {
        return Err(malformed("the request has no whole header"));
    }
    let header = body.take_header().map_err(|error| malformed(&error.to_string()))?;
    let deadline = began + header.left;
    let body_until = deadline.min(began + BODY_WITHIN);
    let mut large = None;
    while !ended {
        if large.is_none() && body.len() > SMALL_BODY_LEN {
            let permit = Arc::clone(&connection.large).acquire_owned();
            let permit = timeout_at(body_until, permit).await.map_err(|_| Unread::Gone)?;
            large = Some(permit.map_err(|_| Unread::Gone)?);
        }
        ended = read_more(receive, &mut body, body_until).await?;
        if body.len() > REQUEST_LEN_MAX {
            let reason = format!("a request has at most {REQUEST_LEN_MAX} bytes");
            return Err(Unread::Refuse(Refusal::new(Refusal::TOO_LARGE, reason)));
        }
    }
    let request = Request { kind: header.kind, deadline, body: body.finish() };
    Ok(Incoming { request, _large: large })
}

/// Reads what is there; tells whether the stream ended.
async fn read_more(
    receive: &mut RecvStream,
    body: &mut Buffer,
    until: Instant,
) -> Result<bool, Unread> {
    match timeout_at(until, receive.read_chunk(usize::MAX, true)).await {
        Ok(Ok(Some(chunk))) => {
            body.push(chunk.bytes);
            Ok(false)
        }
        Ok(Ok(None)) => Ok(true),
        Ok(Err(_)) | Err(_) => Err(Unread::Gone),
    }
}

fn malformed(reason: &str) -> Unread {
    Unread::Refuse(Refusal::new(Refusal::MALFORMED, reason))
}

/// A body that is copied only if it comes in more than one piece.
#[derive(Default)]
struct Buffer {
    first: Bytes,
    rest: BytesMut,
}

impl Buffer {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, chunk: Bytes) {
        if self.len() == 0 {
            self.first = chunk;
            return;
        }
        if self.rest.is_empty() {
            self.rest.reserve((self.first.len() + chunk.len()).next_power_of_two());
            self.rest.put(std::mem::take(&mut self.first));
        }
        self.rest.put(chunk);
    }

    fn take_header(&mut self) -> Result<Header, impl std::error::Error + use<>> {
        if self.rest.is_empty() {
            Header::decode(&self.first.split_to(HEADER_LEN))
        } else {
            Header::decode(&self.rest.split_to(HEADER_LEN))
        }
    }

    fn finish(self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.rest.freeze() }
    }
}

async fn write_reply(send: &mut SendStream, answer: Result<Bytes, Refusal>, until: Instant) {
    let mut parts = match answer {
        Ok(body) => [DONE, body],
        Err(Refusal { code, mut message }) => {
            message.truncate(message.floor_char_boundary(MESSAGE_LEN_MAX));
            // Zero would say that it was done.
            let status = code.max(Refusal::MALFORMED).to_be_bytes();
            [Bytes::copy_from_slice(&status), message.into()]
        }
    };
    match timeout_at(until, send.write_all_chunks(&mut parts)).await {
        // It fails only if the caller is gone.
        Ok(Ok(())) => drop(send.finish()),
        Ok(Err(error)) => debug!(%error, "reply not wanted any more"),
        Err(_) => abandon(send),
    }
}

/// Ends the stream so that the caller doesn't take it for a reply.
fn abandon(send: &mut SendStream) {
    // It fails if the stream has ended already, which is as good.
    let _ = send.reset(CANCELLED);
}
