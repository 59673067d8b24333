//! Keeps strangers out of the pool: packets are encrypted and authenticated with a key that all
//! members have.
//!
//! ```text
//! plain  = [0][packet]
//! sealed = [1][nonce 12][AES-GCM ciphertext][tag 16]      AAD = "causeway-lan/1" + datacenter
//! ```
//!
//! A ring holds the key that packets are sealed with and those that are still accepted, so that
//! keys are replaced while members have different ones. Nonces are a random half that is new at
//! each start and a count: under one key they repeat only if two of n starts draw the same 64
//! bits. A node with keys takes sealed packets only. A replayed packet opens; the gossip engine
//! takes no old news.

use std::fmt;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use topology::Datacenter;

/// Most keys in a ring: those of a rotation, and of one that was not finished.
pub const KEYS_MAX: usize = 8;

const PLAIN: u8 = 0;
const SEALED: u8 = 1;
const TAG_LEN: usize = 16;
const CONTEXT: &str = "causeway-lan/1";

/// Why a text is no key, or keys no ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not base64.
    #[error("a gossip key must be base64")]
    Encoding,
    /// The key has a length that no cipher has.
    #[error("a gossip key must be 16, 24 or 32 bytes long, not {0}")]
    Length(usize),
    /// A ring can't hold so many.
    #[error("a key ring holds at most {KEYS_MAX} keys, not {0}")]
    TooMany(usize),
}

/// A key of 16, 24 or 32 bytes. Never shown in logs.
#[derive(Clone)]
pub struct Key(std::sync::Arc<LessSafeKey>);

impl Key {
    /// Makes a key of its bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        let algorithm = match bytes.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            other => return Err(KeyError::Length(other)),
        };
        let key = UnboundKey::new(algorithm, bytes).map_err(|_| KeyError::Length(bytes.len()))?;
        Ok(Self(std::sync::Arc::new(LessSafeKey::new(key))))
    }

    /// Reads a key as `keygen` prints it and `-encrypt` takes it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        Self::new(&BASE64_STANDARD.decode(text.trim()).map_err(|_| KeyError::Encoding)?)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The keys of a pool: the first one seals, all open. Without any, packets travel plain.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(Vec<Key>);

impl KeyRing {
    /// A ring without keys: packets travel plain.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Makes a ring that seals with `primary` and also opens what the others sealed.
    pub fn new(primary: Key, others: Vec<Key>) -> Result<Self, KeyError> {
        let mut keys = vec![primary];
        keys.extend(others);
        if keys.len() > KEYS_MAX { Err(KeyError::TooMany(keys.len())) } else { Ok(Self(keys)) }
    }

    /// Tells whether packets are sealed.
    pub fn is_sealing(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// It is shorter than any packet, or of a version that is not known.
    Garbage,
    /// It is plain, and this pool is sealed.
    Plain,
    /// It is sealed with a key that is not in the ring, or was changed on the way, or belongs to
    /// another datacenter.
    WrongKey,
}

/// Tells whether a packet as it travels can be opened in a pool that is sealed with a key: for those
/// who feed the parsers with any bytes.
pub fn opens(dc: &Datacenter, key: Key, travelled: &[u8]) -> bool {
    Sealer::new(dc, KeyRing(vec![key]), 0).open(travelled).is_ok()
}

/// Seals and opens the packets of one node.
pub(super) struct Sealer {
    ring: KeyRing,
    context: Vec<u8>,
    rng: SmallRng,
    /// The half of a nonce that tells this start from others.
    start: u64,
    count: u32,
}

impl Sealer {
    pub(super) fn new(dc: &Datacenter, ring: KeyRing, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let start = rng.next_u64();
        let context = format!("{CONTEXT}{dc}").into_bytes();
        Self { ring, context, rng, start, count: 0 }
    }

    pub(super) fn set_ring(&mut self, ring: KeyRing) {
        self.ring = ring;
    }

    /// Writes a packet as it travels into `out`, replacing what is there.
    pub(super) fn seal(&mut self, packet: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let nonce = self.next_nonce();
        let Some(Key(key)) = self.ring.0.first() else {
            out.push(PLAIN);
            out.extend_from_slice(packet);
            return;
        };
        out.push(SEALED);
        out.extend_from_slice(&nonce);
        let at = out.len();
        out.extend_from_slice(packet);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = key.seal_in_place_separate_tag(
            nonce,
            Aad::from(self.context.as_slice()),
            &mut out[at..],
        );
        assert!(sealed.is_ok(), "AES-GCM seals everything shorter than 64 GiB");
        if let Ok(tag) = sealed {
            out.extend_from_slice(tag.as_ref());
        }
    }

    /// Opens a packet as it travelled.
    pub(super) fn open(&self, travelled: &[u8]) -> Result<Vec<u8>, Closed> {
        let (version, rest) = travelled.split_first().ok_or(Closed::Garbage)?;
        match *version {
            PLAIN if self.ring.is_sealing() => Err(Closed::Plain),
            PLAIN => Ok(rest.to_vec()),
            SEALED => self.unseal(rest),
            _ => Err(Closed::Garbage),
        }
    }

    fn unseal(&self, sealed: &[u8]) -> Result<Vec<u8>, Closed> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Closed::Garbage)?;
        let len = sealed.len().checked_sub(TAG_LEN).ok_or(Closed::Garbage)?;
        let (ciphertext, tag) = sealed.split_at(len);
        let mut packet = vec![0; len];
        for Key(key) in &self.ring.0 {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let aad = Aad::from(self.context.as_slice());
            if key.open_separate_gather(nonce, aad, ciphertext, tag, &mut packet).is_ok() {
                return Ok(packet);
            }
        }
        Err(Closed::WrongKey)
    }

    fn next_nonce(&mut self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.start.to_be_bytes());
        nonce[8..].copy_from_slice(&self.count.to_be_bytes());
        self.count = match self.count.checked_add(1) {
            Some(count) => count,
            None => {
                self.start = self.rng.next_u64();
                0
            }
        };
        nonce
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8, len: usize) -> Key {
        Key::new(&vec![byte; len]).unwrap()
    }

    fn ring(keys: &[u8]) -> KeyRing {
        let mut keys = keys.iter().map(|byte| key(*byte, 32));
        KeyRing::new(keys.next().unwrap(), keys.collect()).unwrap()
    }

    fn sealer(dc: &str, ring: KeyRing, seed: u64) -> Sealer {
        Sealer::new(&dc.parse().unwrap(), ring, seed)
    }

    fn sealed(sealer: &mut Sealer, packet: &[u8]) -> Vec<u8> {
        let mut out = vec![9; 3];
        sealer.seal(packet, &mut out);
        out
    }

    #[test]
    fn what_one_member_seals_another_opens() {
        for len in [16, 24, 32] {
            let ring = KeyRing::new(key(1, len), Vec::new()).unwrap();
            let packet = sealed(&mut sealer("dc1", ring.clone(), 1), b"hello");
            assert_eq!(packet.len(), 1 + NONCE_LEN + 5 + TAG_LEN);
            assert_eq!(sealer("dc1", ring, 2).open(&packet), Ok(b"hello".to_vec()));
        }
    }

    #[test]
    fn another_key_or_datacenter_does_not_open() {
        let packet = sealed(&mut sealer("dc1", ring(&[1]), 1), b"hello");
        assert_eq!(sealer("dc1", ring(&[2]), 1).open(&packet), Err(Closed::WrongKey));
        assert_eq!(sealer("dc2", ring(&[1]), 1).open(&packet), Err(Closed::WrongKey));
        assert_eq!(sealer("dc1", KeyRing::plain(), 1).open(&packet), Err(Closed::WrongKey));
    }

    #[test]
    fn members_with_keys_take_no_plain_packets() {
        let packet = sealed(&mut sealer("dc1", KeyRing::plain(), 1), b"hello");
        assert_eq!(packet, b"\0hello");
        assert_eq!(sealer("dc1", KeyRing::plain(), 1).open(&packet), Ok(b"hello".to_vec()));
        assert_eq!(sealer("dc1", ring(&[1]), 1).open(&packet), Err(Closed::Plain));
    }

    #[test]
    fn every_step_of_a_rotation_keeps_members_together() {
        // Old key only, new one known, new one used, old one gone: neighbours always agree.
        let steps = [ring(&[1]), ring(&[1, 2]), ring(&[2, 1]), ring(&[2])];
        for pair in steps.windows(2) {
            for (from, to) in [(0, 1), (1, 0)] {
                let packet = sealed(&mut sealer("dc1", pair[from].clone(), 1), b"hello");
                let opened = sealer("dc1", pair[to].clone(), 2).open(&packet);
                assert_eq!(opened, Ok(b"hello".to_vec()));
            }
        }
    }

    #[test]
    fn nonces_do_not_repeat_when_their_count_ends() {
        let mut sealer = sealer("dc1", ring(&[1]), 7);
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            sealer.count = u32::MAX - 1;
            for _ in 0..3 {
                seen.insert(sealer.next_nonce());
            }
        }
        assert!(seen.len() >= 8, "only the count that the test set back may repeat");
    }

    #[test]
    fn keys_have_the_lengths_of_ciphers() {
        assert_eq!(Key::new(&[0; 20]).unwrap_err(), KeyError::Length(20));
        assert_eq!(Key::parse("***").unwrap_err(), KeyError::Encoding);
        assert!(Key::parse(" pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s=\n").is_ok());
        let many = vec![key(1, 16); KEYS_MAX];
        assert_eq!(KeyRing::new(key(0, 16), many).unwrap_err(), KeyError::TooMany(9));
    }

    proptest! {
        #[test]
        fn a_changed_packet_does_not_open(packet: Vec<u8>, at: usize, flip in 1u8..) {
            let mut travelled = sealed(&mut sealer("dc1", ring(&[1]), 1), &packet);
            let at = at % travelled.len();
            travelled[at] ^= flip;
            prop_assert!(sealer("dc1", ring(&[1]), 1).open(&travelled).is_err());
        }

        #[test]
        fn garbage_does_not_open(bytes: Vec<u8>) {
            prop_assert!(sealer("dc1", ring(&[1, 2]), 1).open(&bytes).is_err());
        }
    }
}
