//! Bytes from strangers: every parser that reads them, fed with what it knows, changed at random.
//!
//! ```text
//! corpus/TARGET/* ──▶ one or two inputs ──mutate──▶ bytes ──▶ Target::feed ──▶ survived | saved
//! ```
//!
//! A target is one line in [`TARGETS`] and a directory of a few small inputs, good and bad. The test
//! below feeds all of the corpus and a fixed number of mutations; `make fuzz` goes on for as long as it
//! is told to, with a seed that it prints. An input that makes a target panic is saved to the
//! corpus, where the test keeps failing until somebody has mended what it found.

use std::{
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use certs::{initial, link};
use dc_server::{
    config::hcl,
    config_entry::Definition,
    mirror::{batch::Batch, copy::Copy},
};
use lan_agent::{
    ask::wire::{decode_ask, decode_reply},
    definition, dns,
    filter::{self, Filter, Schema},
    http,
    pool::seal,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;
use topology::{
    Datacenter, NodeId, Profile, Role,
    coordinate::exchange::Exchange,
    gossip::{Config, Engine, Input},
};
use uuid::Uuid;
use wan_federation::{
    envelope::Envelope,
    gateway::{
        flows::{Bounds, Client, Flows, Step},
        map::Map,
    },
    sight::Sight,
    word::Word,
};

/// Longest input: beyond it nothing new is met.
const LEN_MAX: usize = 4096;

/// Most changes of one input.
const CHANGES_MAX: usize = 6;

/// A parser of untrusted bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its directory in the corpus.
    pub name: &'static str,
    /// Feeds it; panics if it can't bear the bytes.
    pub feed: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "config_entry", feed: |bytes| text(bytes, feed_config_entry) },
    Target { name: "filter", feed: |bytes| text(bytes, feed_filter) },
    Target { name: "hcl", feed: |bytes| text(bytes, |text| drop(hcl::parse(text))) },
    Target { name: "definition", feed: feed_definition },
    Target { name: "registration", feed: feed_registration },
    Target { name: "ask", feed: |bytes| drop(decode_ask(bytes, Instant::now())) },
    Target { name: "reply", feed: |bytes| drop(decode_reply(Bytes::copy_from_slice(bytes))) },
    Target { name: "gossip_packet", feed: |bytes| gossip(packet(bytes)) },
    Target { name: "coordinate_packet", feed: feed_coordinate_packet },
    Target { name: "sealed_packet", feed: feed_sealed_packet },
    Target { name: "dns", feed: |bytes| _ = dns::understands(bytes) },
    Target { name: "http", feed: |bytes| _ = http::understands(bytes) },
    Target { name: "link", feed: |bytes| _ = link::understands(bytes.to_vec().into(), bytes) },
    Target { name: "initial", feed: feed_initial },
    Target { name: "envelope", feed: |bytes| drop(Envelope::decode(bytes, Instant::now())) },
    Target { name: "batch", feed: feed_batch },
    Target { name: "sight", feed: |bytes| drop((Sight::decode(bytes), Word::decode(bytes))) },
    Target {
        name: "gossip_state",
        feed: |bytes| gossip(Input::Sync(Bytes::copy_from_slice(bytes))),
    },
];

/// What came of feeding a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// It bore so many inputs.
    Survived(u64),
    /// It panicked at this.
    Died(Vec<u8>),
}

fn text(bytes: &[u8], feed: impl Fn(&str)) {
    feed(&String::from_utf8_lossy(bytes));
}

fn feed_filter(text: &str) {
    if let Ok(expression) = filter::parse(text) {
        let printed = expression.to_string();
        if printed.len() <= filter::LEN_MAX {
            assert_eq!(filter::parse(&printed), Ok(expression), "printed as {printed}");
        }
    }
    for schema in [Schema::Services, Schema::Health] {
        let _ = Filter::compile(text, schema);
    }
}

fn feed_config_entry(text: &str) {
    if let Ok(entry) = Definition::read(text) {
        assert_eq!(
            Definition::read(&entry.body).as_ref(),
            Ok(&entry),
            "given back as {}",
            entry.body
        );
    }
}

fn feed_definition(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = (definition::service(&value), definition::check(&value));
    }
}

fn feed_registration(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = (definition::registration(&value), definition::deregistration(&value));
        let _ = definition::operation(&value);
    }
}

fn feed_coordinate_packet(bytes: &[u8]) {
    let (mut exchange, from) = (Exchange::new(1), ([127, 0, 0, 2], 8301).into());
    exchange.ping(Duration::ZERO, &[from]);
    exchange.packet(Duration::from_millis(1), from, bytes, || true);
    assert_eq!(exchange.own().check(), Ok(()));
}

fn feed_sealed_packet(bytes: &[u8]) {
    let (dc, key) = (Datacenter::new("dc1").expect("a name"), seal::Key::new(&[7; 16]));
    let _ = seal::opens(&dc, key.expect("a key"), bytes);
}

/// Feeds what reads a stranger's first packets, and a gateway with them.
fn feed_initial(bytes: &[u8]) {
    let _ = initial::understands(bytes);
    let dc = Datacenter::new("dc2").expect("a name");
    let mut map = Map::new(dc, ["dc2-s1".parse().expect("a name")]);
    for place in map.places() {
        map.move_to(place, ([127, 0, 0, 1], 8302).into());
    }
    let mut flows = Flows::new(map, Bounds::default(), Duration::ZERO);
    let client = Client { addr: ([127, 0, 0, 2], 8302).into(), asked: None };
    let (first, second) = bytes.split_at(bytes.len().min(1200));
    for datagram in [bytes, first, second] {
        let step = flows.client(Duration::ZERO, client, datagram);
        if let Step::Open { flow, .. } | Step::Forward(flow) = step {
            let _ = flows.server(flow, datagram);
        }
    }
}

fn feed_batch(bytes: &[u8]) {
    let mut copy = Copy::new(vec!["a/".to_owned()]);
    if let Ok(batch) = Batch::decode(bytes) {
        let _ = copy.take(batch.clone(), Duration::ZERO);
        let _ = copy.take(batch, Duration::ZERO);
    }
}

fn packet(bytes: &[u8]) -> Input {
    let from = ([127, 0, 0, 2], 8301).into();
    Input::Packet { from, data: Bytes::copy_from_slice(bytes) }
}

fn profile(number: u8) -> Profile {
    Profile {
        name: format!("n{number}").parse().expect("a name"),
        id: NodeId(Uuid::from_u128(number.into())),
        dc: "dc1".parse().expect("a name"),
        role: Role::Client,
        addr: ([127, 0, 0, number], 8301).into(),
        link: None,
        wan: None,
        version: "0.1.0".to_owned(),
        tags: [("a".to_owned(), "b".to_owned())].into(),
    }
}

fn gossip(input: Input) {
    let mut engine = Engine::new(Config::lan(), profile(1), 1, 1);
    let mut out = Vec::new();
    engine.handle(Duration::ZERO, Input::Start, &mut out);
    engine.handle(Duration::from_millis(1), input, &mut out);
}

/// Returns the directory of a target's corpus.
pub fn corpus_dir(target: &Target) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "corpus", target.name].iter().collect()
}

/// Reads a target's corpus, in the order of the files' names.
pub fn corpus(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let entries = fs::read_dir(corpus_dir(target))?;
    let mut paths = entries.map(|it| it.map(|it| it.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}

/// Feeds a target with mutations until `enough` of their number.
pub fn feed(target: &Target, corpus: &[Vec<u8>], seed: u64, enough: impl Fn(u64) -> bool) -> Fed {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut fed = 0;
    while !enough(fed) {
        let input = mutated(corpus, &mut rng);
        if !survives(target, &input) {
            return Fed::Died(input);
        }
        fed += 1;
    }
    Fed::Survived(fed)
}

/// Tells whether a target bears an input.
pub fn survives(target: &Target, input: &[u8]) -> bool {
    panic::catch_unwind(AssertUnwindSafe(|| (target.feed)(input))).is_ok()
}

fn mutated(corpus: &[Vec<u8>], rng: &mut SmallRng) -> Vec<u8> {
    let one = |rng: &mut SmallRng| match corpus.len() {
        0 => Vec::new(),
        len => corpus[rng.random_range(0..len)].clone(),
    };
    let mut input = one(rng);
    for _ in 0..rng.random_range(1..=CHANGES_MAX) {
        let at = rng.random_range(0..=input.len());
        let end = rng.random_range(at..=input.len().min(at + 16));
        match rng.random_range(0..7) {
            0 => input.insert(at, rng.random()),
            1 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            2 if at < input.len() => input[at] = [0, 0x7f, 0x80, 0xff][rng.random_range(0..4)],
            3 => drop(input.drain(at..end)),
            4 => input.truncate(at),
            5 => {
                let part = input[at..end].repeat(rng.random_range(1..64));
                input.splice(at..at, part);
            }
            _ => {
                let other = one(rng);
                let from = rng.random_range(0..=other.len());
                input.splice(at..end, other[from..].iter().copied());
            }
        }
    }
    input.truncate(LEN_MAX);
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations of each target in a test: what takes a second or two altogether.
    const MUTATIONS: u64 = 2000;

    #[test]
    fn the_corpus_is_survived_and_so_are_mutations_of_it() {
        for target in TARGETS {
            let corpus = corpus(target).unwrap();
            assert!(!corpus.is_empty(), "{} has a corpus", target.name);
            for input in &corpus {
                assert!(survives(target, input), "{}: {}", target.name, input.escape_ascii());
            }
            let fed = feed(target, &corpus, 1, |fed| fed >= MUTATIONS);
            assert_eq!(fed, Fed::Survived(MUTATIONS), "{}", target.name);
        }
    }

    #[test]
    fn the_same_seed_feeds_the_same_and_a_panic_is_told() {
        let corpus = [b"some".to_vec(), b"thing".to_vec()];
        let target = Target { name: "none", feed: |bytes| assert!(!bytes.starts_with(b"thong")) };
        let died = feed(&target, &corpus, 7, |_| false);
        assert!(matches!(&died, Fed::Died(input) if input.starts_with(b"thong")), "{died:?}");
        assert_eq!(feed(&target, &corpus, 7, |_| false), died);
    }
}
