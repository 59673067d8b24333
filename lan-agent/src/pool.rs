//! The LAN pool of one datacenter, as this node sees it.
//!
//! One task owns the gossip engine and the socket; everybody else holds a [`Pool`]: the members
//! as of the last change, and a channel for orders.

pub mod join;

use std::{future::Future, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use topology::Member;

/// Most orders that wait for the pool's task: they come from people and from servers' syncs.
const ORDERS_MAX: usize = 64;

/// Why an order to the pool was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// No address could be resolved or none was given.
    #[error("{0}")]
    Join(String),
    /// There is no such member.
    #[error("agent: No node found with name '{name}'")]
    NoMember {
        /// As asked for.
        name: String,
    },
    /// The pool's task has ended: the agent is stopping.
    #[error("the agent is stopping")]
    Stopped,
}

/// A handle on the pool.
#[derive(Clone)]
pub struct Pool {
    members: Arc<ArcSwap<Vec<Member>>>,
    changed: watch::Receiver<u64>,
    orders: mpsc::Sender<Order>,
}

/// What others want of the pool's task.
pub(crate) enum Order {
    Join { addrs: Vec<String>, done: oneshot::Sender<Result<usize, PoolError>> },
    Leave { done: oneshot::Sender<()> },
    ForceLeave { name: String, prune: bool, done: oneshot::Sender<Result<(), PoolError>> },
    Export { done: oneshot::Sender<Bytes> },
    Sync { theirs: Bytes, done: oneshot::Sender<Bytes> },
}

/// The task's side of a [`Pool`].
pub(crate) struct Publisher {
    members: Arc<ArcSwap<Vec<Member>>>,
    changed: watch::Sender<u64>,
}

/// Makes the two sides of a pool.
pub(crate) fn channel() -> (Pool, Publisher, mpsc::Receiver<Order>) {
    let members = Arc::new(ArcSwap::from_pointee(Vec::new()));
    let (changed, changes) = watch::channel(0);
    let (orders, inbox) = mpsc::channel(ORDERS_MAX);
    let pool = Pool { members: members.clone(), changed: changes, orders };
    (pool, Publisher { members, changed }, inbox)
}

impl Publisher {
    /// Publishes the members, sorted by name.
    pub(crate) fn publish(&self, members: Vec<Member>) {
        self.members.store(Arc::new(members));
        self.changed.send_modify(|version| *version += 1);
    }
}

impl Pool {
    /// Returns all members, this node too, sorted by name.
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.members.load_full()
    }

    /// Changes whenever the members do.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Asks the nodes at these addresses (`host`, `host:port`, IPv6 in brackets or bare) to let
    /// this node in. Returns how many were asked.
    pub async fn join(&self, addrs: Vec<String>) -> Result<usize, PoolError> {
        self.order(|done| Order::Join { addrs, done }).await?
    }

    /// Tells the others that this node leaves, and returns when the word is out.
    pub async fn leave(&self) {
        // An error says that the pool's task has ended, which is what leaving is for.
        let _ended = self.order(|done| Order::Leave { done }).await;
    }

    /// Holds a failed member for left; `prune` forgets it altogether.
    pub async fn force_leave(&self, name: &str, prune: bool) -> Result<(), PoolError> {
        self.order(|done| Order::ForceLeave { name: name.to_owned(), prune, done }).await?
    }

    /// Returns everything that this node knows of the pool, for another node to take over.
    pub async fn export(&self) -> Result<Bytes, PoolError> {
        self.order(|done| Order::Export { done }).await
    }

    /// Takes over what another node knows of the pool, and returns what this one knows: the
    /// answer to a `ROSTER` call.
    pub async fn sync(&self, theirs: Bytes) -> Result<Bytes, PoolError> {
        self.order(|done| Order::Sync { theirs, done }).await
    }

    fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> impl Future<Output = Result<T, PoolError>> {
        let (done, outcome) = oneshot::channel();
        let order = order(done);
        let orders = self.orders.clone();
        async move {
            orders.send(order).await.map_err(|_| PoolError::Stopped)?;
            outcome.await.map_err(|_| PoolError::Stopped)
        }
    }
}
