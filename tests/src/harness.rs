//! Real processes: `causeway` agents on loopback addresses of their own, with their own
//! directories and certificates, which are gone when the test is.
//!
//! ```text
//! Cluster (directory, CA, block of 127.x.y.0/24)
//!   `- Agent (address, configuration, process, log)   <- Client (HTTP), Asker (DNS)
//!        |- Gateway (optional: before all servers of a datacenter)
//!        |- Relay (optional: every packet between agents, to cut and delay)
//!        `- Namespaces (optional: a host of its own for every agent, and a trunk to cut)
//! ```
//!
//! Nothing here sleeps for luck: [`until`] asks again until a condition holds and fails with
//! what it saw last. A failing test prints the end of every agent's log.

pub mod agent;
pub mod block;
pub mod client;
pub mod cluster;
pub mod dns;
pub mod gateway;
pub mod namespaces;
pub mod relay;

use std::{env, path::PathBuf, time::Duration};

use tokio::time::Instant;

/// How often [`until`] asks again.
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// Returns where cargo put the binary, next to the tests.
///
/// # Panics
/// When it is not there: a test of another package can't make cargo build it.
pub fn binary() -> PathBuf {
    let test = env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps/TEST");
    let binary = profile.join("causeway");
    assert!(
        binary.is_file(),
        "{} is not there: `make build` (or `cargo build --workspace --bins`) makes it",
        binary.display()
    );
    binary
}

/// Asks until there is an answer; fails after `most` with the last reason why there was none.
pub async fn until<T>(
    most: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begin = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) => assert!(begin.elapsed() < most, "{what}: not within {most:?}: {why}"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
