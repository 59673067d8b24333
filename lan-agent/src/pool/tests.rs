//! Pools of nodes over a network in memory, on a paused clock: what the driver adds to the engine.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use tokio::task::JoinHandle;
use topology::{NodeId, Role, Status};
use uuid::Uuid;

use super::{packets::Socket, seal::Key, *};

type Sent = (SocketAddr, Vec<u8>);
type Inbox = (VecDeque<Sent>, Option<Waker>);

/// Delivers every packet at once, and full states too.
#[derive(Clone, Default)]
struct Net {
    inboxes: Arc<Mutex<BTreeMap<SocketAddr, Inbox>>>,
    pools: Arc<Mutex<BTreeMap<SocketAddr, Pool>>>,
    /// All packets that were ever sent, by whom.
    said: Arc<Mutex<Vec<Sent>>>,
}

struct Port {
    net: Net,
    addr: SocketAddr,
}

impl Packets for Net {
    fn bind(&self, addr: SocketAddr) -> io::Result<Box<dyn Socket>> {
        self.inboxes.lock().unwrap().insert(addr, Inbox::default());
        Ok(Box::new(Port { net: self.clone(), addr }))
    }
}

impl Socket for Port {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn send(&self, to: SocketAddr, packet: &[u8]) -> io::Result<()> {
        self.net.said.lock().unwrap().push((self.addr, packet.to_vec()));
        self.net.deliver(self.addr, to, packet);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut inboxes = self.net.inboxes.lock().unwrap();
        let (packets, waker) = inboxes.get_mut(&self.addr).unwrap();
        match packets.pop_front() {
            Some((from, packet)) => {
                buf[..packet.len()].copy_from_slice(&packet);
                Poll::Ready(Ok((packet.len(), from)))
            }
            None => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.net.inboxes.lock().unwrap().remove(&self.addr);
    }
}

impl Puller for Net {
    fn pull(&self, from: Profile, mine: Bytes) -> Promise<Result<Bytes, String>> {
        let pool = self.pools.lock().unwrap().get(&from.addr).cloned();
        Box::pin(async move {
            let pool = pool.ok_or("nobody there")?;
            pool.sync(mine).await.map_err(|error| error.to_string())
        })
    }
}

impl Net {
    fn deliver(&self, from: SocketAddr, to: SocketAddr, packet: &[u8]) {
        if let Some((packets, waker)) = self.inboxes.lock().unwrap().get_mut(&to) {
            packets.push_back((from, packet.to_vec()));
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    fn start(&self, number: u8, change: impl FnOnce(&mut Config)) -> Node {
        let mut config = config(number);
        change(&mut config);
        let addr = config.bind;
        let (pool, known, run) = Pool::bind(config, self, Arc::new(self.clone())).unwrap();
        assert_eq!(known, addr);
        self.pools.lock().unwrap().insert(addr, pool.clone());
        Node { pool, addr, task: tokio::spawn(run) }
    }
}

fn addr(number: u8) -> SocketAddr {
    format!("10.0.0.{number}:8301").parse().unwrap()
}

fn config(number: u8) -> Config {
    let me = Profile {
        name: format!("n{number}").parse().unwrap(),
        id: NodeId(Uuid::from_u128(u128::from(number))),
        dc: "dc1".parse().unwrap(),
        role: Role::Server,
        addr: addr(number),
        link: Some(SocketAddr::new(addr(number).ip(), 8300)),
        wan: None,
        version: "0.1.0".to_owned(),
        tags: BTreeMap::new(),
    };
    Config {
        bind: me.addr,
        me,
        ring: KeyRing::plain(),
        join: Vec::new(),
        rejoin: false,
        retry_interval: RETRY_INTERVAL,
        roster: None,
        seed: u64::from(number),
        boot: 1,
        gossip: gossip::Config::lan(),
        measuring: Measuring::On,
    }
}

struct Node {
    pool: Pool,
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Node {
    /// Waits until a member is held for something. The clock is paused: this takes no time, and
    /// an hour without it is a failure.
    async fn sees(&self, name: &str, status: Option<Status>) {
        let mut changes = self.pool.changes();
        let seen = async {
            loop {
                changes.borrow_and_update();
                let members = self.pool.members();
                let member = members.iter().find(|m| m.profile.name.as_str() == name);
                if member.map(|member| member.status) == status {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        let hour = Duration::from_secs(3600);
        let what = || format!("{} never sees {name} as {status:?}", self.addr);
        tokio::time::timeout(hour, seen).await.unwrap_or_else(|_| panic!("{}", what()));
    }

    fn alive(&self) -> usize {
        self.pool.members().iter().filter(|member| member.is_alive()).count()
    }

    fn kill(self, net: &Net) {
        self.task.abort();
        net.pools.lock().unwrap().remove(&self.addr);
    }
}

fn joining(number: u8) -> impl FnOnce(&mut Config) {
    move |config| config.join = vec![addr(number).ip().to_string()]
}

#[tokio::test(start_paused = true)]
async fn nodes_find_each_other_by_configured_addresses() {
    let net = Net::default();
    let one = net.start(1, |_| {});
    let two = net.start(2, joining(1));
    let three = net.start(3, joining(1));
    for (node, name) in [(&one, "n2"), (&one, "n3"), (&two, "n3"), (&three, "n2")] {
        node.sees(name, Some(Status::Alive)).await;
    }
    assert_eq!(one.alive(), 3);
}

#[tokio::test(start_paused = true)]
async fn names_are_resolved_again_until_somebody_is_there() {
    let net = Net::default();
    let two = net.start(2, joining(1));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(two.alive(), 1);
    let _one = net.start(1, |_| {});
    two.sees("n1", Some(Status::Alive)).await;
}

#[tokio::test(start_paused = true)]
async fn an_order_to_join_waits_for_its_answer() {
    let net = Net::default();
    let one = net.start(1, |_| {});
    let two = net.start(2, |_| {});
    assert_eq!(two.pool.join(vec!["10.0.0.1:8301".to_owned()]).await, Ok(1));
    two.sees("n1", Some(Status::Alive)).await;
    let error = one.pool.join(vec!["10.0.0.9".to_owned()]).await.unwrap_err();
    assert_eq!(error.to_string(), "Failed to join 10.0.0.9:8301: no answer");
    let error = one.pool.join(vec!["a:b:c]".to_owned()]).await.unwrap_err();
    assert!(error.to_string().starts_with("Failed to resolve"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_told_of_itself_has_answered() {
    let net = Net::default();
    let one = net.start(1, |_| {});
    assert_eq!(one.pool.join(vec!["10.0.0.9".to_owned(), "10.0.0.1".to_owned()]).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_left_and_who_dies_has_failed() {
    let net = Net::default();
    let one = net.start(1, |_| {});
    let two = net.start(2, joining(1));
    let three = net.start(3, joining(1));
    one.sees("n3", Some(Status::Alive)).await;
    two.sees("n3", Some(Status::Alive)).await;
    two.pool.leave().await;
    one.sees("n2", Some(Status::Left)).await;
    two.task.await.unwrap();
    assert_eq!(two.pool.export().await, Err(PoolError::Stopped));
    three.kill(&net);
    one.sees("n3", Some(Status::Failed)).await;
    one.pool.force_leave("n3", false).await.unwrap();
    one.sees("n3", Some(Status::Left)).await;
    let error = one.pool.force_leave("nobody", false).await.unwrap_err();
    assert_eq!(error.to_string(), "agent: No node found with name 'nobody'");
    one.pool.force_leave("n3", true).await.unwrap();
    one.sees("n3", None).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_node_says_anew_reaches_the_others() {
    let net = Net::default();
    let one = net.start(1, |_| {});
    let two = net.start(2, joining(1));
    one.sees("n2", Some(Status::Alive)).await;
    let mut profile = config(2).me;
    profile.tags.insert("color".to_owned(), "blue".to_owned());
    two.pool.update(profile.clone()).await.unwrap();
    let mut changes = one.pool.changes();
    while one.pool.members()[1].profile != profile {
        changes.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_without_the_key_stay_outside() {
    let net = Net::default();
    let ring = |byte: u8| KeyRing::new(Key::new(&[byte; 32]).unwrap(), Vec::new()).unwrap();
    let one = net.start(1, |config| config.ring = ring(1));
    let two = net.start(2, |config| {
        joining(1)(config);
        config.ring = ring(1);
    });
    let stranger = net.start(3, |config| {
        joining(1)(config);
        config.ring = ring(2);
    });
    let plain = net.start(4, joining(1));
    one.sees("n2", Some(Status::Alive)).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!((one.alive(), two.alive(), stranger.alive(), plain.alive()), (2, 2, 1, 1));
    stranger.pool.rekey(ring(1)).await.unwrap();
    one.sees("n3", Some(Status::Alive)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sealed_with_another_key_changes_nothing() {
    let ring = |byte: u8| KeyRing::new(Key::new(&[byte; 32]).unwrap(), Vec::new()).unwrap();
    let right = |config: &mut Config| config.ring = ring(1);
    let net = Net::default();
    let one = net.start(1, right);
    let two = net.start(2, |config| {
        joining(1)(config);
        right(config);
    });
    one.sees("n2", Some(Status::Alive)).await;
    two.sees("n1", Some(Status::Alive)).await;
    // The same nodes elsewhere, where n2 joins, says something new of itself and leaves.
    type Change = fn(&mut Config);
    let elsewhere: [(&str, Change); 3] = [
        ("with another key", |config| {
            config.ring = KeyRing::new(Key::new(&[2; 32]).unwrap(), Vec::new()).unwrap();
        }),
        ("without a key", |config| config.ring = KeyRing::plain()),
        ("in another datacenter", |config| {
            config.ring = KeyRing::new(Key::new(&[1; 32]).unwrap(), Vec::new()).unwrap();
            config.me.dc = "dc2".parse().unwrap();
        }),
    ];
    for (what, change) in elsewhere {
        let other = Net::default();
        let first = other.start(1, change);
        let second = other.start(2, |config| {
            joining(1)(config);
            change(config);
            config.boot = 99;
        });
        first.sees("n2", Some(Status::Alive)).await;
        second.pool.leave().await;
        first.sees("n2", Some(Status::Left)).await;
        let said: Vec<_> = other.said.lock().unwrap().clone();
        assert!(said.iter().any(|(from, _)| *from == two.addr), "{what}");
        for (from, packet) in said.into_iter().filter(|(from, _)| *from == two.addr) {
            net.deliver(from, one.addr, &packet);
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        one.sees("n2", Some(Status::Alive)).await;
        assert_eq!((one.alive(), two.alive()), (2, 2), "{what}");
        let profile = one.pool.members()[1].profile.clone();
        assert_eq!(profile, config(2).me, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_and_replayed_packets_change_nothing() {
    let net = Net::default();
    let one = net.start(1, |_| {});
    let two = net.start(2, joining(1));
    one.sees("n2", Some(Status::Alive)).await;
    for len in 0..200 {
        net.deliver(addr(9), one.addr, &vec![u8::try_from(len).unwrap(); len]);
    }
    two.pool.leave().await;
    one.sees("n2", Some(Status::Left)).await;
    let said: Vec<_> = net.said.lock().unwrap().clone();
    for (from, packet) in said.into_iter().filter(|(from, _)| *from == two.addr) {
        net.deliver(from, one.addr, &packet);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    one.sees("n2", Some(Status::Left)).await;
    assert_eq!(one.alive(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_finds_its_pool_by_the_members_it_kept() {
    let net = Net::default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lan.roster");
    let one = net.start(1, |_| {});
    let keeping = |boot| {
        let roster = Some(path.clone());
        move |config: &mut Config| {
            config.roster = roster;
            config.boot = boot;
        }
    };
    let two = net.start(2, keeping(1));
    two.pool.join(vec!["10.0.0.1".to_owned()]).await.unwrap();
    while !path.exists() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    two.kill(&net);
    one.sees("n2", Some(Status::Failed)).await;
    let two = net.start(2, keeping(2));
    two.sees("n1", Some(Status::Alive)).await;
    one.sees("n2", Some(Status::Alive)).await;
    two.pool.leave().await;
    assert!(!path.exists(), "who left stays away");
    std::fs::write(&path, "nonsense").unwrap();
    net.start(2, keeping(3)).pool.export().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_left_comes_back_by_itself_if_it_is_to_rejoin() {
    let net = Net::default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lan.roster");
    let one = net.start(1, |_| {});
    let rejoining = |boot| {
        let roster = Some(path.clone());
        move |config: &mut Config| {
            (config.roster, config.rejoin, config.boot) = (roster, true, boot);
        }
    };
    let two = net.start(2, rejoining(1));
    two.pool.join(vec!["10.0.0.1".to_owned()]).await.unwrap();
    while !path.exists() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    two.pool.leave().await;
    one.sees("n2", Some(Status::Left)).await;
    net.start(2, rejoining(2)).sees("n1", Some(Status::Alive)).await;
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_knows_a_large_pool_within_seconds() {
    let net = Net::default();
    let one = net.start(1, |_| {});
    let others: Vec<Node> = (2..=120)
        .map(|number| {
            net.start(number, |config| {
                joining(1)(config);
                config.me.role = Role::Client;
                config.me.link = None;
            })
        })
        .collect();
    for node in &others {
        one.sees(config_name(node).as_str(), Some(Status::Alive)).await;
    }
    let last = net.start(200, joining(1));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(last.alive(), 121);
}

fn config_name(node: &Node) -> String {
    let SocketAddr::V4(addr) = node.addr else { unreachable!("all are IPv4") };
    format!("n{}", addr.ip().octets()[3])
}

#[tokio::test(start_paused = true)]
async fn nodes_measure_each_other_unless_they_are_told_not_to() {
    let net = Net::default();
    let one = net.start(1, |_| {});
    let two = net.start(2, joining(1));
    let idle = net.start(3, |config| {
        joining(1)(config);
        config.measuring = Measuring::Off;
    });
    let began = one.pool.coordinate();
    assert_eq!((began, idle.pool.coordinate()), (Some(Coordinate::ORIGIN), None));
    tokio::time::sleep(Duration::from_secs(60)).await;
    for node in [&one, &two] {
        let found = node.pool.coordinate().unwrap();
        assert!(found.error < Coordinate::ORIGIN.error, "{found:?}");
    }
    assert_eq!(idle.pool.coordinate(), None);
    assert_eq!(idle.alive(), 3, "and it is in the pool all the same");
}

#[tokio::test(start_paused = true)]
async fn who_is_no_member_gets_no_answer_to_a_ping() {
    let net = Net::default();
    let one = net.start(1, |_| {});
    let _two = net.start(2, joining(1));
    one.sees("n2", Some(Status::Alive)).await;
    let mut exchange = topology::coordinate::exchange::Exchange::new(1);
    let (_, ping) = exchange.ping(Duration::ZERO, &[one.addr]).unwrap();
    let pongs = || {
        let said = net.said.lock().unwrap();
        said.iter().filter(|(from, packet)| *from == one.addr && packet.len() == 99).count()
    };
    for (from, answers) in [(addr(9), 0), (addr(2), 1)] {
        let before = pongs();
        net.deliver(from, one.addr, &[&[0], &ping[..]].concat());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(pongs() - before, answers, "{from}");
    }
}
