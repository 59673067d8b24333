//! The way from an agent to a server: the agent is one itself, or it has links to some.

use std::{future::Future, net::SocketAddr, pin::Pin};

use tokio::sync::watch;
use topology::{Member, NodeName};

use crate::{
    ask::{Answer, Ask, AskError},
    standing::Standing,
};

/// A future that a trait object returns.
pub type Promise<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Answers asks: a server through its dispatch, a client agent through a link to a server.
pub trait Caller: Send + Sync + 'static {
    /// Answers an ask by its deadline.
    fn ask(&self, ask: Ask) -> Promise<Result<Answer, AskError>>;

    /// Tells whether anybody answers, as of now and with every change.
    fn standing(&self) -> watch::Receiver<Standing>;

    /// What only a server can do; `None` on a client agent.
    fn server(&self) -> Option<&dyn ServerSide>;
}

/// What the agent's local interface offers on a server beyond asks.
pub trait ServerSide: Send + Sync {
    /// Returns the members of the WAN pool, sorted by name; their name in the WAN is `node.dc`.
    fn wan_members(&self) -> Vec<Member>;

    /// Joins the WAN pool through one of these; returns how many answered.
    fn wan_join(&self, addrs: Vec<SocketAddr>) -> Promise<Result<usize, String>>;

    /// Holds a failed server of the WAN pool for left; `prune` forgets it altogether.
    fn wan_force_leave(&self, name: &str, prune: bool) -> Promise<Result<(), String>>;

    /// Leaves Raft and the WAN pool, before the agent leaves the LAN pool.
    fn leave(&self) -> Promise<Result<(), String>>;

    /// Removes a failed server from Raft, if it is one.
    fn force_leave(&self, name: &NodeName) -> Promise<Result<(), String>>;

    /// Returns what `info` and `agent/self` say of Raft and the WAN: section, key, value.
    fn stats(&self) -> Vec<(&'static str, String, String)>;
}
