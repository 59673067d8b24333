//! A request on its way: whom it was sent to, what they said, whom to ask next.
//!
//! A read whose answer is expected at once is hedged: when it is later than most ([`crate::hedge`]), a
//! second server is asked, too, and the first answer counts. What waits for a change never is.

use std::{ops::ControlFlow, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tracing::debug;

use crate::{
    attempt::{Carrier, CarryError, Errand, HEAR_SOON, Trail, attempt, doubt},
    breaker::Outcome,
    envelope::Envelope,
    error::{Effect, ForwardError},
    gate::{Gate, Hedges, Turned},
    routes::{self, Candidate, Need, Reach},
    table::{Remote, Server},
};

/// Most servers of the wanted datacenter that a request is sent to directly: the second one covers
/// for one server's death, and more would only add load to a datacenter that is in trouble.
pub const ATTEMPTS_MAX: usize = 2;

/// How long after its start a request may still go to a server that is not heard: with
/// [`crate::attempt::HEAR_MAX`] on top, that stays below 2 s.
const UNHEARD_UNTIL: Duration = Duration::from_millis(1100);

/// A request that ran into its deadline counts against the datacenter only when it had at least
/// this long: a shorter deadline says more about the asker.
const FAIR_MIN: Duration = Duration::from_secs(1);

/// Which servers of the wanted datacenter are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Those of whom an answer can be expected.
    Fit(Need),
    /// Those of them who will answer soon, or not at all: they are heard right now, or are dialled.
    Prompt(Need),
    /// Whoever is left.
    Rest,
}

/// A request on its way: what was tried so far, and with whom.
pub(crate) struct Journey<'a> {
    carrier: &'a dyn Carrier,
    pub(crate) envelope: &'a Envelope,
    body: Bytes,
    asked: Instant,
    pub(crate) trail: Trail,
    /// Told when a server that is asked may be dead.
    pub(crate) doubt: Arc<Notify>,
    /// How long a server of the wanted datacenter may take to be heard.
    hear: Duration,
    /// Whether a server that may be dead is given up, rather than waited for until it is certain.
    prompt: bool,
    /// All servers of the wanted datacenter.
    servers: &'a [Server],
    /// Whether one of them failed: the others may, too.
    failed: bool,
    /// Servers of the wanted datacenter that were not asked yet.
    pub(crate) left: Vec<&'a Server>,
    /// How many of them were asked.
    pub(crate) attempts: usize,
    /// What a server said that would not take it, although another one may.
    refused: Option<ForwardError>,
}

/// What ends a journey, unless it has to go on.
pub(crate) type Step<T, C = ()> = ControlFlow<Result<T, ForwardError>, C>;

/// How a server gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It would not take the request.
    Refused,
    /// It did not get it, or said nothing.
    Failed,
}

impl<'a> Journey<'a> {
    pub(crate) fn new(
        carrier: &'a dyn Carrier,
        envelope: &'a Envelope,
        remote: Option<&'a Remote>,
        hear: Duration,
    ) -> Result<Self, ForwardError> {
        let servers = remote.map_or(&[][..], |remote| &remote.servers);
        Ok(Self {
            carrier,
            envelope,
            body: envelope.encode()?,
            asked: Instant::now(),
            trail: Trail::new(),
            doubt: Arc::default(),
            hear,
            prompt: false,
            servers,
            failed: false,
            left: servers.iter().collect(),
            attempts: 0,
            refused: None,
        })
    }

    /// Gives up on servers that may be dead: whoever waits tries others meanwhile. What waits for a change goes on.
    pub(crate) fn promptly(self) -> Self {
        Self { prompt: !self.envelope.waits, ..self }
    }

    /// Begins another journey of the same envelope, which leads around its datacenter's own servers.
    pub(crate) fn aside(&self) -> Self {
        Self {
            body: self.body.clone(),
            trail: Trail::new(),
            doubt: Arc::default(),
            servers: &[],
            failed: false,
            left: Vec::new(),
            attempts: 0,
            refused: None,
            ..*self
        }
    }

    /// Any number that differs between requests.
    pub(crate) fn spread(&self) -> u64 {
        self.envelope.request.as_u64_pair().1
    }

    /// Asks servers of the wanted datacenter, if a gate lets the request through.
    pub(crate) async fn ask_directly(
        &mut self,
        gate: &Arc<Gate>,
        hedges: Option<&Hedges>,
        choice: Choice,
    ) -> Step<Bytes> {
        let Some(first) = self.next(choice) else { return ControlFlow::Continue(()) };
        let pass = match gate.enter() {
            Ok(pass) => pass,
            // It has too much to do: nobody else is to be kept busy by that.
            Err(Turned::Full { under_way }) => {
                let dc = self.envelope.dc.clone();
                return ControlFlow::Break(Err(ForwardError::Busy { dc, under_way }));
            }
            Err(turned) => {
                self.left.clear();
                self.trail.say(turned.to_string());
                return ControlFlow::Continue(());
            }
        };
        // What changes something, or waits for a change, is not sent twice for being late.
        let hedges = hedges.filter(|_| self.envelope.read && !self.envelope.waits);
        let asked = Instant::now();
        let mut next = Some(first);
        while let Some(server) = next {
            self.attempts += 1;
            if let ControlFlow::Break(result) = self.ask_in_time(server, hedges, choice).await {
                if let (Some(hedges), Ok(_)) = (hedges, &result) {
                    hedges.get().record(asked.elapsed());
                }
                pass.finish(outcome_of(&result, asked));
                return ControlFlow::Break(result);
            }
            next = self.next(choice);
        }
        pass.finish(match self.refused {
            Some(_) => Outcome::Answered,
            None => Outcome::Failed,
        });
        ControlFlow::Continue(())
    }

    /// Asks a server, and another one, too, when the answer is late.
    async fn ask_in_time(
        &mut self,
        server: &'a Server,
        hedges: Option<&Hedges>,
        choice: Choice,
    ) -> Step<Bytes, Silence> {
        let late = hedges.and_then(|hedges| Some((hedges, hedges.get().late_after()?)));
        let Some((hedges, after)) = late else { return self.ask(server, Errand::Answer).await };
        let mut first = pin!(self.attempt(server, Errand::Answer));
        if let Ok(result) = timeout(after, &mut first).await {
            return self.take(server, Errand::Answer, result);
        }
        let another = if hedges.get().spend() { self.next(choice) } else { None };
        let Some(another) = another else {
            return self.take(server, Errand::Answer, first.await);
        };
        debug!(late = %server.name, server = %another.name, dc = %server.dc, "asking another, too");
        self.attempts += 1;
        let mut second = pin!(self.attempt(another, Errand::Answer));
        tokio::select! {
            biased;
            result = &mut first => {
                self.take(server, Errand::Answer, result)?;
                self.take(another, Errand::Answer, second.await)
            }
            result = &mut second => {
                self.take(another, Errand::Answer, result)?;
                self.take(server, Errand::Answer, first.await)
            }
        }
    }

    /// Takes the best server of the wanted datacenter out of those left.
    fn next(&mut self, choice: Choice) -> Option<&'a Server> {
        if self.attempts >= ATTEMPTS_MAX {
            return None;
        }
        let late = self.asked.elapsed() > UNHEARD_UNTIL;
        let candidates: Vec<Candidate> = self.left.iter().map(|it| it.candidate()).collect();
        let places = routes::rank(&candidates, self.envelope.consistency, self.spread());
        let may_dial =
            !self.failed && routes::is_unsuspicious(self.servers.iter().map(Server::reach));
        let best = places.into_iter().find(|place| {
            let candidate = &candidates[*place];
            let live = candidate.reach == Reach::Live;
            let dials = candidate.reach == Reach::Dialing && may_dial;
            let chosen = match choice {
                Choice::Fit(need) => (candidate.reach.is_heard() || dials) && candidate.knows(need),
                Choice::Prompt(need) => (live || dials) && candidate.knows(need),
                Choice::Rest => true,
            };
            chosen && (live || !late)
        })?;
        Some(self.left.remove(best))
    }

    /// Asks one server; what it says ends the journey, unless somebody else may help.
    async fn ask(&mut self, server: &Server, errand: Errand) -> Step<Bytes, Silence> {
        let result = self.attempt(server, errand).await;
        self.take(server, errand, result)
    }

    /// Asks one server, which says so as soon as it is in doubt.
    pub(crate) fn attempt<'s>(
        &self,
        server: &'s Server,
        errand: Errand,
    ) -> impl Future<Output = Result<Bytes, CarryError>> + use<'a, 's> {
        debug!(server = %server.name, dc = %server.dc, ?errand, "handing over");
        let hear = match errand {
            Errand::Answer => self.hear,
            Errand::PassOn => HEAR_SOON,
        };
        let (carrier, body, told) = (self.carrier, self.body.clone(), self.doubt.clone());
        let (until, prompt) = ((hear, self.envelope.deadline), self.prompt);
        async move {
            let mut attempt = pin!(attempt(carrier, server, errand, body, until));
            tokio::select! {
                biased;
                result = &mut attempt => return result,
                () = doubt(server.reach.clone()) => told.notify_one(),
            }
            if prompt {
                return Err(CarryError::Lost("missed a heartbeat".to_owned()));
            }
            attempt.await
        }
    }

    /// Takes in what came of asking a server.
    pub(crate) fn take(
        &mut self,
        server: &Server,
        errand: Errand,
        result: Result<Bytes, CarryError>,
    ) -> Step<Bytes, Silence> {
        match result {
            Ok(answer) => return ControlFlow::Break(Ok(answer)),
            Err(CarryError::Refused { code, message, elsewhere }) => {
                self.trail.note(server, errand, &message);
                let server = format!("{}.{}", server.name, server.dc);
                let error = ForwardError::Refused { server, code, message };
                if !elsewhere {
                    return ControlFlow::Break(Err(error));
                }
                // Who can't pass it on says nothing for the wanted datacenter.
                if errand == Errand::Answer {
                    self.refused = Some(error);
                }
                return ControlFlow::Continue(Silence::Refused);
            }
            Err(CarryError::Deadline) => {
                let waited = self.asked.elapsed().as_secs_f64();
                return ControlFlow::Break(Err(ForwardError::Deadline {
                    dc: self.envelope.dc.clone(),
                    evidence: format!("{} was asked, {waited:.1}s passed", server.name),
                    effect: Effect::Unknown,
                }));
            }
            Err(CarryError::NotSent(why)) => self.trail.note(server, errand, &why),
            Err(CarryError::Lost(why)) => {
                self.trail.note(server, errand, &why);
                self.trail.lost();
            }
        }
        self.failed |= errand == Errand::Answer;
        ControlFlow::Continue(Silence::Failed)
    }

    /// Returns why there is no answer, when nobody is left to ask.
    pub(crate) fn failed(self) -> ForwardError {
        let effect = self.trail.effect;
        if let (Some(refused), Effect::None) = (self.refused, effect) {
            return refused;
        }
        let (dc, evidence) = (self.envelope.dc.clone(), self.trail.evidence());
        ForwardError::Unreachable { dc, evidence, effect }
    }
}

/// Says what a request's end tells of the way that it took.
pub(crate) fn outcome_of<T>(result: &Result<T, ForwardError>, asked: Instant) -> Outcome {
    match result {
        Err(ForwardError::Deadline { .. }) if asked.elapsed() >= FAIR_MIN => Outcome::Failed,
        Err(ForwardError::Deadline { .. }) => Outcome::Abandoned,
        _ => Outcome::Answered,
    }
}
