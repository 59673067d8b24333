//! Where a run keeps its files, and how they go when it can't remove them itself.
//!
//! ```text
//! TMP/causeway-run-RANDOM/
//!   lock                         held (flock) while the run lives, let go however it ends
//!   kept                         instead of it, once somebody was told to look at the files
//!   DATACENTER/NODE/data/lock    held while an agent lives: it may outlive its run by seconds
//! ```
//!
//! A run that is killed leaves its directory behind: the next one sweeps away those of this user
//! whose locks are all free. A lock is held before it has its name, so that no directory in use is
//! ever seen without one; one without any is swept only when it is old.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::{data_dir, processes::error::ProcessesError};

/// What the names of temporary directories begin with.
const PREFIX: &str = "causeway-run-";

const LOCK: &str = "lock";
const KEPT: &str = "kept";

/// How long a directory may be without a lock: making one takes a moment.
const UNLOCKED_MAX: Duration = Duration::hours(1);

/// A run's directory.
#[derive(Debug)]
pub(super) enum RunDir {
    /// One that was named: it stays.
    Named(PathBuf),
    /// One that goes with the run.
    Temporary {
        /// Removes it in the end.
        dir: TempDir,
        /// Held until it is removed.
        _lock: File,
    },
}

impl RunDir {
    /// Makes a directory for a run: the named one, or a temporary one below `home`, where it first
    /// removes what killed runs left there.
    pub(super) fn create(
        named: Option<&Path>,
        home: &Path,
        now: OffsetDateTime,
    ) -> Result<Self, ProcessesError> {
        match named {
            Some(path) => Self::named(path).map_err(|source| match source.kind() {
                io::ErrorKind::DirectoryNotEmpty => {
                    ProcessesError::NotEmpty { path: path.to_owned() }
                }
                _ => ProcessesError::File { path: path.to_owned(), source },
            }),
            None => {
                sweep(home, now);
                let failed = |source| ProcessesError::File { path: home.to_owned(), source };
                Self::temporary(home).map_err(failed)
            }
        }
    }

    fn named(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        if fs::read_dir(path)?.next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        Ok(Self::Named(path.canonicalize()?))
    }

    fn temporary(home: &Path) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(home)?;
        let draft = dir.path().join("lock.new");
        let lock = File::create_new(&draft)?;
        lock.lock()?;
        fs::rename(&draft, dir.path().join(LOCK))?;
        Ok(Self::Temporary { dir, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Named(path) => path,
            Self::Temporary { dir, .. } => dir.path(),
        }
    }

    /// Leaves the files where they are, for good. Returns where that is.
    pub(super) fn keep(self) -> Result<PathBuf, ProcessesError> {
        match self {
            Self::Named(path) => Ok(path),
            Self::Temporary { dir, _lock } => {
                let path = dir.keep();
                let failed = |source| ProcessesError::File { path: path.clone(), source };
                fs::rename(path.join(LOCK), path.join(KEPT)).map_err(failed)?;
                Ok(path)
            }
        }
    }

    /// Removes a temporary directory. Returns a named one.
    pub(super) fn discard(self) -> Result<Option<PathBuf>, ProcessesError> {
        match self {
            Self::Named(path) => Ok(Some(path)),
            Self::Temporary { dir, _lock } => {
                let path = dir.path().to_owned();
                dir.close().map_err(|source| ProcessesError::File { path, source })?;
                Ok(None)
            }
        }
    }
}

/// Removes what killed runs of this user left in a directory. What can't be read or removed stays
/// for the next time: this run can do without it.
fn sweep(home: &Path, now: OffsetDateTime) {
    let Ok(entries) = fs::read_dir(home) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        if ours && let Some(_lock) = dead(&entry.path(), &metadata, now) {
            let _stays_for_the_next_time = fs::remove_dir_all(entry.path());
        }
    }
}

/// What is held while a dead run's directory is removed, so that only one does.
enum Claim {
    Lock { _file: File },
    Old,
}

/// Returns a claim on a directory whose run and agents have ended.
fn dead(path: &Path, metadata: &Metadata, now: OffsetDateTime) -> Option<Claim> {
    let user = rustix::process::getuid().as_raw();
    if !metadata.is_dir() || metadata.uid() != user || path.join(KEPT).exists() {
        return None;
    }
    let claim = match File::open(path.join(LOCK)) {
        Ok(lock) => {
            lock.try_lock().ok()?;
            Claim::Lock { _file: lock }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = metadata.modified().ok().map(OffsetDateTime::from)?;
            (now - made > UNLOCKED_MAX).then_some(Claim::Old)?
        }
        Err(_) => return None,
    };
    (!agents_run(path)).then_some(claim)
}

/// Tells whether an agent uses one of the data directories of a run.
fn agents_run(run: &Path) -> bool {
    let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    below(run).flat_map(|dc| below(&dc.path())).any(|node| {
        let lock = File::open(node.path().join("data").join(data_dir::LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn temporary(home: &Path) -> RunDir {
        RunDir::create(None, home, now()).unwrap()
    }

    /// Leaves a directory behind as a run does that is killed.
    fn killed(run: RunDir) -> PathBuf {
        let RunDir::Temporary { dir, _lock } = run else { panic!("a named directory") };
        dir.keep()
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_what_lives_is_not() {
        let home = tempfile::tempdir().unwrap();
        let alive = temporary(home.path());
        let left = killed(temporary(home.path()));
        fs::create_dir_all(left.join("dc1/server-1/data")).unwrap();
        let next = temporary(home.path());
        assert!(!left.exists());
        assert!(alive.path().exists() && next.path().exists());
    }

    #[test]
    fn agents_that_outlive_their_run_keep_its_directory() {
        let home = tempfile::tempdir().unwrap();
        let left = killed(temporary(home.path()));
        let agent = data_dir::DataDir::open(&left.join("dc1/server-1/data")).unwrap();
        let _next = temporary(home.path());
        assert!(left.exists());
        drop(agent);
        let _next = temporary(home.path());
        assert!(!left.exists());
    }

    #[test]
    fn what_somebody_was_told_of_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let kept = temporary(home.path()).keep().unwrap();
        let _next = temporary(home.path());
        assert!(kept.exists());
    }

    #[test]
    fn without_a_lock_only_an_old_directory_is_swept() {
        let home = tempfile::tempdir().unwrap();
        let bare = home.path().join(format!("{PREFIX}bare"));
        fs::create_dir(&bare).unwrap();
        sweep(home.path(), now());
        assert!(bare.exists());
        sweep(home.path(), now() + 2 * UNLOCKED_MAX);
        assert!(!bare.exists());
    }

    #[test]
    fn other_names_and_links_are_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let other = home.path().join("causeway-other");
        fs::create_dir(&other).unwrap();
        File::create(other.join(LOCK)).unwrap();
        let link = home.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(&other, &link).unwrap();
        sweep(home.path(), now() + 2 * UNLOCKED_MAX);
        assert!(other.exists() && link.symlink_metadata().is_ok());
    }

    #[test]
    fn a_named_directory_has_to_be_empty_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let named = home.path().join("mine");
        let run = RunDir::create(Some(&named), home.path(), now()).unwrap();
        fs::write(run.path().join("file"), "").unwrap();
        assert_eq!(run.discard().unwrap(), Some(named.canonicalize().unwrap()));
        let error = RunDir::create(Some(&named), home.path(), now()).unwrap_err();
        assert!(matches!(error, ProcessesError::NotEmpty { .. }), "{error}");
    }
}
