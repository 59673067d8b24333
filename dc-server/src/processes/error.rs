//! What can go wrong with running a plan as processes.

use std::{io, path::PathBuf, time::Duration};

use certs::error::KeyError;

/// Says why a plan can't be run, or stopped running.
#[derive(Debug, thiserror::Error)]
pub enum ProcessesError {
    /// There is no free block of loopback addresses.
    #[error("no free block of loopback addresses: does something listen on all addresses?")]
    Addresses {
        /// What the system said of the last block.
        #[source]
        source: io::Error,
    },
    /// A file or directory can't be written.
    #[error("can't write {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory holds the run of another plan or program.
    #[error("{path} is not empty: name a new directory or an empty one")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Certificates can't be made.
    #[error("can't make certificates")]
    Certificates {
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The program can't be started.
    #[error("can't start {binary}")]
    Spawn {
        /// Its path.
        binary: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A node ended that should run.
    #[error("{node} ended ({how}); the end of its log:\n{log}")]
    Ended {
        /// Which one, as `node.dc`.
        node: String,
        /// Its exit status.
        how: String,
        /// The last lines of its log.
        log: String,
    },
    /// The federation did not get whole in time.
    #[error("not ready after {within:?}: {summary}; the logs are below {dir}")]
    NotReady {
        /// How long was waited.
        within: Duration,
        /// Who was still missing.
        summary: String,
        /// Where the logs are.
        dir: PathBuf,
    },
    /// A process can't be ended or waited for.
    #[error("can't end {node}")]
    End {
        /// Which one, as `node.dc`.
        node: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
