//! Addresses as people write them, and what they stand for now.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tracing::warn;

/// The port of a LAN pool when an address names none.
pub const LAN_PORT: u16 = 8301;

/// Resolves `host`, `host:port`, `1.2.3.4`, `::1` or `[::1]:port` to the addresses that it has now.
///
/// Fails when a name has none.
pub async fn resolve(text: &str, default_port: u16) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = split(text, default_port).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is no address"))
    })?;
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = tokio::net::lookup_host((host, port)).await?;
    let mut addrs: Vec<SocketAddr> = found.collect();
    addrs.sort();
    addrs.dedup();
    if addrs.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
    }
    Ok(addrs)
}

/// Resolves names one after the other: addresses, and a sentence for each name that has none.
pub(super) async fn resolve_all(names: &[String]) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match resolve(name, LAN_PORT).await {
            Ok(addrs) => found.extend(addrs),
            Err(error) => failures.push(format!("Failed to resolve {name}: {error}")),
        }
    }
    for failure in &failures {
        warn!("LAN pool: {failure}");
    }
    (found, failures)
}

/// Takes an address apart; `None` when its port is no port or its host is empty.
pub(crate) fn split(text: &str, default_port: u16) -> Option<(&str, u16)> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let (host, tail) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match tail.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None if tail.is_empty() => Some((host, default_port)),
            None => None,
        };
    }
    // More than one colon without brackets is an IPv6 address without a port.
    let (host, port) = match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => (text, default_port),
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, default_port),
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_an_address_are_taken_apart() {
        for (text, host, port) in [
            ("10.0.0.1", "10.0.0.1", 8301),
            ("10.0.0.1:9", "10.0.0.1", 9),
            ("consul.example", "consul.example", 8301),
            ("consul.example:9", "consul.example", 9),
            ("::1", "::1", 8301),
            ("[::1]", "::1", 8301),
            ("[::1]:9", "::1", 9),
            (" a ", "a", 8301),
        ] {
            assert_eq!(split(text, LAN_PORT), Some((host, port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", ":9", "a:", "a:x", "a:70000", "[::1", "[::1]9", "[a]:9"] {
            assert_eq!(split(text, LAN_PORT), None, "{text}");
        }
    }

    #[tokio::test]
    async fn numbers_need_no_resolver() {
        let found = resolve("[::1]:9", LAN_PORT).await.unwrap();
        assert_eq!(found, ["[::1]:9".parse().unwrap()]);
    }
}
