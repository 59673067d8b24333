//! From an answer to bytes, no more of them than the client takes.
//!
//! What does not fit is left out: first the meta of nodes that nobody asked for, then answers with
//! what goes along with them. Whether the client is told (the TC bit, on which it asks again over
//! TCP) is the operator's choice, as in Consul.

use hickory_proto::{
    op::{Edns, Metadata, ResponseCode, emit_message_parts},
    rr::{
        Record, RecordType,
        rdata::opt::{ClientSubnet, EdnsCode, EdnsOption},
    },
    serialize::binary::{BinEncoder, NameEncoding},
};

use super::{
    answer::{By, Reply},
    request::Request,
    settings::{PLAIN_ANSWERS_TOP, Settings},
};

/// What every client takes (RFC 1035, section 4.2.1).
const PLAIN_LEN_MAX: usize = 512;

/// Longest answer in a datagram, whatever the client takes: what every path carries in one piece
/// (<https://www.dnsflagday.net/2020/>). Consul lets the kernel cut larger ones into fragments,
/// which get lost.
const DATAGRAM_LEN_MAX: usize = 1232;

/// Longest message over TCP: what its length is written in.
const STREAM_LEN_MAX: usize = 65535;

/// Where the TC bit is.
const TRUNCATED: (usize, u8) = (2, 0x02);

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Returns most bytes that the answer to a request may have.
pub(super) fn room(request: &Request, transport: Transport) -> usize {
    match (transport, &request.edns) {
        (Transport::Tcp, _) => STREAM_LEN_MAX,
        (Transport::Udp, None) => PLAIN_LEN_MAX,
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.max_payload()).clamp(PLAIN_LEN_MAX, DATAGRAM_LEN_MAX)
        }
    }
}

/// Writes the answer to a request.
pub(super) fn encode(
    request: &Request,
    reply: &Reply,
    settings: &Settings,
    transport: Transport,
) -> Vec<u8> {
    let room = room(request, transport);
    let page = Page { request, reply, settings, edns: edns(request) };
    let all = reply.answers.len();
    let ours = reply.by == By::Us;
    let plain = transport == Transport::Udp && room == PLAIN_LEN_MAX && ours;
    let most = match plain {
        true => all.min(settings.udp_answer_limit.min(PLAIN_ANSWERS_TOP)),
        false => all,
    };
    let (mut bytes, shown) = page.fitting(most, room);
    // Answers of ours are as good as each other; those of others may be no good without the rest.
    if shown < all && (settings.truncate || !ours) {
        let (at, bit) = TRUNCATED;
        bytes[at] |= bit;
    }
    bytes
}

/// What an answer is written of.
struct Page<'a> {
    request: &'a Request,
    reply: &'a Reply,
    settings: &'a Settings,
    edns: Option<Edns>,
}

impl Page<'_> {
    /// Writes as many of the first answers as there is room for; returns how many.
    fn fitting(&self, most: usize, room: usize) -> (Vec<u8>, usize) {
        let whole = self.write(most, Texts::Shown);
        if whole.len() <= room {
            return (whole, most);
        }
        let without = self.write(most, Texts::LeftOut);
        if without.len() <= room {
            return (without, most);
        }
        // The largest number that fits is at least `fits` and below `too_many`.
        let (mut fits, mut too_many) = (0, most);
        let mut best = None;
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            let bytes = self.write(middle, Texts::LeftOut);
            match bytes.len() <= room {
                true => (fits, best) = (middle, Some(bytes)),
                false => too_many = middle,
            }
        }
        (best.unwrap_or_else(|| self.write(0, Texts::LeftOut)), fits)
    }

    fn write(&self, answers: usize, texts: Texts) -> Vec<u8> {
        let Reply { code, by, authorities, extras, .. } = self.reply;
        let mut metadata = Metadata::response_from_request(&self.request.metadata);
        metadata.authoritative = *by == By::Us;
        metadata.recursion_available = !self.settings.recursors.servers.is_empty();
        metadata.response_code = *code;
        let shown = |(number, record): &&(usize, Record)| {
            let wanted = texts == Texts::Shown || record.record_type() != RecordType::TXT;
            *number < answers.max(1) && wanted
        };
        let mut bytes = Vec::with_capacity(PLAIN_LEN_MAX);
        let mut encoder = BinEncoder::new(&mut bytes);
        if !self.settings.compress {
            encoder.set_name_encoding(NameEncoding::Uncompressed);
        }
        let written = emit_message_parts(
            &metadata,
            &mut std::iter::once(&self.request.query),
            &mut self.reply.answers[..answers].iter(),
            &mut authorities.iter(),
            &mut extras.iter().filter(shown).map(|(_, record)| record),
            self.edns.as_ref(),
            None,
            &mut encoder,
        );
        match written {
            Ok(_) => bytes,
            Err(error) => {
                tracing::warn!(name = %self.request.query.name, %error, "no DNS message");
                self.request.bare(ResponseCode::ServFail).to_vec()
            }
        }
    }
}

/// Whether the meta of nodes goes along.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Texts {
    Shown,
    LeftOut,
}

/// What the agent says of itself to who said so of itself (RFC 6891). A client's subnet is given
/// back with the remark that the answer is the same for all (RFC 7871, section 7.2.1).
fn edns(request: &Request) -> Option<Edns> {
    let asked = request.edns.as_ref()?;
    let mut edns = Edns::new();
    let most = u16::try_from(DATAGRAM_LEN_MAX).unwrap_or(u16::MAX);
    let least = u16::try_from(PLAIN_LEN_MAX).unwrap_or(0);
    edns.set_max_payload(asked.max_payload().clamp(least, most));
    if let Some(EdnsOption::Subnet(subnet)) = asked.option(EdnsCode::Subnet) {
        let for_all = ClientSubnet::new(subnet.addr(), subnet.source_prefix(), 0);
        edns.options_mut().insert(EdnsOption::Subnet(for_all));
    }
    Some(edns)
}

#[cfg(test)]
mod tests;
