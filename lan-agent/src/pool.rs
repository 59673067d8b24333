//! The LAN pool of one datacenter, as this node sees it.
//!
//! One task owns the gossip engine and the socket; everybody else holds a [`Pool`]: the members
//! as of the last change, and a channel for orders. Packets travel over UDP, sealed ([`seal`]);
//! full states over the server link, which whoever binds the pool brings along ([`Puller`]).
//!
//! ```text
//! socket -> open -> engine -> seal -> socket
//!                     |-> members, published     |-> Puller -> a server's Pool::sync
//! ```
//!
//! A node that finds nobody resolves its configured names again at an interval, and tries the
//! members that it knew before its restart ([`Config::roster`]). Packets that can't be opened are
//! counted and logged at a bounded rate; a full send buffer loses packets, as networks do.

pub mod join;
pub mod packets;
pub mod seal;

mod driver;
mod measure;
mod roster;
mod timers;

use std::{future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use topology::{
    Coordinate, Member, Profile,
    gossip::{self, Engine},
};

use self::{
    driver::{Driver, Parts},
    measure::Meter,
    packets::Packets,
    seal::KeyRing,
};
use crate::caller::Promise;

/// How long a node that is alone waits before it tries its configured names again, as in Consul.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// Most orders that wait for the pool's task: they come from people and from servers' syncs.
const ORDERS_MAX: usize = 64;

/// How a pool is entered.
#[derive(Debug, Clone)]
pub struct Config {
    /// What this node says of itself. Port 0 in its address stands for the port that is bound.
    pub me: Profile,
    /// Where to take packets; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The keys of the pool.
    pub ring: KeyRing,
    /// Whom to ask to be let in: `host`, `host:port`, IPv6 bare or in brackets.
    pub join: Vec<String>,
    /// How long to wait before asking again while nobody answered.
    pub retry_interval: Duration,
    /// The file that keeps the addresses of members over a restart; `None` keeps nothing.
    pub roster: Option<PathBuf>,
    /// Whether the roster is kept when the node leaves, so that it joins again after a start.
    pub rejoin: bool,
    /// Feeds random choices and nonces; different at each start.
    pub seed: u64,
    /// Larger at every start: milliseconds since 1970 will do.
    pub boot: u64,
    /// The constants of the pool, the same for all members.
    pub gossip: gossip::Config,
    /// Whether the node finds its coordinate.
    pub measuring: Measuring,
}

/// Whether a node measures round trips to others, and answers those who measure theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measuring {
    /// It does.
    On,
    /// It does not, and has no coordinate (`disable_coordinates`).
    Off,
}

impl Measuring {
    /// It does unless an operator wants otherwise.
    pub fn unless(disabled: bool) -> Self {
        if disabled { Measuring::Off } else { Measuring::On }
    }
}

/// Fetches full states over the server link.
pub trait Puller: Send + Sync + 'static {
    /// Sends `mine` to a server (kind `ROSTER`) and returns what it answers: its own state.
    /// Must have a deadline of its own.
    fn pull(&self, from: Profile, mine: Bytes) -> Promise<Result<Bytes, String>>;
}

/// Why an order to the pool was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// No address could be resolved, or none answered in time.
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
    coordinate: Arc<ArcSwapOption<Coordinate>>,
    orders: mpsc::Sender<Order>,
}

/// What others want of the pool's task.
pub(crate) enum Order {
    Join { addrs: Vec<String>, done: oneshot::Sender<Result<usize, PoolError>> },
    Leave { done: oneshot::Sender<()> },
    ForceLeave { name: String, prune: bool, done: oneshot::Sender<Result<(), PoolError>> },
    Export { done: oneshot::Sender<Bytes> },
    Sync { theirs: Bytes, done: oneshot::Sender<Bytes> },
    Update(Box<Profile>),
    PathDown(SocketAddr),
    Rekey(KeyRing),
}

/// The task's side of a [`Pool`].
pub(crate) struct Publisher {
    members: Arc<ArcSwap<Vec<Member>>>,
    changed: watch::Sender<u64>,
    coordinate: Arc<ArcSwapOption<Coordinate>>,
}

/// Makes the two sides of a pool.
pub(crate) fn channel() -> (Pool, Publisher, mpsc::Receiver<Order>) {
    let members = Arc::new(ArcSwap::from_pointee(Vec::new()));
    let (changed, changes) = watch::channel(0);
    let (orders, inbox) = mpsc::channel(ORDERS_MAX);
    let coordinate = Arc::new(ArcSwapOption::empty());
    let place = coordinate.clone();
    let pool = Pool { members: members.clone(), changed: changes, coordinate: place, orders };
    (pool, Publisher { members, changed, coordinate }, inbox)
}

impl Publisher {
    /// Publishes the members, sorted by name.
    pub(crate) fn publish(&self, members: Vec<Member>) {
        self.members.store(Arc::new(members));
        self.changed.send_modify(|version| *version += 1);
    }

    /// Publishes where this node is.
    pub(crate) fn place(&self, coordinate: Coordinate) {
        self.coordinate.store(Some(Arc::new(coordinate)));
    }
}

impl Pool {
    /// Opens the pool's socket. Returns the handle, the address that others know this node by,
    /// and what runs the pool until this node left or all handles are gone.
    pub fn bind(
        config: Config,
        packets: &dyn Packets,
        puller: Arc<dyn Puller>,
    ) -> io::Result<(Pool, SocketAddr, impl Future<Output = ()> + Send + use<>)> {
        let socket = packets.bind(config.bind)?;
        let mut me = config.me;
        if me.addr.port() == 0 {
            me.addr.set_port(socket.local_addr()?.port());
        }
        let addr = me.addr;
        let (pool, publisher, orders) = channel();
        let driver = Driver::new(Parts {
            engine: Engine::new(config.gossip, me.clone(), config.boot, config.seed),
            me,
            socket,
            ring: config.ring,
            seed: config.seed,
            join: config.join,
            retry_interval: config.retry_interval,
            roster_path: config.roster,
            rejoin: config.rejoin,
            puller,
            meter: Meter::new(config.measuring, config.seed, &publisher),
            publisher,
        });
        Ok((pool, addr, driver.run(orders)))
    }

    /// Returns all members, this node too, sorted by name.
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.members.load_full()
    }

    /// Changes whenever the members do.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Returns where this node is on the map of round trips; `None` when it does not measure them.
    pub fn coordinate(&self) -> Option<Coordinate> {
        self.coordinate.load().as_deref().copied()
    }

    /// Asks the nodes at these addresses (`host`, `host:port`, IPv6 in brackets or bare) to let
    /// this node in. Returns how many answered.
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

    /// Says something new of this node; name, id, datacenter and address stay the same.
    pub async fn update(&self, me: Profile) -> Result<(), PoolError> {
        self.tell(Order::Update(Box::new(me))).await
    }

    /// Has the member at this address (of the pool) suspected, because the link to it closed.
    pub async fn path_down(&self, addr: SocketAddr) -> Result<(), PoolError> {
        self.tell(Order::PathDown(addr)).await
    }

    /// Replaces the keys.
    pub async fn rekey(&self, ring: KeyRing) -> Result<(), PoolError> {
        self.tell(Order::Rekey(ring)).await
    }

    async fn tell(&self, order: Order) -> Result<(), PoolError> {
        self.orders.send(order).await.map_err(|_| PoolError::Stopped)
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

#[cfg(test)]
mod tests;
