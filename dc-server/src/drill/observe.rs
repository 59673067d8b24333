//! Watching a federation from outside while it is broken and mended.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use topology::Datacenter;

use crate::{
    drill::{
        history::{Probe, Seen, Stored},
        kv::Listed,
        workload::PREFIX,
    },
    http_client::HttpClient,
    processes::{layout::Layout, ready},
};

/// How often each surviving server is asked what it knows of the lost datacenter. It is the
/// resolution of the verdicts in the timeline.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// How long a probe waits. New ones start meanwhile: one that hangs hides no verdict.
const PROBE_WITHIN: Duration = Duration::from_secs(3);

/// How often the leader and the members are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// How long one look at the leader or the stored keys may take.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// What is added to it by a server that holds the datacenter for lost. Consul adds nothing then.
const HELD_FOR_LOST: &str = "is lost since";

/// What Consul answers for a known datacenter that nobody can reach.
const UNREACHABLE: &str = "Remote DC has no server currently reachable";

/// Asks every surviving server for the lost datacenter, over and over, until it is stopped.
#[derive(Debug)]
pub struct Prober {
    servers: JoinSet<Vec<Probe>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Prober {
    /// Starts to ask; times count from `zero`.
    pub fn start(http: &HttpClient, layout: &Layout, lost: &Datacenter, zero: Instant) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut servers = JoinSet::new();
        for node in layout.servers().filter(|node| node.dc != *lost) {
            let question = Question {
                http: http.clone(),
                at: node.http(),
                path: format!("/v1/kv/{PREFIX}probe?dc={lost}"),
                server: node.label(),
                zero,
            };
            let mut stopped = stopped.clone();
            servers.spawn(async move {
                let mut tick = interval(PROBE_EVERY);
                tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                // Bounded by PROBE_WITHIN / PROBE_EVERY.
                let mut asked = JoinSet::new();
                let mut probes = Vec::new();
                loop {
                    tokio::select! {
                        biased;
                        _ = stopped.wait_for(|stop| *stop) => break,
                        _ = tick.tick() => { asked.spawn(question.clone().ask()); }
                        Some(Ok(probe)) = asked.join_next() => probes.push(probe),
                    }
                }
                probes
            });
        }
        Self { servers, stop }
    }

    /// Stops asking and returns what was answered.
    pub async fn stop(self) -> Vec<Probe> {
        self.stop.send_replace(true);
        self.servers.join_all().await.into_iter().flatten().collect()
    }
}

#[derive(Debug, Clone)]
struct Question {
    http: HttpClient,
    at: SocketAddr,
    path: String,
    server: String,
    zero: Instant,
}

impl Question {
    async fn ask(self) -> Probe {
        let start = self.zero.elapsed();
        let seen = match self.http.get(self.at, &self.path, PROBE_WITHIN).await {
            Ok(answer) if answer.status.is_success() || answer.status.as_u16() == 404 => {
                Seen::Answer
            }
            Ok(answer) => error(&answer.text()),
            Err(_) => Seen::Silence,
        };
        Probe { server: self.server, start, end: self.zero.elapsed(), seen }
    }
}

/// Reads what a server says of a datacenter out of its error.
///
/// That it could not reach anybody just now is no verdict, however fast it says so: a circuit
/// breaker answers at once, too, and lets requests through in between.
fn error(text: &str) -> Seen {
    match text.split_once(UNREACHABLE) {
        Some((_, reason)) if reason.is_empty() || reason.contains(HELD_FOR_LOST) => Seen::Lost,
        Some(_) => Seen::Unreachable,
        None => Seen::Error,
    }
}

/// Waits until a server of the datacenter names a leader; returns when, or nothing in time.
pub async fn leader_back(
    http: &HttpClient,
    layout: &Layout,
    dc: &Datacenter,
    zero: Instant,
    within: Duration,
) -> Option<Duration> {
    let look = async {
        loop {
            for node in layout.servers_of(dc) {
                if ready::knows_leader(http, node).await == Some(true) {
                    return zero.elapsed();
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(within, look).await.ok()
}

/// Waits until every node sees every member alive; returns when, or nothing in time.
pub async fn whole(
    http: &HttpClient,
    layout: &Layout,
    zero: Instant,
    within: Duration,
) -> Option<Duration> {
    let look = async {
        loop {
            let healths = ready::survey(http, layout).await;
            if healths.iter().all(|health| *health == ready::Health::Ready) {
                return zero.elapsed();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(within, look).await.ok()
}

/// Reads all that a drill wrote to a datacenter, confirmed by a quorum there; nothing when none
/// of its servers answers in time.
pub async fn stored(
    http: &HttpClient,
    layout: &Layout,
    dc: &Datacenter,
    within: Duration,
) -> Option<Vec<Stored>> {
    let path = format!("/v1/kv/{PREFIX}?recurse&consistent");
    let read = async {
        loop {
            for node in layout.servers_of(dc) {
                let answer = http.get(node.http(), &path, LOOK_WITHIN).await;
                let Ok(answer) = answer else { continue };
                if answer.status.is_success() {
                    return serde_json::from_slice::<Vec<Listed>>(&answer.body).ok();
                }
                if answer.status.as_u16() == 404 {
                    return Some(Vec::new());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let listed = tokio::time::timeout(within, read).await.ok()??;
    let stored = listed.into_iter().map(|entry| Stored {
        value: entry.text(),
        key: entry.key,
        create_index: entry.create_index,
        modify_index: entry.modify_index,
    });
    Some(stored.collect())
}

#[cfg(test)]
mod tests {
    use lan_agent::ask::AskError;
    use wan_federation::{Effect, ForwardError};

    use super::*;

    fn said(error: ForwardError) -> Seen {
        let dc = Datacenter::new("dc2").unwrap();
        let text = AskError::NoServer { dc, reason: String::new() }.to_string();
        super::error(&format!("{text}: {error}"))
    }

    #[test]
    fn a_verdict_is_told_from_an_attempt_that_failed() {
        let dc = Datacenter::new("dc2").unwrap();
        let evidence = "3 of 3 servers down".to_owned();
        let since = Duration::from_secs(1);
        assert_eq!(
            said(ForwardError::Lost { dc: dc.clone(), since, evidence: evidence.clone() }),
            Seen::Lost
        );
        assert_eq!(
            said(ForwardError::Unreachable { dc, evidence, effect: Effect::None }),
            Seen::Unreachable
        );
    }

    #[test]
    fn consuls_bare_error_is_a_verdict_and_a_refused_connection_is_none() {
        assert_eq!(error(UNREACHABLE), Seen::Lost);
        assert_eq!(error("rpc error making call: connection refused"), Seen::Error);
    }
}
