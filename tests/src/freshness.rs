//! Decides whether stale reads are as old as they say at most.
//!
//! ```text
//! time   ----proof: index 7---------------------stale read begins: index 5, "heard 300 ms ago"---->
//!                    |<-- more than 300 ms and the lag -->|          a lie: it has to show index 7
//! ```
//!
//! Whoever reads what may be stale is told how long ago the server heard from its leader. What was
//! acknowledged, or shown to anybody who read the truth, longer ago than that has to show. A [`LAG_MAX`]
//! goes for what is on its way: the leader's message tells what was committed when it was sent.
//!
//! Indexes of a key grow with the log, also those of a key that is absent.

use std::{collections::BTreeMap, time::Duration};

/// How much older a state may be than the word of the leader that brought it: a message may be on its
/// way for half a second, and has to be sent again when it is lost.
pub const LAG_MAX: Duration = Duration::from_secs(1);

/// What was proven, and what was claimed.
#[derive(Debug, Default)]
pub struct Freshness {
    /// By key: when it was certain that the key had come as far as an index.
    proofs: BTreeMap<String, Vec<(Duration, u64)>>,
    claims: Vec<Claim>,
}

/// A stale read.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who read.
    pub client: usize,
    /// What.
    pub key: String,
    /// When it began.
    pub begin: Duration,
    /// How long ago the server said that it had heard from its leader.
    pub last_contact: Duration,
    /// The key's index that it showed.
    pub index: u64,
}

impl Freshness {
    /// Notes that at some time a key certainly had come as far as an index.
    pub fn prove(&mut self, key: &str, at: Duration, index: u64) {
        self.proofs.entry(key.to_owned()).or_default().push((at, index));
    }

    /// Notes a stale read.
    pub fn claim(&mut self, claim: Claim) {
        self.claims.push(claim);
    }

    /// Returns what is wrong with each stale read that showed something older than it may.
    pub fn flaws(&self) -> impl Iterator<Item = String> {
        self.claims.iter().filter_map(|claim| {
            let Claim { client, key, begin, last_contact, index } = claim;
            let (at, proven) = self.missing(claim)?;
            let age = *begin - at;
            Some(format!(
                "{key}: client {client} read index {index} at {begin:?} from a server that had heard \
                 from its leader {last_contact:?} ago; index {proven} was there {age:?} before"
            ))
        })
    }

    /// Returns the first proof of something that a stale read should have shown.
    fn missing(&self, claim: &Claim) -> Option<(Duration, u64)> {
        let until = claim.begin.checked_sub(claim.last_contact)?.checked_sub(LAG_MAX)?;
        let proofs = self.proofs.get(&claim.key)?.iter().copied();
        proofs.filter(|(at, index)| *at <= until && *index > claim.index).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaws(begin: Duration, last_contact: Duration, index: u64) -> usize {
        let mut freshness = Freshness::default();
        freshness.prove("a", Duration::from_secs(10), 7);
        let key = "a".to_owned();
        freshness.claim(Claim { client: 1, key, begin, last_contact, index });
        freshness.flaws().count()
    }

    #[test]
    fn what_was_proven_before_the_last_contact_has_to_show() {
        let soon = Duration::from_secs(10) + LAG_MAX;
        let late = soon + Duration::from_millis(300);
        let contact = Duration::from_millis(300);
        assert_eq!(flaws(late, contact, 6), 1);
        assert_eq!(flaws(late, contact, 7), 0);
        assert_eq!(flaws(late, contact + Duration::from_millis(1), 6), 0);
        assert_eq!(flaws(soon, Duration::ZERO, 6), 1);
        assert_eq!(flaws(soon - Duration::from_millis(1), Duration::ZERO, 6), 0);
    }
}
