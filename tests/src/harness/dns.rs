//! Questions to an agent's DNS interface.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long an answer may take: an agent knows within 2 s that it can't answer.
const ANSWER_MAX: Duration = Duration::from_secs(4);

/// What a client takes in a datagram.
pub const PAYLOAD: u16 = 1232;

/// Asks at an address.
#[derive(Debug, Clone, Copy)]
pub struct Asker(pub SocketAddr);

/// Makes a question.
///
/// # Panics
/// When the name is none.
pub fn question(name: &str, kind: RecordType) -> Message {
    let name = Name::from_ascii(name).expect("a name");
    let mut message = Message::query();
    message.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    message
}

/// Writes the code of an answer and what each of its answers says, in order of the alphabet.
pub fn said(message: &Message) -> (ResponseCode, Vec<String>) {
    let mut said: Vec<String> =
        message.answers.iter().map(|record| record.data.to_string()).collect();
    said.sort();
    (message.response_code, said)
}

impl Asker {
    /// Asks in a datagram.
    pub async fn ask(self, name: &str, kind: RecordType) -> Result<Message, String> {
        let question = question(name, kind);
        let bytes = self.send(&question.to_vec().map_err(|e| e.to_string())?).await?;
        let answer = Message::from_vec(&bytes).map_err(|error| error.to_string())?;
        assert_eq!(answer.id, question.id, "an answer to another question");
        Ok(answer)
    }

    /// Sends a datagram and returns the one that comes back.
    pub async fn send(self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let exchange = async {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
            socket.connect(self.0).await?;
            socket.send(bytes).await?;
            let mut answer = vec![0; 65_536];
            let len = socket.recv(&mut answer).await?;
            answer.truncate(len);
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(ANSWER_MAX, exchange).await.map_err(|_| "no answer".to_owned())?;
        answer.map_err(|error| error.to_string())
    }

    /// Asks several questions at once over one connection; the answers come as they come.
    pub async fn ask_by_tcp(self, questions: &[Message]) -> Result<Vec<Message>, String> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.0).await.map_err(|e| e.to_string())?;
            for question in questions {
                let bytes = question.to_vec().map_err(|error| error.to_string())?;
                let len = u16::try_from(bytes.len()).map_err(|error| error.to_string())?;
                stream.write_u16(len).await.map_err(|error| error.to_string())?;
                stream.write_all(&bytes).await.map_err(|error| error.to_string())?;
            }
            let mut answers = Vec::new();
            for _ in questions {
                let len = stream.read_u16().await.map_err(|error| error.to_string())?;
                let mut bytes = vec![0; len.into()];
                stream.read_exact(&mut bytes).await.map_err(|error| error.to_string())?;
                answers.push(Message::from_vec(&bytes).map_err(|error| error.to_string())?);
            }
            Ok(answers)
        };
        timeout(ANSWER_MAX, exchange).await.map_err(|_| "no answer".to_owned())?
    }
}
