//! Says what a release is built from: the commit and its date, where git knows them.
//!
//! A build for development says nothing, because it would have to be made again at every commit.
//! Sources that differ from their commit are marked, as Consul marks them. Without git, or outside
//! of a repository, nothing is said, and the program says so by leaving it out.

use std::{env, path::Path, process::Command};

/// What the program is made from, seen from this directory.
const SOURCES: [&str; 7] = [
    "../Cargo.lock",
    "../certs/src",
    "../dc-server/src",
    "../lan-agent/src",
    "../topology/plans",
    "../topology/src",
    "../wan-federation/src",
];

/// Behind the number of a commit whose sources were changed.
const CHANGED: &str = "+CHANGES";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("PROFILE").is_none_or(|profile| profile != "release") {
        return;
    }
    // Sources that were unpacked inside of another repository are no part of its commits.
    if git(&["ls-files", "--error-unmatch", "build.rs"]).is_none() {
        return;
    }
    let commit = git(&["rev-parse", "--short", "HEAD"]);
    let date = git(&["log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd"]);
    let (Some(commit), Some(date)) = (commit, date) else { return };
    let status = git(&["status", "--porcelain", "--untracked-files=no"]);
    let changed = status.is_none_or(|files| !files.is_empty());
    println!("cargo::rustc-env=CAUSEWAY_REVISION={commit}{}", if changed { CHANGED } else { "" });
    println!("cargo::rustc-env=CAUSEWAY_BUILD_DATE={date}");
    let head = ["HEAD", "logs/HEAD"].map(|name| git(&["rev-parse", "--git-path", name]));
    let sources = SOURCES.map(|source| Some(source.to_owned()));
    for path in head.into_iter().chain(sources).flatten() {
        // What is not there would count as changed each time.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// Returns what git says; `None` when it does not know, or is not there.
fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).env("TZ", "UTC").output().ok()?;
    let said = output.status.success().then_some(output.stdout)?;
    String::from_utf8(said).ok().map(|said| said.trim().to_owned())
}
