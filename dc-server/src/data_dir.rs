//! The directory in which an agent keeps what must survive it.
//!
//! ```text
//! DATA-DIR/
//!   lock       held while an agent runs here
//!   node-id    the identity of this directory, a UUID made when it is first used
//!   cluster-id the cluster that a server was of last
//!   wan-removed.json
//!              the datacenters that were removed from the federation
//!   raft/      a server's log and snapshots
//!   cache      what servers said of the catalog, for when they don't answer
//! ```
//!
//! One agent uses a directory at a time; a second one is refused. A directory that was wiped
//! has a new identity, so that Raft never takes it for the server that it was.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use topology::NodeId;
use uuid::Uuid;

/// The file that an agent holds locked while it uses the directory.
pub const LOCK: &str = "lock";

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The file system refused.
    #[error("can't {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another agent runs here.
    #[error("{} is in use by another agent: stop it, or give this one its own -data-dir", .0.display())]
    InUse(PathBuf),
    /// The file with the identity holds something else.
    #[error(
        "{} does not hold a UUID: restore it, or remove it to make this a new node",
        .0.display()
    )]
    NodeId(PathBuf),
}

/// A directory that this process alone uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Releases the directory when it is dropped.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if needed, and takes it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        fs::create_dir_all(path).map_err(|source| failed("make", path, source))?;
        let name = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&name)
            .map_err(|source| failed("open", &name, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed("lock", &name, source)),
        }
    }

    /// Returns where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where a server keeps its log and snapshots.
    pub fn raft(&self) -> PathBuf {
        self.path.join("raft")
    }

    /// Returns the identity of the directory; the first time, that is `fresh`.
    pub fn node_id(&self, fresh: NodeId) -> Result<NodeId, DataDirError> {
        let path = self.path.join("node-id");
        match fs::read_to_string(&path) {
            Ok(text) => match Uuid::parse_str(text.trim()) {
                Ok(id) => Ok(NodeId(id)),
                Err(_) => Err(DataDirError::NodeId(path)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write("node-id", format!("{fresh}\n").as_bytes())?;
                Ok(fresh)
            }
            Err(source) => Err(failed("read", &path, source)),
        }
    }

    /// Replaces a file of the directory as a whole; it is on the disk when this returns.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), DataDirError> {
        let path = self.path.join(name);
        let draft = self.path.join(format!("{name}.new"));
        let written = File::create(&draft)
            .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&draft, &path))
            .and_then(|()| File::open(&self.path)?.sync_all());
        written.map_err(|source| failed("write", &path, source))
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> NodeId {
        NodeId(Uuid::new_v4())
    }

    #[test]
    fn a_directory_keeps_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap().node_id(fresh()).unwrap();
        let second = DataDir::open(dir.path()).unwrap().node_id(fresh()).unwrap();
        assert_eq!(first, second);
    }

    #[test]
    fn two_agents_cannot_use_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _first = DataDir::open(dir.path()).unwrap();
        let refusal = DataDir::open(dir.path()).unwrap_err();
        assert!(refusal.to_string().contains("in use"), "{refusal}");
    }

    #[test]
    fn a_damaged_identity_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("node-id"), "not an id").unwrap();
        let refusal = DataDir::open(dir.path()).unwrap().node_id(fresh()).unwrap_err();
        assert!(refusal.to_string().contains("remove it"), "{refusal}");
    }
}
