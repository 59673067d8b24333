//! Runs one check's probe, once or again, and never fails: what goes wrong is a finding.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Finding,
    docker::{Docker, Engine, Runs},
    grpc::{self, Grpc},
    h2ping::{self, H2Ping},
    http::{self, Http, Redirects},
    os_service,
    process::Program,
    schedule::DELAY_MAX,
    script,
    tcp::{self, Tcp},
    tls::{Credentials, Tls},
    udp,
};
use crate::{
    catalog::Text,
    definition::{CheckDefinition, Probe},
    duration,
};

/// How long a program may take unless its definition says, as in Consul.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a call may take unless its definition says, as in Consul.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What all probes of an agent share.
pub(super) struct Tools {
    pub(super) tls: Tls,
    engine: Engine,
}

/// Finds out, again and again, one run at a time.
pub(super) trait Find: Send {
    /// Finds out once. Dropping the future ends what it runs.
    fn find(&mut self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>>;
}

/// What a check's definition comes to.
pub(super) enum Prepared {
    /// Something to run again and again.
    Probe(Box<dyn Find>),
    /// Nothing: somebody reports.
    Reported,
    /// Another one says.
    Alias {
        /// The node; empty for this one.
        node: Text,
        /// The service's id; empty for the node itself.
        service: Text,
    },
}

/// Runs one check's probe.
struct Prober {
    way: Way,
    tools: Arc<Tools>,
    patience: Duration,
    output_len_max: usize,
}

/// How it finds out, with what is kept from run to run.
enum Way {
    Script(Program),
    Http(Http),
    Tcp(Tcp),
    Udp(Text),
    Grpc(Grpc),
    H2Ping(H2Ping),
    Docker(Runs),
    OsService(Text, Program),
}

impl Tools {
    pub(super) fn new(credentials: Credentials, engine: Engine) -> Arc<Self> {
        Arc::new(Self { tls: Tls::new(credentials), engine })
    }
}

/// Prepares what a definition says; so many bytes are kept of what comes of it.
pub(super) fn prepare(
    definition: &CheckDefinition,
    output_len_max: usize,
    tools: &Arc<Tools>,
) -> Prepared {
    let default = if is_program(&definition.probe) { PROGRAM_TIMEOUT } else { CALL_TIMEOUT };
    let patience = if definition.timeout.is_zero() { default } else { definition.timeout };
    let patience = patience.min(DELAY_MAX);
    let way = match definition.probe.clone() {
        Probe::Ttl(_) => return Prepared::Reported,
        Probe::Alias { node, service } => return Prepared::Alias { node, service },
        Probe::Script { args } => Way::Script(Program::new(args, patience, output_len_max)),
        Probe::Http { url, method, headers, body, disable_redirects, tls } => {
            let redirects = if disable_redirects { Redirects::Refuse } else { Redirects::Follow };
            Way::Http(Http { url, method, header: headers, body, redirects, tls })
        }
        Probe::Tcp { target, use_tls, tls } => {
            Way::Tcp(Tcp { target, tls: use_tls.then_some(tls) })
        }
        Probe::Udp(target) => Way::Udp(target),
        Probe::Grpc { target, use_tls, tls } => {
            Way::Grpc(Grpc { target, tls: use_tls.then_some(tls) })
        }
        Probe::H2Ping { target, use_tls, tls } => {
            Way::H2Ping(H2Ping { target, tls: use_tls.then_some(tls) })
        }
        Probe::Docker { container, shell, args } => {
            let docker = Docker { container, shell, args };
            Way::Docker(Runs::new(docker, tools.engine.clone(), patience))
        }
        Probe::OsService(name) => {
            let program = os_service::program(&name, patience);
            Way::OsService(name, program)
        }
    };
    let tools = tools.clone();
    Prepared::Probe(Box::new(Prober { way, tools, patience, output_len_max }))
}

impl Find for Prober {
    fn find(&mut self) -> Pin<Box<dyn Future<Output = Finding> + Send + '_>> {
        Box::pin(self.run())
    }
}

impl Prober {
    async fn run(&mut self) -> Finding {
        let (patience, tools) = (self.patience, &*self.tools);
        match &mut self.way {
            Way::Script(program) => script::find(program).await,
            Way::OsService(name, program) => os_service::find(name, program).await,
            Way::Docker(runs) => runs.find(self.output_len_max).await,
            Way::Http(http) => http::find(http, tools, patience, self.output_len_max).await,
            Way::Udp(target) => udp::find(target, patience).await,
            Way::Tcp(tcp) => within(patience, &tcp.target, tcp::find(tcp, tools)).await,
            Way::Grpc(grpc) => within(patience, &grpc.target, grpc::find(grpc, tools)).await,
            Way::H2Ping(ping) => within(patience, &ping.target, h2ping::find(ping, tools)).await,
        }
    }
}

/// Tells whether a probe runs a program, wherever.
pub(super) fn is_program(probe: &Probe) -> bool {
    matches!(probe, Probe::Script { .. } | Probe::Docker { .. } | Probe::OsService(_))
}

async fn within(
    patience: Duration,
    target: &str,
    finding: impl Future<Output = Finding>,
) -> Finding {
    timeout(patience, finding).await.unwrap_or_else(|_| {
        Finding::critical(format!("no answer from {target} within {}", duration::format(patience)))
    })
}
