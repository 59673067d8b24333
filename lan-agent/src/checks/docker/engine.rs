//! Docker's engine, as its clients find it: at `DOCKER_HOST`, else at its usual socket.

use std::path::PathBuf;

use bytes::Bytes;
use hyper::{
    Method, Request, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{Created, State};
use crate::checks::{
    dial::{DialError, Target},
    exchange::{ExchangeError, Reply, over_http1},
};

/// Where the engine listens unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// Longest answer that is read, output of programs excepted.
const ANSWER_LEN_MAX: usize = 256 * 1024;

/// Where the engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// Nobody knows: `DOCKER_HOST` is something that can't be used.
    Nowhere(String),
    /// At a socket file.
    Unix(PathBuf),
    /// At `host:port`, without TLS.
    Tcp(String),
}

/// Why the engine did not run a program to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error("DOCKER_HOST is {0:?}: give unix:///path or tcp://host:port")]
    Nowhere(String),
    #[error("{0:?} can't be the name of a container")]
    Name(String),
    #[error("can't connect to Docker's engine at {at}: {reason}")]
    Connect { at: String, reason: String },
    #[error("Docker's engine did not answer: {0}")]
    Exchange(#[from] ExchangeError),
    #[error("there is no container {0}")]
    NoContainer(String),
    #[error("container {0} is paused or stopped")]
    Stopped(String),
    #[error("Docker's engine can't {what} (status {status}): {message}")]
    Refused { what: &'static str, status: StatusCode, message: String },
    #[error("Docker's engine forgot the program")]
    Forgotten,
    #[error("the last run timed out and still runs within the container")]
    Unfinished,
    #[error("the check printed too much and was killed")]
    Flooded,
}

impl Default for Engine {
    fn default() -> Self {
        Self::Unix(SOCKET.into())
    }
}

impl Engine {
    /// Reads what `DOCKER_HOST` holds: `unix:///path` or `tcp://host:port`; empty for the usual
    /// socket. What else it holds is a matter of the checks that need an engine.
    pub fn at(host: &str) -> Self {
        match host.split_once("://") {
            None if host.is_empty() => Self::default(),
            Some(("unix", path)) if !path.is_empty() => Self::Unix(path.into()),
            Some(("tcp" | "http", addr)) if Target::parse(addr.trim_end_matches('/')).is_ok() => {
                Self::Tcp(addr.trim_end_matches('/').to_owned())
            }
            _ => Self::Nowhere(host.to_owned()),
        }
    }

    /// Prepares a program to run in a container; returns its id.
    pub(super) async fn create(
        &self,
        container: &str,
        what: &Value,
    ) -> Result<String, EngineError> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if container.is_empty() || !container.chars().all(known) {
            return Err(EngineError::Name(container.to_owned()));
        }
        let path = format!("/containers/{container}/exec");
        let reply = self.send(Method::POST, &path, what.to_string()).await?;
        let refused = "prepare the program";
        let created: Created = match reply.head.status {
            StatusCode::NOT_FOUND => return Err(EngineError::NoContainer(container.to_owned())),
            StatusCode::CONFLICT => return Err(EngineError::Stopped(container.to_owned())),
            StatusCode::CREATED => parsed(refused, reply).await?,
            _ => return Err(refusal(refused, reply).await),
        };
        Ok(created.id)
    }

    /// Starts a program; the reply's body is what it prints.
    pub(super) async fn start(&self, container: &str, id: &str) -> Result<Reply, EngineError> {
        let how = r#"{"Detach":false,"Tty":false}"#.to_owned();
        let reply = self.send(Method::POST, &format!("/exec/{id}/start"), how).await?;
        match reply.head.status {
            StatusCode::OK => Ok(reply),
            StatusCode::CONFLICT => Err(EngineError::Stopped(container.to_owned())),
            _ => Err(refusal("start the program", reply).await),
        }
    }

    /// Says how a program is; `None` when the engine has forgotten it.
    pub(super) async fn state(&self, id: &str) -> Result<Option<State>, EngineError> {
        let reply = self.send(Method::GET, &format!("/exec/{id}/json"), String::new()).await?;
        let refused = "say how the program is";
        match reply.head.status {
            StatusCode::OK => parsed(refused, reply).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refusal(refused, reply).await),
        }
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Reply, EngineError> {
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| EngineError::Forgotten)?;
        request.headers_mut().extend([
            (HOST, HeaderValue::from_static("docker")),
            (CONNECTION, HeaderValue::from_static("close")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        let failed = |at: String, reason: String| EngineError::Connect { at, reason };
        match self {
            Self::Nowhere(host) => Err(EngineError::Nowhere(host.clone())),
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                let at = path.display().to_string();
                let stream = stream.map_err(|error| failed(at, error.to_string()))?;
                Ok(over_http1(stream, request).await?)
            }
            Self::Tcp(addr) => {
                let said = |error: DialError| failed(addr.clone(), error.to_string());
                let stream = Target::parse(addr).map_err(said)?.connect().await.map_err(said)?;
                Ok(over_http1(stream, request).await?)
            }
        }
    }
}

async fn parsed<T: DeserializeOwned>(what: &'static str, reply: Reply) -> Result<T, EngineError> {
    let status = reply.head.status;
    let body = collect(reply).await?;
    serde_json::from_slice(&body).map_err(|error| EngineError::Refused {
        what,
        status,
        message: format!("its answer can't be read: {error}"),
    })
}

async fn refusal(what: &'static str, reply: Reply) -> EngineError {
    let status = reply.head.status;
    let body = match collect(reply).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    let message = serde_json::from_slice::<Value>(&body).ok();
    let message = message.as_ref().and_then(|value| value["message"].as_str());
    let message = message.map(str::to_owned);
    let message = message.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
    EngineError::Refused { what, status, message }
}

async fn collect(mut reply: Reply) -> Result<Vec<u8>, EngineError> {
    let mut body = Vec::new();
    while let Some(piece) = reply.piece().await {
        body.extend_from_slice(&piece?);
        if body.len() > ANSWER_LEN_MAX {
            break;
        }
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_is_read_as_docker_reads_it() {
        assert_eq!(Engine::at(""), Engine::Unix(SOCKET.into()));
        assert_eq!(Engine::at("unix:///run/d.sock"), Engine::Unix("/run/d.sock".into()));
        assert_eq!(Engine::at("tcp://h:2375"), Engine::Tcp("h:2375".to_owned()));
        for host in ["h:2375", "tcp://h", "npipe:////./pipe/docker", "unix://"] {
            assert_eq!(Engine::at(host), Engine::Nowhere(host.to_owned()));
        }
    }
}
