//! Keeps a log from filling with the same complaint.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::time::Instant;

/// How long the same complaint about the same address is not repeated.
const QUIET: Duration = Duration::from_secs(60);

/// Most complaints remembered; a scan from many addresses ends in silence, not in memory.
const REMEMBERED_MAX: usize = 256;

/// What was complained about lately.
#[derive(Debug, Default)]
pub struct Complaints(BTreeMap<(IpAddr, String), Instant>);

impl Complaints {
    /// Tells whether to log it now: not if the same was logged a moment ago, or too many others.
    pub fn is_new(&mut self, now: Instant, about: IpAddr, reason: &str) -> bool {
        self.0.retain(|_, at| now.duration_since(*at) < QUIET);
        let key = (about, reason.to_owned());
        if self.0.contains_key(&key) || self.0.len() >= REMEMBERED_MAX {
            return false;
        }
        self.0.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_complaint_is_repeated_after_a_minute_only() {
        let mut complaints = Complaints::default();
        let addr = IpAddr::from([127, 0, 0, 1]);
        let start = Instant::now();
        assert!(complaints.is_new(start, addr, "expired"));
        assert!(!complaints.is_new(start + QUIET / 2, addr, "expired"));
        assert!(complaints.is_new(start + QUIET / 2, addr, "unknown issuer"));
        assert!(complaints.is_new(start + QUIET, addr, "expired"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_complaints_takes_bounded_memory() {
        let mut complaints = Complaints::default();
        let now = Instant::now();
        for n in 0..10_000_u32 {
            complaints.is_new(now, IpAddr::from(n.to_be_bytes()), "expired");
        }
        assert_eq!(complaints.0.len(), REMEMBERED_MAX);
    }
}
