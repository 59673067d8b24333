//! Answers of recursors, for as long as they allow.
//!
//! An answer is kept for the shortest time that one of its records allows; that there is none, as
//! long as the zone's SOA record allows (RFC 2308). The oldest makes room.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use hickory_proto::{
    op::Query,
    rr::{RData, Record},
};
use tokio::time::Instant;

use crate::dns::answer::Reply;

/// Most answers that are kept: with [`RECORDS_MAX`] a few MiB.
const ANSWERS_MAX: usize = 4096;

/// Most records of an answer that is kept.
const RECORDS_MAX: usize = 32;

/// Longest time that an answer is kept, whatever it allows.
const AGE_MAX: Duration = Duration::from_secs(3600);

/// The answers.
#[derive(Default)]
pub(super) struct Kept {
    by_query: HashMap<Query, Entry>,
    /// In the order in which they came, each once.
    oldest: VecDeque<Query>,
}

struct Entry {
    reply: Reply,
    since: Instant,
    until: Instant,
}

impl Kept {
    /// Returns an answer with the times that are left.
    pub(super) fn get(&self, query: &Query, now: Instant) -> Option<Reply> {
        let entry = self.by_query.get(&key(query)).filter(|entry| now < entry.until)?;
        let age = u32::try_from(now.duration_since(entry.since).as_secs()).unwrap_or(u32::MAX);
        let mut reply = entry.reply.clone();
        for record in all(&mut reply) {
            record.decrement_ttl(age);
        }
        Some(reply)
    }

    /// Keeps an answer, if it may be kept.
    pub(super) fn put(&mut self, query: &Query, reply: &Reply, now: Instant) {
        let allowed = allowed(reply).min(AGE_MAX);
        let records = reply.answers.len() + reply.authorities.len() + reply.extras.len();
        if allowed.is_zero() || records > RECORDS_MAX {
            return;
        }
        let entry = Entry { reply: reply.clone(), since: now, until: now + allowed };
        let key = key(query);
        if self.by_query.insert(key.clone(), entry).is_none() {
            self.oldest.push_back(key);
        }
        while self.by_query.len() > ANSWERS_MAX {
            let Some(oldest) = self.oldest.pop_front() else { return };
            self.by_query.remove(&oldest);
        }
    }
}

/// Capitals don't make another question.
fn key(query: &Query) -> Query {
    let mut key = query.clone();
    key.set_name(query.name.to_lowercase());
    key
}

fn all(reply: &mut Reply) -> impl Iterator<Item = &mut Record> {
    let extras = reply.extras.iter_mut().map(|(_, record)| record);
    reply.answers.iter_mut().chain(&mut reply.authorities).chain(extras)
}

/// Returns how long an answer may be kept.
fn allowed(reply: &Reply) -> Duration {
    let positive = reply.answers.iter().map(|record| record.ttl).min();
    let negative = || {
        reply.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })
    };
    Duration::from_secs(positive.or_else(negative).unwrap_or(0).into())
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::ResponseCode,
        rr::{
            Name, RecordType,
            rdata::{A, SOA},
        },
    };

    use super::*;

    fn query(name: &str) -> Query {
        Query::query(Name::from_ascii(name).unwrap(), RecordType::A)
    }

    fn found(ttls: &[u32]) -> Reply {
        let record =
            |ttl: &u32| Record::from_rdata(Name::root(), *ttl, RData::A(A::new(10, 0, 0, 1)));
        Reply { answers: ttls.iter().map(record).collect(), ..Reply::code(ResponseCode::NoError) }
    }

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_is_kept_as_long_as_each_of_its_records_allows() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.put(&query("a.example."), &found(&[9, 5]), now);
        let left = kept.get(&query("A.Example."), after(now, 4)).unwrap();
        assert_eq!(left.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [5, 1]);
        assert_eq!(kept.get(&query("a.example."), after(now, 5)), None);
        assert_eq!(kept.get(&query("b.example."), now), None);
    }

    #[test]
    fn that_there_is_none_is_kept_as_long_as_the_zone_allows() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        let soa = SOA::new(Name::root(), Name::root(), 1, 2, 3, 4, 6);
        let none = Reply {
            authorities: vec![Record::from_rdata(Name::root(), 60, RData::SOA(soa))],
            ..Reply::code(ResponseCode::NXDomain)
        };
        kept.put(&query("a.example."), &none, now);
        assert!(kept.get(&query("a.example."), after(now, 5)).is_some());
        assert!(kept.get(&query("a.example."), after(now, 6)).is_none());
        let silent = Reply::code(ResponseCode::NXDomain);
        kept.put(&query("b.example."), &silent, now);
        assert!(kept.get(&query("b.example."), now).is_none());
    }

    #[test]
    fn the_oldest_makes_room_and_the_largest_are_not_kept() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        for number in 0..ANSWERS_MAX + 10 {
            kept.put(&query(&format!("n{number}.example.")), &found(&[60]), now);
        }
        assert_eq!((kept.by_query.len(), kept.oldest.len()), (ANSWERS_MAX, ANSWERS_MAX));
        assert!(kept.get(&query("n9.example."), now).is_none());
        assert!(kept.get(&query("n10.example."), now).is_some());
        kept.put(&query("large.example."), &found(&[60; RECORDS_MAX + 1]), now);
        assert!(kept.get(&query("large.example."), now).is_none());
    }

    #[test]
    fn nothing_is_kept_for_longer_than_an_hour() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.put(&query("a.example."), &found(&[u32::MAX]), now);
        assert!(kept.get(&query("a.example."), after(now, 3599)).is_some());
        assert!(kept.get(&query("a.example."), after(now, 3600)).is_none());
    }
}
