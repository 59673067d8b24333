//! Reads the configuration again while the node runs, and applies what can change.
//!
//! ```text
//! sources as at the start ──▶ load ──▶ plan ──▶ certificates ──▶ services, checks ──▶ the rest
//!                              │                     │                  │            can't fail
//!                              └──────── refused: everything stays as it was
//! ```
//!
//! Nothing is stopped for it: connections, requests and checks that are not concerned go on. What
//! fails is said to whoever asked, and in the log.

use certs::{
    error::KeyError,
    https::Acceptor,
    store::{Files, Keys, Prepared},
};
use lan_agent::{
    dns::Dns,
    http::Most,
    local::LocalError,
    process::{Outcome, Reloaded},
    watches::Watches,
};
use tracing::{error, info, warn};

use super::{Node, interface, services};
use crate::{
    config::{
        self, Host, Loaded, Problems,
        agent::{Agent, Pem},
        flags::Request,
        reload::{Plan, plan},
    },
    logging::Level,
};

/// Why everything stays as it was.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// The files don't make a configuration.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// Certificates are no good.
    #[error("the certificate for {of} can't be used: {error}")]
    Certificate { of: &'static str, error: KeyError },
    /// What runs on the node could not be brought up to date on the disk.
    #[error("services and checks: {0}")]
    Local(#[from] LocalError),
    /// Reading was cut off, because the process ends.
    #[error("the configuration could not be read: {0}")]
    Reading(#[from] tokio::task::JoinError),
}

/// What can change of a node that runs.
struct Parts {
    agent: std::sync::Arc<lan_agent::Agent>,
    keys: Keys,
    acceptor: Option<Acceptor>,
    connections_max: Most,
    dns: Dns,
    watches: Watches,
    level: Level,
}

/// Reads a node's configuration again. One of them per node, as one reading builds on the last.
pub struct Reloader {
    request: Request,
    started: config::reload::Keys,
    last: Loaded,
    parts: Parts,
}

impl Reloader {
    /// Makes one for a node that was started with what a request was loaded to.
    pub fn new(node: &Node, request: Request, loaded: Loaded, level: Level) -> Self {
        let parts = Parts {
            agent: node.agent.clone(),
            keys: node.keys.clone(),
            acceptor: node.acceptor.clone(),
            connections_max: node.connections_max.clone(),
            dns: node.dns.clone(),
            watches: node.watches.clone(),
            level,
        };
        Self { request, started: loaded.keys.clone(), last: loaded, parts }
    }

    /// Reads everything again and applies it, or nothing.
    pub async fn reload(&mut self) -> Outcome {
        match self.apply().await {
            Ok(reloaded) => {
                info!(changed = reloaded.changed.join(" "), "configuration reloaded");
                if let Some(warning) = reloaded.warning() {
                    warn!("{warning}");
                }
                Ok(reloaded)
            }
            Err(refused) => {
                let reason = refused.to_string();
                error!(%reason, "the configuration was not reloaded, everything stays as it was");
                Err(reason)
            }
        }
    }

    async fn apply(&mut self) -> Result<Reloaded, Refused> {
        let request = self.request.clone();
        // Files may lie on a slow disk.
        let reading = tokio::task::spawn_blocking(move || config::load(&request, &Host::detect()));
        let mut new = reading.await??;
        let Plan { agent, changed, restart } = plan(&self.started, &self.last, &new);
        let certificates = self.parts.certificates(&agent)?;
        self.parts.define(&agent)?;
        for certificate in certificates {
            certificate.commit();
        }
        self.parts.set(&agent);
        for warning in new.warnings.iter().filter(|it| !self.last.warnings.contains(it)) {
            warn!("{warning}");
        }
        new.agent = agent;
        self.last = new;
        Ok(Reloaded { changed, restart })
    }
}

impl Parts {
    /// Reads the certificates, which are not in use before all of them are good.
    fn certificates(&self, wanted: &Agent) -> Result<Vec<Prepared>, Refused> {
        let mut prepared = Vec::new();
        if let Some(pem) = &wanted.tls.link {
            let refused = |error| Refused::Certificate { of: "links", error };
            prepared.push(self.keys.prepare(files(pem)).map_err(refused)?);
        }
        if let (Some(pem), Some(acceptor)) = (&wanted.tls.https, &self.acceptor) {
            let refused = |error| Refused::Certificate { of: "HTTPS", error };
            prepared.push(acceptor.prepare(files(pem)).map_err(refused)?);
        }
        Ok(prepared)
    }

    /// Brings services and checks up to what files say.
    fn define(&self, wanted: &Agent) -> Result<(), LocalError> {
        let config::agent::Definitions { services, checks, .. } = wanted.definitions.clone();
        self.agent.local.reload(services, checks)
    }

    /// Sets what is only a value. Parts of a node that hold settings of their own get them here.
    fn set(&self, wanted: &Agent) {
        self.level.set(wanted.log.level);
        self.connections_max.set(interface::connections_max(wanted));
        self.dns.replace(wanted.dns.settings(&wanted.domain));
        self.agent.local.discard_output(wanted.checks.discard_output);
        self.agent.local.describe_node(services::meta(wanted));
        self.watches.set(&wanted.definitions.watches);
        self.agent.show_settings(wanted.shown());
    }
}

/// Returns the files of a certificate.
pub(super) fn files(pem: &Pem) -> Files {
    Files {
        certificate: pem.cert_file.clone(),
        key: pem.key_file.clone(),
        authorities: pem.ca.clone(),
    }
}
