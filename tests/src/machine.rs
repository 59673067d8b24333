//! A machine of the simulation: a runtime with a clock of its own, which can be frozen.
//!
//! ```text
//! world's time   0 ms      1 ms      2 ms      3 ms ...
//! machine 1      |--turn--||--turn--|                     a turn runs all that is due in it
//! machine 2                |--turn--|    frozen           nothing runs, the clock goes on
//! ```
//!
//! Machines take turns on one thread, a [`TURN`] of the world's time each. One that is frozen, as a
//! process is by SIGSTOP, gets no turns: its tasks stand still while packets pile up before its
//! sockets. When it is thawed its clock has gone on, all its timers that were due go off at once,
//! and whatever task comes first acts on what it knew before. Clocks of machines may drift; what
//! they show of the day is not theirs to know but that of what runs on them.
//!
//! Dropping a machine is pulling its plug: nothing that ran on it gets to say goodbye.

use std::time::Duration;

use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, advance, sleep_until},
};

use crate::fabric::Clock;

/// How far a machine gets in its turn: what tokio's timers can tell apart, and about the latency of a
/// LAN, so that it does not show who is first.
pub const TURN: Duration = Duration::from_millis(1);

/// A runtime and its clock.
pub struct Machine {
    runtime: Runtime,
    clock: Clock,
}

impl Machine {
    /// Switches a machine on at a time of the world. Its clock is ahead by `drift` microseconds
    /// after each second.
    ///
    /// # Panics
    /// When there is no memory for it.
    pub fn boot(at: Duration, drift: i32) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without input and output needs nothing");
        let clock = {
            let _inside = runtime.enter();
            Clock::new(at, drift)
        };
        Self { runtime, clock }
    }

    /// Returns its clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Runs a future on it, while the world stands still if it does not sleep.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Starts a task on it, which goes on in the machine's turns.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Takes a turn: runs what is due until a time of the world, timer by timer.
    pub fn run_until(&self, time: Duration) {
        self.block_on(async { sleep_until(self.clock.when(time)).await });
    }

    /// Thaws it at a time of the world: the clock leaps, then everything that is due runs.
    pub fn thaw(&self, time: Duration) {
        self.block_on(async { advance(self.clock.when(time) - Instant::now()).await });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::{interval, sleep};

    use super::*;

    /// Notes what a machine's clock shows every 10 ms.
    fn ticking(machine: &Machine) -> Arc<Mutex<Vec<u64>>> {
        let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
        let noting = seen.clone();
        machine.spawn(async move {
            let begin = Instant::now();
            let mut ticks = interval(Duration::from_millis(10));
            loop {
                ticks.tick().await;
                noting.lock().unwrap().push(begin.elapsed().as_millis() as u64);
            }
        });
        seen
    }

    #[test]
    fn a_turn_goes_from_timer_to_timer() {
        let machine = Machine::boot(Duration::ZERO, 0);
        let seen = ticking(&machine);
        machine.run_until(Duration::from_millis(35));
        assert_eq!(*seen.lock().unwrap(), [0, 10, 20, 30]);
    }

    #[test]
    fn a_frozen_machine_wakes_up_late_and_never_sees_the_time_between() {
        let machine = Machine::boot(Duration::ZERO, 0);
        let seen = ticking(&machine);
        machine.run_until(Duration::from_millis(15));
        machine.thaw(Duration::from_millis(4_995));
        machine.run_until(Duration::from_millis(4_996));
        let seen = seen.lock().unwrap();
        assert_eq!(seen[..2], [0, 10]);
        assert!(seen[2..].iter().all(|time| *time >= 4_995), "{seen:?}");
    }

    #[test]
    fn clocks_drift_apart() {
        let slow = Machine::boot(Duration::from_secs(5), -10_000);
        let elapsed = slow.block_on(async {
            let begin = Instant::now();
            sleep(slow.clock().when(Duration::from_secs(15)) - begin).await;
            (begin.elapsed(), slow.clock().now())
        });
        assert_eq!(elapsed, (Duration::from_millis(9_900), Duration::from_secs(15)));
    }
}
