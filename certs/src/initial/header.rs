//! The part of a packet's header that every version of QUIC has (RFC 8999).

use super::{VERSION, reader::Reader};

/// Longest connection id (RFC 9000, section 17.2).
pub const ID_LEN_MAX: usize = 20;

/// The header of the first packet of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    /// Of a packet of a handshake.
    Long {
        /// What it is.
        kind: Kind,
        /// Whom it is for.
        dcid: &'a [u8],
        /// By which id its sender wants to be known.
        scid: &'a [u8],
    },
    /// Of a packet of a connection that was made.
    Short {
        /// Begins with the id of the one that it is for; how long that is, he alone knows.
        rest: &'a [u8],
    },
}

/// What a packet with a long header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Carries the first messages of the handshake.
    Initial,
    /// Carries what a client says before the handshake is done.
    ZeroRtt,
    /// Carries the rest of the handshake.
    Handshake,
    /// Tells a client to prove its address.
    Retry,
    /// Of another version of QUIC, or about versions.
    Foreign,
}

impl<'a> Header<'a> {
    /// Reads it; `None` for what is no packet of QUIC.
    pub fn read(datagram: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(datagram);
        let first = *reader.take(1)?.first()?;
        if first & 0x80 == 0 {
            return Some(Self::Short { rest: reader.take(reader.left())? });
        }
        let version = reader.number(4)?;
        let dcid = reader.prefixed(1)?;
        let scid = reader.prefixed(1)?;
        if dcid.len() > ID_LEN_MAX || scid.len() > ID_LEN_MAX {
            return None;
        }
        let kind = match (version, first >> 4 & 3) {
            (VERSION, 0) => Kind::Initial,
            (VERSION, 1) => Kind::ZeroRtt,
            (VERSION, 2) => Kind::Handshake,
            (VERSION, _) => Kind::Retry,
            _ => Kind::Foreign,
        };
        Some(Self::Long { kind, dcid, scid })
    }
}
