//! ClientHellos of which a part has arrived, and the datagrams that are held meanwhile.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use certs::initial::Hello;

use super::super::ids::Id;

/// Most handshakes that are waited for. Beyond, the oldest goes: the parts of one follow each other at once.
const HELLOS_MAX: usize = 512;

/// Most datagrams that are held of one.
const HELD_MAX: usize = 8;

/// Longest datagram that is held: no network has longer ones between datacenters.
const HELD_LEN_MAX: usize = 2048;

/// How long the rest may take, a second sending of it included.
const WAIT_MAX: Duration = Duration::from_secs(3);

type Key = (SocketAddr, Id);

/// The handshakes that are waited for.
#[derive(Default)]
pub(super) struct Hellos {
    serial: u64,
    waiting: BTreeMap<Key, Waiting>,
    by_age: BTreeMap<u64, Key>,
}

struct Waiting {
    serial: u64,
    since: Duration,
    hello: Hello,
    held: Vec<Vec<u8>>,
}

/// What came of reading a datagram.
pub(super) enum Read {
    /// The rest is still to come.
    Partly,
    /// All of the ClientHello is there.
    Whole {
        /// The server that the client wants.
        name: String,
        /// The datagrams, in the order in which they came.
        held: Vec<Vec<u8>>,
    },
    /// It is no ClientHello.
    Not,
}

impl Hellos {
    /// Tells whether more of a handshake is to come.
    pub(super) fn is_awaited(&self, addr: SocketAddr, id: Id) -> bool {
        self.waiting.contains_key(&(addr, id))
    }

    /// Reads a datagram of a handshake whose packets are for `dcid`.
    pub(super) fn take(&mut self, now: Duration, key: Key, dcid: &[u8], datagram: &[u8]) -> Read {
        if datagram.len() > HELD_LEN_MAX {
            return Read::Not;
        }
        let Some(waiting) = self.waiting.get_mut(&key) else {
            let mut hello = Hello::new(dcid);
            return match hello.take(datagram) {
                Ok(Some(name)) => Read::Whole { name, held: vec![datagram.to_vec()] },
                Ok(None) => self.wait(now, key, hello, datagram),
                Err(_) => Read::Not,
            };
        };
        if waiting.held.len() >= HELD_MAX {
            return Read::Not;
        }
        let read = waiting.hello.take(datagram);
        // What is no Initial packet of it goes along, as what a client says early does.
        waiting.held.push(datagram.to_vec());
        match read {
            Ok(Some(name)) => Read::Whole { name, held: self.remove(&key) },
            Ok(None) | Err(_) => Read::Partly,
        }
    }

    /// Forgets those whose rest is not to be expected any more.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some((_, key)) = self.by_age.first_key_value()
            && let Some(waiting) = self.waiting.get(key)
            && now.saturating_sub(waiting.since) > WAIT_MAX
        {
            let key = *key;
            self.remove(&key);
        }
    }

    fn wait(&mut self, now: Duration, key: Key, hello: Hello, datagram: &[u8]) -> Read {
        if self.waiting.len() >= HELLOS_MAX
            && let Some(oldest) = self.by_age.first_key_value().map(|(_, key)| *key)
        {
            self.remove(&oldest);
        }
        self.serial += 1;
        let (serial, held) = (self.serial, vec![datagram.to_vec()]);
        self.waiting.insert(key, Waiting { serial, since: now, hello, held });
        self.by_age.insert(serial, key);
        Read::Partly
    }

    fn remove(&mut self, key: &Key) -> Vec<Vec<u8>> {
        let Some(waiting) = self.waiting.remove(key) else { return Vec::new() };
        self.by_age.remove(&waiting.serial);
        waiting.held
    }
}
