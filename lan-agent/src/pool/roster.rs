//! The addresses of members that were alive last, kept in the data directory, so that a node
//! that restarts finds its pool although none of its configured addresses answers.
//!
//! One address a line, after a line that says what it is. The file is replaced as a whole; one
//! that can't be read costs nothing but its help.

use std::{io, net::SocketAddr, path::PathBuf};

use topology::{Member, Role};

use crate::files;

/// Most addresses that are kept: one that answers is enough.
const ADDRS_MAX: usize = 64;

/// Longest file that is read.
const FILE_LEN_MAX: u64 = 64 * 1024;

const FIRST_LINE: &str = "causeway lan roster 1";

/// The file.
#[derive(Debug, Clone)]
pub(super) struct Roster {
    path: PathBuf,
}

impl Roster {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the addresses that were kept; none when there is no file.
    ///
    /// Fails when the file can't be read or is something else.
    pub(super) fn load(&self) -> io::Result<Vec<SocketAddr>> {
        let Some(text) = files::read(&self.path, FILE_LEN_MAX)? else { return Ok(Vec::new()) };
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not a roster");
        let text = String::from_utf8(text).map_err(|_| wrong())?;
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(wrong());
        }
        lines.take(ADDRS_MAX).map(|line| line.parse().map_err(|_| wrong())).collect()
    }

    /// Replaces the kept addresses.
    pub(super) fn save(&self, addrs: &[SocketAddr]) -> io::Result<()> {
        let mut text = format!("{FIRST_LINE}\n");
        for addr in addrs {
            text.push_str(&format!("{addr}\n"));
        }
        files::replace(&self.path, text.as_bytes())
    }

    /// Forgets them, because the node left and is to stay alone.
    pub(super) fn remove(&self) -> io::Result<()> {
        files::remove(&self.path)
    }
}

/// Chooses the addresses that are worth keeping: servers first, this node not.
pub(super) fn worth_keeping(members: &[Member], own: SocketAddr) -> Vec<SocketAddr> {
    let alive = |role| {
        members
            .iter()
            .filter(move |member| member.is_alive() && member.profile.role == role)
            .map(|member| member.profile.addr)
    };
    let all = alive(Role::Server).chain(alive(Role::Client));
    all.filter(|addr| *addr != own).take(ADDRS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn addresses_are_kept_until_the_node_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let roster = Roster::new(dir.path().join("lan.roster"));
        assert_eq!(roster.load().unwrap(), []);
        let addrs: Vec<SocketAddr> =
            vec!["10.0.0.1:8301".parse().unwrap(), "[::1]:9".parse().unwrap()];
        roster.save(&addrs).unwrap();
        roster.save(&addrs).unwrap();
        assert_eq!(roster.load().unwrap(), addrs);
        roster.remove().unwrap();
        roster.remove().unwrap();
        assert_eq!(roster.load().unwrap(), []);
    }

    #[test]
    fn a_file_that_is_no_roster_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let roster = Roster::new(dir.path().join("lan.roster"));
        for text in ["", "hello", "causeway lan roster 1\nhello\n", "\u{fffd}\n1.2.3.4:5"] {
            fs::write(&roster.path, text).unwrap();
            assert!(roster.load().is_err(), "{text:?}");
        }
        fs::write(&roster.path, [0xff, 0xfe]).unwrap();
        assert!(roster.load().is_err());
    }
}
