//! What every datacenter holds of every other one: the reachability matrix.
//!
//! ```text
//!            to dc1     dc2       dc3
//!  dc1         -      healthy   lost          the own row: this server's verdicts
//!  dc2      healthy      -      healthy       a row that a server of dc2 told
//! ```
//!
//! Each server has its row ready. Heartbeats carry its mark, so that whoever watches the server
//! notices a new one without a message of its own, and asks for it ([`gather`]). A row holds what seldom
//! changes: verdicts, and round trips that are told anew only when they moved by a fifth.
//!
//! A row counts while its datacenter is reachable from here; after that it is only shown. It is a named
//! map on the wire: a datacenter may be newer than its readers, and a health that they don't know
//! is no way to anywhere.

pub(crate) mod gather;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use topology::{Datacenter, NodeName};

use crate::verdict::Health;

/// Most datacenters that a row tells of: a federation has dozens.
pub const CELLS_MAX: usize = 512;

/// What one datacenter holds of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// What it holds the other one for; `None` for something that this version does not know.
    pub health: Option<Health>,
    /// The round trip between them, when it was measured.
    pub rtt: Option<Duration>,
}

/// What one datacenter holds of the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row(pub BTreeMap<Datacenter, Cell>);

/// A row, who told it and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What is held.
    pub row: Row,
    /// The server that told it.
    pub by: NodeName,
    /// When, on the federation's clock.
    pub at: Duration,
    /// Whether its datacenter can be asked now: an old row is no ground to act on.
    pub current: bool,
}

/// The rows of all datacenters, the own one included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matrix {
    /// By the datacenter that holds it.
    pub rows: BTreeMap<Datacenter, Told>,
}

/// A row as it travels, with its mark.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Written {
    pub(crate) bytes: Bytes,
    /// 0: there is no row.
    pub(crate) mark: u32,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default)]
    cells: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    dc: Datacenter,
    #[serde(default)]
    health: String,
    #[serde(default)]
    rtt_us: Option<u64>,
}

impl Matrix {
    /// Returns the round trip from one datacenter to another when the first one says that
    /// requests get there; the longest one when it has not measured it. `None`: there is no way, or
    /// nobody who could be asked knows of one.
    pub fn reaches(&self, from: &Datacenter, to: &Datacenter) -> Option<Duration> {
        let cell = self.rows.get(from).filter(|told| told.current)?.row.0.get(to)?;
        let reachable = cell.health.is_some_and(Health::takes_requests);
        reachable.then(|| cell.rtt.unwrap_or(Duration::MAX))
    }
}

impl Row {
    /// Writes the row as it travels.
    pub(crate) fn encode(&self) -> Written {
        let line = |(dc, cell): (&Datacenter, &Cell)| Line {
            dc: dc.clone(),
            health: cell.health.map_or("", Health::as_str).to_owned(),
            rtt_us: cell.rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        };
        let cells = self.0.iter().take(CELLS_MAX).map(line).collect();
        // Can't fail to be written to memory; an empty row says nothing about anyone.
        let bytes = rmp_serde::to_vec_named(&Wire { cells }).map(Bytes::from).unwrap_or_default();
        Written { mark: mark(&bytes), bytes }
    }

    /// Reads a row; `None` when it makes no sense.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let wire: Wire = rmp_serde::from_slice(bytes).ok()?;
        if wire.cells.len() > CELLS_MAX {
            return None;
        }
        let cell = |line: Line| {
            let health = Health::named(&line.health);
            (line.dc, Cell { health, rtt: line.rtt_us.map(Duration::from_micros) })
        };
        Some(Self(wire.cells.into_iter().map(cell).collect()))
    }

    /// Keeps the round trips of an earlier row that did not change much.
    fn settle(&mut self, before: &Self) {
        for (dc, cell) in &mut self.0 {
            let Some(old) = before.0.get(dc).and_then(|cell| cell.rtt) else { continue };
            cell.rtt = cell.rtt.map(|new| if moved(old, new) { new } else { old });
        }
    }
}

/// Returns a number by which rows are told apart in heartbeats; never 0, which stands for none.
/// FNV-1a: two rows of one server that follow each other are alike once in four billion times,
/// and then until the next change.
fn mark(row: &[u8]) -> u32 {
    let hash = row
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.max(1)
}

/// Tells whether a round trip changed by a fifth and by more than jitter does.
fn moved(old: Duration, new: Duration) -> bool {
    let by = old.abs_diff(new);
    by > old / 5 && by > Duration::from_millis(2)
}

#[cfg(test)]
mod tests;
