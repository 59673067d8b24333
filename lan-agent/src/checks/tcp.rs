//! Finds out by connecting: passing when any address of the name takes the connection, with TLS
//! if that is wanted, else critical. Nothing is said on the connection.

use super::{Finding, dial::Target, prober::Tools, tls::Offer};
use crate::{catalog::Text, definition::Tls};

/// Where to connect, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tcp {
    /// `host:port`.
    pub(super) target: Text,
    /// Shakes hands over TLS too (`tcp_use_tls`).
    pub(super) tls: Option<Tls>,
}

/// Connects once. The caller has a deadline.
pub(super) async fn find(tcp: &Tcp, tools: &Tools) -> Finding {
    let kind = if tcp.tls.is_some() { "TCP+TLS" } else { "TCP" };
    match connect(tcp, tools).await {
        Ok(()) => Finding::passing(format!("{kind} connect {}: Success", tcp.target)),
        Err(reason) => Finding::critical(format!("{kind} connect {}: {reason}", tcp.target)),
    }
}

async fn connect(tcp: &Tcp, tools: &Tools) -> Result<(), String> {
    let target = Target::parse(&tcp.target).map_err(|error| error.to_string())?;
    let stream = target.connect().await.map_err(|error| error.to_string())?;
    if let Some(settings) = &tcp.tls {
        let shaken = tools.tls.connect(settings, Offer::Anything, &target.host, stream).await;
        shaken.map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use certs::https::Callers;

    use super::*;
    use crate::{
        catalog::Health,
        checks::{
            Credentials,
            tests::{
                self, IMPATIENCE, PATIENCE,
                net::{Trusted, closed_port, full_backlog, serve},
            },
        },
        definition::Probe,
    };

    async fn find(target: &str, patience: std::time::Duration) -> Finding {
        let probe = Probe::Tcp { target: target.into(), use_tls: false, tls: Tls::default() };
        tests::find(probe, &Credentials::default(), patience).await
    }

    #[tokio::test]
    async fn who_takes_the_connection_is_passing() {
        let server = serve(None, |_| async {}).await;
        for target in [server.at().to_string(), format!("localhost:{}", server.port())] {
            let output = format!("TCP connect {target}: Success");
            assert_eq!(find(&target, PATIENCE).await, Finding::passing(output));
        }
    }

    #[tokio::test]
    async fn who_does_not_is_critical() {
        let ((refusing, _held), (silent, _backlog)) = (closed_port(), full_backlog().await);
        for (target, patience, reason) in [
            (refusing.to_string(), PATIENCE, "refused"),
            (silent.to_string(), IMPATIENCE, "no answer from"),
            ("no.such.name.invalid:80".to_owned(), PATIENCE, "can't resolve"),
            ("80".to_owned(), PATIENCE, "is no host:port"),
        ] {
            let finding = find(&target, patience).await;
            assert_eq!(finding.health, Health::Critical);
            assert!(finding.output.contains(reason), "{}", finding.output);
        }
    }

    #[tokio::test]
    async fn with_tls_the_certificate_must_be_good_too() {
        let (trusted, other) = (Trusted::new(), Trusted::new());
        let server = serve(Some(trusted.acceptor(Callers::Anyone)), |_| async {}).await;
        let target = Text::from(server.at().to_string());
        let tls = Tls { server_name: "localhost".into(), skip_verify: false };
        let probe = Probe::Tcp { target: target.clone(), use_tls: true, tls };
        for (credentials, health) in
            [(trusted.credentials(), Health::Passing), (other.credentials(), Health::Critical)]
        {
            let finding = tests::find(probe.clone(), &credentials, PATIENCE).await;
            assert_eq!(finding.health, health);
            assert!(finding.output.starts_with(&format!("TCP+TLS connect {target}: ")));
        }
    }
}
