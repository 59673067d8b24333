//! The HTTP interface of a node: where it listens, with which certificate, what it refuses.
//!
//! HTTPS shows the certificate that the configuration names or, on a node that nobody but this
//! machine can reach, one of the user's own development CA, as the links do. A socket file has no
//! TLS whatever interface it was meant for, as in Consul: the file system guards it.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context, bail};
use certs::{
    https::{self, Acceptor, Callers},
    identity::Identity,
    local,
    store::Clock,
};
use hyper::header::{HeaderName, HeaderValue};
use lan_agent::http::{
    self, Most,
    listen::{Listen, Socket},
    rules::{Bounds, Rules},
};
use tracing::info;

use super::reload::files;
use crate::config::{
    self,
    agent::{self as configured, Listen as Wanted},
};

/// Says that what is in another datacenter is shown with the addresses that it has on the WAN.
const TRANSLATES: HeaderName = HeaderName::from_static("x-consul-translate-addresses");

/// What the interface is to be; `development` is the directory of the user's CA.
pub(super) fn settings(
    config: &config::Agent,
    me: &Identity,
    development: &Path,
) -> anyhow::Result<(http::Config, Option<Acceptor>)> {
    let acceptor = acceptor(config, me, development)?;
    let mut listen = Vec::new();
    for wanted in &config.addresses.http {
        listen.push(match wanted {
            Wanted::Tcp(addr) => Listen::Http(*addr),
            Wanted::Unix(path) => Listen::Unix(socket(path, &config.addresses.unix)?),
        });
    }
    for wanted in &config.addresses.https {
        listen.extend(match (wanted, &acceptor) {
            (Wanted::Tcp(addr), Some(acceptor)) => Some(Listen::Https(*addr, acceptor.clone())),
            (Wanted::Tcp(_), None) => None,
            (Wanted::Unix(path), _) => Some(Listen::Unix(socket(path, &config.addresses.unix)?)),
        });
    }
    let mut settings = http::Config::new(Vec::new());
    settings.listen = listen;
    settings.connections_per_client_max = Most::new(connections_max(config));
    settings.headers = headers(config)?;
    settings.rules = Rules {
        blocked: config.http.block_endpoints.clone(),
        writers: config.http.allow_write_http_from.clone(),
    };
    settings.bounds = Bounds {
        head_len_max: config.http.max_header_bytes,
        value_len_max: config.limits.kv_max_value_size,
        txn_len_max: config.limits.txn_max_req_len,
        wait_default: config.limits.default_query_time,
        wait_max: config.limits.max_query_time,
    };
    Ok((settings, acceptor))
}

/// Returns how many connections a client may have; 0 stands for any number.
pub(super) fn connections_max(config: &config::Agent) -> usize {
    match config.limits.http_max_conns_per_client {
        0 => usize::MAX,
        most => usize::try_from(most).unwrap_or(usize::MAX),
    }
}

/// Finds the certificate for HTTPS; `None` where nothing listens with TLS.
fn acceptor(
    config: &config::Agent,
    me: &Identity,
    development: &Path,
) -> anyhow::Result<Option<Acceptor>> {
    let addrs: Vec<IpAddr> = config.addresses.https.iter().filter_map(Wanted::ip).collect();
    if addrs.is_empty() {
        return Ok(None);
    }
    let settings = https::Config {
        callers: match config.tls.https_verify_incoming {
            true => Callers::Certified,
            false => Callers::Anyone,
        },
        handshake_timeout: config.limits.https_handshake_timeout,
        clock: Clock::System,
    };
    let acceptor = match &config.tls.https {
        Some(pem) => Acceptor::files(files(pem), settings)
            .context("the certificate for HTTPS can't be used")?,
        None => {
            let ca_file = development.join(local::CERTIFICATE_FILE);
            info!(ca_file = %ca_file.display(), "HTTPS shows a certificate of the development CA");
            local::bundle(development, me, &addrs, settings.clock)
                .and_then(|bundle| Acceptor::memory(bundle, settings))
                .context("the development CA can't be used")?
        }
    };
    info!(until = %acceptor.validity().not_after, "certificate for HTTPS");
    Ok(Some(acceptor))
}

fn headers(config: &config::Agent) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let header = |(name, value): (&String, &String)| Ok((name.parse()?, value.parse()?));
    let mut headers: Vec<_> =
        config.http.response_headers.iter().map(header).collect::<anyhow::Result<_>>()?;
    if config.translate_wan {
        headers.push((TRANSLATES, HeaderValue::from_static("true")));
    }
    Ok(headers)
}

fn socket(path: &Path, unix: &configured::UnixSockets) -> anyhow::Result<Socket> {
    let number = |wanted: &Option<String>, what, file| {
        wanted.as_deref().map(|wanted| number_of(wanted, what, Path::new(file))).transpose()
    };
    Ok(Socket {
        path: path.to_owned(),
        mode: unix.mode,
        user: number(&unix.user, "user", "/etc/passwd")?,
        group: number(&unix.group, "group", "/etc/group")?,
    })
}

/// Returns the number of a user or group: itself, or what a table of the system (`passwd(5)`,
/// `group(5)`) has for the name.
fn number_of(wanted: &str, what: &str, table: &Path) -> anyhow::Result<u32> {
    if let Ok(number) = wanted.parse() {
        return Ok(number);
    }
    let lines = fs::read_to_string(table)
        .with_context(|| format!("can't look up the {what} {wanted:?} in {}", table.display()))?;
    let number = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(wanted);
        found.then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    match number {
        Some(number) => Ok(number),
        None => bail!(
            "unix_sockets.{what} is {wanted:?}, but there is no such {what} in {}",
            table.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{flags::Request, source};

    /// Builds what a configuration asks for, on a node of this machine only.
    fn asked(body: &str) -> http::Config {
        let text = source::Text {
            name: "a.hcl".to_owned(),
            format: source::Format::Hcl,
            body: body.to_owned(),
        };
        let host = config::Host { name: Some("n1".to_owned()), addresses: Vec::new() };
        let request = Request { dev: true, ..Request::default() };
        let config = config::build(&request, &[text], &host).unwrap().agent;
        let me = Identity::new(config.datacenter.clone(), config.role, None);
        let development = tempfile::tempdir().unwrap();
        settings(&config, &me, &development.path().join("ca")).unwrap().0
    }

    #[test]
    fn every_setting_of_the_interface_gets_there() {
        let asked = asked(
            r#"
            limits { http_max_conns_per_client = 7 kv_max_value_size = 11 txn_max_req_len = 12 }
            default_query_time = "13s"
            max_query_time = "14s"
            http_config {
                block_endpoints = ["/v1/agent"]
                allow_write_http_from = ["10.0.0.0/8"]
                response_headers { X-A = "b" }
                max_header_bytes = 9000
            }"#,
        );
        assert_eq!(asked.connections_per_client_max.get(), 7);
        assert_eq!(asked.headers, [("x-a".parse().unwrap(), "b".parse().unwrap())]);
        assert_eq!(asked.rules.blocked, ["/v1/agent"]);
        assert_eq!(asked.rules.writers, ["10.0.0.0/8".parse().unwrap()]);
        let [wait_default, wait_max] = [13, 14].map(Duration::from_secs);
        let (value_len_max, txn_len_max) = (11, 12);
        let bounds =
            Bounds { head_len_max: 9000, value_len_max, txn_len_max, wait_default, wait_max };
        assert_eq!(asked.bounds, bounds);
    }

    #[test]
    fn no_bound_of_connections_is_none() {
        let asked = asked("limits { http_max_conns_per_client = 0 }");
        assert_eq!(asked.connections_per_client_max.get(), usize::MAX);
    }

    #[test]
    fn each_address_is_a_listener_and_socket_files_have_no_tls() {
        let asked = asked(
            r#"
            ports { https = 8501 }
            limits { https_handshake_timeout = "9s" }
            addresses { http = "127.0.0.1 unix:///a.sock" https = "127.0.0.1 unix:///b.sock" }
            unix_sockets { mode = "0600" user = "12" group = "13" }"#,
        );
        let [
            Listen::Http(http),
            Listen::Unix(one),
            Listen::Https(https, acceptor),
            Listen::Unix(two),
        ] = asked.listen.as_slice()
        else {
            panic!("{:?}", asked.listen)
        };
        assert_eq!((http.port(), https.port()), (8500, 8501));
        assert_eq!(acceptor.handshake_timeout(), Duration::from_secs(9));
        assert_eq!((one.path.to_str(), two.path.to_str()), (Some("/a.sock"), Some("/b.sock")));
        assert_eq!((one.mode, one.user, one.group), (Some(0o600), Some(12), Some(13)));
    }

    #[test]
    fn users_and_groups_are_numbers_or_names_of_the_table() {
        let home = tempfile::tempdir().unwrap();
        let table = home.path().join("passwd");
        fs::write(&table, "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/:\nbroken\n").unwrap();
        for (wanted, number) in [("root", 0), ("web", 33), ("1234", 1234)] {
            assert_eq!(number_of(wanted, "user", &table).unwrap(), number);
        }
        let error = number_of("nobody-here", "user", &table).unwrap_err().to_string();
        assert!(error.contains("unix_sockets.user") && error.contains("nobody-here"), "{error}");
        assert!(number_of("broken", "user", &table).is_err());
        let error = number_of("web", "user", &home.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
