//! What one source may take of a gateway: flows, unverified ones among them, and how fast it begins them.
//!
//! A source is an IPv4 address or a /64 of IPv6, which one customer of any provider has. Anybody may write any
//! source into a datagram: so all of them together have a bound as well, and what is remembered of them has one.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Most sources that are told apart; those that come then share one budget.
const SOURCES_MAX: usize = 65_536;

/// Beginnings of flows that a source may send at once, and how many more in a second: a thousand agents behind one
/// address have reconnected within a quarter of a minute.
const BURST: f64 = 128.0;
const RATE: f64 = 64.0;

/// The same for all sources together: to read one costs 50 µs at most, a fifth of a core.
const BURST_OF_ALL: f64 = 4000.0;
const RATE_OF_ALL: f64 = 4000.0;

/// Where datagrams claim to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

/// The budgets of all sources.
#[derive(Debug)]
pub(super) struct Budgets {
    all: Bucket,
    sources: BTreeMap<Source, Budget>,
}

/// What a source has taken.
#[derive(Debug)]
pub(super) struct Budget {
    bucket: Bucket,
    pub(super) flows: usize,
    pub(super) unverified: usize,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Source {
    pub(super) fn of(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(addr) => Self(addr.into()),
            IpAddr::V6(addr) => {
                let network = addr.to_bits() & !u128::from(u64::MAX);
                Self(Ipv6Addr::from_bits(network).into())
            }
        }
    }
}

impl Bucket {
    fn full(now: Duration, burst: f64) -> Self {
        Self { tokens: burst, at: now }
    }

    fn fill(&mut self, now: Duration, rate: f64, burst: f64) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(burst);
        self.at = self.at.max(now);
    }

    fn take(&mut self, now: Duration, rate: f64, burst: f64) -> bool {
        self.fill(now, rate, burst);
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }
}

impl Budgets {
    pub(super) fn new(now: Duration) -> Self {
        Self { all: Bucket::full(now, BURST_OF_ALL), sources: BTreeMap::new() }
    }

    /// Takes the right to begin something from a source; `false` if it has to wait.
    pub(super) fn begin(&mut self, now: Duration, source: Source) -> bool {
        self.of(now, source).bucket.take(now, RATE, BURST)
            && self.all.take(now, RATE_OF_ALL, BURST_OF_ALL)
    }

    /// Returns what a source has taken.
    pub(super) fn of(&mut self, now: Duration, source: Source) -> &mut Budget {
        let source = match self.sources.contains_key(&source) || self.sources.len() < SOURCES_MAX {
            true => source,
            false => Source(Ipv6Addr::UNSPECIFIED.into()),
        };
        self.sources.entry(source).or_insert_with(|| Budget {
            bucket: Bucket::full(now, BURST),
            flows: 0,
            unverified: 0,
        })
    }

    /// Forgets those who have nothing and might take everything.
    pub(super) fn forget(&mut self, now: Duration) {
        self.sources.retain(|_, budget| {
            budget.bucket.fill(now, RATE, BURST);
            budget.flows > 0 || budget.unverified > 0 || budget.bucket.tokens < BURST
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn source(addr: &str) -> Source {
        Source::of(addr.parse().unwrap())
    }

    /// Counts how often a source may begin, of so many attempts.
    fn begun(budgets: &mut Budgets, now: Duration, source: Source, attempts: usize) -> usize {
        (0..attempts).filter(|_| budgets.begin(now, source)).count()
    }

    #[test]
    fn a_source_has_its_rate_and_others_have_theirs() {
        let mut budgets = Budgets::new(Duration::ZERO);
        let (one, other) = (source("10.0.0.1"), source("10.0.0.2"));
        assert_eq!(begun(&mut budgets, Duration::ZERO, one, 1000), BURST as usize);
        assert_eq!(begun(&mut budgets, Duration::ZERO, other, 10), 10);
        assert_eq!(begun(&mut budgets, SECOND, one, 1000), RATE as usize);
    }

    #[test]
    fn all_sources_together_have_a_rate() {
        let mut budgets = Budgets::new(Duration::ZERO);
        let begun = (0..10_000_u32).filter(|n| {
            budgets.begin(Duration::ZERO, Source::of(std::net::Ipv4Addr::from_bits(*n).into()))
        });
        assert_eq!(begun.count(), BURST_OF_ALL as usize);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_ipv4_is_the_same_in_both_families() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:2"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    }

    #[test]
    fn sources_are_forgotten_and_never_more_than_so_many() {
        let mut budgets = Budgets::new(Duration::ZERO);
        for n in 0..SOURCES_MAX as u32 + 100 {
            budgets.of(Duration::ZERO, Source::of(std::net::Ipv4Addr::from_bits(n).into()));
        }
        assert_eq!(budgets.sources.len(), SOURCES_MAX + 1);
        budgets.of(Duration::ZERO, source("0.0.0.1")).flows = 1;
        budgets.forget(SECOND);
        assert_eq!(budgets.sources.len(), 1);
    }
}
