//! What the first packets of a stranger's QUIC handshake say, for those who pass them on.
//!
//! Initial packets are sealed with keys that follow from the connection id in their header
//! (RFC 9001, section 5.2): whoever sees a client's first packets can read its ClientHello, and in that
//! the name of the server that it wants. A ClientHello may come in several packets, in any order, as it does
//! when it holds a key share of a post-quantum key exchange.
//!
//! Everything here is a function of bytes that anybody may have sent. What can't be read is an
//! error; what is kept of one handshake is bounded.

pub use self::{
    header::{Header, ID_LEN_MAX, Kind},
    hello::{Hello, Unreadable},
};

mod header;
mod hello;
mod reader;

#[cfg(test)]
mod tests;

/// The only version of QUIC that is understood (RFC 9000).
pub const VERSION: u32 = 1;

/// Reads bytes as a stranger's datagram, in every way that there is; tells whether they made sense.
/// For tests with bytes that make none.
pub fn understands(bytes: &[u8]) -> bool {
    let Some(Header::Long { kind, dcid, .. }) = Header::read(bytes) else { return false };
    kind == Kind::Initial && Hello::new(dcid).take(bytes).is_ok()
}
