//! Puts the ClientHello of one handshake together and reads the server's name in it.

use rustls::{
    Side,
    crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{DirectionalKeys, Version},
};

use super::{
    header::{Header, Kind},
    reader::Reader,
};

/// Longest ClientHello: those of post-quantum key exchanges have 2 KiB at most.
const HELLO_LEN_MAX: usize = 8 << 10;

/// Most packets of one handshake that are read: as many as the longest ClientHello takes, and some that come twice.
const PACKETS_MAX: usize = 16;

/// Bytes before what the protection of a header is computed from (RFC 9001, section 5.4.2).
const SAMPLE_OFFSET: usize = 4;

/// Bytes of the header of a TLS message: its type and its length.
const MESSAGE_HEADER_LEN: usize = 4;

/// Why packets are not the beginning of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not sealed with the keys of its connection id, or cut off.
    #[error("no Initial packet of this handshake")]
    Packet,
    /// What is in the packet is not what clients begin with.
    #[error("frames that no handshake begins with")]
    Frames,
    /// The TLS message is none, or another one.
    #[error("no ClientHello")]
    Hello,
    /// It names no server.
    #[error("a ClientHello without a server name")]
    Nameless,
    /// It is longer than any, or comes in more packets.
    #[error("a ClientHello that does not end")]
    TooLong,
}

/// A ClientHello that arrives.
pub struct Hello {
    dcid: Vec<u8>,
    /// `None` if the provider had no such suite: then nothing can be read.
    keys: Option<DirectionalKeys>,
    packets: usize,
    bytes: Vec<u8>,
    /// Which of the bytes have arrived.
    arrived: Vec<bool>,
}

impl Hello {
    /// Expects the packets of a client that chose this connection id for the server.
    pub fn new(dcid: &[u8]) -> Self {
        let suite = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
        let keys = suite.map(|suite| suite.keys(dcid, Side::Server, Version::V1).remote);
        let (bytes, arrived) = (Vec::new(), Vec::new());
        Self { dcid: dcid.to_vec(), keys, packets: 0, bytes, arrived }
    }

    /// Takes in a datagram. Returns the name of the server, in lower case, once the ClientHello has arrived.
    pub fn take(&mut self, datagram: &[u8]) -> Result<Option<String>, Unreadable> {
        let mut rest = datagram;
        let mut is_first = true;
        while let Some(Header::Long { kind: Kind::Initial, dcid, .. }) = Header::read(rest) {
            if dcid != self.dcid {
                break;
            }
            if self.packets >= PACKETS_MAX {
                return Err(Unreadable::TooLong);
            }
            self.packets += 1;
            match self.open(rest) {
                Some((payload, len)) => {
                    self.frames(&payload)?;
                    rest = rest.get(len..).unwrap_or_default();
                }
                // Something is behind it that only looks like one.
                None if !is_first => break,
                None => return Err(Unreadable::Packet),
            }
            is_first = false;
        }
        if is_first { Err(Unreadable::Packet) } else { self.name() }
    }

    /// Opens the first packet; returns what is in it, and its length.
    fn open(&self, datagram: &[u8]) -> Option<(Vec<u8>, usize)> {
        let keys = self.keys.as_ref()?;
        let mut reader = Reader::new(datagram);
        // The first byte and the version, the connection ids, the token.
        reader.take(5)?;
        reader.prefixed(1)?;
        reader.prefixed(1)?;
        reader.counted()?;
        let sealed_len = usize::try_from(reader.varint()?).ok()?;
        let header_len = datagram.len() - reader.left();
        let len = header_len.checked_add(sealed_len)?;
        let mut packet = datagram.get(..len)?.to_vec();
        let (header, sealed) = packet.split_at_mut(header_len);
        let (number, sampled) = sealed.split_at_mut_checked(SAMPLE_OFFSET)?;
        let sample = sampled.get(..keys.header.sample_len())?;
        let first = header.first_mut()?;
        keys.header.decrypt_in_place(sample, first, number).ok()?;
        let number_len = usize::from(*first & 3) + 1;
        let number = Reader::new(number).number(number_len)?;
        let (header, payload) = packet.split_at_mut(header_len + number_len);
        let opened = keys.packet.decrypt_in_place(number.into(), header, payload).ok()?;
        Some((opened.to_vec(), len))
    }

    /// Takes in the frames of a packet (RFC 9000, section 12.4).
    fn frames(&mut self, payload: &[u8]) -> Result<(), Unreadable> {
        let mut reader = Reader::new(payload);
        while reader.left() > 0 {
            match reader.varint() {
                // PADDING and PING.
                Some(0 | 1) => {}
                Some(6) => {
                    let frame = reader.varint().zip(reader.counted());
                    let (offset, data) = frame.ok_or(Unreadable::Frames)?;
                    self.put(offset, data)?;
                }
                // Acknowledgements and closes: the client has heard of the server before.
                _ => return Err(Unreadable::Frames),
            }
        }
        Ok(())
    }

    /// Puts bytes of the TLS messages in their place.
    fn put(&mut self, offset: u64, data: &[u8]) -> Result<(), Unreadable> {
        let start = usize::try_from(offset).map_err(|_| Unreadable::TooLong)?;
        let end = start.checked_add(data.len()).filter(|end| *end <= HELLO_LEN_MAX);
        let end = end.ok_or(Unreadable::TooLong)?;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
            self.arrived.resize(end, false);
        }
        self.bytes[start..end].copy_from_slice(data);
        self.arrived[start..end].fill(true);
        Ok(())
    }

    /// Reads the name, if all of the ClientHello is there.
    fn name(&self) -> Result<Option<String>, Unreadable> {
        let there = self.arrived.iter().position(|it| !it).unwrap_or(self.arrived.len());
        let mut reader = Reader::new(&self.bytes[..there]);
        if reader.left() < MESSAGE_HEADER_LEN {
            return Ok(None);
        }
        let (kind, len) = (reader.number(1), reader.number(3));
        let len = len.and_then(|len| usize::try_from(len).ok()).ok_or(Unreadable::Hello)?;
        if kind != Some(1) {
            return Err(Unreadable::Hello);
        }
        if len > HELLO_LEN_MAX - MESSAGE_HEADER_LEN {
            return Err(Unreadable::TooLong);
        }
        let Some(hello) = reader.take(len) else { return Ok(None) };
        let name = server_name(hello).ok_or(Unreadable::Hello)?;
        match name.filter(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic)) {
            Some(name) => Ok(Some(String::from_utf8_lossy(name).to_ascii_lowercase())),
            None => Err(Unreadable::Nameless),
        }
    }
}

/// Finds the server's name in a ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3); the outer `None`
/// is for what is no ClientHello.
fn server_name(hello: &[u8]) -> Option<Option<&[u8]>> {
    let mut reader = Reader::new(hello);
    // The version and the random bytes.
    reader.take(2 + 32)?;
    let _session = reader.prefixed(1)?;
    let _suites = reader.prefixed(2)?;
    let _compressions = reader.prefixed(1)?;
    let mut extensions = Reader::new(reader.prefixed(2)?);
    while extensions.left() > 0 {
        let (kind, body) = (extensions.number(2)?, extensions.prefixed(2)?);
        if kind != 0 {
            continue;
        }
        let mut names = Reader::new(Reader::new(body).prefixed(2)?);
        while names.left() > 0 {
            let (kind, name) = (names.number(1)?, names.prefixed(2)?);
            if kind == 0 {
                return Some(Some(name));
            }
        }
    }
    Some(None)
}
