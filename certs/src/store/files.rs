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
    pub(super) fn read(&self) -> Result<Bundle, KeyError> {
        let mut authorities = Vec::new();
        for path in &self.authorities {
            if path.is_dir() {
                for file in listed(path)? {
                    authorities.push(pem::read(&file)?);
                }
            } else {
                authorities.push(pem::read(path)?);
            }
        }
        Ok(Bundle {
            certificates: pem::read(&self.certificate)?,
            key: pem::read(&self.key)?,
            authorities,
        })
    }
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
