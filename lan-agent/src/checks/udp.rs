//! Finds out by a datagram, an empty one: critical when the machine there says that nobody listens
//! at that port, else passing. Silence is passing, as in Consul: most services answer only what
//! they understand.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

use super::{
    Finding,
    dial::{DialError, Target},
};
use crate::duration;

/// Sends a datagram to one address of the name after the other, until one does not refuse it.
pub(super) async fn find(target: &str, patience: Duration) -> Finding {
    let asked = match timeout(patience, addresses(target)).await {
        // Nobody refuses it in time: that is passing.
        Ok(Ok(addrs)) => timeout(patience, ask(addrs)).await.unwrap_or(Ok(())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("its name was not resolved within {}", duration::format(patience))),
    };
    match asked {
        Ok(()) => Finding::passing(format!("UDP connect {}: Success", target)),
        Err(reason) => Finding::critical(format!("UDP connect {}: {reason}", target)),
    }
}

async fn addresses(target: &str) -> Result<Vec<SocketAddr>, DialError> {
    Target::parse(target)?.addresses().await
}

async fn ask(addrs: Vec<SocketAddr>) -> Result<(), String> {
    let mut failure = None;
    for addr in addrs {
        match exchange(addr).await {
            Ok(()) => return Ok(()),
            Err(error) => failure = failure.or(Some(format!("{addr}: {error}"))),
        }
    }
    Err(failure.unwrap_or_else(|| "it has no address".to_owned()))
}

async fn exchange(addr: SocketAddr) -> io::Result<()> {
    let local: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    // Connected, so that a refusal comes back to it.
    socket.connect(addr).await?;
    socket.send(&[]).await?;
    socket.recv(&mut [0; 1]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{IMPATIENCE, PATIENCE};

    #[tokio::test]
    async fn who_answers_is_passing_at_once_and_who_is_silent_in_the_end() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = socket.local_addr().unwrap().to_string();
        let success = Finding::passing(format!("UDP connect {target}: Success"));
        assert_eq!(find(&target, IMPATIENCE).await, success);
        let answering = async {
            let mut asked = [0; 10];
            loop {
                let (len, from) = socket.recv_from(&mut asked).await.unwrap();
                assert_eq!(len, 0);
                let _ = socket.send_to(b"here", from).await;
            }
        };
        tokio::select! {
            finding = find(&target, Duration::from_secs(3600)) => assert_eq!(finding, success),
            () = answering => {}
        }
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_critical() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        // It takes datagrams of one only, and of nobody else.
        socket.connect("127.0.0.1:9").await.unwrap();
        let finding = find(&addr.to_string(), PATIENCE).await;
        assert_eq!(finding.health, crate::catalog::Health::Critical);
        assert!(finding.output.contains("refused"), "{}", finding.output);
        let nowhere = find("no.such.name.invalid:53", PATIENCE).await;
        assert!(nowhere.output.contains("can't resolve"), "{}", nowhere.output);
    }
}
