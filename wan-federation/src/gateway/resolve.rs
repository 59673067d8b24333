//! Looks up where servers and gateways are.

use std::{io, net::SocketAddr, time::Duration};

use tokio::time::timeout;

/// How long looking up a name may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// Most addresses of one name that count.
const ADDRS_MAX: usize = 8;

/// Returns the addresses of `host:port`, in an order that stays the same.
pub(crate) async fn resolve(host: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(addr) = host.parse::<SocketAddr>() {
        return Ok(vec![addr]);
    }
    let lookup = async { Ok(tokio::net::lookup_host(host).await?.collect::<Vec<_>>()) };
    let found: Result<io::Result<_>, _> = timeout(LOOKUP_MAX, lookup).await;
    let mut addrs = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    addrs.sort_unstable();
    addrs.dedup();
    addrs.truncate(ADDRS_MAX);
    if addrs.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addrs) }
}
