//! What the API registered, kept in the data directory over restarts.
//!
//! ```text
//! services/<hash of the id>.json     a service
//! checks/<hash of the id>.json       a check
//! words/<hash of the id>.json        what a check that waits for reports said last
//! ```
//!
//! A file is named by the SHA-256 of the id, which may be any text. One that can't be read is
//! logged by its name and left where it is; everything else is restored all the same.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::state::Word;
use crate::{
    catalog::{Service, Text},
    definition::CheckDefinition,
    files,
};

/// Longest file: a service with all its metadata is far smaller.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// The directories, by what is in them.
const SERVICES: &str = "services";
const CHECKS: &str = "checks";
const WORDS: &str = "words";

/// A registration could not be written to the disk, or removed from it.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be written: {source}", path.display())]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The directories with registrations.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// What a file holds: the id is there for those who look at it.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    version: u32,
    id: Text,
    value: T,
}

/// The layout that this program writes.
const VERSION: u32 = 1;

impl Store {
    /// Opens the directories below a data directory, which may not be there yet.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        for kind in [SERVICES, CHECKS, WORDS] {
            let path = data_dir.join(kind);
            fs::create_dir_all(&path).map_err(|source| StoreError { path, source })?;
        }
        Ok(Self { dir: data_dir.to_owned() })
    }

    /// Returns the services that were kept.
    pub fn services(&self) -> Vec<Service> {
        self.all(SERVICES)
    }

    /// Returns the checks that were kept.
    pub fn checks(&self) -> Vec<CheckDefinition> {
        self.all(CHECKS)
    }

    /// Returns what a check said last.
    pub fn last_word(&self, check: &Text) -> Option<Word> {
        let path = self.path(WORDS, check);
        if path.exists() { read(&path) } else { None }
    }

    /// Keeps a service.
    pub fn save_service(&self, service: &Service) -> Result<(), StoreError> {
        self.save(SERVICES, &service.id, service)
    }

    /// Keeps a check.
    pub fn save_check(&self, check: &CheckDefinition) -> Result<(), StoreError> {
        self.save(CHECKS, &check.id, check)
    }

    /// Keeps what a check said.
    pub fn save_word(&self, check: &Text, word: &Word) -> Result<(), StoreError> {
        self.save(WORDS, check, word)
    }

    /// Forgets a service.
    pub fn remove_service(&self, id: &Text) -> Result<(), StoreError> {
        self.remove(SERVICES, id)
    }

    /// Forgets a check, and what it said.
    pub fn remove_check(&self, id: &Text) -> Result<(), StoreError> {
        self.remove(CHECKS, id)?;
        self.remove(WORDS, id)
    }

    fn path(&self, kind: &str, id: &Text) -> PathBuf {
        let hash = digest(&SHA256, id.as_bytes());
        let name: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(kind).join(name + ".json")
    }

    fn save<T: Serialize>(&self, kind: &str, id: &Text, value: T) -> Result<(), StoreError> {
        let path = self.path(kind, id);
        let kept = Kept { version: VERSION, id: id.clone(), value };
        serde_json::to_vec_pretty(&kept)
            .map_err(io::Error::from)
            .and_then(|content| files::replace(&path, &content))
            .map_err(|source| StoreError { path, source })
    }

    fn remove(&self, kind: &str, id: &Text) -> Result<(), StoreError> {
        let path = self.path(kind, id);
        files::remove(&path).map_err(|source| StoreError { path, source })
    }

    fn all<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let dir = self.dir.join(kind);
        let mut paths: Vec<PathBuf> = match fs::read_dir(&dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) => {
                tracing::error!(dir = %dir.display(), %error, "what was registered can't be read");
                return Vec::new();
            }
        };
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths.iter().filter_map(|path| read(path)).collect()
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let content = files::read(path, FILE_LEN_MAX).and_then(|content| {
        let kept: Kept<T> = serde_json::from_slice(&content.unwrap_or_default())?;
        Ok(kept.value)
    });
    match content {
        Ok(value) => Some(value),
        Err(error) => {
            let path = path.display();
            tracing::error!(%path, %error, "a registration can't be read: register it again");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Health;

    #[test]
    fn what_is_kept_comes_back_and_a_corrupt_file_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let service =
            |id: &str| Service { id: id.into(), name: "web".into(), ..Service::default() };
        for id in ["../a", "b", "c\0"] {
            store.save_service(&service(id)).unwrap();
        }
        fs::write(store.path(SERVICES, &"b".into()), b"{").unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut ids: Vec<Text> = store.services().into_iter().map(|it| it.id).collect();
        ids.sort();
        assert_eq!(ids, ["../a".into(), Text::from("c\0")]);
        assert!(store.path(SERVICES, &"b".into()).exists(), "somebody may want to look at it");
        store.remove_service(&"../a".into()).unwrap();
        assert_eq!(store.services().len(), 1);
    }

    #[test]
    fn a_word_goes_with_its_check() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let word = Word { status: Health::Warning, output: "hm".into() };
        assert_eq!(store.last_word(&"c".into()), None);
        store.save_word(&"c".into(), &word).unwrap();
        assert_eq!(store.last_word(&"c".into()), Some(word));
        store.remove_check(&"c".into()).unwrap();
        assert_eq!(store.last_word(&"c".into()), None);
    }
}
