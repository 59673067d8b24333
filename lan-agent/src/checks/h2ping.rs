//! Finds out by a PING of HTTP/2, usually over TLS: passing when it comes back, else critical.

use h2::Ping;
use tokio_util::task::AbortOnDropHandle;

use super::{Finding, dial::Target, exchange::Wire, prober::Tools, tls::Offer};
use crate::{catalog::Text, definition::Tls};

/// Whom to ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct H2Ping {
    /// `host:port`.
    pub(super) target: Text,
    /// How to speak TLS, if at all (`h2ping_use_tls`).
    pub(super) tls: Option<Tls>,
}

/// Pings once. The caller has a deadline.
pub(super) async fn find(h2ping: &H2Ping, tools: &Tools) -> Finding {
    match connect_and_ping(h2ping, tools).await {
        Ok(()) => Finding::passing("HTTP2 ping was successful".to_owned()),
        Err(reason) => Finding::critical(reason),
    }
}

async fn connect_and_ping(h2ping: &H2Ping, tools: &Tools) -> Result<(), String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("Failed to dial to {}: {error}", h2ping.target);
    let target = Target::parse(&h2ping.target).map_err(|error| failed(&error))?;
    let stream = target.connect().await.map_err(|error| failed(&error))?;
    let pinged = match &h2ping.tls {
        None => ping(stream).await,
        Some(settings) => {
            let shaken = tools.tls.connect(settings, Offer::Http2, &target.host, stream).await;
            ping(shaken.map_err(|error| failed(&error))?).await
        }
    };
    pinged.map_err(|error| format!("HTTP2 ping failed: {error}"))
}

async fn ping(wire: impl Wire) -> Result<(), h2::Error> {
    let (_sender, mut connection) = h2::client::handshake(wire).await?;
    let Some(mut pings) = connection.ping_pong() else { return Ok(()) };
    let driven = AbortOnDropHandle::new(tokio::spawn(connection));
    tokio::select! {
        ponged = pings.ping(Ping::opaque()) => ponged.map(drop),
        // The connection ended before the answer: it knows why better than the ping.
        Ok(Err(error)) = driven => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use certs::https::Callers;

    use super::*;
    use crate::{
        catalog::Health,
        checks::{
            Credentials,
            tests::{
                self, IMPATIENCE, PATIENCE,
                net::{Duplex, Trusted, canned, closed_port, serve},
            },
        },
        definition::Probe,
    };

    async fn answer(stream: Box<dyn Duplex>) {
        if let Ok(mut connection) = h2::server::handshake(stream).await {
            while connection.accept().await.is_some() {}
        }
    }

    fn probe(target: String, use_tls: bool) -> Probe {
        Probe::H2Ping { target: target.into(), use_tls, tls: Tls::default() }
    }

    async fn find(target: String) -> Finding {
        tests::find(probe(target, false), &Credentials::default(), PATIENCE).await
    }

    #[tokio::test]
    async fn who_returns_the_ping_is_passing() {
        let server = serve(None, answer).await;
        let finding = find(server.at().to_string()).await;
        assert_eq!(finding, Finding::passing("HTTP2 ping was successful".to_owned()));
    }

    #[tokio::test]
    async fn over_tls_the_certificate_must_be_good() {
        let (trusted, other) = (Trusted::new(), Trusted::new());
        let server = serve(Some(trusted.acceptor(Callers::Anyone)), answer).await;
        let target = format!("localhost:{}", server.port());
        for (credentials, health) in
            [(trusted.credentials(), Health::Passing), (other.credentials(), Health::Critical)]
        {
            let finding = tests::find(probe(target.clone(), true), &credentials, PATIENCE).await;
            assert_eq!(finding.health, health, "{}", finding.output);
        }
    }

    #[tokio::test]
    async fn who_does_not_speak_it_is_critical() {
        let web = canned(None, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let hasty = serve(None, |_| async {}).await;
        let (refusing, _held) = closed_port();
        for (addr, reason) in [
            (web.at(), "HTTP2 ping failed"),
            (hasty.at(), "HTTP2 ping failed"),
            (refusing, "Failed to dial to"),
        ] {
            let finding = find(addr.to_string()).await;
            assert_eq!(finding.health, Health::Critical);
            assert!(finding.output.contains(reason), "{}", finding.output);
        }
    }

    #[tokio::test]
    async fn who_takes_the_ping_and_says_nothing_is_critical_in_time() {
        // The beginning of HTTP/2, and nothing after it.
        let silent = canned(None, b"\0\0\0\x04\0\0\0\0\0").await;
        let target = silent.at().to_string();
        let finding =
            tests::find(probe(target.clone(), false), &Credentials::default(), IMPATIENCE).await;
        let output = format!("no answer from {target} within 300ms");
        assert_eq!(finding, Finding::critical(output));
    }
}
