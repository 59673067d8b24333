//! Keeps over a restart which datacenters were removed from the federation.
//!
//! A file of JSON that is there as a whole or not at all, written before a removal is acknowledged, and soon
//! when others tell of one. One that can't be read is left where it is and counts for nothing: the other
//! servers know the same, and tell it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use lan_agent::files;
use tokio::{
    sync::Mutex,
    task::spawn_blocking,
    time::{Duration, sleep},
};
use topology::gossip::Removal;
use tracing::warn;
use wan_federation::Federation;

/// The file below the data directory.
pub const FILE: &str = "wan-removed.json";

/// Longest file that is read: as many removals as are kept, with the longest names there are.
const LEN_MAX: u64 = 256 * 1024;

/// How long after the federation changed it is looked for removals, and after writing failed again.
const PAUSE: Duration = Duration::from_secs(1);

/// What is kept; clones keep it in the same place.
#[derive(Debug, Clone)]
pub struct Removals {
    /// `None`: nothing is kept.
    file: Option<Arc<Path>>,
    /// What is in the file.
    written: Arc<Mutex<Arc<Vec<Removal>>>>,
}

impl Removals {
    /// Reads what was kept below a data directory, if there is one.
    pub fn open(dir: Option<&Path>) -> (Self, Vec<Removal>) {
        let file = dir.map(|dir| dir.join(FILE));
        let kept = file.as_deref().map_or_else(Vec::new, |file| {
            read(file).unwrap_or_else(|error| {
                warn!(file = %file.display(), %error, "kept removals of datacenters are ignored");
                Vec::new()
            })
        });
        let written = Arc::new(Mutex::new(Arc::new(kept.clone())));
        (Self { file: file.map(PathBuf::into), written }, kept)
    }

    /// Writes what is so now, unless that is in the file.
    pub async fn keep(&self, federation: &Federation) -> io::Result<()> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let mut written = self.written.lock().await;
        let removals = federation.removals();
        if *removals == **written {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&*removals)?;
        spawn_blocking(move || files::replace(&file, &text)).await??;
        *written = removals;
        Ok(())
    }

    /// Keeps what others tell, until the federation ends.
    pub async fn run(self, federation: Federation) {
        let mut changes = federation.changes();
        loop {
            changes.mark_unchanged();
            if let Err(error) = self.keep(&federation).await {
                warn!(%error, "removals of datacenters can't be kept");
                changes.mark_changed();
            }
            sleep(PAUSE).await;
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<Removal>> {
    let text = files::read(file, LEN_MAX)?;
    text.map_or(Ok(Vec::new()), |text| Ok(serde_json::from_slice(&text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_removals_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Removals::open(Some(dir.path())).1, []);
        for text in ["", "hello", "{}", r#"[{"dc":"a/b","at_ms":1}]"#] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(Removals::open(Some(dir.path())).1, [], "{text:?}");
        }
        std::fs::write(dir.path().join(FILE), r#"[{"dc":"dc2","at_ms":1}]"#).unwrap();
        let kept = Removals::open(Some(dir.path())).1;
        assert_eq!((kept.len(), kept[0].dc.as_str(), kept[0].is_lifted), (1, "dc2", false));
    }
}
