//! Where a client agent reads when no server of its datacenter answers: at servers of other datacenters that
//! mirror it.
//!
//! Its own servers tell it, while they can, which these are; it keeps the list in memory and in a file, so that an agent
//! that restarts meanwhile knows them, too. When it is cut off it connects to them, and asks those that it has a
//! path to for what may be stale. When its servers are back it lets them go.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use certs::link::{Endpoint, Kind, Request, Routes, Target};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use topology::{Datacenter, NodeName};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::{
    ask::{Answer, Ask, AskError, Consistency, Question, RequestId, TraceId, wire},
    caller::Caller,
    files,
};

/// The kind of a request that holds an [`Ask`] of an agent of another datacenter.
pub const REFUGE: Kind = Kind(9);

/// Most servers on the list.
pub const REFUGES_MAX: usize = 8;

/// How often the own servers are asked for the list.
const RENEW: Duration = Duration::from_secs(60);

/// How soon after the start, and after an answer that did not come, they are asked.
const RETRY: Duration = Duration::from_secs(5);

/// How long the own servers may take to answer.
const LIST_MAX: Duration = Duration::from_secs(5);

/// Longest file: a name and an address for each.
const FILE_LEN_MAX: u64 = 16 * 1024;

/// A server of another datacenter that mirrors this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuge {
    /// Its datacenter.
    pub dc: Datacenter,
    /// Its name there.
    pub name: NodeName,
    /// Where it takes the WAN.
    pub addr: SocketAddr,
    /// The gateways by which it is reached there; none if it is by its own address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<SocketAddr>,
}

/// The servers to ask; clones share them.
#[derive(Clone)]
pub struct Refuges {
    home: Datacenter,
    endpoint: Endpoint,
    known: Arc<ArcSwap<Vec<Refuge>>>,
    file: Option<PathBuf>,
}

impl Refuge {
    fn target(&self) -> Target {
        Target::server(&self.dc, &self.name, self.addr)
    }
}

/// Writes a list as servers answer it.
pub fn encode(refuges: &[Refuge]) -> Vec<u8> {
    let written = serde_json::to_vec(refuges);
    assert!(written.is_ok(), "memory takes every list of names: {written:?}");
    written.unwrap_or_default()
}

/// Asks for the list.
fn list() -> Ask {
    Ask {
        dc: None,
        consistency: Consistency::Stale,
        max_stale: None,
        blocking: None,
        token: String::new(),
        trace: TraceId(Uuid::nil()),
        request: RequestId(Uuid::nil()),
        deadline: Instant::now() + LIST_MAX,
        question: Question::Refuges,
    }
}

fn decode(bytes: &[u8]) -> Result<Vec<Refuge>, serde_json::Error> {
    let mut refuges: Vec<Refuge> = serde_json::from_slice(bytes)?;
    refuges.truncate(REFUGES_MAX);
    Ok(refuges)
}

impl Refuges {
    /// Starts with what the file holds, if there is one. The endpoint is of the WAN's profile.
    pub fn open(home: Datacenter, endpoint: Endpoint, file: Option<PathBuf>) -> Self {
        let found = file.as_deref().and_then(|path| match files::read(path, FILE_LEN_MAX) {
            Ok(found) => decode(&found?)
                .inspect_err(|error| warn!(path = %path.display(), %error, "refuges not read"))
                .ok(),
            Err(error) => {
                warn!(path = %path.display(), %error, "refuges not read");
                None
            }
        });
        let known = Arc::new(ArcSwap::from_pointee(found.unwrap_or_default()));
        Self { home, endpoint, known, file }
    }

    /// Tells whether another datacenter may be asked: only for what may be stale.
    pub fn may_answer(ask: &Ask) -> bool {
        ask.consistency == Consistency::Stale
            && matches!(
                ask.question,
                Question::Lookup(_)
                    | Question::KvGet { .. }
                    | Question::KvList { .. }
                    | Question::KvKeys { .. }
            )
    }

    /// Asks a server to which there is a path; `None` when there is none, or none that answers.
    pub async fn ask(&self, ask: &Ask) -> Option<Answer> {
        let known = self.known.load_full();
        let paths = self.endpoint.paths();
        let is_up =
            |refuge: &&Refuge| paths.iter().any(|path| path.addr == refuge.addr && path.is_up());
        for refuge in known.iter().filter(is_up) {
            let now = Instant::now();
            let dc = Some(ask.dc.clone().unwrap_or_else(|| self.home.clone()));
            let body = wire::encode_ask(&Ask { dc, ..ask.clone() }, now);
            let request = Request { kind: REFUGE, deadline: ask.deadline, body };
            let answered = match self.endpoint.call(&refuge.target(), request).await {
                Ok(reply) => wire::decode_reply(reply.body).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match answered {
                Ok(answer) => return Some(answer),
                Err(error) => debug!(server = %refuge.name, dc = %refuge.dc, error, "no refuge"),
            }
        }
        None
    }

    /// Keeps the list up to date, and paths to the servers on it while the agent is cut off. Ends with the
    /// caller.
    pub async fn keep(self, caller: impl Caller) {
        let mut standing = caller.standing();
        let mut connected: Vec<Refuge> = Vec::new();
        let mut renew = RETRY;
        loop {
            let cut_off = standing.borrow_and_update().cut_off().is_some();
            let wanted = if cut_off { Vec::clone(&self.known.load()) } else { Vec::new() };
            self.connect(&mut connected, wanted);
            match timeout(renew, standing.changed()).await {
                Ok(Err(_)) => return,
                Ok(Ok(())) => {}
                Err(_) if cut_off => {}
                Err(_) => renew = if self.renew(caller.ask(list()).await) { RENEW } else { RETRY },
            }
        }
    }

    fn connect(&self, connected: &mut Vec<Refuge>, wanted: Vec<Refuge>) {
        let mut routes = Routes::default();
        for refuge in wanted.iter().filter(|it| !it.gateways.is_empty()) {
            routes.lead(refuge.addr, refuge.gateways.as_slice());
        }
        self.endpoint.route(routes);
        for refuge in wanted.iter().filter(|it| !connected.contains(it)) {
            info!(dc = %refuge.dc, server = %refuge.name, "cut off: looking for refuge there");
            self.endpoint.connect(&refuge.target());
        }
        for refuge in connected.iter().filter(|it| !wanted.contains(it)) {
            self.endpoint.disconnect(&refuge.target());
        }
        *connected = wanted;
    }

    /// Takes in what the own servers say. Tells whether they said it.
    fn renew(&self, answered: Result<Answer, AskError>) -> bool {
        let list = answered.map_err(|error| error.to_string());
        let list = list.and_then(|it| decode(&it.body).map_err(|error| error.to_string()));
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                debug!(error, "no list of refuges");
                return false;
            }
        };
        // Who is alone for a moment remembers those that there were.
        if list.is_empty() || list == **self.known.load() {
            return true;
        }
        if let Some(path) = &self.file
            && let Err(error) = files::replace(path, &encode(&list))
        {
            warn!(path = %path.display(), %error, "refuges not written");
        }
        self.known.store(Arc::new(list));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_and_is_bounded() {
        let refuge = Refuge {
            dc: "dc2".parse().unwrap(),
            name: "s1".parse().unwrap(),
            addr: "10.0.0.1:8302".parse().unwrap(),
            gateways: vec!["10.0.0.2:8302".parse().unwrap()],
        };
        let many = vec![refuge; REFUGES_MAX + 1];
        assert_eq!(decode(&encode(&many)).unwrap(), many[1..]);
        assert!(decode(b"nonsense").is_err());
    }
}
