//! Certificates that end, or lose their authority, while a connection lives.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::time::{Instant, sleep};

use super::nodes::{
    DAYS, ECHO, HANG, Node, authority, bundle, bundle_at, fabric, keys, server, start,
};
use crate::{
    ca::Authority,
    error::CallError,
    fabric::Fabric,
    identity::Identity,
    link::{Path, PathState, Request},
    store::Bundle,
};

/// A certificate of a node that ends so long after the tests' clocks begin.
fn ending_in(ca: &Authority, me: &Identity, left: Duration) -> Bundle {
    let life = Duration::from_secs(u64::from(DAYS) * 24 * 3600);
    // The clocks of the nodes begin an hour after the start.
    bundle_at(ca, me, &[ca], start() + Duration::from_secs(3600) + left - life)
}

fn reason(path: &Path) -> Option<&str> {
    match &path.state {
        PathState::Down { reason, .. } => Some(reason),
        PathState::Dialing { after } => after.as_ref().map(|(_, reason)| &**reason),
        PathState::Up { .. } => None,
    }
}

/// Asks for what is never answered, and waits for a long time.
async fn hang(from: &Node, to: &Node) -> CallError {
    let deadline = Instant::now() + Duration::from_secs(600);
    let request = Request { kind: HANG, deadline, body: Bytes::new() };
    from.endpoint.call(&to.target(), request).await.unwrap_err()
}

fn two(fabric: &Fabric, of_a: Bundle, of_b: Bundle) -> (Node, Node) {
    let (a, b) = (server("dc1", "a"), server("dc1", "b"));
    let one = Node::start(fabric, "10.0.0.1:8300", &a, keys(of_a), 1);
    let two = Node::start(fabric, "10.0.0.2:8300", &b, keys(of_b), 2);
    (one, two)
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_with_the_certificate_of_either_side() {
    let (fabric, ca) = (fabric(), authority());
    let (a, b) = (server("dc1", "a"), server("dc1", "b"));
    let minute = Duration::from_secs(60);
    let cases = [
        (ending_in(&ca, &a, minute), bundle(&ca, &b, &[&ca])),
        (bundle(&ca, &a, &[&ca]), ending_in(&ca, &b, minute)),
    ];
    for (of_a, of_b) in cases {
        let (one, two) = two(&fabric, of_a, of_b);
        let began = Instant::now();
        let error = hang(&one, &two).await;
        let CallError::Lost { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.contains("the certificate expired on"), "{reason}");
        let lived = began.elapsed();
        assert!(lived >= minute && lived < minute + Duration::from_secs(2), "{lived:?}");
        let again = one.ask(&two, ECHO, b"").await.unwrap_err();
        assert!(again.to_string().contains("the certificate expired on"), "{again}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_authority_ends_connections_at_once() {
    let fabric = fabric();
    let (old, new) = (authority(), authority());
    let (a, b) = (server("dc1", "a"), server("dc1", "b"));
    for remover_dialled in [true, false] {
        let (of_a, of_b) = (bundle(&old, &a, &[&old, &new]), bundle(&new, &b, &[&old, &new]));
        let (one, two) = two(&fabric, of_a, of_b);
        let (from, to) = if remover_dialled { (&one, &two) } else { (&two, &one) };
        from.ask(to, ECHO, b"").await.unwrap();
        one.keys.replace(bundle(&old, &a, &[&old])).unwrap();
        let removed = Instant::now();
        let there = two.endpoint.local_addr();
        let mut changes = one.endpoint.changes();
        let words = loop {
            match one.path_to(there) {
                Some(path) if path.is_up() => changes.changed().await.unwrap(),
                Some(path) => break reason(&path).unwrap().to_owned(),
                None => break "issued by no authority that is trusted here".to_owned(),
            }
        };
        assert!(words.contains("issued by no authority that is trusted here"), "{words}");
        assert!(removed.elapsed() < Duration::from_secs(1), "{:?}", removed.elapsed());
        let error = from.ask(to, ECHO, b"").await.unwrap_err();
        assert!(error.to_string().contains("issued by no authority"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn certificates_renewed_in_time_never_end_a_connection() {
    let (fabric, ca) = (fabric(), authority());
    let (a, b) = (server("dc1", "a"), server("dc1", "b"));
    let life = Duration::from_secs(300);
    let whole = || (bundle(&ca, &a, &[&ca]), bundle(&ca, &b, &[&ca]));
    for dialler_ends in [true, false] {
        let (of_a, of_b) = match dialler_ends {
            true => (ending_in(&ca, &a, life), whole().1),
            false => (whole().0, ending_in(&ca, &b, life)),
        };
        let (one, two) = two(&fabric, of_a, of_b);
        let began = Instant::now();
        let there = two.endpoint.local_addr();
        one.endpoint.connect(&two.target());
        let up = one.path_when(there, Path::is_up).await;
        sleep(life / 4).await;
        match dialler_ends {
            true => one.keys.replace(whole().0).unwrap(),
            false => two.keys.replace(whole().1).unwrap(),
        };
        let hanging = async {
            // What is under way when the connection is renewed goes on.
            let call = hang(&one, &two);
            assert!(tokio::time::timeout(life / 2, call).await.is_err(), "the call was ended");
        };
        let asking = async {
            while began.elapsed() < 2 * life {
                one.ask(&two, ECHO, b"x").await.unwrap();
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::join!(hanging, asking);
        assert_eq!(one.path_to(there).unwrap().state, up.state);
        assert_eq!(one.endpoint.open_connections(), 1, "the old one is gone");
    }
}

/// Keeps counts for a test to read.
#[derive(Default, Clone)]
struct Counts(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counts {
    fn series(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        let name = [&[key.name()], labels.as_slice()].concat().join(" ");
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    fn nonzero(&self) -> BTreeMap<String, u64> {
        let all = self.0.lock().unwrap();
        let counts = all.iter().map(|(name, count)| (name.clone(), count.load(Ordering::Relaxed)));
        counts.filter(|(name, count)| *count > 0 && !name.contains("expires")).collect()
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_their_reason_on_both_sides() {
    let (fabric, ca, foreign) = (fabric(), authority(), authority());
    let (a, b, other) = (server("dc1", "a"), server("dc1", "b"), server("dc2", "a"));
    let year = Duration::from_secs(u64::from(DAYS) * 24 * 3600);
    let counts = Counts::default();
    let counted = |bundle: Bundle| metrics::with_local_recorder(&counts.clone(), || keys(bundle));
    let judge = Node::start(&fabric, "10.0.0.2:8300", &b, counted(bundle(&ca, &b, &[&ca])), 2);
    let callers = [
        (&a, bundle_at(&ca, &a, &[&ca], start() - year), "expired"),
        (&a, bundle_at(&ca, &a, &[&ca], start() + year), "not_yet_valid"),
        (&a, bundle(&foreign, &a, &[&ca, &foreign]), "unknown_authority"),
        (&other, bundle(&ca, &other, &[&ca]), "other_identity"),
    ];
    for (me, bundle, expected) in callers {
        let before = counts.nonzero();
        let caller = Node::start(&fabric, "10.0.0.1:0", me, keys(bundle), 1);
        caller.ask(&judge, ECHO, b"").await.unwrap_err();
        let name = format!("causeway.certs.refused {expected}");
        let mut after = before.clone();
        *after.entry(name).or_default() += 1;
        assert_eq!(counts.nonzero(), after);
    }
    let refused =
        Node::start(&fabric, "10.0.0.1:0", &other, counted(bundle(&ca, &other, &[&ca])), 1);
    refused.ask(&judge, ECHO, b"").await.unwrap_err();
    assert_eq!(counts.nonzero()["causeway.certs.refused by_peer"], 1);
}

#[tokio::test(start_paused = true)]
async fn the_time_left_of_a_certificate_is_shown() {
    let ca = authority();
    let a = server("dc1", "a");
    let counts = Counts::default();
    let left = Duration::from_secs(3600);
    let keys = metrics::with_local_recorder(&counts, || keys(ending_in(&ca, &a, left)));
    let watch = tokio::spawn(keys.watch());
    sleep(Duration::from_secs(10)).await;
    let name = "causeway.certs.expires.seconds memory";
    let shown = counts.0.lock().unwrap()[name].load(Ordering::Relaxed);
    let shown = f64::from_bits(shown);
    assert!((3585.0..=3600.0).contains(&shown), "{shown}");
    watch.abort();
}
