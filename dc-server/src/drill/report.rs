//! What a drill prints: the same facts as text for people and as JSON for scripts.

use std::fmt::Write;

use serde::Serialize;

use crate::drill::{
    audit::{self, Audit},
    bounds::{self, Bound, Latency},
    history::History,
    timeline::{self, Counts, Event, Second, What},
};

/// The result of a drill.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The name of the drill.
    pub drill: String,
    /// What was set up and broken, in a sentence.
    pub given: String,
    /// Whether every bound was kept.
    pub kept: bool,
    /// What happened, in the order of time.
    pub timeline: Vec<Event>,
    /// Answers and errors, second by second.
    pub seconds: Vec<Second>,
    /// How long requests took that do not concern the lost datacenter.
    pub others: Others,
    /// What became of the writes.
    pub writes: Audit,
    /// The bounds.
    pub bounds: Vec<Bound>,
}

/// Latency of the requests that do not concern the lost datacenter.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Others {
    /// Before the kill.
    pub before: Latency,
    /// While it was lost.
    pub lost: Latency,
}

impl Report {
    /// Judges a history.
    pub fn new(given: String, history: &History) -> Self {
        let line = timeline::read(history);
        let writes = audit::check(history);
        let bounds = bounds::judge(history, &line, &writes);
        Self {
            drill: "lose-datacenter".to_owned(),
            given,
            kept: bounds.iter().all(|bound| bound.kept),
            timeline: line.events,
            seconds: timeline::seconds(history),
            others: others(history),
            writes,
            bounds,
        }
    }

    /// Writes the report for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}", self.given);
        self.write_timeline(&mut out);
        self.write_seconds(&mut out);
        self.write_others(&mut out);
        self.write_writes(&mut out);
        self.write_bounds(&mut out);
        out
    }

    fn write_timeline(&self, out: &mut String) {
        let _ = writeln!(out, "\nTimeline, in seconds from the kill");
        for event in &self.timeline {
            let _ = writeln!(out, "{:>9.3}  {:<14} {}", event.at_seconds, event.who, says(event));
        }
    }

    fn write_seconds(&self, out: &mut String) {
        let Some(first) = self.seconds.first() else { return };
        let _ =
            writeln!(out, "\nAnswers/errors by second and by the datacenter that was asked for");
        let _ = write!(out, "{:>9}", "second");
        for dc in first.across.keys() {
            let _ = write!(out, "  {:>10}", format!("for {dc}"));
        }
        let _ = writeln!(out, "  {:>16}", "at its own agents");
        for row in &self.seconds {
            let _ = write!(out, "{:>9}", row.second);
            for counts in row.across.values() {
                let _ = write!(out, "  {:>10}", shown(counts));
            }
            let _ = writeln!(out, "  {:>16}", shown(&row.inside_lost));
        }
    }

    fn write_others(&self, out: &mut String) {
        let ms = |seconds: f64| seconds * 1000.0;
        let _ = writeln!(out, "\nRequests that do not concern it");
        for (when, latency) in [("before", self.others.before), ("while lost", self.others.lost)] {
            let _ = writeln!(
                out,
                "{when:>12}: {:>6} requests, median {:.1} ms, 99 of 100 in {:.1} ms, longest {:.1} ms",
                latency.count,
                ms(latency.p50_seconds),
                ms(latency.p99_seconds),
                ms(latency.max_seconds),
            );
        }
    }

    fn write_writes(&self, out: &mut String) {
        let Audit { acknowledged, errors, unknown, lost, doubled, .. } = &self.writes;
        let _ = writeln!(
            out,
            "\nWrites: {acknowledged} acknowledged, {lost} of them lost, {doubled} applied twice; \
             {errors} answered with an error, {unknown} not answered"
        );
        for finding in &self.writes.findings {
            let _ = writeln!(out, "  {finding}");
        }
    }

    fn write_bounds(&self, out: &mut String) {
        let widest = |of: fn(&Bound) -> &str| self.bounds.iter().map(|b| of(b).len()).max();
        let what_len = widest(|bound| &bound.what).unwrap_or(0);
        let limit_len = widest(|bound| &bound.limit).unwrap_or(0);
        let _ =
            writeln!(out, "\n{:<8}{:<what_len$}  {:<limit_len$}  measured", "", "bound", "limit");
        for Bound { what, limit, measured, kept } in &self.bounds {
            let word = if *kept { "kept" } else { "BROKEN" };
            let _ = writeln!(out, "{word:<8}{what:<what_len$}  {limit:<limit_len$}  {measured}");
        }
        let broken = self.bounds.iter().filter(|bound| !bound.kept).count();
        let _ = match broken {
            0 => writeln!(out, "\nEvery bound was kept."),
            _ => writeln!(out, "\n{broken} of {} bounds were broken.", self.bounds.len()),
        };
    }
}

fn others(history: &History) -> Others {
    let (lost, marks) = (&history.lost, &history.marks);
    let during = |from, to| {
        let others = history.operations.iter().filter(|op| op.to != *lost && op.via.dc != *lost);
        Latency::of(others.filter(|op| op.start >= from && op.end <= to).map(|op| op.took()))
    };
    Others {
        before: during(std::time::Duration::ZERO, marks.killing),
        lost: during(marks.killed, marks.restarted),
    }
}

fn shown(counts: &Counts) -> String {
    match counts {
        Counts { answers, errors: 0 } => answers.to_string(),
        Counts { answers, errors } => format!("{answers}/{errors}"),
    }
}

fn says(event: &Event) -> String {
    let words = match event.what {
        What::LastGoodAnswer => "got the last good answer",
        What::Killed => "every server is killed (SIGKILL)",
        What::FirstClearError => "got the first clear error",
        What::Verdict => "knows that the datacenter is lost",
        What::Restarted => "its servers are started again",
        What::LeaderBack => "has a leader",
        What::FirstGoodAnswer => "got the first good answer from it again",
        What::Whole => "sees every member alive",
    };
    match &event.detail {
        Some(detail) => format!("{words}: {detail}"),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::sample;

    #[test]
    fn the_text_says_what_happened_and_what_was_kept() {
        let report = Report::new("dc2 of dc1, dc2".to_owned(), &sample::history());
        expect_test::expect![[r#"
            dc2 of dc1, dc2

            Timeline, in seconds from the kill
               -0.990  server-1.dc1   got the last good answer
                0.000  dc2            every server is killed (SIGKILL)
                1.900  server-1.dc1   got the first clear error: 500 Remote DC has no server currently reachable (took 0.900 s)
                3.002  server-1.dc1   knows that the datacenter is lost
               10.000  dc2            its servers are started again
               10.050  dc2            has a leader
               10.200  dc1            got the first good answer from it again
               11.000  every node     sees every member alive

            Answers/errors by second and by the datacenter that was asked for
               second     for dc1     for dc2  at its own agents
                   -1           0           1                 0
                    1           0         0/1                 0
                    5           1         0/1               0/1
                   10           0           1                 0

            Requests that do not concern it
                  before:      0 requests, median 0.0 ms, 99 of 100 in 0.0 ms, longest 0.0 ms
              while lost:      1 requests, median 5.0 ms, 99 of 100 in 5.0 ms, longest 5.0 ms

            Writes: 3 acknowledged, 0 of them lost, 0 applied twice; 3 answered with an error, 0 not answered

                    bound                                                     limit                         measured
            kept    every surviving server knows that the datacenter is lost  within 5.000 s                the last after 3.002 s
            kept    a request for it fails while the server does not know     within 2.000 s                99 of 100 in 0.900 s, all 1 in 0.900 s (Put at server-1.dc1)
            kept    a request for it fails when the server knows              99 of 100 within 0.050 s      99 of 100 in 0.010 s, all 1 in 0.010 s (Put at server-1.dc1)
            kept    no request for it goes without a clear answer             0                             0
            kept    no request fails that does not name it                    0                             0
            kept    it answers every other datacenter again                   within 15.000 s of its start  the last, dc1, after 0.200 s
            kept    every node sees every member alive again                  within 15.000 s of its start  after 1.000 s
            kept    no acknowledged write is lost                             0                             0 of 3
            kept    no write is applied twice                                 0                             0

            Every bound was kept.
        "#]].assert_eq(&report.text());
    }
}
