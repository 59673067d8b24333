//! What spreads about a member: its profile, stamped so that the newest wins everywhere.
//!
//! A record is written by its member, except for the word that somebody forced it out. Stamps are
//! ordered by start, then version, then word, so a member that is still there refutes a
//! forced record by writing a higher version, and one that is started again supersedes all that
//! was said of its former life.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::{
    member::{LABEL_LEN_MAX, Profile, TAGS_MAX},
    name::NodeId,
};

/// The word on a member's stay in the pool; a later one overrules an earlier one of the same version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// It is here to stay.
    Stays,
    /// Somebody forced it out.
    Forced,
    /// Somebody forced it out and asked everyone to forget it.
    Pruned,
    /// It said itself that it left.
    Left,
}

/// How new a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// The start of the member that wrote it.
    pub(crate) boot: u64,
    /// Counts what it wrote since.
    pub(crate) version: u32,
    /// The word on its stay.
    pub(crate) word: Word,
}

impl Stamp {
    /// Returns the first stamp of a member's life.
    pub(crate) fn first(boot: u64) -> Self {
        Self { boot, version: 0, word: Word::Stays }
    }

    /// Returns the stamp of what the member writes next.
    pub(crate) fn next(self, word: Word) -> Self {
        Self { version: self.version.saturating_add(1), word, ..self }
    }
}

/// A stamped profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// How new it is.
    pub(crate) stamp: Stamp,
    /// What the member says of itself.
    pub(crate) profile: Profile,
}

/// The beginning of an encoded [`Record`], enough to see that it is no news without decoding it all.
#[derive(Debug, Deserialize)]
pub(crate) struct RecordHead<'a> {
    /// How new it is.
    pub(crate) stamp: Stamp,
    /// The member's name.
    pub(crate) name: &'a str,
    /// The member's id.
    pub(crate) id: NodeId,
    /// The member's datacenter.
    pub(crate) dc: &'a str,
}

impl Record {
    /// Decodes a record of a packet; nothing else than a whole one with bounded fields is one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        // Fields that a later version appends are left unread.
        let (record, _rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        record.is_bounded().then_some(record)
    }

    /// Encodes the record for a packet.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(self).ok()
    }

    /// Tells whether every text in it keeps its bound.
    pub(crate) fn is_bounded(&self) -> bool {
        let short = |text: &str| text.len() <= LABEL_LEN_MAX;
        let profile = &self.profile;
        profile.tags.len() <= TAGS_MAX
            && short(&profile.version)
            && profile.tags.iter().all(|(key, value)| short(key) && short(value))
    }

    /// Orders two records of different nodes that claim one name, when neither is alive.
    pub(crate) fn claim(&self, other: &Self) -> Ordering {
        (self.stamp, self.profile.id).cmp(&(other.stamp, other.profile.id))
    }
}

impl<'a> RecordHead<'a> {
    /// Decodes the beginning of a record.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        postcard::take_from_bytes(bytes).ok().map(|(head, _rest)| head)
    }
}
