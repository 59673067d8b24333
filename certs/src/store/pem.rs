//! PEM texts and the files that hold them.
//!
//! Private keys are written with mode 0600 from the first byte, into files that did not exist.
//! A torn or mixed-up file is an error that names it.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::error::KeyError;

/// Longest PEM file that is read: a bundle of a hundred certificates is far below it.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Reads a text file of bounded length.
pub(crate) fn read(path: &Path) -> Result<String, KeyError> {
    let failed = |source| KeyError::File { what: "can't read", path: path.to_owned(), source };
    let len = fs::metadata(path).map_err(failed)?.len();
    if len > FILE_LEN_MAX {
        return Err(failed(std::io::Error::other("the file is too long for PEM")));
    }
    fs::read_to_string(path).map_err(failed)
}

/// Writes a new file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), KeyError> {
    write(path, text, 0o600)
}

/// Writes a new file that everyone can read.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), KeyError> {
    write(path, text, 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), KeyError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|source| KeyError::File { what: "can't write", path: path.to_owned(), source })
}

/// Reads all certificates of a text; at least one.
pub(crate) fn certificates(
    text: &str,
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let missing = || KeyError::Pem { what: what.to_owned(), expected: "certificate" };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| missing())?;
    if certificates.is_empty() { Err(missing()) } else { Ok(certificates) }
}

/// Reads the private key of a text, in any of the usual forms.
pub(crate) fn private_key(text: &str, what: &str) -> Result<PrivateKeyDer<'static>, KeyError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| KeyError::Pem { what: what.to_owned(), expected: "private key" })
}

/// Writes a block with its label.
pub(crate) fn block(label: &str, der: &[u8]) -> String {
    const LINE_LEN: usize = 64;
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE_LEN));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text + &format!("-----END {label}-----\n")
}

/// Reads a private key to sign certificates with.
pub(crate) fn signing_key(text: &str) -> Result<KeyPair, KeyError> {
    let key = private_key(text, "the authority's key")?;
    Ok(KeyPair::try_from(&key)?)
}
