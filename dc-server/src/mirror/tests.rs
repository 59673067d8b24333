//! Mirrors against what they mirror: whatever changes, is lost, lags or is replaced, what is shown is what
//! the datacenter held at the versions that it claims.

use std::collections::BTreeMap;

use lan_agent::{ask::Feed, catalog::Registration};
use proptest::{prelude::*, sample::select};

use super::{
    batch::{Batch, PAGE_LEN},
    copy::{Copy, Taken, Wake},
};
use crate::state::{
    Command, Op, State, Touched,
    catalog::{Catalog, tests::commands},
    kv,
    view::View,
};

const SERVERS: usize = 3;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// Something is written.
    Write(Op),
    /// A server applies so many commands, and publishes once.
    Apply(usize, usize),
    /// A server restarts: of what it published before nothing is left.
    Restart(usize),
    /// The datacenter is lost with all its servers; another one takes its name.
    Rebuild,
    /// A server is asked what changed, and tells it in pages of about so many bytes.
    Pull(usize, usize),
    /// The same, and the answer is lost.
    Lose(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let server = 0..SERVERS;
    let key = || select(&["a/1", "a/2", "b", "a/3", "c/1"][..]).prop_map(kv::Key::from);
    let kv = prop_oneof![
        4 => (key(), 0..3u8).prop_map(|(key, value)| {
            Op::KvSet { key, value: vec![value].into(), flags: 0, cas: None }
        }),
        1 => key().prop_map(|key| Op::KvDelete { key, cas: None }),
        1 => key().prop_map(|prefix| Op::KvDeleteTree { prefix }),
        1 => (0..60u64).prop_map(|upto| Op::ReapTombstones { upto }),
    ];
    let pages = select(&[1, 400, PAGE_LEN][..]);
    prop_oneof![
        10 => commands::ops().prop_map(Step::Write),
        6 => kv.prop_map(Step::Write),
        10 => (server.clone(), 1..8usize).prop_map(|(server, count)| Step::Apply(server, count)),
        1 => server.clone().prop_map(Step::Restart),
        10 => (server.clone(), pages).prop_map(|(server, len)| Step::Pull(server, len)),
        2 => server.prop_map(Step::Lose),
        1 => Just(Step::Rebuild),
    ]
}

/// A datacenter: a log, and servers that have applied some of it.
#[derive(Default)]
struct Source {
    born_ms: u64,
    log: Vec<Command>,
    servers: [Server; SERVERS],
    /// The states after each command, which the servers may not have seen.
    states: Vec<State>,
}

#[derive(Default)]
struct Server {
    view: View,
    state: State,
    applied: usize,
}

impl Source {
    fn new(born_ms: u64) -> Self {
        let states = vec![State::default()];
        Self { born_ms, states, ..Self::default() }
    }

    fn write(&mut self, op: &Op) {
        let index = self.log.len() as u64 + 1;
        let command = Command { stamp_ms: Some(self.born_ms + index), ..Command::new(None, op) };
        let mut state = self.states.last().cloned().unwrap_or_default();
        state.apply(index, &command, &mut Touched::default()).unwrap();
        self.states.push(state);
        self.log.push(command);
    }

    fn apply(&mut self, server: usize, count: usize) {
        let server = &mut self.servers[server];
        let mut touched = Touched::default();
        for command in self.log.iter().skip(server.applied).take(count) {
            server.applied += 1;
            server.state.apply(server.applied as u64, command, &mut touched).unwrap();
        }
        server.view.publish(server.state.clone());
        server.view.watches().wake(&touched);
    }

    fn tell(&self, server: usize, feed: &Feed, len: usize) -> Batch {
        let batch = Batch::of(&self.servers[server].view, feed, len);
        let decoded = Batch::decode(&batch.encode()).unwrap();
        assert_eq!(batch, decoded);
        decoded
    }

    /// Returns the catalogs and the keys below the prefixes that there ever were, by what they are claimed as.
    fn truth(&self, prefixes: &[String]) -> (BTreeMap<u64, &Catalog>, BTreeMap<u64, Vec<String>>) {
        let catalogs = self.states.iter().map(|it| (it.catalog().version(), it.catalog()));
        let keys = self.states.iter().map(|it| (it.kv().index(), shown(it.kv(), prefixes)));
        (catalogs.collect(), keys.collect())
    }
}

fn shown(table: &kv::Table, prefixes: &[String]) -> Vec<String> {
    let entries = prefixes.iter().flat_map(|prefix| table.below(prefix));
    entries.map(|(key, entry)| format!("{key} {entry:?}")).collect()
}

fn prefixes() -> Vec<String> {
    vec!["a/".to_owned(), "b".to_owned()]
}

/// Checks that a state is what its datacenter held once.
fn is_true(state: &State, source: &Source) -> Result<(), TestCaseError> {
    prop_assert_eq!(state.clock().born_ms() / 1_000_000, source.born_ms / 1_000_000);
    let (catalogs, keys) = source.truth(&prefixes());
    let version = state.catalog().version();
    prop_assert_eq!(Some(&state.catalog()), catalogs.get(&version), "version {}", version);
    let index = state.kv().index();
    prop_assert_eq!(Some(&shown(state.kv(), &prefixes())), keys.get(&index), "index {}", index);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn what_is_shown_is_what_the_datacenter_held(steps in prop::collection::vec(steps(), 1..120)) {
        let mut source = Source::new(1_000_000);
        let mut copy = Copy::new(prefixes());
        let mut last = State::default();
        for step in steps {
            match step {
                Step::Write(op) => source.write(&op),
                Step::Apply(server, count) => source.apply(server, count),
                Step::Restart(server) => {
                    let server = &mut source.servers[server];
                    server.view = View::default();
                    server.view.replace(server.state.clone());
                }
                Step::Rebuild => source = Source::new(source.born_ms + 1_000_000),
                Step::Lose(server) => drop(source.tell(server, &copy.next(), PAGE_LEN)),
                Step::Pull(server, len) => {
                    let batch = source.tell(server, &copy.next(), len);
                    let taken = copy.take(batch, Default::default());
                    prop_assert!(taken.is_ok(), "{:?}", taken);
                    if let Ok(Taken::Whole { state, wake, .. }) = taken {
                        // Servers that have not applied anything are of no datacenter in particular.
                        if state.clock().born_ms() == 0 {
                            continue;
                        }
                        is_true(&state, &source)?;
                        let other = state.clock().born_ms() != last.clock().born_ms();
                        prop_assert!(!other || !matches!(wake, Wake::These(_)));
                        if let Wake::These(touched) = wake {
                            let version = |state: &State| state.catalog().version();
                            prop_assert!(version(&state) >= version(&last), "it went back");
                            prop_assert!(version(&state) == version(&last) || !touched.parts.is_empty());
                        }
                        last = *state;
                    }
                }
            }
        }
        // When nothing happens any more it is soon the same.
        source.write(&Op::Register(Registration::default().into()));
        for server in 0..SERVERS {
            source.apply(server, usize::MAX);
        }
        for round in 0..1000 {
            let batch = source.tell(round % SERVERS, &copy.next(), 400);
            match copy.take(batch, Default::default()).unwrap() {
                Taken::Whole { state, .. } => last = *state,
                Taken::Unchanged { .. } => break,
                Taken::More | Taken::Behind => {}
            }
        }
        prop_assert!(copy.is_whole());
        prop_assert_eq!(last.catalog(), source.states.last().unwrap().catalog());
        is_true(&last, &source)?;
    }
}

fn register(node: &str) -> Op {
    let node = lan_agent::catalog::Node { name: node.into(), ..Default::default() };
    Op::Register(Registration { node, ..Registration::default() }.into())
}

#[test]
fn a_server_that_kept_no_older_version_sends_everything() {
    let mut source = Source::new(1_000_000);
    let mut copy = Copy::new(Vec::new());
    source.write(&register("a"));
    source.apply(0, 1);
    copy.take(source.tell(0, &copy.next(), PAGE_LEN), Default::default()).unwrap();
    source.write(&register("b"));
    source.apply(0, 1);
    // Server 1 has applied both at once, and never published the first.
    source.apply(1, 2);
    let (near, far) =
        (source.tell(0, &copy.next(), PAGE_LEN), source.tell(1, &copy.next(), PAGE_LEN));
    assert_eq!((near.since, near.version), (1, 2));
    assert_eq!((far.since, far.version), (0, 2));
    assert!(near.encode().len() < far.encode().len());
}

#[test]
fn a_batch_that_does_not_fit_is_refused_and_all_is_asked_for_anew() {
    let mut source = Source::new(1_000_000);
    let mut copy = Copy::new(Vec::new());
    source.write(&register("a"));
    source.apply(0, 1);
    let first = source.tell(0, &copy.next(), PAGE_LEN);
    copy.take(first.clone(), Default::default()).unwrap();
    let wrong = Batch { since: 7, version: 9, ..first };
    assert!(copy.take(wrong, Default::default()).is_err());
    assert_eq!(copy.next(), Feed::default());
    let again = copy.take(source.tell(0, &copy.next(), PAGE_LEN), Default::default());
    assert!(matches!(again, Ok(Taken::Whole { wake: Wake::All, .. })), "{again:?}");
}

#[test]
fn garbage_is_no_batch() {
    for bytes in [&b""[..], b"\x00", b"\x01abc", b"\x02", &[1, 0xff, 0xff, 0xff]] {
        assert!(Batch::decode(bytes).is_err(), "{bytes:?}");
    }
    let bomb = {
        use std::io::Write;
        let level = flate2::Compression::best();
        let mut encoder = flate2::write::DeflateEncoder::new(vec![1], level);
        for _ in 0..300 {
            encoder.write_all(&[0; 1 << 20]).unwrap();
        }
        encoder.finish().unwrap()
    };
    assert!(Batch::decode(&bomb).is_err());
}
