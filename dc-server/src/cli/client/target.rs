//! Where an agent listens, whom to believe there, and the connection to it.
//!
//! An address is `host:port`, `http://host:port`, `https://host:port` or `unix:///path`. Over TLS
//! the agent's certificate must be one of the authorities that are named, or else of those that
//! the system trusts, and must be for the host that is called or the name that is expected.

use std::{fmt, io, path::PathBuf};

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use certs::{
    https::{Connector, Server, Trust, system_authorities},
    store::Clock,
};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use crate::cli::flags;

/// What a URL's port is when it is left out.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Looks a setting up by the name of its flag and that of its variable in the environment.
pub(super) type Setting<'a> = &'a dyn Fn(&str, &str) -> Option<&'a str>;

/// Sends requests over one connection.
pub(super) type Sender = http1::SendRequest<Full<Bytes>>;

/// Where an agent listens.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// An address, as `host:port`.
    Http(String),
    /// An address where TLS is spoken.
    Https(String, Connector),
    /// A socket file.
    Unix(PathBuf),
}

/// An address as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Http(String),
    Https(String),
    Unix(PathBuf),
}

impl Target {
    /// Reads an address, and what TLS needs if it is spoken there.
    pub(super) fn new(address: &str, setting: Setting<'_>) -> anyhow::Result<Self> {
        let tls = truth(setting, "CONSUL_HTTP_SSL")?.unwrap_or(false);
        Ok(match Address::read(address, tls)? {
            Address::Http(addr) => Self::Http(addr),
            Address::Unix(path) => Self::Unix(path),
            Address::Https(addr) => {
                let connector = Connector::new(&trust(setting)?, Clock::System);
                Self::Https(addr, connector.context("can't speak TLS")?)
            }
        })
    }

    /// Returns what the request's `Host` header says.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Http(addr) | Self::Https(addr, _) => addr,
            Self::Unix(_) => "localhost",
        }
    }

    /// Connects. The caller has a deadline.
    pub(super) async fn connect(&self) -> anyhow::Result<Sender> {
        match self {
            Self::Http(addr) => handshake(dial(addr).await?).await,
            Self::Https(addr, connector) => {
                let stream = dial(addr).await?;
                let private = connector.connect(host_of(addr), stream).await;
                handshake(private.map_err(|error| anyhow!("tls: {error}"))?).await
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| {
                    anyhow!("dial unix {}: connect: {}", path.display(), plain(&error))
                })?;
                handshake(stream).await
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(addr) => write!(f, "http://{addr}"),
            Self::Https(addr, _) => write!(f, "https://{addr}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Address {
    /// Takes an address apart. `tls` asks for TLS also where the address does not, as in Consul.
    fn read(text: &str, tls: bool) -> anyhow::Result<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let tls = match scheme {
            "unix" => return Ok(Self::Unix(rest.into())),
            "https" => true,
            "http" | "tcp" => tls,
            _ => bail!("Unknown protocol scheme: {scheme}"),
        };
        let addr = rest.trim_end_matches('/');
        if addr.is_empty() || addr.contains('/') {
            bail!(
                "bad address {text:?}: expected host:port, http://host:port, https://host:port or unix:///path"
            );
        }
        Ok(match tls {
            true => Self::Https(with_port(addr, HTTPS_PORT)),
            false => Self::Http(with_port(addr, HTTP_PORT)),
        })
    }
}

/// Adds the port that a URL has when it names none.
fn with_port(addr: &str, port: u16) -> String {
    let has_port = addr.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && port.parse::<u16>().is_ok()
            && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port { addr.to_owned() } else { format!("{addr}:{port}") }
}

/// Returns the host of an address with a port, without the brackets of IPv6.
fn host_of(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Finds whom to believe and what to show.
fn trust(setting: Setting<'_>) -> anyhow::Result<Trust> {
    let path = |flag: &str, variable: &str| setting(flag, variable).map(PathBuf::from);
    let own = match (
        path("client-cert", "CONSUL_CLIENT_CERT"),
        path("client-key", "CONSUL_CLIENT_KEY"),
    ) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => bail!("both -client-cert and -client-key are needed (or neither of them)"),
    };
    let named: Vec<PathBuf> = [path("ca-file", "CONSUL_CACERT"), path("ca-path", "CONSUL_CAPATH")]
        .into_iter()
        .flatten()
        .collect();
    let server = if !truth(setting, "CONSUL_HTTP_SSL_VERIFY")?.unwrap_or(true) {
        Server::Any
    } else if !named.is_empty() {
        Server::VouchedBy(named)
    } else {
        let system = path("", "SSL_CERT_FILE").or_else(system_authorities);
        let Some(file) = system else {
            bail!("this system has no file of authorities: name one with -ca-file");
        };
        Server::VouchedBy(vec![file])
    };
    let name = setting("tls-server-name", "CONSUL_TLS_SERVER_NAME").map(str::to_owned);
    Ok(Trust { server, own, name })
}

/// Reads a variable that is true or false.
fn truth(setting: Setting<'_>, variable: &str) -> anyhow::Result<Option<bool>> {
    let Some(text) = setting("", variable) else { return Ok(None) };
    match flags::truth(text) {
        None => bail!("{variable} is {text:?}: expected true or false"),
        known => Ok(known),
    }
}

async fn dial(addr: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(addr)
        .await
        .map_err(|error| anyhow!("dial tcp {addr}: connect: {}", plain(&error)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn handshake<S>(stream: S) -> anyhow::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // What breaks a connection is reported by the request that it carried.
        let _ = connection.await;
    });
    Ok(sender)
}

/// Writes what the system said as Go does: in lower case, without its number.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_in_five_forms() {
        let http = |text: &str| Address::Http(text.to_owned());
        let https = |text: &str| Address::Https(text.to_owned());
        for (text, expected) in [
            ("127.0.0.1:8500", http("127.0.0.1:8500")),
            ("http://agent:1/", http("agent:1")),
            ("http://agent", http("agent:80")),
            ("[::1]:8500", http("[::1]:8500")),
            ("http://[::1]", http("[::1]:80")),
            ("https://agent:8501", https("agent:8501")),
            ("https://[::1]/", https("[::1]:443")),
            ("unix:///run/a.sock", Address::Unix("/run/a.sock".into())),
        ] {
            assert_eq!(Address::read(text, false).unwrap(), expected, "{text}");
        }
        for text in ["http://a:1/path", "https://", "", "ftp://a:1"] {
            assert!(Address::read(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn tls_is_spoken_wherever_it_is_asked_for_but_at_socket_files() {
        let https = Address::Https("agent:8501".to_owned());
        for text in ["agent:8501", "http://agent:8501", "https://agent:8501"] {
            assert_eq!(Address::read(text, true).unwrap(), https, "{text}");
        }
        let unix = Address::Unix("/run/a.sock".into());
        assert_eq!(Address::read("unix:///run/a.sock", true).unwrap(), unix);
    }

    #[test]
    fn hosts_have_no_port_and_no_brackets() {
        for (addr, host) in [("agent:1", "agent"), ("[::1]:1", "::1"), ("10.0.0.1:1", "10.0.0.1")] {
            assert_eq!(host_of(addr), host);
        }
    }

    #[test]
    fn flags_and_variables_say_whom_to_believe() {
        let all = |flag: &str, variable: &str| match (flag, variable) {
            ("ca-file", _) => Some("ca.pem"),
            ("ca-path", _) => Some("cas"),
            ("client-cert", _) => Some("cert.pem"),
            (_, "CONSUL_CLIENT_KEY") => Some("key.pem"),
            ("tls-server-name", _) => Some("server.dc1.consul"),
            _ => None,
        };
        let trusted = trust(&all).unwrap();
        assert_eq!(trusted.server, Server::VouchedBy(vec!["ca.pem".into(), "cas".into()]));
        assert_eq!(trusted.own, Some(("cert.pem".into(), "key.pem".into())));
        assert_eq!(trusted.name.as_deref(), Some("server.dc1.consul"));
        let half = |flag: &str, _: &str| (flag == "client-cert").then_some("cert.pem");
        assert!(trust(&half).unwrap_err().to_string().contains("-client-key"));
        let any = |_: &str, variable: &str| (variable == "CONSUL_HTTP_SSL_VERIFY").then_some("0");
        assert_eq!(trust(&any).unwrap().server, Server::Any);
        let bad = |_: &str, variable: &str| (variable == "CONSUL_HTTP_SSL_VERIFY").then_some("no");
        let error = trust(&bad).unwrap_err().to_string();
        assert!(error.contains("CONSUL_HTTP_SSL_VERIFY"), "{error}");
    }
}
