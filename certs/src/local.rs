//! A development authority of this machine's user.
//!
//! Agents on loopback without any TLS configuration (`-dev`, `topology up`) find each other's
//! certificates trustworthy through an authority in a directory of the user's own. It is made at
//! run time by whoever needs it first: in a new directory beside it, which is then renamed, so
//! that of several processes one wins and all use the winner's. Nobody else can read it; if
//! somebody could, it is refused.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use time::OffsetDateTime;

use crate::{
    ca::{Algorithm, Authority, San, Subject},
    error::KeyError,
    identity::{Domains, Identity},
    store::{Bundle, Clock, Keys},
};

/// The authority's certificate in its directory.
pub const CERTIFICATE_FILE: &str = "causeway-agent-ca.pem";

/// The authority's key in its directory.
pub const KEY_FILE: &str = "causeway-agent-ca-key.pem";

/// How long a development authority lives, as Consul's do.
const AUTHORITY_DAYS: u32 = 5 * 365;

/// How long a development certificate lives: it is only in memory and ends with its process.
const CERTIFICATE_DAYS: u32 = 365;

/// How often making and reading are tried when other processes do the same.
const ATTEMPTS: u32 = 3;

/// Reads the authority in `directory`, or makes it there if there is none.
pub fn authority(directory: &Path, now: OffsetDateTime) -> Result<Authority, KeyError> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        if directory.join(CERTIFICATE_FILE).exists() {
            return read(directory);
        }
        match make(directory, now) {
            Ok(()) => {}
            Err(error) => last = Some(error),
        }
    }
    last.map_or_else(|| read(directory), Err)
}

/// Issues a certificate of the authority in `directory` and holds it in memory.
pub fn keys(directory: &Path, me: &Identity, clock: Clock) -> Result<Keys, KeyError> {
    Keys::memory(bundle(directory, me, &[], clock)?, Domains::default(), clock)
}

/// Issues a certificate of the authority in `directory` for a node on this machine, which is also
/// reached at `addrs`.
pub fn bundle(
    directory: &Path,
    me: &Identity,
    addrs: &[IpAddr],
    clock: Clock,
) -> Result<Bundle, KeyError> {
    let now = clock.now();
    let authority = authority(directory, now)?;
    let mut subject = Subject::new(me.clone());
    subject.sans = vec![San::Dns("localhost".to_owned()), San::Ip(Ipv4Addr::LOCALHOST.into())];
    let further = addrs.iter().filter(|addr| **addr != Ipv4Addr::LOCALHOST);
    subject.sans.extend(further.map(|addr| San::Ip(*addr)));
    let issued = authority.issue(&subject, now, CERTIFICATE_DAYS)?;
    Ok(Bundle {
        certificates: issued.certificate_pem,
        key: issued.key_pem,
        authorities: vec![authority.certificate_pem().to_owned()],
    })
}

fn read(directory: &Path) -> Result<Authority, KeyError> {
    private(directory, 0o700)?;
    let key = directory.join(KEY_FILE);
    private(&key, 0o600)?;
    Authority::read(&directory.join(CERTIFICATE_FILE), &key)
}

/// Refuses what other users can read or write.
fn private(path: &Path, wanted: u32) -> Result<(), KeyError> {
    let failed = |source| KeyError::File { what: "can't read", path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

/// Makes the authority beside `directory` and renames it there. Fails if another process was
/// faster.
fn make(directory: &Path, now: OffsetDateTime) -> Result<(), KeyError> {
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).map_err(|error| unmade(parent, error))?;
    }
    // Its name tells it from other machines' ones.
    let name = format!("Causeway development CA {:016x}", random()?);
    let draft = draft_beside(directory)?;
    fs::DirBuilder::new().mode(0o700).create(&draft).map_err(|error| unmade(&draft, error))?;
    let authority =
        Authority::create(&name, Algorithm::EcdsaP256, now, AUTHORITY_DAYS).and_then(|authority| {
            authority.write(&draft.join(CERTIFICATE_FILE), &draft.join(KEY_FILE))
        });
    // A rename onto a directory that is not empty fails: the first process wins.
    let renamed = authority
        .and_then(|()| fs::rename(&draft, directory).map_err(|error| unmade(directory, error)));
    if renamed.is_err() {
        // What could not become the authority must not lie around with its key.
        fs::remove_dir_all(&draft).map_err(|error| unmade(&draft, error))?;
    }
    renamed
}

fn unmade(path: &Path, source: std::io::Error) -> KeyError {
    KeyError::File { what: "can't make", path: path.to_owned(), source }
}

fn draft_beside(directory: &Path) -> Result<PathBuf, KeyError> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    Ok(directory.with_file_name(format!(".{name}.{:016x}", random()?)))
}

fn random() -> Result<u64, KeyError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(u64::from_be_bytes(random))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn of_many_at_once_one_makes_the_authority_and_all_use_it() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("new").join("ca");
        let barrier = Arc::new(Barrier::new(8));
        let made: Vec<_> = (0..8)
            .map(|_| {
                let (directory, barrier) = (directory.clone(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    authority(&directory, now()).unwrap().certificate_pem().to_owned()
                })
            })
            .collect();
        let made: Vec<_> = made.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(made.iter().all(|pem| *pem == made[0]));
        let left: Vec<_> = fs::read_dir(directory.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn only_its_owner_can_read_it() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("ca");
        authority(&directory, now()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(KEY_FILE))), (0o700, 0o600));
    }

    #[test]
    fn one_that_others_can_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("ca");
        authority(&directory, now()).unwrap();
        let key = directory.join(KEY_FILE);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = authority(&directory, now()).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
