//! Tells a torn tail from damage before raft-log opens its files.
//!
//! A record that can't be read at the end of the last file is what was being written when the
//! power failed: nobody was told that it is durable, and it is cut off. A record that can't be
//! read with readable ones after it, or in any file but the last, was durable once: dropping it and
//! what follows would take back acknowledged writes, so the server refuses to start and names
//! the file and the offset. (raft-log alone takes a damaged length for a torn tail.)

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Cursor},
    path::{Path, PathBuf},
};

use raft_log::{RaftLogRecord, codeq::Decode};

use super::{DiskError, record::Records};

/// A file that does not hold what was written to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} is damaged at offset {offset}: {why}. Restore the file, or remove the data directory \
     and let this server join again as a new one, if a majority of the others is well"
)]
pub struct Damage {
    /// The path of the file.
    pub file: String,
    /// Where the first unreadable record starts.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
}

/// Kinds of records start with their number in four bytes; there are six.
const KINDS: u8 = 6;

/// The shortest record: kind, a flag, checksum.
const RECORD_LEN_MIN: usize = 4 + 1 + 4;

/// Checks the files of a log and cuts off a torn tail; returns how many bytes were cut off.
pub(super) fn check(dir: &Path) -> Result<u64, DiskError> {
    let files = log_files(dir).map_err(|source| in_dir(dir, source))?;
    let mut cut = 0;
    for (position, path) in files.iter().enumerate() {
        let bytes = fs::read(path).map_err(|source| in_dir(path, source))?;
        let Err((offset, why)) = walk(&bytes) else { continue };
        let last = position + 1 == files.len();
        if let Some(found) = readable_after(&bytes, offset) {
            return Err(damage(
                path,
                offset,
                format!("{why}, but there is a good record at offset {found}"),
            ));
        }
        if !last {
            return Err(damage(path, offset, format!("{why}, but there are later files")));
        }
        truncate(path, offset).map_err(|source| in_dir(path, source))?;
        cut += (bytes.len() - offset) as u64;
        tracing::warn!(file = %path.display(), offset, cut, %why, "torn record cut off");
    }
    Ok(cut)
}

fn log_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            files.push(path);
        }
    }
    // The names are the offsets of the files in the log, in digits of equal number.
    files.sort();
    Ok(files)
}

/// Reads all records; fails with the offset of the first that can't be read.
fn walk(bytes: &[u8]) -> Result<(), (usize, String)> {
    let mut cursor = Cursor::new(bytes);
    while (cursor.position() as usize) < bytes.len() {
        let offset = cursor.position() as usize;
        RaftLogRecord::<Records>::decode(&mut cursor)
            .map_err(|error| (offset, error.to_string()))?;
    }
    Ok(())
}

/// Returns the offset of the first record after the one at `offset` that can be read.
fn readable_after(bytes: &[u8], offset: usize) -> Option<usize> {
    (offset + 1..bytes.len().saturating_sub(RECORD_LEN_MIN - 1)).find(|start| {
        let candidate = &bytes[*start..];
        matches!(candidate, [0, 0, 0, kind, ..] if *kind < KINDS)
            && RaftLogRecord::<Records>::decode(Cursor::new(candidate)).is_ok()
    })
}

fn truncate(path: &Path, len: usize) -> io::Result<()> {
    let file: File = OpenOptions::new().write(true).open(path)?;
    file.set_len(len as u64)?;
    file.sync_all()
}

fn damage(path: &Path, offset: usize, why: String) -> DiskError {
    Damage { file: path.display().to_string(), offset: offset as u64, why }.into()
}

fn in_dir(path: &Path, source: io::Error) -> DiskError {
    DiskError::Io { path: path.display().to_string(), source }
}
