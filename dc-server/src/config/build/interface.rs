//! The HTTP interface: its certificates, its socket files, what it refuses, and its bounds.
//!
//! Sizes are held to what one write can carry, whatever is configured: a warning says so.

use std::{path::PathBuf, time::Duration};

use certs::https::HANDSHAKE_TIMEOUT;
use hyper::header::{HeaderName, HeaderValue};
use lan_agent::{
    agent::ASK_TIMEOUT,
    ask::{
        question::{VALUE_LEN_MAX, WRITE_LEN_MAX},
        wire,
    },
    http::rules::{HEAD_LEN_MAX, WAIT_DEFAULT, WAIT_MAX},
};

use super::Build;
use crate::{
    blocking::JITTER_PART,
    config::agent::{Addresses, Http, Limits, Pem, Tls, UnixSockets},
};

/// The shortest bound of a request's head; below it no request of a real client fits.
const HEAD_LEN_MIN: usize = 8 * 1024;

/// The longest one: each connection may fill as much.
const HEAD_LEN_TOP: usize = 1024 * 1024;

impl Build<'_> {
    pub(super) fn tls(&mut self, addresses: Option<&Addresses>) -> Tls {
        let settings = self.settings;
        let tls = Tls {
            link: self.pem("tls.internal_rpc"),
            https: self.pem("tls.https"),
            https_verify_incoming: settings
                .bool("tls.https.verify_incoming")
                .or_else(|| settings.bool("tls.defaults.verify_incoming"))
                .unwrap_or(false),
        };
        let Some(addresses) = addresses.filter(|addresses| !addresses.https.is_empty()) else {
            return tls;
        };
        match &tls.https {
            None if !addresses.are_only_here() => self.broken(
                "ports.https needs tls.https.cert_file and key_file (or tls.defaults): others can \
                 reach this agent, so that no development certificate will do",
            ),
            Some(pem) if pem.ca.is_empty() && tls.https_verify_incoming => self.broken(
                "tls.https.verify_incoming needs tls.https.ca_file or ca_path (or tls.defaults): \
                 without an authority nobody's certificate can be checked",
            ),
            _ => {}
        }
        tls
    }

    /// Collects the files of an interface, each by default from `tls.defaults`.
    fn pem(&mut self, interface: &str) -> Option<Pem> {
        let file = |name: &str| -> Option<PathBuf> {
            self.path(&format!("{interface}.{name}"))
                .or_else(|| self.path(&format!("tls.defaults.{name}")))
        };
        let ca: Vec<PathBuf> = [file("ca_file"), file("ca_path")].into_iter().flatten().collect();
        match (file("cert_file"), file("key_file")) {
            (Some(cert_file), Some(key_file)) => {
                if ca.is_empty() && interface == "tls.internal_rpc" {
                    self.broken(format!(
                        "{interface}: cert_file needs ca_file or ca_path beside it"
                    ));
                }
                Some(Pem { cert_file, key_file, ca })
            }
            (None, None) => None,
            (Some(_), None) => {
                self.broken(format!("{interface}: cert_file needs key_file beside it"));
                None
            }
            (None, Some(_)) => {
                self.broken(format!("{interface}: key_file needs cert_file beside it"));
                None
            }
        }
    }

    pub(super) fn unix_sockets(&mut self) -> UnixSockets {
        let text = |path: &str| self.settings.text(path).filter(|text| !text.is_empty());
        let owner = |path: &str| text(path).map(str::to_owned);
        let (user, group) = (owner("unix_sockets.user"), owner("unix_sockets.group"));
        let mode = text("unix_sockets.mode").map(str::to_owned).and_then(|text| {
            let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o777);
            if mode.is_none() {
                let expected = "an octal mode such as \"0660\"";
                self.bad("unix_sockets.mode", expected, format!("{text:?}"));
            }
            mode
        });
        UnixSockets { mode, user, group }
    }

    pub(super) fn limits(&mut self) -> Limits {
        let all = i64::from(u32::MAX);
        let kv_max_value_size = self.write_len("limits.kv_max_value_size");
        // Consul lets the larger of the two bound a transaction.
        let txn_max_req_len = self.write_len("limits.txn_max_req_len").max(kv_max_value_size);
        Limits {
            http_max_conns_per_client: self.number("limits.http_max_conns_per_client", 200, 0..=all)
                as u32,
            https_handshake_timeout: self
                .time("limits.https_handshake_timeout")
                .unwrap_or(HANDSHAKE_TIMEOUT),
            rpc_client_timeout: self
                .held("limits.rpc_client_timeout", wire::DEADLINE_MAX)
                .unwrap_or(ASK_TIMEOUT),
            kv_max_value_size,
            txn_max_req_len,
            default_query_time: self.held("default_query_time", longest()).unwrap_or(WAIT_DEFAULT),
            max_query_time: self.held("max_query_time", longest()).unwrap_or(WAIT_MAX),
        }
    }

    pub(super) fn http(&mut self) -> Http {
        let networks = self.settings.texts("http_config.allow_write_http_from");
        let allow_write_http_from = networks
            .iter()
            .filter_map(|text| match text.parse() {
                Ok(network) => Some(network),
                Err(error) => {
                    self.bad("http_config.allow_write_http_from", "networks", error);
                    None
                }
            })
            .collect();
        let response_headers = self.settings.text_map("http_config.response_headers");
        for (name, value) in &response_headers {
            let is_one = name.parse::<HeaderName>().is_ok() && value.parse::<HeaderValue>().is_ok();
            if !is_one {
                let found = format!("{name:?} = {value:?}");
                self.bad("http_config.response_headers", "headers of HTTP", found);
            }
        }
        Http {
            response_headers,
            block_endpoints: self.settings.texts("http_config.block_endpoints"),
            allow_write_http_from,
            max_header_bytes: self.head_len(),
        }
    }

    fn head_len(&mut self) -> usize {
        const PATH: &str = "http_config.max_header_bytes";
        // As in Consul, zero and below ask for the default.
        let wanted = self.settings.integer(PATH).filter(|wanted| *wanted > 0);
        let Some(wanted) = wanted else { return HEAD_LEN_MAX };
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let held = wanted.clamp(HEAD_LEN_MIN, HEAD_LEN_TOP);
        if held != wanted {
            self.warnings.push(format!("{PATH} is {wanted}: {held} is used instead"));
        }
        held
    }

    /// Returns a bound of what is written at once.
    fn write_len(&mut self, path: &str) -> usize {
        let Some(wanted) = self.count(path) else { return VALUE_LEN_MAX };
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        if wanted > WRITE_LEN_MAX {
            self.warnings.push(format!(
                "{path} is {wanted}, but one write holds {WRITE_LEN_MAX} bytes: that is used instead"
            ));
        }
        wanted.min(WRITE_LEN_MAX)
    }

    /// Returns a time above zero; zero asks for the default.
    fn time(&self, path: &str) -> Option<Duration> {
        self.settings.duration(path).filter(|given| !given.is_zero())
    }

    /// Returns a time that is held to a bound.
    fn held(&mut self, path: &str, max: Duration) -> Option<Duration> {
        let wanted = self.time(path)?;
        if wanted > max {
            self.warnings.push(format!("{path} is {wanted:?}: {max:?} is used instead"));
        }
        Some(wanted.min(max))
    }
}

/// The longest blocking query whose answer agents still wait for on their links: beside the jitter
/// as much again is left for the way.
fn longest() -> Duration {
    wire::DEADLINE_MAX * JITTER_PART / (JITTER_PART + 2)
}
