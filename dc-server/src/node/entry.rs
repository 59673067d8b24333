//! How a node gets into its pools when it starts: `-join`, which has to work at once, and
//! `-retry-join`, which may be given up (`-retry-max`).
//!
//! The pools go on asking by themselves for as long as nobody answers. Here it is judged whether
//! that is good enough, by Consul's rules: a failed `-join` ends the agent, and so does a
//! `-retry-join` that failed once and as often again as it was to be repeated.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use lan_agent::pool::{Pool, join::resolve};
use tracing::{info, warn};
use wan_federation::{Federation, seeds};

use crate::config::agent::Join;

/// The pools that a node is to get into.
pub(super) struct Entry {
    lan: (Join, Pool),
    wan: Option<(Join, Federation)>,
}

/// The way into one pool.
enum Door {
    Lan(Pool),
    Wan(Federation),
}

impl Entry {
    pub(super) fn new(lan: (Join, Pool), wan: Option<(Join, Federation)>) -> Self {
        Self { lan, wan }
    }

    /// Gets in, and never ends unless the agent has to stop because it could not.
    pub(super) async fn failed(self) -> anyhow::Error {
        let (join, pool) = self.lan;
        let lan = enter(join, Door::Lan(pool));
        let wan = async {
            match self.wan {
                Some((join, federation)) => enter(join, Door::Wan(federation)).await,
                None => Ok(()),
            }
        };
        match tokio::try_join!(lan, wan) {
            Ok(_) => std::future::pending().await,
            Err(error) => error,
        }
    }
}

async fn enter(join: Join, door: Door) -> anyhow::Result<()> {
    if !join.start.is_empty() {
        let pool = door.name();
        let contacted = door.join(&join.start).await;
        let contacted =
            contacted.with_context(|| format!("can't join the {pool} pool at the start"))?;
        info!(pool, contacted, "joined");
    }
    if join.retry.is_empty() || join.retries_max == 0 {
        return Ok(());
    }
    retry(&join, &door).await
}

async fn retry(join: &Join, door: &Door) -> anyhow::Result<()> {
    let pool = door.name();
    let mut failures = 0;
    loop {
        let error = match door.join(&join.retry).await {
            Ok(contacted) => {
                info!(pool, contacted, "joined");
                return Ok(());
            }
            Err(error) => error,
        };
        failures += 1;
        if failures > join.retries_max {
            bail!("the {pool} pool could not be joined in {failures} attempts, giving up: {error}");
        }
        warn!(pool, failures, retries_max = join.retries_max, %error, "join failed, will be tried again");
        tokio::time::sleep(join.interval).await;
    }
}

impl Door {
    fn name(&self) -> &'static str {
        match self {
            Door::Lan(_) => "LAN",
            Door::Wan(_) => "WAN",
        }
    }

    /// Asks once to be let in; returns how many answered.
    async fn join(&self, names: &[String]) -> anyhow::Result<usize> {
        match self {
            Door::Lan(pool) => Ok(pool.join(names.to_vec()).await?),
            Door::Wan(federation) => {
                let addrs = resolved(names).await?;
                // Servers are often told of all servers, themselves included.
                if addrs.contains(&federation.me().addr) {
                    return Ok(1);
                }
                Ok(federation.join(addrs).await?)
            }
        }
    }
}

/// Resolves names; one that has no address is no harm where another one has.
async fn resolved(names: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let (mut addrs, mut reasons) = (Vec::new(), Vec::new());
    for name in names {
        match resolve(name, seeds::PORT).await {
            Ok(found) => addrs.extend(found),
            Err(error) => reasons.push(format!("can't resolve {name}: {error}")),
        }
    }
    if addrs.is_empty() {
        bail!("{}", reasons.join("; "));
    }
    Ok(addrs)
}
