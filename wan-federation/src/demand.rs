//! Whether a datacenter is being asked for something: its paths are watched closely then.
//!
//! An attempt at a request holds an [`Asking`], which costs it some counting. Only the first one after a pause
//! wakes the federation's task, which then has paths to all servers of the datacenter at a brisk pace:
//! so requests find the leader at the end of a path of their own, and end in time when their server
//! dies. Some time after the last request the paths go back to what watching needs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long after its last request a datacenter is still expected to be asked.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// Counts the requests that are with one datacenter.
#[derive(Debug)]
pub(crate) struct Demand {
    start: Instant,
    asking: AtomicUsize,
    /// When it was asked last, in milliseconds since `start`; 0: never.
    asked_ms: AtomicU64,
    wake: Arc<Notify>,
}

/// Held as long as a request is with the datacenter.
#[derive(Debug)]
pub(crate) struct Asking(Arc<Demand>);

impl Demand {
    /// Starts with nobody asking; `wake` is notified when that changes.
    pub(crate) fn new(wake: Arc<Notify>) -> Arc<Self> {
        let (asking, asked_ms) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { start: Instant::now(), asking, asked_ms, wake })
    }

    /// Counts a request in.
    pub(crate) fn begin(self: &Arc<Self>) -> Asking {
        if !self.is_fresh() {
            self.wake.notify_one();
        }
        self.asking.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Asking(self.clone())
    }

    /// Tells whether there are requests, or were lately.
    pub(crate) fn is_fresh(&self) -> bool {
        let asked_ms = self.asked_ms.load(Ordering::Relaxed);
        let since = Duration::from_millis(self.now_ms().saturating_sub(asked_ms));
        self.asking.load(Ordering::Relaxed) > 0 || (asked_ms > 0 && since < LINGER)
    }

    fn touch(&self) {
        self.asked_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    async fn is_woken(wake: &Notify) -> bool {
        timeout(Duration::from_millis(1), wake.notified()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_after_a_pause_wakes_and_the_others_do_not() {
        let wake = Arc::new(Notify::new());
        let demand = Demand::new(wake.clone());
        assert!(!demand.is_fresh() && !is_woken(&wake).await);
        drop(demand.begin());
        assert!(demand.is_fresh() && is_woken(&wake).await);
        for _ in 0..3 {
            advance(LINGER / 2).await;
            drop(demand.begin());
            assert!(demand.is_fresh() && !is_woken(&wake).await);
        }
        advance(LINGER).await;
        assert!(!demand.is_fresh());
        drop(demand.begin());
        assert!(demand.is_fresh() && is_woken(&wake).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_long_counts_to_its_end() {
        let demand = Demand::new(Arc::default());
        let asking = demand.begin();
        advance(LINGER * 60).await;
        assert!(demand.is_fresh());
        drop(asking);
        advance(LINGER / 2).await;
        assert!(demand.is_fresh());
        advance(LINGER / 2).await;
        assert!(!demand.is_fresh());
    }
}
