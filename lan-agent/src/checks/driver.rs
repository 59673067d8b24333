//! The task that owns all checks of an agent: starts what is due, judges what comes of it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, error, warn};

use super::{
    Finding, Wish, Wishes,
    alias::{Alias, Catalog},
    lane::Lane,
    prober::{Find, Prepared, is_program},
    schedule::{Agenda, Appointment, Rhythm},
    thresholds::Judge,
};
use crate::{
    catalog::{Health, Text},
    definition::CheckDefinition,
    local::{Local, LocalError},
};

/// Most programs that run at once: each is a process or several.
pub(super) const PROGRAMS_MAX: usize = 64;

/// Most calls that are under way at once: each has a connection.
pub(super) const CALLS_MAX: usize = 256;

/// Most findings of aliases that wait to be taken.
const ALIASES_WAITING_MAX: usize = 64;

/// Makes of a check's definition what it comes to.
pub(super) type Prepare = Box<dyn Fn(&CheckDefinition) -> Prepared + Send>;

/// What an alias found out.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) check: Text,
    /// Which of the checks that had this id one after the other.
    pub(super) generation: u64,
    pub(super) finding: Finding,
}

/// Owns all checks. How many there are is bounded by whoever starts them.
pub(super) struct Driver {
    prepare: Prepare,
    local: Local,
    catalog: Arc<dyn Catalog>,
    random: SmallRng,
    checks: BTreeMap<Text, Entry>,
    agenda: Agenda<Text>,
    programs: Lane,
    calls: Lane,
    jobs: JoinSet<Done>,
    /// What the jobs run for; those of stopped checks keep their place until they are gone.
    running: HashMap<Id, Job>,
    found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    started: u64,
}

/// A run that has ended by itself.
struct Done {
    prober: Box<dyn Find>,
    finding: Finding,
}

struct Job {
    check: Option<Text>,
    kind: Kind,
}

/// Whose places a run takes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Program,
    Call,
}

struct Entry {
    definition: Arc<CheckDefinition>,
    generation: u64,
    what: What,
}

enum What {
    Runs(Runs),
    /// What it is an alias of.
    Follows(#[expect(dead_code, reason = "dropping it ends the task")] AbortOnDropHandle<()>),
}

/// A check that is run again and again.
struct Runs {
    rhythm: Rhythm,
    judge: Judge,
    kind: Kind,
    stage: Stage,
    /// While it does not run.
    prober: Option<Box<dyn Find>>,
}

enum Stage {
    Due(Appointment),
    /// For a place.
    Waiting,
    Running(AbortHandle),
}

impl Driver {
    pub(super) fn new(
        seed: u64,
        prepare: Prepare,
        local: Local,
        catalog: Arc<dyn Catalog>,
    ) -> Self {
        Self {
            prepare,
            local,
            catalog,
            random: SmallRng::seed_from_u64(seed),
            checks: BTreeMap::new(),
            agenda: Agenda::new(),
            programs: Lane::new(PROGRAMS_MAX),
            calls: Lane::new(CALLS_MAX),
            jobs: JoinSet::new(),
            running: HashMap::new(),
            found: mpsc::channel(ALIASES_WAITING_MAX),
            started: 0,
        }
    }

    /// Drives all checks until `stop` is cancelled.
    pub(super) async fn run(mut self, wishes: Arc<Wishes>, stop: CancellationToken) {
        loop {
            for (check, wish) in wishes.take() {
                self.obey(check, wish);
            }
            self.catch_up();
            let next = self.agenda.next();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = wishes.made.notified() => {}
                Some(found) = self.found.1.recv() => self.take(found),
                Some(joined) = self.jobs.join_next_with_id() => self.conclude(joined),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
        self.checks.clear();
        self.jobs.shutdown().await;
    }

    /// Does all that there is to do now, so that many wishes keep nothing else waiting.
    fn catch_up(&mut self) {
        while let Ok(found) = self.found.1.try_recv() {
            self.take(found);
        }
        while let Some(joined) = self.jobs.try_join_next_with_id() {
            self.conclude(joined);
        }
        let now = Instant::now();
        while let Some(check) = self.agenda.pop(now) {
            self.queue(check);
        }
        for kind in [Kind::Program, Kind::Call] {
            while let Some(check) = self.lane(kind).enter() {
                self.launch(check, kind);
            }
        }
    }

    fn obey(&mut self, check: Text, wish: Wish) {
        let Wish::Run { definition, afresh } = wish else { return self.stop(&check) };
        if let Some(entry) = self.checks.get(&check) {
            if !afresh && entry.definition == definition {
                return;
            }
            self.stop(&check);
        }
        self.started += 1;
        let generation = self.started;
        let what = match (self.prepare)(&definition) {
            Prepared::Probe(prober) => What::Runs(self.runs(&definition, prober)),
            Prepared::Alias { node, service } => {
                let seed = self.random.next_u64();
                let alias = Alias { check: check.clone(), generation, node, service, seed };
                let task = alias.follow(&self.local, &self.catalog, self.found.0.clone());
                What::Follows(AbortOnDropHandle::new(tokio::spawn(task)))
            }
            Prepared::Reported => return,
        };
        self.checks.insert(check, Entry { definition, generation, what });
    }

    /// Gives a check its beats.
    fn runs(&mut self, definition: &CheckDefinition, prober: Box<dyn Find>) -> Runs {
        let rhythm = Rhythm::new(definition.interval, Instant::now(), &mut self.random);
        Runs {
            rhythm,
            judge: Judge::new(definition.thresholds),
            kind: if is_program(&definition.probe) { Kind::Program } else { Kind::Call },
            stage: Stage::Due(self.agenda.add(rhythm.first(), definition.id.clone())),
            prober: Some(prober),
        }
    }

    fn stop(&mut self, check: &Text) {
        let Some(entry) = self.checks.remove(check) else { return };
        match entry.what {
            What::Runs(Runs { stage: Stage::Due(appointment), .. }) => {
                self.agenda.cancel(appointment);
            }
            What::Runs(Runs { stage: Stage::Waiting, kind, .. }) => self.lane(kind).forget(check),
            What::Runs(Runs { stage: Stage::Running(task), .. }) => {
                task.abort();
                if let Some(job) = self.running.get_mut(&task.id()) {
                    job.check = None;
                }
            }
            // It ends with its handle.
            What::Follows(_) => {}
        }
    }

    /// Lets a check that is due wait for a place.
    fn queue(&mut self, check: Text) {
        if let Some(Entry { what: What::Runs(runs), .. }) = self.checks.get_mut(&check) {
            runs.stage = Stage::Waiting;
            let kind = runs.kind;
            self.lane(kind).wait(check);
        }
    }

    /// Runs a check that was given a place.
    fn launch(&mut self, check: Text, kind: Kind) {
        let Some(Entry { what: What::Runs(runs), .. }) = self.checks.get_mut(&check) else {
            return self.lane(kind).leave();
        };
        let Some(mut prober) = runs.prober.take() else { return self.lane(kind).leave() };
        let task = self.jobs.spawn(async move {
            let finding = prober.find().await;
            Done { prober, finding }
        });
        self.running.insert(task.id(), Job { check: Some(check), kind });
        runs.stage = Stage::Running(task);
    }

    /// Takes what a run found out, and puts the check off until its next beat.
    fn conclude(&mut self, joined: Result<(Id, Done), JoinError>) {
        let id = match &joined {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(Job { check, kind }) = self.running.remove(&id) else { return };
        self.lane(kind).leave();
        let Some(check) = check else { return };
        let Some(entry) = self.checks.get_mut(&check) else { return };
        let What::Runs(runs) = &mut entry.what else { return };
        let finding = match joined {
            Ok((_, Done { prober, finding })) => {
                runs.prober = Some(prober);
                finding
            }
            Err(error) => {
                error!(%check, %error, "a check failed within this agent");
                if let Prepared::Probe(prober) = (self.prepare)(&entry.definition) {
                    runs.prober = Some(prober);
                }
                Finding::critical("the check failed within this agent: see its log".to_owned())
            }
        };
        let at = runs.rhythm.after(Instant::now());
        runs.stage = Stage::Due(self.agenda.add(at, check.clone()));
        match runs.judge.judge(finding.health) {
            Some(health) => self.report(&check, health, &finding.output),
            None => debug!(%check, found = %finding.health, "not often enough in a row to count"),
        }
    }

    /// Takes what an alias found out, unless it was stopped in the meantime.
    fn take(&mut self, Found { check, generation, finding }: Found) {
        if self.checks.get(&check).is_some_and(|entry| entry.generation == generation) {
            self.report(&check, finding.health, &finding.output);
        }
    }

    fn report(&self, check: &Text, health: Health, output: &str) {
        match self.local.report(check, health, output) {
            Ok(()) => {}
            // It is about to be stopped.
            Err(LocalError::Unknown(_)) => {}
            Err(error @ LocalError::Store(_)) => warn!(%check, %error, "a result was not kept"),
        }
    }

    fn lane(&mut self, kind: Kind) -> &mut Lane {
        match kind {
            Kind::Program => &mut self.programs,
            Kind::Call => &mut self.calls,
        }
    }
}
