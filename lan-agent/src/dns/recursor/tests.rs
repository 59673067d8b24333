//! Recursors that answer, are silent, cut their answers, or answer something else.

use std::{net::Ipv4Addr, time::Duration};

use hickory_proto::rr::{Name, RData, Record, RecordType, rdata::A};
use rand::SeedableRng;
use tokio::{net::TcpListener, task::JoinHandle};

use super::*;

/// What a recursor does with a question.
#[derive(Debug, Clone, Copy)]
enum Does {
    Answer(u8),
    Fail,
    Nothing,
    /// Answers another question first, then this one.
    Confuse,
    /// Says over UDP that it has more to say over TCP.
    Cut,
}

/// A recursor that counts what it is asked.
struct Server {
    addr: SocketAddr,
    asked: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    _running: JoinHandle<()>,
}

fn said(bytes: &[u8], last: u8) -> Message {
    let question = Message::from_vec(bytes).unwrap();
    let mut answer = Message::response(question.id, OpCode::Query);
    answer.queries = question.queries;
    let owner = answer.queries[0].name.clone();
    let data = RData::A(A(Ipv4Addr::new(10, 0, 0, last)));
    answer.add_answer(Record::from_rdata(owner, 60, data));
    answer
}

async fn server(does: Does) -> Server {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(addr).await.unwrap();
    let asked = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
    let counted = asked.clone();
    let running = tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (len, from) = udp.recv_from(&mut buffer).await.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut answer = said(&buffer[..len], 1);
            match does {
                Does::Answer(last) => answer = said(&buffer[..len], last),
                Does::Fail => answer.metadata.response_code = ResponseCode::ServFail,
                Does::Nothing => continue,
                Does::Confuse => {
                    let mut other = said(&buffer[..len], 66);
                    other.metadata.id ^= 1;
                    udp.send_to(&other.to_vec().unwrap(), from).await.unwrap();
                }
                Does::Cut => {
                    answer.answers.clear();
                    answer.metadata.truncation = true;
                }
            }
            udp.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            if let Does::Cut = does {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let len = stream.read_u16().await.unwrap();
                stream.read_exact(&mut buffer[..len.into()]).await.unwrap();
                let whole = said(&buffer[..len.into()], 9).to_vec().unwrap();
                stream.write_u16(u16::try_from(whole.len()).unwrap()).await.unwrap();
                stream.write_all(&whole).await.unwrap();
            }
        }
    });
    Server { addr, asked, _running: running }
}

impl Server {
    fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn recursors(servers: &[&Server]) -> Recursors {
    Recursors {
        servers: servers.iter().map(|server| server.addr).collect(),
        timeout: Duration::from_millis(200),
        strategy: Strategy::Sequential,
    }
}

async fn ask(recursor: &Recursor, recursors: &Recursors) -> Option<(ResponseCode, Vec<String>)> {
    let query = Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::A);
    let reply = recursor.ask(&query, recursors, SmallRng::seed_from_u64(7)).await?;
    let answers = reply.answers.iter().map(|record| record.data.to_string());
    Some((reply.code, answers.collect()))
}

fn found(address: &str) -> Option<(ResponseCode, Vec<String>)> {
    Some((ResponseCode::NoError, vec![address.to_owned()]))
}

#[tokio::test]
async fn an_answer_is_asked_for_once() {
    let (server, recursor) = (server(Does::Answer(5)).await, Recursor::default());
    for _ in 0..3 {
        assert_eq!(ask(&recursor, &recursors(&[&server])).await, found("10.0.0.5"));
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn who_is_silent_or_fails_is_followed_by_the_next() {
    let (silent, failing) = (server(Does::Nothing).await, server(Does::Fail).await);
    let good = server(Does::Answer(5)).await;
    let all = recursors(&[&silent, &failing, &good]);
    assert_eq!(ask(&Recursor::default(), &all).await, found("10.0.0.5"));
    assert_eq!([silent.asked(), failing.asked(), good.asked()], [1, 1, 1]);
    let none = recursors(&[&silent]);
    assert_eq!(ask(&Recursor::default(), &none).await, None);
    let failed = ask(&Recursor::default(), &recursors(&[&failing])).await.unwrap();
    assert_eq!(failed.0, ResponseCode::ServFail);
}

#[tokio::test]
async fn an_answer_to_another_question_does_not_count() {
    let server = server(Does::Confuse).await;
    assert_eq!(ask(&Recursor::default(), &recursors(&[&server])).await, found("10.0.0.1"));
}

#[tokio::test]
async fn what_does_not_fit_into_a_datagram_is_asked_for_over_tcp() {
    let server = server(Does::Cut).await;
    assert_eq!(ask(&Recursor::default(), &recursors(&[&server])).await, found("10.0.0.9"));
}

#[tokio::test]
async fn random_order_reaches_all() {
    let servers = [server(Does::Answer(1)).await, server(Does::Answer(2)).await];
    let all = Recursors { strategy: Strategy::Random, ..recursors(&[&servers[0], &servers[1]]) };
    let query = Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::A);
    for seed in 0..20 {
        let random = SmallRng::seed_from_u64(seed);
        Recursor::default().ask(&query, &all, random).await.unwrap();
    }
    assert!(servers.iter().all(|server| server.asked() > 2));
}
