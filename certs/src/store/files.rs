//! The files that a node's keys are read from, Consul's `cert_file`, `key_file`, `ca_file` and
//! `ca_path`.

use std::path::{Path, PathBuf};

use crate::{
    error::KeyError,
    store::{Bundle, pem},
};

/// Most files of a directory of authorities: a roll-over needs two.
const AUTHORITY_FILES_MAX: usize = 64;

/// Where a node's keys lie.
#[derive(Debug, Clone)]
pub struct Files {
    /// Its certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities to trust: files of one or more certificates, or directories of such files.
    pub authorities: Vec<PathBuf>,
}

impl Files {
    /// Reads all of them.
    pub(crate) fn read(&self) -> Result<Bundle, KeyError> {
        Ok(Bundle {
            authorities: authorities(&self.authorities)?,
            certificates: pem::read(&self.certificate)?,
            key: pem::read(&self.key)?,
        })
    }
}

/// Reads the texts of authorities: files, and directories of such files.
pub(crate) fn authorities(paths: &[PathBuf]) -> Result<Vec<String>, KeyError> {
    let mut texts = Vec::new();
    for path in paths {
        if path.is_dir() {
            for file in listed(path)? {
                texts.push(pem::read(&file)?);
            }
        } else {
            texts.push(pem::read(path)?);
        }
    }
    Ok(texts)
}

/// Lists a directory's certificate files in the order of their names.
fn listed(directory: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let failed = |source| KeyError::File { what: "can't list", path: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("pem" | "crt" | "cer")) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files.truncate(AUTHORITY_FILES_MAX);
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use time::{Duration, OffsetDateTime};
    use topology::{Datacenter, NodeName, Role};

    use super::*;
    use crate::{
        ca::{Algorithm, Authority, Issued, Subject},
        identity::{Domains, Identity},
        store::{Clock, Keys, Reload},
    };

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    struct Place {
        home: tempfile::TempDir,
        authority: Authority,
    }

    impl Place {
        fn new() -> Self {
            let authority = Authority::create("test", Algorithm::EcdsaP256, now(), 10).unwrap();
            let place = Self { home: tempfile::tempdir().unwrap(), authority };
            fs::create_dir(place.path("authorities")).unwrap();
            place.put("authorities/one.pem", place.authority.certificate_pem());
            place
        }

        fn path(&self, name: &str) -> PathBuf {
            self.home.path().join(name)
        }

        fn put(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        fn issue(&self, days: u32) -> Issued {
            let node = Some(NodeName::new("a").unwrap());
            let me = Identity::new(Datacenter::new("dc1").unwrap(), Role::Server, node);
            self.authority.issue(&Subject::new(me), now(), days).unwrap()
        }

        fn keys(&self) -> Result<Keys, KeyError> {
            let files = Files {
                certificate: self.path("cert.pem"),
                key: self.path("key.pem"),
                authorities: vec![self.path("authorities")],
            };
            Keys::files(files, Domains::default(), Clock::System)
        }
    }

    #[test]
    fn replaced_files_count_when_both_are_there() {
        let place = Place::new();
        let (old, new) = (place.issue(3), place.issue(7));
        place.put("cert.pem", &old.certificate_pem);
        place.put("key.pem", &old.key_pem);
        let keys = place.keys().unwrap();
        assert_eq!(keys.reload().unwrap(), Reload::Unchanged);
        place.put("cert.pem", &new.certificate_pem);
        assert!(matches!(keys.reload(), Err(KeyError::Mismatch)));
        assert_eq!(keys.validity(), old.validity);
        place.put("key.pem", new.key_pem.split_at(40).0);
        assert!(matches!(keys.reload(), Err(KeyError::Pem { .. })));
        place.put("key.pem", &new.key_pem);
        assert_eq!(keys.reload().unwrap(), Reload::Changed);
        assert_eq!(keys.validity(), new.validity);
        assert_eq!(keys.validity().not_after, now() + Duration::days(7));
    }

    #[test]
    fn other_files_count_from_their_commit_on() {
        let place = Place::new();
        let (old, new) = (place.issue(3), place.issue(7));
        place.put("cert.pem", &old.certificate_pem);
        place.put("key.pem", &old.key_pem);
        let keys = place.keys().unwrap();
        let files = || Files {
            certificate: place.path("next.pem"),
            key: place.path("next-key.pem"),
            authorities: vec![place.path("authorities")],
        };
        assert!(keys.prepare(files()).is_err(), "they are not there yet");
        place.put("next.pem", &new.certificate_pem);
        place.put("next-key.pem", &new.key_pem);
        drop(keys.prepare(files()).unwrap());
        assert_eq!(keys.reload().unwrap(), Reload::Unchanged, "a look is not a change");
        assert_eq!(keys.prepare(files()).unwrap().commit(), Reload::Changed);
        assert_eq!(keys.validity(), new.validity);
        place.put("next.pem", &old.certificate_pem);
        place.put("next-key.pem", &old.key_pem);
        assert_eq!(keys.reload().unwrap(), Reload::Changed, "they are looked at from now on");
    }

    #[test]
    fn an_authority_that_is_put_beside_the_old_one_is_trusted_too() {
        let place = Place::new();
        let issued = place.issue(3);
        place.put("cert.pem", &issued.certificate_pem);
        place.put("key.pem", &issued.key_pem);
        let keys = place.keys().unwrap();
        assert_eq!(keys.current().roots.len(), 1);
        let second = Authority::create("next", Algorithm::EcdsaP256, now(), 10).unwrap();
        place.put("authorities/two.pem", second.certificate_pem());
        place.put("authorities/notes.txt", "not looked at");
        assert_eq!(keys.reload().unwrap(), Reload::Changed);
        assert_eq!(keys.current().roots.len(), 2);
    }

    #[test]
    fn a_missing_file_is_named() {
        let place = Place::new();
        place.put("cert.pem", &place.issue(3).certificate_pem);
        let error = place.keys().unwrap_err().to_string();
        assert!(error.contains("key.pem"), "{error}");
    }

    #[test]
    fn keys_without_an_authority_are_refused() {
        let place = Place::new();
        let issued = place.issue(3);
        place.put("cert.pem", &issued.certificate_pem);
        place.put("key.pem", &issued.key_pem);
        fs::remove_file(place.path("authorities/one.pem")).unwrap();
        let error = place.keys().unwrap_err().to_string();
        assert!(error.contains("authorities"), "{error}");
    }
}
