//! How answers are cut.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Message, Query},
    rr::{
        Name, RData,
        rdata::{A, SRV, TXT},
    },
};

use super::*;

fn name(text: &str) -> Name {
    Name::from_labels(text.split('.').map(str::as_bytes)).unwrap()
}

fn request(kind: RecordType, payload: Option<u16>) -> Request {
    let mut message = Message::query();
    message.add_query(Query::query(name("web.service.consul"), kind));
    let edns = payload.map(|payload| {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns
    });
    let query = message.queries.remove(0);
    Request { metadata: message.metadata, query, edns }
}

fn reply() -> Reply {
    Reply { by: By::Us, ..Reply::code(ResponseCode::NoError) }
}

fn addresses(count: u32) -> Reply {
    let record = |number: u32| {
        let data = RData::A(A(Ipv4Addr::from_bits(0x0a00_0000 + number)));
        Record::from_rdata(name("web.service.consul"), 0, data)
    };
    Reply { answers: (0..count).map(record).collect(), ..reply() }
}

/// Targets with an address and a long text each.
fn targets(count: u16) -> Reply {
    let mut reply = reply();
    for number in 0..count {
        let target = name(&format!("n{number}.node.dc1.consul"));
        let data = SRV::new(1, 1, 80, target.clone());
        let owner = name("web.service.consul");
        reply.answers.push(Record::from_rdata(owner, 0, RData::SRV(data)));
        let address = RData::A(A(Ipv4Addr::from_bits(u32::from(number))));
        let text = RData::TXT(TXT::new(vec!["x".repeat(100)]));
        for data in [address, text] {
            let record = Record::from_rdata(target.clone(), 0, data);
            reply.extras.push((usize::from(number), record));
        }
    }
    reply
}

/// Encodes, checks the length, and reads again.
fn sent(request: &Request, reply: &Reply, settings: &Settings, by: Transport) -> Message {
    let bytes = encode(request, reply, settings, by);
    assert!(bytes.len() <= room(request, by), "{} bytes", bytes.len());
    Message::from_vec(&bytes).unwrap()
}

#[test]
fn who_takes_512_bytes_gets_a_few_answers() {
    let plain = request(RecordType::A, None);
    let mut settings = Settings::default();
    let few = sent(&plain, &addresses(20), &settings, Transport::Udp);
    assert_eq!((few.answers.len(), few.truncation, few.edns), (3, false, None));
    settings.udp_answer_limit = 100;
    settings.truncate = true;
    let more = sent(&plain, &addresses(20), &settings, Transport::Udp);
    assert_eq!((more.answers.len(), more.truncation), (PLAIN_ANSWERS_TOP, true));
    let all = sent(&plain, &addresses(8), &settings, Transport::Udp);
    assert_eq!((all.answers.len(), all.truncation), (8, false));
}

#[test]
fn who_takes_more_gets_what_fits_into_a_datagram() {
    let mut settings = Settings { truncate: true, ..Settings::default() };
    let large = request(RecordType::A, Some(4096));
    let cut = sent(&large, &addresses(200), &settings, Transport::Udp);
    assert!((70..80).contains(&cut.answers.len()), "{}", cut.answers.len());
    assert!(cut.truncation && cut.authoritative);
    assert_eq!(cut.edns.unwrap().max_payload(), 1232);
    settings.truncate = false;
    assert!(!sent(&large, &addresses(200), &settings, Transport::Udp).truncation);
    let small = request(RecordType::A, Some(100));
    let few = sent(&small, &addresses(200), &settings, Transport::Udp);
    assert_eq!((few.answers.len(), few.edns.unwrap().max_payload()), (3, 512));
}

#[test]
fn over_tcp_there_is_room_for_all() {
    let settings = Settings { truncate: true, ..Settings::default() };
    let plain = request(RecordType::A, None);
    let all = sent(&plain, &addresses(1500), &settings, Transport::Tcp);
    assert_eq!((all.answers.len(), all.truncation), (1500, false));
    let cut = sent(&plain, &addresses(5000), &settings, Transport::Tcp);
    assert!((1500..5000).contains(&cut.answers.len()) && cut.truncation);
}

#[test]
fn texts_go_first_and_answers_go_with_their_addresses() {
    let settings = Settings { truncate: true, ..Settings::default() };
    let request = request(RecordType::SRV, Some(1232));
    let whole = sent(&request, &targets(3), &settings, Transport::Udp);
    assert_eq!((whole.answers.len(), whole.additionals.len()), (3, 6));
    let bare = sent(&request, &targets(12), &settings, Transport::Udp);
    assert_eq!((bare.answers.len(), bare.additionals.len(), bare.truncation), (12, 12, false));
    let cut = sent(&request, &targets(100), &settings, Transport::Udp);
    assert!(cut.truncation && (12..30).contains(&cut.answers.len()), "{}", cut.answers.len());
    assert_eq!(cut.answers.len(), cut.additionals.len());
}

#[test]
fn names_are_written_in_full_when_it_is_wanted_so() {
    let mut settings = Settings::default();
    let request = request(RecordType::A, Some(1232));
    let short = encode(&request, &addresses(10), &settings, Transport::Udp).len();
    settings.compress = false;
    let long = encode(&request, &addresses(10), &settings, Transport::Udp).len();
    assert_eq!(long, short + 10 * ("web.service.consul".len() + 2 - 2));
}

#[test]
fn a_clients_subnet_comes_back_as_meaning_nothing() {
    let mut request = request(RecordType::A, Some(1232));
    let subnet = ClientSubnet::new([192, 0, 2, 0].into(), 24, 0);
    request.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Subnet(subnet));
    let edns = sent(&request, &addresses(1), &Settings::default(), Transport::Udp).edns.unwrap();
    let Some(EdnsOption::Subnet(back)) = edns.option(EdnsCode::Subnet) else { panic!("{edns:?}") };
    assert_eq!((back.source_prefix(), back.scope_prefix()), (24, 0));
}

#[test]
fn answers_of_others_are_whole_or_known_to_be_cut() {
    let mut settings = Settings::default();
    settings.recursors.servers = vec!["127.0.0.1:53".parse().unwrap()];
    let of_others = |count| Reply { by: By::Others, ..addresses(count) };
    let plain = request(RecordType::A, None);
    let whole = sent(&plain, &of_others(10), &settings, Transport::Udp);
    assert_eq!((whole.answers.len(), whole.truncation), (10, false));
    assert!(whole.recursion_available && !whole.authoritative);
    assert!(sent(&plain, &of_others(100), &settings, Transport::Udp).truncation);
}
