//! Says in the WAN pool which cluster this server is of, and keeps that over a restart.
//!
//! The cluster's identity is part of the replicated state, where its first leader puts it. It is kept in a file as well,
//! because a server that starts meets the other datacenters before Raft tells it anything. Raft has the last word: a
//! server whose log was thrown away says what the file holds until it is of a cluster again.

use std::{io, path::Path, path::PathBuf, sync::Arc};

use lan_agent::files;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    task::spawn_blocking,
    time::{Duration, sleep},
};
use topology::member::CLUSTER_TAG;
use tracing::{info, warn};
use uuid::{Builder, Uuid};
use wan_federation::Federation;

use crate::raft::Raft;

/// The file below the data directory.
pub const FILE: &str = "cluster-id";

/// Longest file that is read: a UUID and what an editor adds.
const LEN_MAX: u64 = 64;

/// How often the state is looked at: the others let a server in that says no cluster yet, so it is not kept waiting.
const LOOK: Duration = Duration::from_millis(500);

/// Where the identity is kept.
#[derive(Debug)]
pub struct ClusterId {
    /// `None`: nowhere.
    file: Option<Arc<Path>>,
    /// What the others were told.
    said: Option<Uuid>,
}

impl ClusterId {
    /// Reads what was kept below a data directory, if there is one.
    pub fn open(dir: Option<&Path>) -> (Self, Option<Uuid>) {
        let file = dir.map(|dir| dir.join(FILE));
        let said = file.as_deref().and_then(|file| {
            read(file).unwrap_or_else(|error| {
                warn!(file = %file.display(), %error, "kept identity of the cluster is ignored");
                None
            })
        });
        (Self { file: file.map(PathBuf::into), said }, said)
    }

    /// Keeps and tells what Raft says, as long as it runs.
    pub async fn run(mut self, raft: Raft, federation: Federation) {
        loop {
            let agreed = raft.view().load().cluster();
            if let Some(cluster) = agreed.filter(|_| agreed != self.said) {
                info!(%cluster, "this server is of a cluster");
                if let Err(error) = self.keep(cluster).await {
                    warn!(%error, "the identity of the cluster can't be kept");
                }
                let mut me = federation.me().clone();
                me.tags.insert(CLUSTER_TAG.to_owned(), cluster.to_string());
                if federation.update(me).await.is_err() {
                    return;
                }
                self.said = agreed;
            }
            sleep(LOOK).await;
        }
    }

    async fn keep(&self, cluster: Uuid) -> io::Result<()> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        spawn_blocking(move || files::replace(&file, format!("{cluster}\n").as_bytes())).await?
    }
}

/// Makes an identity of what is different at every start of every server.
pub fn fresh(seed: u64, boot_ms: u64) -> Uuid {
    let mut random = SmallRng::seed_from_u64(seed ^ boot_ms.rotate_left(32));
    Builder::from_random_bytes(random.random()).into_uuid()
}

fn read(file: &Path) -> io::Result<Option<Uuid>> {
    let text = files::read(file, LEN_MAX)?;
    let text = text.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    text.map(|text| Uuid::parse_str(&text).map_err(io::Error::other)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_read_and_what_is_no_identity_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, said) = ClusterId::open(Some(dir.path()));
        assert_eq!(said, None);
        let cluster = fresh(1, 2);
        kept.keep(cluster).await.unwrap();
        assert_eq!(ClusterId::open(Some(dir.path())).1, Some(cluster));
        for text in ["", "hello", &"x".repeat(100)] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(ClusterId::open(Some(dir.path())).1, None, "{text:?}");
        }
    }

    #[test]
    fn identities_are_different() {
        assert_ne!(fresh(1, 2), fresh(2, 2));
        assert_ne!(fresh(1, 2), fresh(1, 3));
    }
}
