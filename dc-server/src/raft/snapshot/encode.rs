//! Writes a state as a snapshot, a piece at a time.

use bytes::Bytes;
use lan_agent::{ask::RequestId, catalog::Text};
use serde::Serialize;

use super::{
    CHECKS, CONFIG_ENTRIES, COORDINATES, END, FRAME_HEAD_LEN, FRAME_LEN_AIM, GROUPS, HEADER,
    Header, KEYS, MAGIC, NODES, QUERIES, REQUESTS, SERVICES, Sum, TOMBSTONES, checksum,
    columns::Columns,
};
use crate::{
    raft::protocol::SnapshotMeta,
    state::{
        State,
        catalog::Position,
        config_entries::EntryRow,
        kv::{Key, KeyRow, TombstoneRow},
    },
};

/// About what a node, a service or a check takes.
const RECORD_LEN_USUAL: usize = 256;

/// About what a coordinate takes.
const PLACE_LEN_USUAL: usize = 160;

/// About what the indexes of a service take.
const GROUP_LEN_USUAL: usize = 64;

type Encoded<T> = Result<T, rmp_serde::encode::Error>;

/// Turns a state into the pieces of a snapshot file.
#[derive(Debug)]
pub struct Encoder {
    state: State,
    meta: SnapshotMeta,
    next: Next,
    sum: Sum,
}

#[derive(Debug)]
enum Next {
    Header,
    Keys(Option<Key>),
    Tombstones(Option<Key>),
    Nodes(Option<Key>),
    Services(Option<Position>),
    Checks(Option<Position>),
    Groups(Option<Key>),
    ConfigEntries(Option<(Text, Text)>),
    Coordinates(Option<Key>),
    Queries(Option<Text>),
    Requests(Option<RequestId>),
    End,
    Nothing,
}

impl Encoder {
    /// Starts a snapshot of a state.
    pub fn new(state: State, meta: SnapshotMeta) -> Self {
        Self { state, meta, next: Next::Header, sum: Sum::default() }
    }

    /// Returns the next piece; `None` after the last.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, rmp_serde::encode::Error> {
        loop {
            let piece = match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Header => Some(self.header()?),
                Next::Keys(after) => self.keys(after)?,
                Next::Tombstones(after) => self.tombstones(after)?,
                Next::Nodes(after) => self.nodes(after)?,
                Next::Services(after) => self.services(after)?,
                Next::Checks(after) => self.checks(after)?,
                Next::Groups(after) => self.groups(after)?,
                Next::ConfigEntries(after) => self.config_entries(after)?,
                Next::Coordinates(after) => self.coordinates(after)?,
                Next::Queries(after) => self.queries(after)?,
                Next::Requests(after) => self.requests(after)?,
                Next::End => {
                    let sum = self.sum.clone();
                    return self.frame(END, &sum).map(Some);
                }
                Next::Nothing => return Ok(None),
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
    }

    fn header(&mut self) -> Encoded<Bytes> {
        let header = Header {
            meta: self.meta.clone(),
            applied: self.state.applied(),
            kv_index: self.state.kv().index(),
            kv_reaped: self.state.kv().reaped(),
            clock: self.state.clock(),
            cluster: self.state.cluster(),
            ages: self.state.requests().ages().collect(),
            catalog: self.state.catalog().indexes().clone(),
            config_entries: self.state.config_entries().indexes(),
            coordinates_index: self.state.coordinates().index(),
            queries_index: self.state.queries().index(),
        };
        self.next = Next::Keys(None);
        let frame = self.frame(HEADER, &header)?;
        Ok([MAGIC.as_slice(), &frame].concat().into())
    }

    fn keys(&mut self, after: Option<Key>) -> Encoded<Option<Bytes>> {
        let state = self.state.clone();
        let from = after.clone().unwrap_or_else(|| "".into());
        let entries = state.kv().since(&from).filter(|(key, _)| after.as_ref() != Some(*key));
        let (rows, last) = fill(entries.map(|(key, entry)| {
            let row = KeyRow::of(key, entry);
            (key.clone(), row.size(), row)
        }));
        self.next = last.map_or(Next::Tombstones(None), |key| Next::Keys(Some(key)));
        self.rows(KEYS, &rows)
    }

    fn tombstones(&mut self, after: Option<Key>) -> Encoded<Option<Bytes>> {
        let state = self.state.clone();
        let from = after.clone().unwrap_or_else(|| "".into());
        let tombstones = state.kv().tombstones_since(&from);
        let tombstones = tombstones.filter(|(key, _)| after.as_ref() != Some(*key));
        let (rows, last) = fill(tombstones.map(|(key, index)| {
            let row = TombstoneRow::of(key, index);
            (key.clone(), row.size(), row)
        }));
        self.next = last.map_or(Next::Nodes(None), |key| Next::Tombstones(Some(key)));
        self.rows(TOMBSTONES, &rows)
    }

    fn nodes(&mut self, after: Option<Key>) -> Encoded<Option<Bytes>> {
        let state = self.state.clone();
        let nodes = state.catalog().nodes_after(after.as_ref());
        let (rows, last) = fill(nodes.map(|(key, row)| (key, RECORD_LEN_USUAL, row)));
        self.next = last.map_or(Next::Services(None), |key| Next::Nodes(Some(key)));
        self.rows(NODES, &rows)
    }

    fn services(&mut self, after: Option<Position>) -> Encoded<Option<Bytes>> {
        let state = self.state.clone();
        let services = state.catalog().services_after(after.as_ref());
        let (rows, last) = fill(services.map(|(at, row)| (at, RECORD_LEN_USUAL, row)));
        self.next = last.map_or(Next::Checks(None), |at| Next::Services(Some(at)));
        self.rows(SERVICES, &rows)
    }

    fn checks(&mut self, after: Option<Position>) -> Encoded<Option<Bytes>> {
        let state = self.state.clone();
        let checks = state.catalog().checks_after(after.as_ref());
        let (rows, last) = fill(checks.map(|(at, row)| (at, RECORD_LEN_USUAL, row)));
        self.next = last.map_or(Next::Groups(None), |at| Next::Checks(Some(at)));
        self.rows(CHECKS, &rows)
    }

    fn groups(&mut self, after: Option<Key>) -> Encoded<Option<Bytes>> {
        let groups = self.state.catalog().groups_after(after.as_ref());
        let (rows, last) = fill(groups.map(|(name, row)| (name, GROUP_LEN_USUAL, row)));
        self.next = last.map_or(Next::ConfigEntries(None), |name| Next::Groups(Some(name)));
        self.rows(GROUPS, &rows)
    }

    fn config_entries(&mut self, after: Option<(Text, Text)>) -> Encoded<Option<Bytes>> {
        let entries = self.state.config_entries().after(after.as_ref());
        let (rows, last) = fill(entries.map(|(position, entry)| {
            let row = EntryRow::of(entry);
            (position, row.size(), row)
        }));
        self.next = last.map_or(Next::Queries(None), |at| Next::ConfigEntries(Some(at)));
        self.rows(CONFIG_ENTRIES, &rows)
    }

    fn queries(&mut self, after: Option<Text>) -> Encoded<Option<Bytes>> {
        let queries = self.state.queries().after(after.as_ref());
        let (rows, last) = fill(queries.map(|(id, row)| (id, row.size(), row)));
        self.next = last.map_or(Next::Coordinates(None), |id| Next::Queries(Some(id)));
        self.rows(QUERIES, &rows)
    }

    fn coordinates(&mut self, after: Option<Key>) -> Encoded<Option<Bytes>> {
        let places = self.state.coordinates().after(after.as_ref());
        let (rows, last) = fill(places.map(|(key, place)| (key, PLACE_LEN_USUAL, place)));
        self.next = last.map_or(Next::Requests(None), |key| Next::Coordinates(Some(key)));
        self.rows(COORDINATES, &rows)
    }

    fn requests(&mut self, after: Option<RequestId>) -> Encoded<Option<Bytes>> {
        const ROWS_MAX: usize = 8192;
        let requests = self.state.requests().after(after).take(ROWS_MAX);
        let (columns, last) = Columns::write(requests);
        let Some(last) = last else {
            self.next = Next::End;
            return Ok(None);
        };
        self.next = Next::Requests(Some(last));
        self.frame(REQUESTS, &columns).map(Some)
    }

    fn rows<T: Serialize>(&mut self, kind: u8, rows: &[T]) -> Encoded<Option<Bytes>> {
        if rows.is_empty() { Ok(None) } else { self.frame(kind, &rows).map(Some) }
    }

    fn frame<T: Serialize>(&mut self, kind: u8, content: &T) -> Encoded<Bytes> {
        let payload = rmp_serde::to_vec_named(content)?;
        let crc = checksum(kind, &payload);
        let mut frame = Vec::with_capacity(FRAME_HEAD_LEN + payload.len());
        frame.push(kind);
        frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        frame.extend_from_slice(&crc.to_be_bytes());
        frame.extend_from_slice(&payload);
        self.sum.add(frame.len(), crc);
        Ok(frame.into())
    }
}

/// Takes rows until they fill a frame. Returns them, and where the last of them is.
fn fill<P, R>(rows: impl Iterator<Item = (P, usize, R)>) -> (Vec<R>, Option<P>) {
    let (mut taken, mut last, mut bytes) = (Vec::new(), None, 0);
    for (position, len, row) in rows {
        taken.push(row);
        last = Some(position);
        bytes += len;
        if bytes >= FRAME_LEN_AIM {
            break;
        }
    }
    (taken, last)
}
