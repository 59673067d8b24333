//! The remembered requests of a state in a form that is small and quick to write: there may be a
//! million of them, in every snapshot.
//!
//! Requests come in the order of their ids, and an agent numbers its requests one by one: so the
//! differences between neighbours are small numbers, which are written as LEB128 (seven bits a
//! byte, the lowest first).

use std::sync::Arc;

use bytes::Bytes;
use lan_agent::ask::RequestId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::state::{Applied, catalog::Refusal, requests::Remembered, txn::Outcome};

/// What came of a request, as a number.
const NOTHING: u8 = 0;
const UNCHANGED: u8 = 1;
const DONE: u8 = 2;
const FORGOTTEN: u8 = 3;
const OUTCOME: u8 = 4;
const REFUSED: u8 = 5;

/// Requests, one column for each thing that is remembered of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Columns {
    /// The differences of the ids from the one before; the first from 0.
    ids: Bytes,
    /// The differences of the log indexes from the one before, the sign in the lowest bit.
    indexes: Bytes,
    /// What came of them, a byte each.
    applied: Bytes,
    /// The results of those that are transactions.
    #[serde(default)]
    outcomes: Vec<Arc<Outcome>>,
    /// Why those were refused that are.
    #[serde(default)]
    refusals: Vec<Refusal>,
}

impl Columns {
    /// Writes requests in the order of their ids. Returns the last id, if there is one.
    pub(super) fn write<'a>(
        requests: impl Iterator<Item = (RequestId, &'a Remembered)>,
    ) -> (Self, Option<RequestId>) {
        let (mut ids, mut indexes, mut applied) = (Vec::new(), Vec::new(), Vec::new());
        let (mut outcomes, mut refusals) = (Vec::new(), Vec::new());
        let (mut last, mut last_index) = (None::<RequestId>, 0_u64);
        for (id, remembered) in requests {
            let before = last.map_or(0, |id| id.0.as_u128());
            put(&mut ids, id.0.as_u128().wrapping_sub(before));
            put(&mut indexes, zigzag(remembered.index.wrapping_sub(last_index)).into());
            applied.push(match &remembered.applied {
                Applied::Nothing => NOTHING,
                Applied::Done(false) => UNCHANGED,
                Applied::Done(true) => DONE,
                Applied::Forgotten => FORGOTTEN,
                Applied::Txn(outcome) => {
                    outcomes.push(outcome.clone());
                    OUTCOME
                }
                Applied::Refused(refusal) => {
                    refusals.push(refusal.clone());
                    REFUSED
                }
            });
            (last, last_index) = (Some(id), remembered.index);
        }
        let (ids, indexes, applied) = (ids.into(), indexes.into(), applied.into());
        let columns = Self { ids, indexes, applied, outcomes, refusals };
        (columns, last)
    }

    /// Reads the requests; `None` when the columns do not fit together.
    pub(super) fn read(self) -> Option<Vec<(RequestId, Remembered)>> {
        let (mut ids, mut indexes) = (&*self.ids, &*self.indexes);
        let (mut outcomes, mut refusals) = (self.outcomes.into_iter(), self.refusals.into_iter());
        let (mut id, mut index) = (0_u128, 0_u64);
        let mut requests = Vec::with_capacity(self.applied.len());
        for number in &self.applied {
            id = id.wrapping_add(take(&mut ids)?);
            let difference = u64::try_from(take(&mut indexes)?).ok()?;
            index = index.wrapping_add(unzigzag(difference));
            let applied = match *number {
                NOTHING => Applied::Nothing,
                UNCHANGED => Applied::Done(false),
                DONE => Applied::Done(true),
                FORGOTTEN => Applied::Forgotten,
                OUTCOME => Applied::Txn(outcomes.next()?),
                REFUSED => Applied::Refused(refusals.next()?),
                _ => return None,
            };
            requests.push((RequestId(Uuid::from_u128(id)), Remembered { index, applied }));
        }
        let numbers_end = ids.is_empty() && indexes.is_empty();
        let results_end = outcomes.next().is_none() && refusals.next().is_none();
        (numbers_end && results_end).then_some(requests)
    }
}

/// Moves the sign to the lowest bit, so that small negative numbers are small.
fn zigzag(number: u64) -> u64 {
    (number << 1) ^ (number.cast_signed() >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

fn put(out: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u128> {
    let mut number = 0;
    for shift in (0..u128::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u128::from(byte & 0x7f);
        let shifted = bits << shift;
        if shifted >> shift != bits {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::state::catalog::Fault;

    fn applied() -> impl Strategy<Value = Applied> {
        prop_oneof![
            Just(Applied::Nothing),
            any::<bool>().prop_map(Applied::Done),
            Just(Applied::Forgotten),
            Just(Applied::Txn(Arc::default())),
            Just(Applied::Refused(refusal())),
        ]
    }

    fn refusal() -> Refusal {
        Refusal { fault: Fault::Catalog, sentence: "no".into() }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            requests in prop::collection::btree_map(any::<u128>(), (any::<u64>(), applied()), 0..50),
        ) {
            let rows: Vec<_> = requests
                .into_iter()
                .map(|(id, (index, applied))| {
                    (RequestId(Uuid::from_u128(id)), Remembered { index, applied })
                })
                .collect();
            let (columns, last) = Columns::write(rows.iter().map(|(id, row)| (*id, row)));
            prop_assert_eq!(last, rows.last().map(|(id, _)| *id));
            prop_assert_eq!(columns.read(), Some(rows));
        }

        #[test]
        fn no_bytes_make_it_panic(
            ids: Vec<u8>,
            indexes: Vec<u8>,
            applied in prop::collection::vec(0..7_u8, 0..20),
        ) {
            let columns = Columns {
                ids: ids.into(),
                indexes: indexes.into(),
                applied: applied.into(),
                outcomes: vec![Arc::default()],
                refusals: vec![refusal()],
            };
            let _read_or_not = columns.read();
        }
    }

    #[test]
    fn requests_of_an_agent_take_three_bytes_each() {
        let base = u128::from(u64::MAX) << 64;
        let rows: Vec<_> = (0..1_000_u64)
            .map(|n| {
                let id = RequestId(Uuid::from_u128(base + u128::from(n)));
                (id, Remembered { index: 3 * n, applied: Applied::Done(true) })
            })
            .collect();
        let (columns, _) = Columns::write(rows.iter().map(|(id, row)| (*id, row)));
        let bytes = rmp_serde::to_vec_named(&columns).unwrap();
        assert!(bytes.len() < 3_100, "{}", bytes.len());
    }
}
