//! What this agent refuses because its operator wants it so, whatever the cluster's state, and
//! how large and how long it lets requests be.

use std::{borrow::Cow, fmt, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};

use super::{context::decoded_path, error::Failure, network::Network};
use crate::ask::question::{VALUE_LEN_MAX, WRITE_LEN_MAX};

/// Longest head of a request unless configured: a path with a long key, and a token.
pub const HEAD_LEN_MAX: usize = 32 * 1024;

/// How long a blocking query waits when neither client nor operator say.
pub const WAIT_DEFAULT: Duration = Duration::from_secs(300);

/// How long a blocking query waits at most, unless configured.
pub const WAIT_MAX: Duration = Duration::from_secs(600);

/// Who may do what, as Consul's `http_config` says it.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Beginnings of paths that nobody gets (`block_endpoints`).
    pub blocked: Vec<String>,
    /// Networks whose addresses may write (`allow_write_http_from`); empty: everybody may.
    pub writers: Vec<Network>,
}

/// How large and how long requests may be, as Consul's `limits` say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a request's line and headers (`max_header_bytes`).
    pub head_len_max: usize,
    /// Bytes of a key's value (`kv_max_value_size`).
    pub value_len_max: usize,
    /// Bytes of a transaction's body (`txn_max_req_len`).
    pub txn_len_max: usize,
    /// Wait of a blocking query that names none (`default_query_time`).
    pub wait_default: Duration,
    /// Longest wait of a blocking query (`max_query_time`).
    pub wait_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head_len_max: HEAD_LEN_MAX,
            value_len_max: VALUE_LEN_MAX,
            txn_len_max: VALUE_LEN_MAX,
            wait_default: WAIT_DEFAULT,
            wait_max: WAIT_MAX,
        }
    }
}

impl Bounds {
    /// Holds what an operator wants to what one write can carry.
    pub(super) fn held(self) -> Self {
        Self {
            value_len_max: self.value_len_max.min(WRITE_LEN_MAX),
            txn_len_max: self.txn_len_max.min(WRITE_LEN_MAX),
            ..self
        }
    }

    /// Returns how long a blocking query waits that asks for `wait`; zero asks for nothing.
    pub(super) fn wait(&self, wait: Duration) -> Duration {
        let wait = if wait.is_zero() { self.wait_default } else { wait };
        wait.min(self.wait_max)
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// Somebody at an address.
    Addr(SocketAddr),
    /// Somebody who may open this socket file.
    Socket(Arc<Path>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Addr(addr) => write!(f, "{addr}"),
            Peer::Socket(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Rules {
    /// Refuses what the operator does not want done.
    ///
    /// A peer without an address is in no network: where only some may write, it may not.
    pub(super) fn check(
        &self,
        method: &Method,
        path: &str,
        peer: Option<&Peer>,
    ) -> Result<(), Failure> {
        let refused = |why: &'static str| Err(Failure::new(StatusCode::FORBIDDEN, why));
        if !self.blocked.is_empty() {
            // What a handler would read is what counts, not how it is written.
            let path = decoded_path(path).unwrap_or(Cow::Borrowed(path));
            if self.blocked.iter().any(|prefix| path.starts_with(prefix)) {
                return refused("Endpoint is blocked by agent configuration");
            }
        }
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if reads || self.writers.is_empty() {
            return Ok(());
        }
        match peer {
            Some(Peer::Addr(addr)) if self.writers.iter().any(|net| net.contains(addr.ip())) => {
                Ok(())
            }
            _ => refused("Access is restricted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_want_more_than_a_write_carries() {
        let all =
            Bounds { value_len_max: usize::MAX, txn_len_max: usize::MAX, ..Bounds::default() };
        let held = all.held();
        assert_eq!((held.value_len_max, held.txn_len_max), (WRITE_LEN_MAX, WRITE_LEN_MAX));
        assert_eq!(Bounds::default().held(), Bounds::default());
    }

    fn peer(addr: &str) -> Peer {
        Peer::Addr(addr.parse().unwrap())
    }

    #[test]
    fn blocked_paths_are_refused_however_they_are_written() {
        let rules = Rules { blocked: vec!["/v1/kv/s".to_owned()], ..Rules::default() };
        let peer = peer("10.0.0.1:1");
        for path in ["/v1/kv/s", "/v1/kv/secret", "/v1/kv/%73ecret", "/v1/k%76/s"] {
            let refusal = rules.check(&Method::GET, path, Some(&peer)).unwrap_err();
            assert_eq!(refusal.status, StatusCode::FORBIDDEN, "{path}");
        }
        for path in ["/v1/kv/", "/v1/kv/S", "/v1/agent/self"] {
            assert_eq!(rules.check(&Method::PUT, path, Some(&peer)), Ok(()), "{path}");
        }
    }

    #[test]
    fn only_the_networks_named_may_write_and_all_may_read() {
        let writers = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
        let rules = Rules { writers, ..Rules::default() };
        let check = |method: Method, peer: &Peer| rules.check(&method, "/v1/kv/a", Some(peer));
        let socket = Peer::Socket(Path::new("/run/a.sock").into());
        let inside = [peer("10.9.9.9:1"), peer("[fd00::1]:1"), peer("[::ffff:10.1.1.1]:1")];
        let outside = [peer("127.0.0.1:1"), peer("[::1]:1"), socket];
        for method in [Method::PUT, Method::DELETE, Method::POST] {
            inside.iter().for_each(|peer| assert_eq!(check(method.clone(), peer), Ok(())));
            outside.iter().for_each(|peer| {
                let refusal = check(method.clone(), peer).unwrap_err();
                assert_eq!(refusal.text, "Access is restricted", "{peer}");
            });
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            outside.iter().for_each(|peer| assert_eq!(check(method.clone(), peer), Ok(())));
        }
    }
}
