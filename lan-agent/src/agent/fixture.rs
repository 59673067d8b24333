//! An agent for tests, around whatever caller they bring.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use topology::{NodeId, Role};

use super::*;
use crate::{
    catalog::{Node, Text},
    definition::{CheckDefinition, OUTPUT_LEN_MAX},
    local::{self, Prober},
    pool,
};

/// Runs no checks: what they say is reported.
struct Idle;

impl Prober for Idle {
    fn start(&self, _check: &CheckDefinition) {}

    fn stop(&self, _id: &Text) {}
}

/// An agent, and what others have in their hands.
pub(crate) struct Fixture {
    pub(crate) agent: Arc<Agent>,
    pub(crate) stop: CancellationToken,
    pub(crate) pool: pool::Publisher,
    pub(crate) orders: mpsc::Receiver<pool::Order>,
}

pub(crate) fn profile(name: &str, role: Role) -> Profile {
    Profile {
        name: name.parse().unwrap(),
        id: NodeId(Uuid::from_u128(7)),
        dc: "dc1".parse().unwrap(),
        role,
        addr: "127.0.0.1:8301".parse().unwrap(),
        link: Some("127.0.0.1:8300".parse().unwrap()).filter(|_| role == Role::Server),
        wan: Some("127.0.0.1:8302".parse().unwrap()).filter(|_| role == Role::Server),
        version: "0.1.0".to_owned(),
        tags: BTreeMap::from([("expect".to_owned(), "3".to_owned())]),
    }
}

/// Makes the agent of the node `n1`.
pub(crate) fn agent(caller: Arc<dyn Caller>, change: impl FnOnce(&mut Config)) -> Fixture {
    let (handle, pool, orders) = pool::channel();
    let stop = CancellationToken::new();
    let mut config = Config {
        me: profile("n1", Role::Server),
        primary_dc: "dc1".parse().unwrap(),
        revision: "abc",
        build_date: Some("2026-11-21T04:00:00Z"),
        ask_timeout: ASK_TIMEOUT,
        drain_time: Duration::ZERO,
        remote_scripts: false,
        translate_wan: false,
        cache_file: None,
        seed: 1,
        started_ms: 1_795_221_870_000,
    };
    change(&mut config);
    let own = local::Config {
        node: Node { name: "n1".into(), ..Node::default() },
        output_delay: Duration::ZERO,
        discard_output: false,
        output_len_max: OUTPUT_LEN_MAX,
    };
    let local = Local::new(own, None, Arc::new(Idle));
    let settings = serde_json::json!({ "NodeName": "n1" });
    let process = Process::default();
    let agent = Agent::new(config, settings, handle, caller, local, process, stop.clone());
    Fixture { agent, stop, pool, orders }
}
