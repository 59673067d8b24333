//! JSON as Go's encoder writes it, straight into one buffer.
//!
//! Field names and their order, base64 of values, `null` for an empty value, and the escapes of
//! `<`, `>`, `&` and the two Unicode line separators are Consul's.

pub(super) mod catalog;

use std::{io::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use topology::Datacenter;

use crate::state::{config_entries, coordinates::Place, kv::Entry, txn};

/// What an entry takes beside its key and value, generously.
const ENTRY_FRAME_LEN: usize = 160;

/// Whether the answer to a transaction says how fresh it is: Consul's does when nothing was
/// written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Said,
    Unsaid,
}

/// Encodes a list of entries.
pub(super) fn entries<'a>(entries: impl Iterator<Item = (&'a str, &'a Entry)> + Clone) -> Bytes {
    let len = |(key, entry): (&str, &Entry)| {
        ENTRY_FRAME_LEN + key.len() + entry.value.len().div_ceil(3) * 4
    };
    let mut out = Vec::with_capacity(2 + entries.clone().map(len).sum::<usize>());
    out.push(b'[');
    for (position, (key, entry)) in entries.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        let indexes = (entry.create_index, entry.modify_index);
        object(&mut out, key, entry.flags, Some(&entry.value), indexes);
    }
    out.push(b']');
    out.into()
}

/// Encodes a configuration entry: what was said, and then its indexes.
pub(super) fn config_entry(entry: &config_entries::Entry) -> Bytes {
    let mut out = Vec::with_capacity(ENTRY_FRAME_LEN + entry.definition.body.len());
    put_config_entry(&mut out, entry);
    out.into()
}

/// Encodes a list of configuration entries.
pub(super) fn config_entries<'a>(
    entries: impl Iterator<Item = &'a Arc<config_entries::Entry>>,
) -> Bytes {
    let mut out = vec![b'['];
    for (position, entry) in entries.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        put_config_entry(&mut out, entry);
    }
    out.push(b']');
    out.into()
}

fn put_config_entry(out: &mut Vec<u8>, entry: &config_entries::Entry) {
    let body = entry.definition.body.as_bytes();
    // An object, and never without anything in it: it has its kind and its name.
    out.extend_from_slice(body.strip_suffix(b"}").unwrap_or(body));
    number(out, b",\"CreateIndex\":", entry.create_index);
    number(out, b",\"ModifyIndex\":", entry.modify_index);
    out.push(b'}');
}

/// Encodes where nodes are.
pub(super) fn coordinates<'a>(places: impl Iterator<Item = &'a Place>) -> Bytes {
    let mut out = vec![b'['];
    for (position, place) in places.enumerate() {
        out.extend_from_slice(if position > 0 { b",{\"Node\":" } else { b"{\"Node\":" });
        string(&mut out, &place.node);
        out.extend_from_slice(b",\"Segment\":\"\",\"Coord\":");
        // Numbers, none of which is infinite, can always be written into memory.
        let _written = serde_json::to_writer(&mut out, &place.coordinate);
        out.push(b'}');
    }
    out.push(b']');
    out.into()
}

/// Encodes the results of a transaction.
pub(super) fn transaction(
    home: &Datacenter,
    outcome: &txn::Outcome,
    freshness: Freshness,
) -> Bytes {
    let mut out = Vec::with_capacity(128 + outcome.weight() * 2);
    out.extend_from_slice(b"{\"Results\":");
    if outcome.failures.is_empty() {
        results(&mut out, home, &outcome.results);
        out.extend_from_slice(b",\"Errors\":null");
    } else {
        out.extend_from_slice(b"null,\"Errors\":[");
        for (position, failure) in outcome.failures.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            number(&mut out, b"{\"OpIndex\":", failure.op as u64);
            out.extend_from_slice(b",\"What\":");
            string(&mut out, &failure.what);
            out.push(b'}');
        }
        out.push(b']');
    }
    if freshness == Freshness::Said {
        out.extend_from_slice(
            b",\"Index\":0,\"LastContact\":0,\"KnownLeader\":true,\"ConsistencyLevel\":\"\"",
        );
    }
    out.push(b'}');
    out.into()
}

fn results(out: &mut Vec<u8>, home: &Datacenter, results: &[txn::Found]) {
    out.push(b'[');
    for (position, found) in results.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        match found {
            txn::Found::Entry(entry) => {
                out.extend_from_slice(b"{\"KV\":");
                let indexes = (entry.create_index, entry.modify_index);
                object(out, &entry.key, entry.flags, entry.value.as_ref(), indexes);
            }
            txn::Found::Record(record) => catalog::found(out, home, record),
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// A list of strings under way.
#[derive(Debug, Default)]
pub(super) struct Strings {
    out: Vec<u8>,
}

impl Strings {
    /// Adds a string.
    pub(super) fn push(&mut self, text: &str) {
        self.out.push(if self.out.is_empty() { b'[' } else { b',' });
        string(&mut self.out, text);
    }

    /// Returns the list.
    pub(super) fn finish(mut self) -> Bytes {
        if self.out.is_empty() {
            self.out.push(b'[');
        }
        self.out.push(b']');
        self.out.into()
    }
}

fn object(
    out: &mut Vec<u8>,
    key: &str,
    flags: u64,
    value: Option<&Bytes>,
    (create_index, modify_index): (u64, u64),
) {
    out.extend_from_slice(b"{\"LockIndex\":0,\"Key\":");
    string(out, key);
    number(out, b",\"Flags\":", flags);
    out.extend_from_slice(b",\"Value\":");
    match value {
        Some(value) if !value.is_empty() => base64(out, value),
        _ => out.extend_from_slice(b"null"),
    }
    number(out, b",\"CreateIndex\":", create_index);
    number(out, b",\"ModifyIndex\":", modify_index);
    out.push(b'}');
}

fn number(out: &mut Vec<u8>, label: &[u8], number: u64) {
    out.extend_from_slice(label);
    // Writing to a Vec does not fail.
    let _ = write!(out, "{number}");
}

fn base64(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + value.len().div_ceil(3) * 4, 0);
    // The room is exactly what the encoding takes.
    let written = STANDARD.encode_slice(value, &mut out[start..]).unwrap_or_default();
    out.truncate(start + written);
    out.push(b'"');
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    match text.bytes().position(may_need_escape) {
        None => out.extend_from_slice(text.as_bytes()),
        Some(at) => {
            out.extend_from_slice(&text.as_bytes()[..at]);
            escape(out, &text[at..]);
        }
    }
    out.push(b'"');
}

/// Tells whether a character that begins with this byte may have to be escaped.
fn may_need_escape(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\' | b'<' | b'>' | b'&' | FIRST_OF_SEPARATORS)
}

/// The first byte of the two Unicode line separators, and of many other characters.
const FIRST_OF_SEPARATORS: u8 = 0xe2;

fn escape(out: &mut Vec<u8>, text: &str) {
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        let escape: Option<&[u8]> = match character {
            '"' => Some(b"\\\""),
            '\\' => Some(b"\\\\"),
            '\n' => Some(b"\\n"),
            '\r' => Some(b"\\r"),
            '\t' => Some(b"\\t"),
            '<' => Some(b"\\u003c"),
            '>' => Some(b"\\u003e"),
            '&' => Some(b"\\u0026"),
            '\u{2028}' => Some(b"\\u2028"),
            '\u{2029}' => Some(b"\\u2029"),
            '\0'..='\u{1f}' => None,
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        match escape {
            Some(escape) => out.extend_from_slice(escape),
            None => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
        }
        plain = at + character.len_utf8();
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
}
