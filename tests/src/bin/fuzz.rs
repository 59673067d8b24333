//! `make fuzz`: feeds every parser of untrusted bytes with mutations of its corpus.
//!
//! `cargo run -p tests --bin fuzz -- [--seconds N] [--seed N] [TARGET...]`
//!
//! The seconds are those of each target. An input that makes one panic is saved to its corpus.

#![allow(clippy::expect_used, reason = "a test stops where it stands")]

use std::{
    env, fs,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use tests::fuzz::{Fed, TARGETS, corpus, corpus_dir, feed};
use tokio::time::Instant;

/// What each target is fed for unless told otherwise.
const SECONDS: u64 = 60;

fn main() -> anyhow::Result<ExitCode> {
    let mut seconds = SECONDS;
    let mut seed = rand::random();
    let mut names = Vec::new();
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> anyhow::Result<u64> {
            words.next().context("a number is missing")?.parse().context("no number")
        };
        match word.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            name if TARGETS.iter().any(|target| target.name == name) => names.push(word),
            other => {
                let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                bail!("no target is called {other:?}: there are {}", known.join(", "))
            }
        }
    }
    let chosen = TARGETS.iter().filter(|it| names.is_empty() || names.iter().any(|n| n == it.name));
    let mut code = ExitCode::SUCCESS;
    for target in chosen {
        // Said before: what overflows the stack ends the process, and the same seed comes to it again.
        print!("{:15} seed {seed}: ", target.name);
        io::stdout().flush()?;
        let until = Instant::now() + Duration::from_secs(seconds);
        let told = match feed(target, &corpus(target)?, seed, |_| Instant::now() >= until) {
            Fed::Survived(count) => format!("{count} inputs survived"),
            Fed::Died(input) => {
                code = ExitCode::FAILURE;
                let path = corpus_dir(target).join(format!("died-{seed}"));
                fs::write(&path, input)?;
                format!("died of {}", path.display())
            }
        };
        println!("{told}");
    }
    Ok(code)
}
