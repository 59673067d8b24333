//! The drill `lose-datacenter`.
//!
//! ```text
//!   given    a federation under load: clients write and read in and across all datacenters
//!   break    every server and gateway of one datacenter is killed with SIGKILL at once
//!   expect   the others answer what does not concern it as before, fail what does with a clear
//!            error, and know within seconds
//!   recover  its servers are started again with their data: leader, answers, members, and every
//!            acknowledged write
//! ```

use std::time::Duration;

use tokio::time::Instant;
use topology::{Datacenter, Role, plan::Plan};

use crate::{
    drill::{
        DrillError,
        bounds::RECOVERY_WITHIN,
        history::{History, Marks},
        observe::{self, Prober},
        report::Report,
        workload::Workload,
    },
    http_client::HttpClient,
    processes::{Federation, progress::Progress},
};

/// How long the federation may take to get ready at the start.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long the clients run before anything breaks: what is normal.
const BEFORE: Duration = Duration::from_secs(5);

/// How long they run on when all is well again.
const AFTER: Duration = Duration::from_secs(2);

/// How long recovery is watched: twice its bound, to see by how much it is missed.
const RECOVERY_WATCHED: Duration = Duration::from_secs(2 * RECOVERY_WITHIN.as_secs());

/// How long a datacenter may take to say at the end what it holds.
const STORED_WITHIN: Duration = Duration::from_secs(10);

/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// How long the servers stay down unless something else is asked for.
pub const DOWN_DEFAULT: Duration = Duration::from_secs(10);

/// Shortest time down: the verdict may take 5 s, and has to be seen to hold.
pub const DOWN_MIN: Duration = Duration::from_secs(6);

/// Longest time down: the whole history is kept in memory.
pub const DOWN_MAX: Duration = Duration::from_secs(600);

/// What to lose, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The datacenter to lose.
    pub dc: Datacenter,
    /// How long its servers stay down.
    pub down: Duration,
}

impl Options {
    /// Checks that a plan has the datacenter to lose and another one to watch from.
    pub fn check(&self, plan: &Plan) -> Result<(), DrillError> {
        let all: Vec<_> = plan.datacenters.iter().map(|site| site.name.clone()).collect();
        if plan.site(&self.dc).is_some() && all.len() > 1 {
            return Ok(());
        }
        Err(DrillError::Datacenter { dc: self.dc.clone(), all })
    }
}

/// A drill under way.
struct Drill<'a> {
    http: HttpClient,
    federation: &'a mut Federation,
    progress: &'a dyn Progress,
    options: Options,
    workload: Workload,
    zero: Instant,
}

/// Runs the drill on a federation that was started, and judges it.
pub async fn run(
    options: Options,
    federation: &mut Federation,
    progress: &dyn Progress,
) -> Result<Report, DrillError> {
    let mut drill = given(options, federation, progress).await?;
    let given = drill.sentence();
    let prober =
        Prober::start(&drill.http, drill.federation.layout(), &drill.options.dc, drill.zero);
    let (killing, killed) = drill.break_it().await?;
    drill.run_for("lost", drill.options.down).await?;
    let restarted = drill.recover()?;
    let (leader_back, whole) = drill.watch_recovery(restarted).await;
    let probes = prober.stop().await;
    drill.run_for("after", AFTER).await?;
    let ended = drill.zero.elapsed();
    let marks = Marks { killing, killed, restarted, ended };
    let history = drill.history(marks, probes, leader_back, whole).await;
    Ok(Report::new(given, &history))
}

/// Waits until the federation is ready and lets clients run on it for a while.
async fn given<'a>(
    options: Options,
    federation: &'a mut Federation,
    progress: &'a dyn Progress,
) -> Result<Drill<'a>, DrillError> {
    let http = HttpClient::new();
    let started = Instant::now();
    progress.step(&federation.started());
    federation.ready(&http, progress, READY_WITHIN).await?;
    progress.step(&format!("ready after {:.1} s", started.elapsed().as_secs_f64()));
    let zero = Instant::now();
    let workload = Workload::start(&http, federation.layout(), zero);
    progress.step(&format!("{} clients write and read in and across", workload.clients()));
    let mut drill = Drill { http, federation, progress, options, workload, zero };
    drill.run_for("before", BEFORE).await?;
    Ok(drill)
}

impl Drill<'_> {
    fn sentence(&self) -> String {
        let layout = self.federation.layout();
        let servers = layout.servers().count();
        let names: Vec<String> = layout.datacenters().iter().map(ToString::to_string).collect();
        format!(
            "Lost {} of {} ({servers} servers, {} client agents) for {} s under {} clients.",
            self.options.dc,
            names.join(", "),
            layout.nodes.iter().filter(|node| node.role == Role::Client).count(),
            self.options.down.as_secs(),
            self.workload.clients(),
        )
    }

    /// Kills the servers; returns when that began and when it was done.
    async fn break_it(&mut self) -> Result<(Duration, Duration), DrillError> {
        let killing = self.zero.elapsed();
        self.federation.kill_outward(&self.options.dc).await?;
        let killed = self.zero.elapsed();
        self.progress.step(&format!("killed every server of {}", self.options.dc));
        Ok((killing, killed))
    }

    /// Starts the servers again; returns when.
    fn recover(&mut self) -> Result<Duration, DrillError> {
        let restarted = self.zero.elapsed();
        self.federation.start_outward(&self.options.dc)?;
        self.progress.step(&format!("started the servers of {} again", self.options.dc));
        Ok(restarted)
    }

    /// Waits for the leader and for everyone to see everyone; returns when they were seen.
    async fn watch_recovery(&self, restarted: Duration) -> (Option<Duration>, Option<Duration>) {
        let layout = self.federation.layout();
        let (http, zero, within) = (&self.http, self.zero, RECOVERY_WATCHED);
        let watch = async {
            let (leader, whole) = tokio::join!(
                observe::leader_back(http, layout, &self.options.dc, zero, within),
                observe::whole(http, layout, zero, within),
            );
            let after = |at: Option<Duration>| match at {
                Some(at) => format!("{:.1} s", at.saturating_sub(restarted).as_secs_f64()),
                None => "not at all".to_owned(),
            };
            let (led, all) = (after(leader), after(whole));
            self.progress.step(&format!("leader back: {led}; all members alive: {all}"));
            (leader, whole)
        };
        tokio::pin!(watch);
        loop {
            tokio::select! {
                biased;
                seen = &mut watch => return seen,
                _ = tokio::time::sleep(PROGRESS_EVERY) => self.show("recovering"),
            }
        }
    }

    /// Lets the clients go on for so long.
    async fn run_for(&mut self, phase: &str, time: Duration) -> Result<(), DrillError> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.show(phase);
            self.federation.check_running()?;
            tokio::time::sleep_until(until.min(Instant::now() + PROGRESS_EVERY)).await;
        }
        Ok(())
    }

    fn show(&self, phase: &str) {
        let counts = self.federation.layout().datacenters().into_iter().map(|dc| {
            let (answers, errors) = self.workload.tally().of(&dc);
            format!("{dc} {answers} answers {errors} errors")
        });
        let counts = counts.collect::<Vec<_>>().join("; ");
        let at = self.zero.elapsed().as_secs_f64();
        self.progress.live(&format!("{at:>5.1} s  {phase}: {counts}"));
    }

    /// Stops the clients and reads what is stored.
    async fn history(
        self,
        marks: Marks,
        probes: Vec<crate::drill::history::Probe>,
        leader_back: Option<Duration>,
        whole: Option<Duration>,
    ) -> History {
        let layout = self.federation.layout();
        let operations = self.workload.stop().await;
        self.progress.step(&format!("checking the outcome of {} requests", operations.len()));
        let mut stored = std::collections::BTreeMap::new();
        for dc in layout.datacenters() {
            if let Some(held) = observe::stored(&self.http, layout, &dc, STORED_WITHIN).await {
                stored.insert(dc, held);
            }
        }
        let surviving = layout.servers().filter(|node| node.dc != self.options.dc);
        History {
            datacenters: layout.datacenters(),
            surviving_servers: surviving.map(|node| node.label()).collect(),
            lost: self.options.dc,
            marks,
            operations,
            probes,
            leader_back,
            whole,
            stored,
        }
    }
}
