//! The bytes of a call and of a heartbeat.
//!
//! ```text
//! request:   version u8 = 1 | kind u16 | deadline u32 (ms) | body ... FIN
//! reply:     status u16 (0: done, else a refusal's code)    | body or reason ... FIN
//! datagram:  0 ping / 1 pong | instance u64 | seq u64 | word ...
//!            2 application   | data ...
//!            3 renew: the certificate that the sender showed was replaced
//! ```
//!
//! Numbers are big endian. Datagrams with other tags are passed over, so that later versions
//! can send more.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::link::{DEADLINE_MAX, Kind};

const VERSION: u8 = 1;

/// Bytes of a request's header.
pub(super) const HEADER_LEN: usize = 7;

/// Bytes of a reply's status.
pub(super) const STATUS_LEN: usize = 2;

/// The status of a reply that is not a refusal.
pub(super) const DONE: Bytes = Bytes::from_static(&[0, 0]);

const PING: u8 = 0;
const PONG: u8 = 1;
const APPLICATION: u8 = 2;
const RENEW: u8 = 3;

/// Bytes that go before an application's datagram.
pub(super) const TAG_LEN: usize = 1;

const BEAT_LEN: usize = 17;

/// What a request's header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) left: Duration,
}

/// A heartbeat's content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) instance: u64,
    pub(super) seq: u64,
    pub(super) word: Bytes,
}

/// A datagram's content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Datagram {
    Ping(Beat),
    Pong(Beat),
    Application(Bytes),
    Renew,
}

/// A header that can't be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("request of version {found}, this node understands {VERSION}: upgrade it")]
pub(super) struct BadVersion {
    found: u8,
}

/// Tells whether a datagram, and the beginning of a stream, make sense: for those who feed the parsers
/// with any bytes.
pub fn understands(datagram: Bytes, stream: &[u8]) -> (bool, bool) {
    let header = stream.get(..HEADER_LEN).is_some_and(|header| Header::decode(header).is_ok());
    (Datagram::decode(datagram).is_some(), header)
}

impl Header {
    pub(super) fn encode(&self) -> Bytes {
        let left = self.left.min(DEADLINE_MAX).as_millis();
        let mut header = [0; HEADER_LEN];
        let mut to = header.as_mut_slice();
        to.put_u8(VERSION);
        to.put_u16(self.kind.0);
        to.put_u32(u32::try_from(left).unwrap_or(u32::MAX));
        Bytes::copy_from_slice(&header)
    }

    /// Reads the first [`HEADER_LEN`] bytes of a request.
    pub(super) fn decode(mut header: &[u8]) -> Result<Self, BadVersion> {
        assert!(header.len() >= HEADER_LEN, "a header is decoded when it is complete");
        let found = header.get_u8();
        if found != VERSION {
            return Err(BadVersion { found });
        }
        let kind = Kind(header.get_u16());
        let left = Duration::from_millis(header.get_u32().into()).min(DEADLINE_MAX);
        Ok(Self { kind, left })
    }
}

impl Datagram {
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Datagram::Ping(beat) => beat.encode(PING),
            Datagram::Pong(beat) => beat.encode(PONG),
            Datagram::Application(data) => {
                let mut buffer = BytesMut::with_capacity(TAG_LEN + data.len());
                buffer.put_u8(APPLICATION);
                buffer.put_slice(data);
                buffer.freeze()
            }
            Datagram::Renew => Bytes::from_static(&[RENEW]),
        }
    }

    /// Reads a datagram; `None` for one that this version doesn't know.
    pub(super) fn decode(mut data: Bytes) -> Option<Self> {
        match data.try_get_u8().ok()? {
            PING => Beat::decode(data).map(Datagram::Ping),
            PONG => Beat::decode(data).map(Datagram::Pong),
            APPLICATION => Some(Datagram::Application(data)),
            RENEW if data.is_empty() => Some(Datagram::Renew),
            _ => None,
        }
    }
}

impl Beat {
    fn encode(&self, tag: u8) -> Bytes {
        let mut buffer = BytesMut::with_capacity(BEAT_LEN + self.word.len());
        buffer.put_u8(tag);
        buffer.put_u64(self.instance);
        buffer.put_u64(self.seq);
        buffer.put_slice(&self.word);
        buffer.freeze()
    }

    fn decode(mut data: Bytes) -> Option<Self> {
        let instance = data.try_get_u64().ok()?;
        let seq = data.try_get_u64().ok()?;
        Some(Self { instance, seq, word: data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_header_has_these_bytes() {
        let header = Header { kind: Kind(0x0102), left: Duration::from_millis(0x0304) };
        let bytes = header.encode();
        assert_eq!(bytes.as_ref(), [1, 1, 2, 0, 0, 3, 4]);
        assert_eq!(Header::decode(&bytes), Ok(header));
    }

    #[test]
    fn a_request_of_another_version_is_refused_in_words() {
        let error = Header::decode(&[9, 0, 1, 0, 0, 0, 1]).unwrap_err();
        assert!(error.to_string().contains("version 9"), "{error}");
    }

    #[test]
    fn a_heartbeat_has_these_bytes() {
        let word = Bytes::from_static(b"w");
        let ping = Datagram::Ping(Beat { instance: 1, seq: 2, word });
        let bytes = ping.encode();
        assert_eq!(bytes.as_ref(), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, b'w']);
        assert_eq!(Datagram::decode(bytes), Some(ping));
    }

    #[test]
    fn a_request_to_renew_has_these_bytes() {
        assert_eq!(Datagram::Renew.encode().as_ref(), [3]);
        assert_eq!(Datagram::decode(Bytes::from_static(&[3])), Some(Datagram::Renew));
    }

    #[test]
    fn short_and_unknown_datagrams_are_passed_over() {
        for bytes in [&[][..], &[0, 1], &[1; 16], &[7, 1, 2, 3]] {
            assert_eq!(Datagram::decode(Bytes::copy_from_slice(bytes)), None, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_from_any_datagram_is_what_was_in_it(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            if let Some(datagram) = Datagram::decode(bytes.clone()) {
                assert_eq!(datagram.encode(), bytes);
            }
        }
    }
}
