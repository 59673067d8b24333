//! Connects to what is checked: any of the addresses that its name has.
//!
//! Addresses are tried in turn, the next one as soon as the one before it failed or has not
//! answered for a moment; the first that answers counts. The caller has a deadline for all.

use std::{collections::VecDeque, fmt, io, net::SocketAddr, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{net::TcpStream, time::sleep};

use crate::pool::join::{resolve, split};

/// Most addresses of a name that are tried.
const ADDRESSES_MAX: usize = 16;

/// How long an address may keep the next one waiting (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// A host and a port, as `host:port`; no host is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0:?} is no host:port")]
    NoTarget(String),
    #[error("can't resolve {host}: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("there is no address to connect to")]
    NoAddress,
    #[error("can't connect to {addr}: {source}")]
    Connect { addr: SocketAddr, source: io::Error },
}

impl Target {
    /// Reads `host:port`, `1.2.3.4:port`, `[::1]:port` or `:port`.
    pub(super) fn parse(text: &str) -> Result<Self, DialError> {
        let no_target = || DialError::NoTarget(text.to_owned());
        if let Some(port) = text.strip_prefix(':') {
            let port = port.parse().map_err(|_| no_target())?;
            return Ok(Self { host: "localhost".to_owned(), port });
        }
        match split(text, 0) {
            Some((host, port)) if port != 0 => Ok(Self { host: host.to_owned(), port }),
            _ => Err(no_target()),
        }
    }

    /// Returns the addresses that the name has now; at least one.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, DialError> {
        let mut addrs = resolve(&self.to_string(), self.port)
            .await
            .map_err(|source| DialError::Resolve { host: self.host.clone(), source })?;
        addrs.truncate(ADDRESSES_MAX);
        Ok(addrs)
    }

    /// Connects to the first address that answers.
    pub(super) async fn connect(&self) -> Result<TcpStream, DialError> {
        first_to_answer(self.addresses().await?).await
    }
}

/// Connects to one of these; when none answers, says why not the first.
async fn first_to_answer(addrs: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
    let mut untried = VecDeque::from(addrs);
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        attempts.extend(untried.pop_front().map(attempt));
        let patience = sleep(HEAD_START);
        tokio::select! {
            biased;
            attempted = attempts.next() => match attempted {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => {
                    failure.get_or_insert(error);
                }
                None => return Err(failure.unwrap_or(DialError::NoAddress)),
            },
            () = patience, if !untried.is_empty() => {}
        }
    }
}

async fn attempt(addr: SocketAddr) -> Result<TcpStream, DialError> {
    let connected = TcpStream::connect(addr).await;
    connected.map_err(|source| DialError::Connect { addr, source })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::checks::tests::net::{closed_port, full_backlog};

    #[test]
    fn targets_are_read_as_people_write_them() {
        for (text, host, port) in [
            ("10.0.0.1:80", "10.0.0.1", 80),
            ("[::1]:80", "::1", 80),
            ("db.example:5432", "db.example", 5432),
            (":22", "localhost", 22),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{text}");
        }
        assert_eq!(Target::parse("[::1]:80").unwrap().to_string(), "[::1]:80");
        for text in ["", "host", "10.0.0.1", "host:", "host:x", ":", "host:0", "::1"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn the_first_address_that_answers_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ((refusing, _held), answering) = (closed_port(), listener.local_addr().unwrap());
        let (silent, _backlog) = full_backlog().await;
        let stream = first_to_answer(vec![refusing, silent, answering]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), answering);
    }

    #[tokio::test]
    async fn a_name_stands_for_all_its_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target::parse(&format!("localhost:{port}")).unwrap();
        assert!(target.addresses().await.unwrap().contains(&listener.local_addr().unwrap()));
        target.connect().await.unwrap();
    }

    #[tokio::test]
    async fn who_refuses_is_named() {
        let (addr, _held) = closed_port();
        let refused = Target::parse(&addr.to_string()).unwrap().connect().await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(&addr.to_string()) && text.contains("refused"), "{text}");
    }
}
