//! What the catalog costs: memory, time to register, time to answer.
//!
//! ```text
//! cargo run --release -p dc-server --example catalog_memory [INSTANCES] [NODES] [SERVICES]
//! ```
//!
//! Registers as the log does, from bytes, and publishes the state after each batch, so that what
//! readers hold is part of the measurement. Each instance has two tags, two pairs of meta and a
//! check with an output; each node a `serfHealth`.

use std::{hint::black_box, sync::Arc, time::Duration};

use anyhow::Context;
use dc_server::{
    query::Answers,
    state::{Command, Op, State, Touched, view::View},
};
use lan_agent::{
    ask::Question,
    catalog::{
        Check, Form, Health, Lookup, Node, Registration, SERF_HEALTH, Selection, Service, Subject,
    },
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Commands between two publications.
const BATCH: u64 = 64;

fn main() -> anyhow::Result<()> {
    let mut sizes = std::env::args().skip(1).map(|size| size.parse::<u64>());
    let mut next = |default| sizes.next().unwrap_or(Ok(default)).context("a number");
    let (instances, nodes, services) = (next(100_000)?, next(10_000)?, next(100)?);
    let view = View::default();
    let before = resident()?;
    let (state, took) = timed(|| registered(&view, instances, nodes, services));
    let state = state?;
    let grown = resident()?.saturating_sub(before);
    println!("{instances} instances of {services} services on {nodes} nodes");
    println!("memory     {:>9} KiB, {} bytes an instance", grown / 1024, grown / instances);
    println!("register   {:>9.1?} each", took / u32::try_from(instances)?);
    for (name, subject) in [
        ("service", Subject::Service("service-7".into())),
        ("health", Subject::Health { service: "service-7".into(), passing: true }),
        ("names", Subject::Services),
        ("critical", Subject::State(Some(Health::Critical))),
    ] {
        let lookup = Lookup { subject, selection: Selection::default(), form: Form::Json };
        let question = Question::Lookup(lookup);
        let published = view.load();
        // Once before, so that the records are in the processor's cache, as where they change.
        Answers::new("dc1".parse()?).answer(&published, &question)?;
        let answers = Answers::new("dc1".parse()?);
        let (first, encoded) = timed(|| answers.answer(&published, &question));
        let again = timed(|| {
            (0..1000).for_each(|_| drop(black_box(answers.answer(&published, &question))))
        })
        .1;
        let len = first?.body.len();
        println!("{name:10} {:>9.1?} encoded ({len} bytes), {:.1?} again", encoded, again / 1000);
    }
    drop(state);
    Ok(())
}

fn registered(view: &View, instances: u64, nodes: u64, services: u64) -> anyhow::Result<State> {
    let mut state = State::default();
    for number in 0..instances {
        let command =
            Command::new(None, &Op::Register(Arc::new(registration(number, nodes, services))));
        let bytes = rmp_serde::to_vec_named(&command)?;
        let command: Command = rmp_serde::from_slice(&bytes)?;
        state.apply(number + 1, &command, &mut Touched::default())?;
        if number % BATCH == 0 {
            view.publish(state.clone());
        }
    }
    view.publish(state.clone());
    Ok(state)
}

fn registration(number: u64, nodes: u64, services: u64) -> Registration {
    let (on, service) = (number % nodes, number % services);
    let node = Node {
        name: format!("node-{on}").into(),
        id: format!("{on:08x}-0000-4000-8000-000000000000").into(),
        address: format!("10.{}.{}.{}", on >> 16, on >> 8 & 255, on & 255).into(),
        tagged_addresses: [("lan".into(), "10.0.0.1".into())].into(),
        meta: [("rack".into(), format!("r{}", on % 50).into())].into(),
    };
    let id = format!("service-{service}-{number}");
    let alive = Check {
        id: SERF_HEALTH.into(),
        name: "Serf Health Status".into(),
        status: Health::Passing,
        output: "Agent alive and reachable".into(),
        ..Check::default()
    };
    let check = Check {
        id: format!("service:{id}").into(),
        name: format!("Service 'service-{service}' check").into(),
        status: Health::Passing,
        output: "HTTP GET http://127.0.0.1:8080/health: 200 OK Output: ok".into(),
        service_id: id.as_str().into(),
        kind: "http".into(),
        ..Check::default()
    };
    let service = Service {
        id: id.as_str().into(),
        name: format!("service-{service}").into(),
        port: 8080,
        tags: vec!["primary".into(), "v1.2.3".into()],
        meta: [("team".into(), "payments".into()), ("version".into(), "1.2.3".into())].into(),
        ..Service::default()
    };
    Registration {
        node,
        service: Some(service),
        checks: vec![alive, check],
        ..Registration::default()
    }
}

#[allow(clippy::disallowed_methods, reason = "this measures")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = std::time::Instant::now();
    (work(), began.elapsed())
}

/// Returns how many bytes of this process are in memory.
fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
