//! Reads a snapshot, in pieces of any size.

use lan_agent::{
    ask::RequestId,
    catalog::{Check, Node, Service},
};
use serde::de::DeserializeOwned;

use super::{
    CHECKS, CONFIG_ENTRIES, COORDINATES, END, FRAME_HEAD_LEN, FRAME_LEN_MAX, GROUPS, HEADER,
    Header, KEYS, MAGIC, NODES, OPTIONAL, QUERIES, REQUESTS, SERVICES, Sum, TOMBSTONES, checksum,
    columns::Columns,
};
use crate::{
    raft::protocol::SnapshotMeta,
    state::{
        State,
        catalog::{Catalog, GroupRow, NodeRow, RecordRow},
        config_entries::{self, EntryRow},
        coordinates,
        kv::{KeyRow, Table, TombstoneRow},
        prepared_queries::{self, QueryRow},
        requests::{Recent, Remembered},
    },
};

/// Why bytes are no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damaged at offset {offset}: {why}")]
pub struct FormatError {
    /// Where the frame starts that is wrong.
    pub offset: u64,
    /// What is wrong with it.
    pub why: String,
}

/// Turns the pieces of a snapshot file into a state.
#[derive(Debug, Default)]
pub struct Decoder {
    waiting: Vec<u8>,
    offset: u64,
    begun: bool,
    ended: bool,
    header: Option<Header>,
    kv: Table,
    catalog: Catalog,
    config_entries: config_entries::Table,
    coordinates: coordinates::Table,
    queries: prepared_queries::Table,
    requests: Vec<(RequestId, Remembered)>,
    sum: Sum,
}

impl Decoder {
    /// Takes the next bytes.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), FormatError> {
        self.waiting.extend_from_slice(data);
        let mut used = 0;
        let result = self.frames(&mut used);
        self.waiting.drain(..used);
        result
    }

    /// Returns the state and what the snapshot says of itself, once all bytes were taken.
    pub fn finish(self) -> Result<(State, SnapshotMeta), FormatError> {
        if !self.ended || !self.waiting.is_empty() {
            return Err(self.wrong("it ends too early"));
        }
        let Some(header) = self.header else {
            return Err(FormatError { offset: self.offset, why: "no header".to_owned() });
        };
        let (mut kv, mut catalog, mut config_entries) =
            (self.kv, self.catalog, self.config_entries);
        kv.restore_indexes(header.kv_index, header.kv_reaped);
        catalog.restore_indexes(header.catalog);
        config_entries.restore_indexes(header.config_entries);
        let (mut queries, mut coordinates) = (self.queries, self.coordinates);
        queries.restore_index(header.queries_index);
        coordinates.restore_index(header.coordinates_index);
        let requests = Recent::from_parts(self.requests, header.ages);
        let (applied, clock) = (header.applied, header.clock);
        let state = State::from_parts(applied, clock, kv, catalog, config_entries, requests);
        let state = state.of_cluster(header.cluster).with_queries(queries);
        Ok((state.with_coordinates(coordinates), header.meta))
    }

    fn wrong(&self, why: impl ToString) -> FormatError {
        FormatError { offset: self.offset, why: why.to_string() }
    }

    fn frames(&mut self, used: &mut usize) -> Result<(), FormatError> {
        if !self.begun {
            let Some(magic) = self.waiting.get(..MAGIC.len()) else { return Ok(()) };
            if magic != MAGIC {
                return Err(self.wrong("it does not start like a snapshot of a known version"));
            }
            self.begun = true;
            *used += MAGIC.len();
            self.offset += MAGIC.len() as u64;
        }
        while let Some((kind, crc, payload_len)) = self.head(*used)? {
            let start = *used + FRAME_HEAD_LEN;
            let Some(payload) = self.waiting.get(start..start + payload_len) else { break };
            if checksum(kind, payload) != crc {
                return Err(self.wrong("its checksum is wrong"));
            }
            let payload = payload.to_vec();
            self.take(kind, &payload, crc)?;
            let frame_len = FRAME_HEAD_LEN + payload_len;
            *used += frame_len;
            self.offset += frame_len as u64;
        }
        Ok(())
    }

    fn head(&self, at: usize) -> Result<Option<(u8, u32, usize)>, FormatError> {
        let Some(head) = self.waiting.get(at..at + FRAME_HEAD_LEN) else { return Ok(None) };
        let [kind, l0, l1, l2, l3, c0, c1, c2, c3] = *head else { return Ok(None) };
        let payload_len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if payload_len > FRAME_LEN_MAX {
            return Err(self.wrong(format!("a frame can't have {payload_len} bytes")));
        }
        if self.ended {
            return Err(self.wrong("there is more after its end"));
        }
        Ok(Some((kind, u32::from_be_bytes([c0, c1, c2, c3]), payload_len)))
    }

    fn take(&mut self, kind: u8, payload: &[u8], crc: u32) -> Result<(), FormatError> {
        match kind {
            HEADER => self.header = Some(self.read(payload)?),
            KEYS => {
                for row in self.read::<Vec<KeyRow>>(payload)? {
                    self.kv.restore(row);
                }
            }
            TOMBSTONES => {
                for row in self.read::<Vec<TombstoneRow>>(payload)? {
                    self.kv.restore_tombstone(row);
                }
            }
            REQUESTS => {
                let requests = self.read::<Columns>(payload)?.read();
                self.requests.extend(requests.ok_or_else(|| self.wrong("its columns differ"))?);
            }
            NODES | SERVICES | CHECKS | GROUPS => self.take_catalog(kind, payload)?,
            CONFIG_ENTRIES => {
                let rows = self.read::<Vec<EntryRow>>(payload)?;
                rows.into_iter().for_each(|row| self.config_entries.restore(row));
            }
            COORDINATES => {
                let places = self.read::<Vec<coordinates::Place>>(payload)?;
                places.into_iter().for_each(|place| self.coordinates.restore(place));
            }
            QUERIES => {
                let rows = self.read::<Vec<QueryRow>>(payload)?;
                rows.into_iter().for_each(|row| self.queries.restore(row));
            }
            END => {
                if self.read::<Sum>(payload)? != self.sum {
                    return Err(self.wrong("its frames do not add up"));
                }
                self.ended = true;
                return Ok(());
            }
            kind if kind & OPTIONAL != 0 => {}
            kind => {
                return Err(self.wrong(format!(
                    "this version does not know frames of kind {kind}: upgrade this server"
                )));
            }
        }
        self.sum.add(FRAME_HEAD_LEN + payload.len(), crc);
        Ok(())
    }

    fn take_catalog(&mut self, kind: u8, payload: &[u8]) -> Result<(), FormatError> {
        match kind {
            NODES => {
                let rows = self.read::<Vec<NodeRow<Node>>>(payload)?;
                rows.into_iter().for_each(|row| self.catalog.restore_node(row));
            }
            SERVICES => {
                for row in self.read::<Vec<RecordRow<Service>>>(payload)? {
                    self.catalog.restore_service(row).map_err(|orphan| self.wrong(orphan))?;
                }
            }
            CHECKS => {
                for row in self.read::<Vec<RecordRow<Check>>>(payload)? {
                    self.catalog.restore_check(row).map_err(|orphan| self.wrong(orphan))?;
                }
            }
            _ => {
                let rows = self.read::<Vec<GroupRow>>(payload)?;
                rows.into_iter().for_each(|row| self.catalog.restore_group(row));
            }
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, FormatError> {
        rmp_serde::from_slice(payload).map_err(|error| self.wrong(error))
    }
}
