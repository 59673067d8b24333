//! A disk that is a directory.
//!
//! Work on snapshot files is short (a piece of at most 1 MiB at a time) and done on tokio's
//! threads for blocking work.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use lan_agent::caller::Promise;

use super::{Disk, DiskError, Wal, wal::FileLog};

/// A disk in a directory.
#[derive(Debug, Clone)]
pub struct Files {
    log: PathBuf,
    snapshots: PathBuf,
}

impl Files {
    /// Uses a directory, which is made with what is below it if need be.
    pub fn open(dir: &Path) -> Result<Self, DiskError> {
        let files = Self { log: dir.join("log"), snapshots: dir.join("snapshots") };
        for dir in [&files.log, &files.snapshots] {
            fs::create_dir_all(dir).map_err(|source| Self::failed(dir, source))?;
        }
        sync_dir(dir).map_err(|source| Self::failed(dir, source))?;
        Ok(files)
    }

    fn failed(path: &Path, source: io::Error) -> DiskError {
        DiskError::Io { path: path.display().to_string(), source }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.snapshots.join(name)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Promise<io::Result<T>> {
    Box::pin(async move {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    })
}

impl Disk for Files {
    fn open_log(&self) -> Result<Box<dyn Wal>, DiskError> {
        Ok(Box::new(FileLog::open(&self.log)?))
    }

    fn append(&self, name: &str, offset: u64, data: Bytes) -> Promise<io::Result<()>> {
        let path = self.path(name);
        blocking(move || {
            let start_over = offset == 0;
            let file =
                OpenOptions::new().write(true).create(true).truncate(start_over).open(path)?;
            file.write_all_at(&data, offset)
        })
    }

    fn publish(&self, from: &str, to: &str) -> Promise<io::Result<()>> {
        let (from, to, dir) = (self.path(from), self.path(to), self.snapshots.clone());
        blocking(move || {
            File::open(&from)?.sync_all()?;
            fs::rename(from, to)?;
            sync_dir(&dir)
        })
    }

    fn read(&self, name: &str, offset: u64, len_max: usize) -> Promise<io::Result<Bytes>> {
        let path = self.path(name);
        blocking(move || {
            let file = File::open(path)?;
            let left = file.metadata()?.len().saturating_sub(offset);
            let mut data = vec![0; left.min(len_max as u64) as usize];
            file.read_exact_at(&mut data, offset)?;
            Ok(data.into())
        })
    }

    fn list(&self) -> Promise<io::Result<Vec<(String, u64)>>> {
        let dir = self.snapshots.clone();
        blocking(move || {
            let mut files = Vec::new();
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if let Ok(name) = entry.file_name().into_string() {
                    files.push((name, entry.metadata()?.len()));
                }
            }
            files.sort();
            Ok(files)
        })
    }

    fn remove(&self, name: &str) -> Promise<io::Result<()>> {
        let path = self.path(name);
        blocking(move || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }

    fn place(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}
