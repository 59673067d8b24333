//! Looks at the files of keys again and again, and warns of certificates that end soon.
//!
//! Whoever holds keys is looked after for as long as its process runs; what can't be read is
//! complained about once and looked at again.

use std::sync::Arc;

use metrics::Gauge;
use tokio::time::Instant;
use tracing::warn;

use super::{Clock, Reload, Source, WATCH_INTERVAL, expiry};
use crate::{ca::Validity, error::KeyError};

/// A holder of keys that may lie in files.
pub(crate) trait Renewable: Clone + Send + Sync + 'static {
    /// Says whose certificate it is.
    fn owner(&self) -> &'static str;

    /// Returns where the keys come from.
    fn source(&self) -> Arc<Source>;

    /// Looks at the files once.
    fn look(&self) -> Result<Reload, KeyError>;

    /// Tells when the present certificate is valid.
    fn period(&self) -> Validity;

    /// Returns the time by which it is judged.
    fn clock(&self) -> Clock;

    /// Returns the metric of the time that is left.
    fn expires(&self) -> &Gauge;
}

/// Looks at the files every [`WATCH_INTERVAL`], for ever, shows when the certificate expires and
/// warns when that is soon.
pub(crate) async fn watch(keys: impl Renewable) {
    let owner = keys.owner();
    let mut complaint = String::new();
    let mut warned = None;
    loop {
        show_expiry(&keys, &mut warned);
        tokio::time::sleep(WATCH_INTERVAL).await;
        if matches!(*keys.source(), Source::Memory) {
            continue;
        }
        let looking = keys.clone();
        // Files may lie on a slow disk; the simulation has no files and never comes here.
        match tokio::task::spawn_blocking(move || looking.look()).await {
            Ok(Ok(_)) => complaint.clear(),
            Ok(Err(error)) if error.to_string() == complaint => {}
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, cause, "new certificates of {owner} not usable, the old ones stay");
                complaint = error.to_string();
            }
            Err(_) => return,
        }
    }
}

fn show_expiry(keys: &impl Renewable, warned: &mut Option<Instant>) {
    let (validity, now) = (keys.period(), keys.clock().now());
    let left = validity.not_after - now;
    keys.expires().set(left.as_seconds_f64());
    let Some(pause) = expiry::warning(&validity, now) else {
        *warned = None;
        return;
    };
    if warned.is_some_and(|at| at.elapsed() < pause) {
        return;
    }
    *warned = Some(Instant::now());
    let (owner, expires, from) = (keys.owner(), validity.not_after, keys.source());
    let todo = match *from {
        Source::Files(_) => "replace its files, no restart needed",
        Source::Memory => "restart the agent to get a new one",
    };
    if left.is_negative() {
        warn!(%expires, %from, "the certificate of {owner} has expired, peers refuse it: {todo}");
    } else {
        warn!(%expires, %from, "the certificate of {owner} expires soon: {todo}");
    }
}
