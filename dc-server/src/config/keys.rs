//! Every key that Consul's agent documents, from 1.8 on, and what Causeway does with it.
//!
//! A key is named by its dotted path. Each is of one [`Kind`] and has one [`Fate`]: used,
//! another name of a key, or accepted without effect for a stated reason, which the agent
//! repeats as a warning. What is in no table is an error that names the nearest key.

mod acl;
mod general;
mod mesh;
mod network;
mod service;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A port number; zero and below disable what listens there.
    Port,
    /// A number with a fraction.
    Float,
    /// A text.
    Text,
    /// A text that is never shown.
    Secret,
    /// A text in Go's syntax of durations.
    Duration,
    /// A list of texts. Lists of several files add up.
    Texts,
    /// An object of texts; objects of several files add up.
    TextMap,
    /// An object whose own keys are in the table.
    Block,
    /// Anything, kept as it is.
    Raw,
}

impl Kind {
    /// Says what a value of this kind looks like, for errors.
    pub fn expected(self) -> &'static str {
        match self {
            Kind::Bool => "true or false",
            Kind::Integer => "a whole number",
            Kind::Port => "a port number (1 to 65535, or -1 to disable it)",
            Kind::Float => "a number",
            Kind::Text | Kind::Secret => "a text",
            Kind::Duration => "a duration in quotes, such as \"10s\" or \"1h30m\"",
            Kind::Texts => "a list of texts, such as [\"a\", \"b\"]",
            Kind::TextMap => "a block of texts, such as { name = \"value\" }",
            Kind::Block => "a block, such as { key = value }",
            Kind::Raw => "a value",
        }
    }
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It changes what the agent does.
    Used,
    /// It is an old name of the key with this path.
    Alias(&'static str),
    /// It is accepted and changes nothing, for this reason.
    Ignored(&'static str),
}

/// A key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Dotted path, such as `ports.http`.
    pub path: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What becomes of it.
    pub fate: Fate,
}

/// Reason: the feature is planned and absent from this version.
pub(super) const LATER: &str = "this version of Causeway does not use it yet";
/// Reason: Causeway has no service mesh.
pub(super) const MESH: &str = "Causeway has no service mesh";
/// Reason: it belongs to Consul Enterprise.
pub(super) const ENTERPRISE: &str = "it belongs to Consul Enterprise";
/// Reason: Consul itself gave it up.
pub(super) const OBSOLETE: &str = "it has no effect in current versions of Consul either";
/// Reason: it belongs to HashiCorp's cloud.
pub(super) const CLOUD: &str = "Causeway does not talk to HashiCorp's cloud";
/// Reason: it tunes a part that Causeway does not have.
pub(super) const INTERNAL: &str = "it tunes a part of Consul that Causeway does not have";
/// Reason: there is no such interface.
pub(super) const NO_GRPC: &str = "Causeway has no gRPC interface";
/// Reason: every link is mutually authenticated, always.
pub(super) const ALWAYS_TLS: &str = "Causeway always authenticates both sides of its own links";

const TABLES: [&[Key]; 5] = [general::KEYS, network::KEYS, acl::KEYS, mesh::KEYS, service::KEYS];

/// Returns every key of every table.
pub fn all() -> impl Iterator<Item = &'static Key> {
    TABLES.iter().flat_map(|table| table.iter())
}

/// Finds the key with a path; capitals don't matter, as in Consul.
pub fn find(path: &str) -> Option<&'static Key> {
    all().find(|key| key.path.eq_ignore_ascii_case(path))
}

/// Finds the known path that an unknown one was probably meant to be.
///
/// A path in the same block is preferred; one that is mostly different is no help and not offered.
pub fn nearest(path: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let block = |path: &str| path.rsplit_once('.').map_or(String::new(), |(b, _)| b.to_owned());
    let (wanted, wanted_block) = (last(path), block(path));
    all()
        .map(|key| {
            let alike = strsim::jaro_winkler(&wanted, &last(key.path));
            let near = if block(key.path) == wanted_block { NEAR_BONUS } else { 0.0 };
            (alike, alike + near, key.path)
        })
        .filter(|(alike, ..)| *alike >= ALIKE_MIN)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(_, _, path)| path)
}

/// How alike two names are when one may be a slip of the other.
const ALIKE_MIN: f64 = 0.8;
/// What it counts that two keys are in the same block.
const NEAR_BONUS: f64 = 0.2;

const fn used(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, fate: Fate::Used }
}

const fn alias(path: &'static str, kind: Kind, of: &'static str) -> Key {
    Key { path, kind, fate: Fate::Alias(of) }
}

const fn ignored(path: &'static str, kind: Kind, reason: &'static str) -> Key {
    Key { path, kind, fate: Fate::Ignored(reason) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_path_is_in_the_tables_twice() {
        let mut seen = BTreeSet::new();
        for key in all() {
            assert!(seen.insert(key.path), "{} is there twice", key.path);
        }
    }

    #[test]
    fn every_key_is_inside_known_blocks() {
        for key in all() {
            // Not from the end: `telemetry.disable_compat_1.9` is a name with a dot.
            if let Some((block, _)) = key.path.split_once('.') {
                assert_eq!(find(block).map(|k| k.kind), Some(Kind::Block), "{}", key.path);
            }
        }
    }

    #[test]
    fn every_alias_is_of_a_key_of_its_kind() {
        for key in all() {
            if let Fate::Alias(of) = key.fate {
                let target = find(of).unwrap();
                assert_eq!(target.kind, key.kind, "{}", key.path);
                assert!(!matches!(target.fate, Fate::Alias(_)), "{}", key.path);
            }
        }
    }

    #[test]
    fn the_nearest_key_is_a_slip_away() {
        assert_eq!(nearest("ports.htpp"), Some("ports.http"));
        assert_eq!(nearest("datacentre"), Some("datacenter"));
        assert_eq!(nearest("bootstrap_expected"), Some("bootstrap_expect"));
        assert_eq!(nearest("retryjoin"), Some("retry_join"));
        assert_eq!(nearest("zzz"), None);
    }
}
