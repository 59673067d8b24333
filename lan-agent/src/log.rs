//! The live log, for those who listen to it over HTTP.
//!
//! ```text
//! whatever logs ──▶ Log ──▶ Sink ──▶ [ at most LINES_MAX ] ──▶ Lines ──▶ listener
//!                             `──▶ full: counted instead
//! ```
//!
//! A listener that reads too slowly loses lines and is told how many; nobody ever waits for it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::Level;

/// Most lines that wait for a listener, as in Consul.
pub const LINES_MAX: usize = 512;

/// What of the log a listener wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The least severe level, whatever the agent's own log shows.
    pub level: Level,
    /// JSON lines rather than text.
    pub json: bool,
}

/// The log of a process.
pub trait Log: Send + Sync + 'static {
    /// Listens from now on, until the lines are dropped; `None` when too many listen already.
    fn listen(&self, wanted: Wanted) -> Option<Lines>;
}

/// The log of a process that has none.
pub struct Silent;

impl Log for Silent {
    fn listen(&self, _wanted: Wanted) -> Option<Lines> {
        Some(lines(|| ()).1)
    }
}

/// Reads the name of a level as Consul writes it, in capitals or not.
pub fn level(name: &str) -> Option<Level> {
    match name.to_ascii_uppercase().as_str() {
        "TRACE" => Some(Level::TRACE),
        "DEBUG" => Some(Level::DEBUG),
        "INFO" => Some(Level::INFO),
        "WARN" => Some(Level::WARN),
        "ERR" | "ERROR" => Some(Level::ERROR),
        _ => None,
    }
}

/// What comes to a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line with its end.
    Text(Bytes),
    /// As many lines are missing here.
    Lost(u64),
}

/// Where lines for one listener go. Clones are handles to the same.
#[derive(Clone)]
pub struct Sink {
    /// Each line with how many before it were lost.
    queue: mpsc::Sender<(u64, Bytes)>,
    lost: Arc<AtomicU64>,
}

/// The lines of one listener.
pub struct Lines {
    queue: mpsc::Receiver<(u64, Bytes)>,
    lost: Arc<AtomicU64>,
    /// A line that comes after one that says how many were lost.
    next: Option<Bytes>,
    leave: Option<Box<dyn FnOnce() + Send + Sync>>,
}

/// Makes both ends; `leave` is called when the listener is gone.
pub fn lines(leave: impl FnOnce() + Send + Sync + 'static) -> (Sink, Lines) {
    let (sender, receiver) = mpsc::channel(LINES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let sink = Sink { queue: sender, lost: lost.clone() };
    (sink, Lines { queue: receiver, lost, next: None, leave: Some(Box::new(leave)) })
}

impl Sink {
    /// Gives the listener a line, or counts it as lost. Never waits.
    pub fn put(&self, line: Bytes) {
        let before = self.lost.swap(0, Ordering::Relaxed);
        if self.queue.try_send((before, line)).is_err() {
            self.lost.fetch_add(before + 1, Ordering::Relaxed);
        }
    }
}

impl Lines {
    /// Waits for the next line; `None` when there will be none any more.
    pub async fn next(&mut self) -> Option<Line> {
        if let Some(line) = self.next.take() {
            return Some(Line::Text(line));
        }
        let (lost, line) = match self.queue.try_recv() {
            Ok(received) => received,
            // What was lost at the end is told before it is waited for more.
            Err(_) => match self.lost.swap(0, Ordering::Relaxed) {
                0 => self.queue.recv().await?,
                lost => return Some(Line::Lost(lost)),
            },
        };
        if lost == 0 {
            return Some(Line::Text(line));
        }
        self.next = Some(line);
        Some(Line::Lost(lost))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave();
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("waiting", &self.queue.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: usize) -> Bytes {
        format!("{number}\n").into()
    }

    #[tokio::test]
    async fn a_slow_listener_loses_lines_and_is_told_how_many() {
        let (sink, mut lines) = lines(|| ());
        (0..LINES_MAX + 7).for_each(|number| sink.put(text(number)));
        assert_eq!(lines.next().await, Some(Line::Text(text(0))));
        sink.put(text(9999));
        for number in 1..LINES_MAX {
            assert_eq!(lines.next().await, Some(Line::Text(text(number))));
        }
        assert_eq!(lines.next().await, Some(Line::Lost(7)));
        assert_eq!(lines.next().await, Some(Line::Text(text(9999))));
        (0..LINES_MAX + 3).for_each(|number| sink.put(text(number)));
        for number in 0..LINES_MAX {
            assert_eq!(lines.next().await, Some(Line::Text(text(number))));
        }
        assert_eq!(lines.next().await, Some(Line::Lost(3)), "also when nothing follows");
        drop(sink);
        assert_eq!(lines.next().await, None);
    }

    #[test]
    fn levels_have_the_names_of_consul() {
        assert_eq!(level("err"), Some(Level::ERROR));
        assert_eq!(level("Warn"), Some(Level::WARN));
        assert_eq!(level("bogus"), None);
    }
}
