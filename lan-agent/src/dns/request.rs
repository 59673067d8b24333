//! From bytes to a question, or to the little that can be said to bytes that are none.
//!
//! What is no question (too short, an answer) gets nothing, so that nobody can make two servers
//! talk to each other. What is a broken one gets a bare header: never more than came in.

use hickory_proto::op::{Edns, Message, Metadata, OpCode, Query, ResponseCode};

/// Length of a message's header (RFC 1035, section 4.1.1).
const HEADER_LEN: usize = 12;

/// Most records after the question: an OPT record, and a signature that nobody looks at.
const ADDITIONALS_MAX: u16 = 2;

/// What came in.
#[derive(Debug)]
pub(super) enum Incoming {
    Question(Box<Request>),
    /// To be answered with these bytes.
    Broken([u8; HEADER_LEN]),
    /// Not to be answered.
    Noise,
}

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) metadata: Metadata,
    pub(super) query: Query,
    /// What the client says of itself (RFC 6891).
    pub(super) edns: Option<Edns>,
}

impl Request {
    /// Returns the header of an answer that says no more than this.
    pub(super) fn bare(&self, code: ResponseCode) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..2].copy_from_slice(&self.metadata.id.to_be_bytes());
        header[2] = u8::from(self.metadata.recursion_desired);
        bare(&header, code)
    }
}

/// Reads a message.
pub(super) fn parse(bytes: &[u8]) -> Incoming {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Incoming::Noise };
    if header[2] & 0x80 != 0 {
        return Incoming::Noise;
    }
    if OpCode::from_u8(header[2] >> 3 & 0x0f) != OpCode::Query {
        return Incoming::Broken(bare(header, ResponseCode::NotImp));
    }
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let plausible = count(4) == 1 && count(6) == 0 && count(8) == 0 && count(10) <= ADDITIONALS_MAX;
    let broken = || Incoming::Broken(bare(header, ResponseCode::FormErr));
    if !plausible {
        return broken();
    }
    let Ok(mut message) = Message::from_vec(bytes) else { return broken() };
    let Some(query) = message.queries.pop() else { return broken() };
    let Message { metadata, edns, .. } = message;
    Incoming::Question(Box::new(Request { metadata, query, edns }))
}

/// Returns the header of an answer that says no more than this.
fn bare(header: &[u8; HEADER_LEN], code: ResponseCode) -> [u8; HEADER_LEN] {
    // The opcode and whether recursion is desired are repeated.
    let mut out = [0; HEADER_LEN];
    out[..2].copy_from_slice(&header[..2]);
    out[2] = 0x80 | (header[2] & 0x79);
    out[3] = code.low();
    out
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::MessageType,
        rr::{Name, RecordType},
    };
    use proptest::prelude::*;

    use super::*;

    fn question() -> Vec<u8> {
        let mut message = Message::query();
        let name = Name::from_labels(["web", "service", "consul"]).unwrap();
        message.add_query(Query::query(name, RecordType::A));
        message.set_edns(Edns::new());
        message.to_vec().unwrap()
    }

    /// Reads what is said to a broken question.
    fn said(bytes: &[u8]) -> Message {
        match parse(bytes) {
            Incoming::Broken(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_question_is_read_with_what_the_client_says_of_itself() {
        let Incoming::Question(request) = parse(&question()) else { panic!() };
        assert_eq!(request.query.name.to_string(), "web.service.consul.");
        assert!(request.edns.is_some());
    }

    #[test]
    fn answers_and_fragments_are_noise() {
        let mut answer = question();
        answer[2] |= 0x80;
        assert!(matches!(parse(&answer), Incoming::Noise));
        assert!(matches!(parse(&question()[..11]), Incoming::Noise));
    }

    #[test]
    fn what_is_no_query_is_not_implemented() {
        let mut notify = question();
        notify[2] = 4 << 3;
        let said = said(&notify);
        assert_eq!(said.response_code, ResponseCode::NotImp);
        assert_eq!((said.op_code, said.message_type), (OpCode::Notify, MessageType::Response));
    }

    #[test]
    fn a_broken_question_is_told_so_with_its_id() {
        let good = question();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let cut = good[..20].to_vec();
        for broken in [with(5, 0), with(5, 2), with(7, 1), with(9, 1), with(11, 9), cut] {
            let said = said(&broken);
            assert_eq!(said.response_code, ResponseCode::FormErr);
            assert_eq!(said.id.to_be_bytes(), good[..2]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_bytes_get_a_header_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            parse(&bytes);
        }

        #[test]
        fn a_question_with_any_bytes_changed_is_read_or_refused(
            changes in prop::collection::vec((4usize..45, any::<u8>()), 1..6),
        ) {
            let mut bytes = question();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes[2] &= 0x07;
            if let Incoming::Broken(said) = parse(&bytes) {
                let said = Message::from_vec(&said).unwrap();
                prop_assert_eq!(said.response_code, ResponseCode::FormErr);
            }
        }
    }
}
