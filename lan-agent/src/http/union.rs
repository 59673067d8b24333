//! `?dc=*` and `?dc=dc1,dc2`: what several datacenters hold, in one answer.

use std::{collections::BTreeMap, fmt::Write};

use axum::http::{HeaderName, HeaderValue};
use topology::Datacenter;

use super::{
    error::Failure,
    reply::{Indexed, Reply},
};
use crate::{
    ask::{Answer, Part, Question, Union, union::NAMED_MAX},
    catalog::Lookup,
};

/// Stands for all datacenters.
const ALL: &str = "*";

const PARTS: HeaderName = HeaderName::from_static("x-causeway-datacenters");
const VECTOR: HeaderName = HeaderName::from_static("x-causeway-index");

/// Several datacenters, and what is known of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Many {
    /// Their names; none for all.
    pub(super) of: Vec<Datacenter>,
    /// The index that whoever asks has seen of each.
    pub(super) seen: BTreeMap<Datacenter, u64>,
}

impl Many {
    /// Tells whether a parameter names several datacenters.
    pub(super) fn is_meant(value: &str) -> bool {
        value == ALL || value.contains(',')
    }

    /// Reads such a parameter.
    pub(super) fn parse(value: &str) -> Result<Self, Failure> {
        if value == ALL {
            return Ok(Self::default());
        }
        let mut of = Vec::new();
        for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let dc = Datacenter::new(name).map_err(|error| Failure::bad(error.to_string()))?;
            if !of.contains(&dc) {
                of.push(dc);
            }
        }
        match of.len() {
            0 => Err(Failure::bad("?dc names no datacenter")),
            1..=NAMED_MAX => Ok(Self { of, seen: BTreeMap::new() }),
            len => Err(Failure::bad(format!("{len} datacenters are too many, max: {NAMED_MAX}"))),
        }
    }

    pub(super) fn question(self, mut lookup: Lookup, translate_wan: bool) -> Question {
        lookup.selection.wan = translate_wan;
        Question::Union(Union { of: self.of, lookup, seen: self.seen })
    }
}

/// Reads a vector of indexes, as [`VECTOR`] shows it; `None` for anything else, a single index too.
pub(super) fn parse_seen(text: &str) -> Option<BTreeMap<Datacenter, u64>> {
    let one = |pair: &str| {
        let (dc, index) = pair.trim().split_once(':')?;
        Some((Datacenter::new(dc).ok()?, index.parse().ok()?))
    };
    text.split(',').map(one).collect()
}

/// Refuses what several datacenters can't be asked together.
pub(super) fn check(lookup: &Lookup) -> Result<(), Failure> {
    match Union::is_list(&lookup.subject) {
        true => Ok(()),
        false => Err(Failure::bad(
            "There may be a node of that name in each datacenter: name one in ?dc, or ask for a list",
        )),
    }
}

/// Makes the response: the records of all, and what each part says of itself.
pub(super) fn reply(answer: Answer) -> Reply {
    let parts = answer.meta.parts.clone();
    let reply = Reply::answer(answer, Indexed::Yes);
    let headers = [(PARTS, shown(&parts)), (VECTOR, vector(&parts))];
    let headers = headers.map(|(name, text)| (name, HeaderValue::try_from(text)));
    headers.into_iter().fold(reply, |reply, (name, value)| match value {
        Ok(value) => reply.with_header(name, value),
        Err(_) => reply,
    })
}

/// Shows the parts as a structured field: `dc1;index=7;age_ms=0;rows=3;status=healthy, ...`.
fn shown(parts: &[Part]) -> String {
    let mut text = String::new();
    for Part { dc, index, age, rows, status, mirrored, error } in parts {
        let gap = if text.is_empty() { "" } else { ", " };
        let age = age.as_millis();
        // Texts take all that is written.
        let _ = write!(text, "{gap}{dc};index={index};age_ms={age};rows={rows};status={status}");
        if *mirrored {
            text.push_str(";source=mirror");
        }
        if let Some(error) = error {
            let _ = write!(text, ";error=\"{}\"", quoted(error));
        }
    }
    text
}

/// Makes a text fit between quotes in a header.
fn quoted(text: &str) -> String {
    let fit = text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
    fit.collect::<String>().replace('\\', "\\\\").replace('"', "\\\"")
}

/// Shows the indexes as [`parse_seen`] reads them, by the names of the datacenters: which one is nearer changes, and is no
/// news.
fn vector(parts: &[Part]) -> String {
    let indexes: BTreeMap<_, _> = parts.iter().map(|part| (&part.dc, part.index)).collect();
    let pairs = indexes.iter().map(|(dc, index)| format!("{dc}:{index}"));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn part(dc: &str, index: u64, error: Option<&str>) -> Part {
        Part {
            dc: dc.parse().unwrap(),
            index,
            age: Duration::from_millis(12),
            rows: 3,
            status: "healthy".to_owned(),
            mirrored: error.is_none(),
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn parts_are_shown_one_after_the_other() {
        let parts = [part("dc1", 7, None), part("dc2", 0, Some("it \"is\" löst"))];
        assert_eq!(
            shown(&parts),
            "dc1;index=7;age_ms=12;rows=3;status=healthy;source=mirror, \
             dc2;index=0;age_ms=12;rows=3;status=healthy;error=\"it \\\"is\\\" l?st\""
        );
    }

    #[test]
    fn a_vector_is_read_as_it_is_shown() {
        let shown = vector(&[part("dc2", 0, None), part("dc1", 7, None)]);
        assert_eq!(shown, "dc1:7,dc2:0");
        let seen = parse_seen(&shown).unwrap();
        assert_eq!(seen.into_values().collect::<Vec<_>>(), [7, 0]);
        for text in ["", "7", "dc1", "dc1:", "dc1:x", "dc1:7,8", ":7", "dc1:-1"] {
            assert_eq!(parse_seen(text), None, "{text}");
        }
    }

    #[test]
    fn names_are_taken_once_each_within_bounds() {
        assert_eq!(Many::parse("*").unwrap(), Many::default());
        assert_eq!(Many::parse("dc2, dc1,dc2,").unwrap().of.len(), 2);
        assert!(Many::is_meant("dc1,") && !Many::is_meant("dc1") && !Many::is_meant(""));
        let many: Vec<String> = (0..=NAMED_MAX).map(|number| format!("dc{number}")).collect();
        for refused in [",", "dc1,a b", &many.join(",")] {
            assert!(Many::parse(refused).is_err(), "{refused}");
        }
    }
}
