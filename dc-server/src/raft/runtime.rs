//! The runtime that openraft runs on: tokio's, with randomness that starts from a seed.
//!
//! openraft draws its election timeouts from the runtime. A server starts Raft within
//! [`Runtime::seeded`]; every task that is spawned from there inherits a seed of its own, so in
//! the simulation the same seed gives the same elections, and a real server takes its seed from
//! the system's entropy once. A task that was not started so draws from entropy. Tokio's own draws,
//! which nothing seeds, are avoided: see [`watch`].

pub(super) mod watch;

use std::{cell::Cell, future::Future, time::Duration};

use openraft_rt::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::{TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime};
use rand::{SeedableRng, rngs::SmallRng};

use self::watch::OrderedWatch;

tokio::task_local! {
    static SEED: Cell<u64>;
}

/// Tokio's runtime with seeded randomness.
#[derive(Debug)]
pub struct Runtime {
    inner: TokioRuntime,
}

impl Runtime {
    /// Runs a future whose randomness, and that of all tasks that come of it, starts from a seed.
    pub fn seeded<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
        SEED.scope(Cell::new(seed), future)
    }
}

/// Steps of SplitMix64 (Steele, Lea and Flood 2014): the child of a task and its own next draw
/// come from different sequences.
const CHILD: u64 = 0x9e37_79b9_7f4a_7c15;
const NEXT: u64 = 0x6a09_e667_f3bc_c908;

fn mix(seed: u64, step: u64) -> u64 {
    let z = seed.wrapping_add(step);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn draw() -> Option<u64> {
    SEED.try_with(|cell| cell.replace(mix(cell.get(), NEXT))).ok()
}

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = TokioMpsc;
    type Watch = OrderedWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match draw() {
            Some(seed) => TokioRuntime::spawn(SEED.scope(Cell::new(mix(seed, CHILD)), future)),
            None => TokioRuntime::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        draw().map_or_else(rand::make_rng, SmallRng::seed_from_u64)
    }

    fn new(threads: usize) -> Self {
        Self { inner: TokioRuntime::new(threads) }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.inner.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    async fn draws() -> Vec<u64> {
        let child = Runtime::spawn(async { Runtime::thread_rng().random::<u64>() });
        let mine = Runtime::thread_rng().random::<u64>();
        vec![mine, child.await.unwrap(), Runtime::thread_rng().random::<u64>()]
    }

    #[tokio::test]
    async fn the_same_seed_draws_the_same_numbers() {
        let first = Runtime::seeded(7, draws()).await;
        assert_eq!(first, Runtime::seeded(7, draws()).await);
        assert_ne!(first, Runtime::seeded(8, draws()).await);
        assert_ne!(first[0], first[1]);
    }

    #[tokio::test]
    async fn without_a_seed_numbers_differ() {
        assert_ne!(draws().await, draws().await);
    }
}
