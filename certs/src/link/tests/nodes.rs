//! Nodes for the tests of the link: an authority, certificates, endpoints, a service that
//! does what its requests say.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::Instant,
};
use topology::{Datacenter, NodeName, Role};

use crate::{
    ca::{Algorithm, Authority, Subject},
    error::CallError,
    fabric::Fabric,
    identity::{Domains, Identity},
    link::{
        Accept, Answering, Config, Endpoint, Expect, Kind, Limits, Path, Profile, Refusal, Reply,
        Request, Service, Sockets, Target,
    },
    store::{Bundle, Clock, Keys},
};

pub(super) const ECHO: Kind = Kind(1);
pub(super) const HANG: Kind = Kind(2);
pub(super) const REFUSE: Kind = Kind(3);
pub(super) const LENGTH: Kind = Kind(4);

pub(super) const DAYS: u32 = 365;

pub(super) fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

pub(super) fn dc(name: &str) -> Datacenter {
    Datacenter::new(name).unwrap()
}

pub(super) fn identity(dc_name: &str, role: Role, node: &str) -> Identity {
    Identity::new(dc(dc_name), role, Some(NodeName::new(node).unwrap()))
}

pub(super) fn server(dc_name: &str, node: &str) -> Identity {
    identity(dc_name, Role::Server, node)
}

pub(super) fn authority() -> Authority {
    Authority::create("test", Algorithm::Ed25519, start(), DAYS).unwrap()
}

pub(super) fn bundle(issuer: &Authority, me: &Identity, trusted: &[&Authority]) -> Bundle {
    bundle_at(issuer, me, trusted, start())
}

pub(super) fn bundle_at(
    issuer: &Authority,
    me: &Identity,
    trusted: &[&Authority],
    now: OffsetDateTime,
) -> Bundle {
    let issued = issuer.issue(&Subject::new(me.clone()), now, DAYS).unwrap();
    Bundle {
        certificates: issued.certificate_pem,
        key: issued.key_pem,
        authorities: trusted.iter().map(|ca| ca.certificate_pem().to_owned()).collect(),
    }
}

pub(super) fn clock() -> Clock {
    Clock::Simulated { start: start() + Duration::from_secs(3600), at: Instant::now() }
}

pub(super) fn keys(bundle: Bundle) -> Keys {
    Keys::memory(bundle, Domains::default(), clock()).unwrap()
}

/// A service that does what its requests say, and lets the test see it.
pub(super) struct Obedient {
    pub(super) word: Mutex<Bytes>,
    pub(super) hanging: Arc<AtomicUsize>,
    pub(super) dropped: Arc<Notify>,
    pub(super) answered: AtomicUsize,
    datagrams: mpsc::UnboundedSender<(Identity, Bytes)>,
}

struct Hanging {
    count: Arc<AtomicUsize>,
    dropped: Arc<Notify>,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.dropped.notify_one();
    }
}

impl Service for Obedient {
    fn call(&self, _peer: Arc<Identity>, _from: SocketAddr, request: Request) -> Answering {
        self.answered.fetch_add(1, Ordering::SeqCst);
        let guard = (request.kind == HANG).then(|| {
            self.hanging.fetch_add(1, Ordering::SeqCst);
            Hanging { count: Arc::clone(&self.hanging), dropped: Arc::clone(&self.dropped) }
        });
        Box::pin(async move {
            match request.kind {
                ECHO => Ok(request.body),
                LENGTH => Ok(Bytes::from(request.body.len().to_string())),
                HANG => {
                    let _guard = guard;
                    std::future::pending().await
                }
                _ => Err(Refusal::new(99, "no such kind")),
            }
        })
    }

    fn datagram(&self, peer: &Identity, _from: SocketAddr, data: Bytes) {
        self.datagrams.send((peer.clone(), data)).unwrap();
    }

    fn word(&self) -> Bytes {
        self.word.lock().unwrap().clone()
    }
}

/// A running endpoint.
pub(super) struct Node {
    pub(super) me: Identity,
    pub(super) keys: Keys,
    pub(super) endpoint: Endpoint,
    pub(super) service: Arc<Obedient>,
    pub(super) datagrams: mpsc::UnboundedReceiver<(Identity, Bytes)>,
    pub(super) run: JoinHandle<()>,
}

impl Node {
    pub(super) fn start(fabric: &Fabric, addr: &str, me: &Identity, keys: Keys, seed: u64) -> Self {
        Self::over(fabric, addr, me, keys, seed)
    }

    pub(super) fn over(
        sockets: &dyn Sockets,
        addr: &str,
        me: &Identity,
        keys: Keys,
        seed: u64,
    ) -> Self {
        let accept = Accept::OwnDatacenter(me.dc.clone());
        Self::accepting(sockets, addr, me, keys, seed, accept)
    }

    pub(super) fn accepting(
        sockets: &dyn Sockets,
        addr: &str,
        me: &Identity,
        keys: Keys,
        seed: u64,
        accept: Accept,
    ) -> Self {
        let (sender, datagrams) = mpsc::unbounded_channel();
        let service = Arc::new(Obedient {
            word: Mutex::default(),
            hanging: Arc::default(),
            dropped: Arc::default(),
            answered: AtomicUsize::new(0),
            datagrams: sender,
        });
        let profile = if accept == Accept::Servers { Profile::Wan } else { Profile::Lan };
        let config = Config {
            addr: addr.parse().unwrap(),
            me: me.clone(),
            keys: keys.clone(),
            accept,
            profile,
            seed: Some(seed),
            limits: Limits::default(),
        };
        let (endpoint, run) = Endpoint::bind(config, sockets, service.clone()).unwrap();
        let run = tokio::spawn(run);
        Self { me: me.clone(), keys, endpoint, service, datagrams, run }
    }

    pub(super) fn target(&self) -> Target {
        let expect =
            Expect { dc: Some(self.me.dc.clone()), role: self.me.role, node: self.me.node.clone() };
        Target { addr: self.endpoint.local_addr(), expect }
    }

    pub(super) async fn ask(&self, to: &Node, kind: Kind, body: &[u8]) -> Result<Bytes, CallError> {
        self.ask_at(&to.target(), kind, Bytes::copy_from_slice(body)).await
    }

    pub(super) async fn ask_at(
        &self,
        to: &Target,
        kind: Kind,
        body: Bytes,
    ) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let Reply { body } = self.endpoint.call(to, Request { kind, deadline, body }).await?;
        Ok(body)
    }

    pub(super) fn path_to(&self, addr: SocketAddr) -> Option<Path> {
        self.endpoint.paths().into_iter().find(|path| path.addr == addr)
    }

    /// Waits until the path to a peer is as wanted; returns it.
    pub(super) async fn path_when(&self, addr: SocketAddr, wanted: impl Fn(&Path) -> bool) -> Path {
        let mut changes = self.endpoint.changes();
        let found = async {
            loop {
                match self.path_to(addr) {
                    Some(path) if wanted(&path) => return path,
                    _ => changes.changed().await.unwrap(),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), found).await.expect("no such path")
    }
}

/// Two servers of one datacenter.
pub(super) fn pair(fabric: &Fabric) -> (Node, Node) {
    let ca = authority();
    let (a, b) = (server("dc1", "a"), server("dc1", "b"));
    let one = Node::start(fabric, "10.0.0.1:8300", &a, keys(bundle(&ca, &a, &[&ca])), 1);
    let two = Node::start(fabric, "10.0.0.2:8300", &b, keys(bundle(&ca, &b, &[&ca])), 2);
    (one, two)
}

/// Two servers of a WAN.
pub(super) fn wan_pair(fabric: &Fabric) -> (Node, Node) {
    let ca = authority();
    let start = |addr: &str, me: Identity, seed| {
        let keys = keys(bundle(&ca, &me, &[&ca]));
        Node::accepting(fabric, addr, &me, keys, seed, Accept::Servers)
    };
    let one = start("10.0.1.1:8302", server("dc1", "a"), 1);
    (one, start("10.0.2.1:8302", server("dc2", "b"), 2))
}

pub(super) fn fabric() -> Fabric {
    Fabric::new(Duration::from_millis(1))
}
