//! One server of another datacenter, as its path and the fellow servers show it.

use std::{net::SocketAddr, time::Duration};

use certs::link::Pace;
use tokio::sync::watch;

use super::{FAINT_MIN, Link, QUIET_MIN, Report, STALE_MIN, UNSEEN_MAX};
use crate::{
    routes::Reach,
    verdict::{Path, Seen},
    word::Word,
};

/// A server that is followed.
pub(super) struct Tracked {
    pub(super) addr: SocketAddr,
    pub(super) left: bool,
    /// How closely it is watched.
    pub(super) pace: Pace,
    /// The own path to it; unknown while it is not watched.
    pub(super) path: Path,
    pub(super) since: Duration,
    /// Whether it is slow to answer a heartbeat.
    pub(super) is_awaited: bool,
    pub(super) reason: String,
    pub(super) rtt: Option<Duration>,
    pub(super) word: Option<Word>,
    pub(super) reach: watch::Sender<Reach>,
    ever_up: bool,
    knocks: bool,
    beats: (u32, u32),
}

impl Tracked {
    pub(super) fn new(now: Duration, addr: SocketAddr) -> Self {
        Self {
            addr,
            left: false,
            pace: Pace::Rest,
            path: Path::Unknown,
            since: now,
            is_awaited: false,
            reason: String::new(),
            rtt: None,
            word: None,
            reach: watch::Sender::new(Reach::Dialing),
            ever_up: false,
            knocks: false,
            beats: (0, 0),
        }
    }

    /// Takes in how closely it is to be watched from now on.
    pub(super) fn watch(&mut self, now: Duration, pace: Pace) {
        if (self.pace == Pace::Rest) != (pace == Pace::Rest) {
            self.path = Path::Unknown;
            self.since = now;
            self.ever_up = false;
        }
        self.pace = pace;
    }

    /// Takes in what the link reports, `None` when it has never heard of the server, and what
    /// fellow servers see of it, if they do.
    pub(super) fn follow(&mut self, now: Duration, report: Option<&Report>, told: Option<&Seen>) {
        let up = report.filter(|report| report.link == Link::Up);
        if self.pace != Pace::Rest {
            self.follow_path(now, up.is_some());
        }
        self.knocks = report.is_some_and(|report| report.knocks);
        self.is_awaited = up.is_some_and(|report| report.awaited >= Some(FAINT_MIN));
        self.beats = report.map_or((0, 0), |report| (report.beats, report.beats_lost));
        let told_up = told.filter(|told| told.path == Path::Up);
        let heard = up.filter(|report| report.silent < STALE_MIN);
        self.rtt = up.and_then(|report| report.rtt).or(told_up.and_then(|it| it.rtt)).or(self.rtt);
        self.word = match heard {
            Some(report) => report.word,
            None => told_up.and_then(|told| told.word),
        };
        self.reason = match (report.map(|report| &report.link), self.path) {
            (Some(Link::Down { reason }), Path::Down) => reason.clone(),
            _ => String::new(),
        };
        let reach = self.reach_by(up, told);
        self.reach.send_if_modified(|held| std::mem::replace(held, reach) != reach);
    }

    fn follow_path(&mut self, now: Duration, up: bool) {
        let waited = self.path == Path::Unknown && now - self.since >= UNSEEN_MAX;
        let path = match up {
            true => Path::Up,
            false if self.ever_up || self.path == Path::Down || waited => Path::Down,
            false => Path::Unknown,
        };
        if path != self.path {
            self.path = path;
            self.since = now;
        }
        self.ever_up |= up;
    }

    fn reach_by(&self, up: Option<&Report>, told: Option<&Seen>) -> Reach {
        match up {
            Some(report) if report.awaited >= Some(QUIET_MIN) => Reach::Quiet,
            Some(report) if report.silent >= STALE_MIN => Reach::Quiet,
            Some(report) if report.awaited >= Some(FAINT_MIN) => Reach::Faint,
            Some(_) => Reach::Live,
            None if self.path == Path::Down => Reach::Down,
            None if told.is_some_and(|told| told.path == Path::Down) => Reach::Down,
            None => Reach::Dialing,
        }
    }

    /// Returns what this server sees of it.
    pub(super) fn seen(&self, now: Duration) -> Seen {
        Seen {
            path: self.path,
            age: now.saturating_sub(self.since),
            reason: self.reason.clone(),
            knocks: self.knocks,
            rtt: self.rtt,
            beats: self.beats.0,
            beats_lost: self.beats.1,
            word: self.word.filter(|_| self.path == Path::Up),
        }
    }
}
