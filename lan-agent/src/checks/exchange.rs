//! One HTTP request over a connection of its own, and the reply piece by piece.
//!
//! HTTP/1.1 by hyper, HTTP/2 by h2. Whoever drops the reply drops the connection: a server that
//! stalls or floods costs only the check that called it. The caller has a deadline.

use bytes::Bytes;
use certs::https::refusal;
use h2::RecvStream;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, body::Incoming, client::conn::http1, http::response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

/// Longest list of header fields that is taken from a server, in bytes.
const HEAD_LEN_MAX: u32 = 64 * 1024;

/// Bytes of a reply that a server may send ahead over HTTP/2.
const WINDOW_LEN: u32 = 64 * 1024;

/// What a request is sent over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// Why there is no reply, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("{}", innermost(.0))]
    Http1(#[from] hyper::Error),
    #[error("{}", innermost(.0))]
    Http2(#[from] h2::Error),
}

/// A reply on its way.
pub(super) struct Reply {
    pub(super) head: response::Parts,
    body: Body,
    _connection: AbortOnDropHandle<()>,
}

enum Body {
    Http1(Incoming),
    Http2(RecvStream),
}

/// Sends a request over HTTP/1.1; its target is the path, or what else goes into the first line.
pub(super) async fn over_http1(
    wire: impl Wire,
    request: Request<Bytes>,
) -> Result<Reply, ExchangeError> {
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HEAD_LEN_MAX as usize)
        .handshake(TokioIo::new(wire))
        .await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // What goes wrong is seen where the reply is read, too.
        let _ = connection.await;
    }));
    let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    Ok(Reply { head, body: Body::Http1(body), _connection: connection })
}

/// Sends a request over HTTP/2; its target is a whole URI.
pub(super) async fn over_http2(
    wire: impl Wire,
    request: Request<Bytes>,
) -> Result<Reply, ExchangeError> {
    let (sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .max_header_list_size(HEAD_LEN_MAX)
        .initial_window_size(WINDOW_LEN)
        .handshake::<_, Bytes>(wire)
        .await?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let (head, body) = request.into_parts();
    let empty = body.is_empty();
    let mut sender = sender.ready().await?;
    let (reply, mut stream) = sender.send_request(Request::from_parts(head, ()), empty)?;
    if !empty {
        stream.send_data(body, true)?;
    }
    let (head, body) = reply.await?.into_parts();
    Ok(Reply { head, body: Body::Http2(body), _connection: connection })
}

impl Reply {
    /// Returns the next piece of the body; `None` at its end.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, ExchangeError>> {
        match &mut self.body {
            Body::Http1(body) => loop {
                match body.frame().await?.map(hyper::body::Frame::into_data) {
                    Ok(Ok(data)) => return Some(Ok(data)),
                    // Trailers say nothing here.
                    Ok(Err(_)) => {}
                    Err(error) => return Some(Err(error.into())),
                }
            },
            Body::Http2(body) => {
                let piece = body.data().await?;
                if let Ok(data) = &piece {
                    // It fails only when the stream has ended; then there is nothing to release.
                    let _ = body.flow_control().release_capacity(data.len());
                }
                Some(piece.map_err(ExchangeError::from))
            }
        }
    }

    /// Returns the fields that follow the body, which has been read to its end; HTTP/2 only.
    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>, ExchangeError> {
        match &mut self.body {
            Body::Http1(_) => Ok(None),
            Body::Http2(body) => Ok(body.trailers().await?),
        }
    }
}

/// Returns what TLS or the system said, without what was made of it.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(refusal) = refusal(error) {
        return refusal;
    }
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
