//! Names of datacenters and nodes.
//!
//! A datacenter's name is a DNS label in lower case, because it appears in DNS names
//! (`web.service.dc2.consul`), in certificates and in URLs. A node's name may hold dots,
//! as Consul allows, but nothing that would break a DNS name, a URL or a log line.
//! A node is told apart from another of the same name by its [`NodeId`], which is kept
//! in its data directory.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest name of a datacenter: a DNS label (RFC 1035, section 2.3.4).
pub const DATACENTER_LEN_MAX: usize = 63;

/// Longest name of a node, so that `node.dc` stays a DNS name.
pub const NODE_NAME_LEN_MAX: usize = 128;

/// Says why a name can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("a {what} name can't be empty")]
    Empty {
        /// What was to be named.
        what: &'static str,
    },
    /// The name is longer than its bound.
    #[error("{what} name {name:?} is longer than {len_max} characters")]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The bound, in bytes.
        len_max: usize,
    },
    /// The name holds a character that it can't hold.
    #[error("{what} name {name:?} can't hold {found:?}: use {allowed}")]
    Character {
        /// What was to be named.
        what: &'static str,
        /// The name as given.
        name: String,
        /// The first character that is not allowed.
        found: char,
        /// What is allowed instead.
        allowed: &'static str,
    },
}

/// The name of a datacenter: 1 to 63 of `a-z`, `0-9`, `-` and `_`; capitals are lowered.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Datacenter(Arc<str>);

/// The name of a node, unique in its datacenter: 1 to 128 of letters, digits, `-`, `_` and `.`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// The identity of a node's data directory: a random UUID, made when the directory is first used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub Uuid);

fn checked(
    what: &'static str,
    name: &str,
    len_max: usize,
    allowed: &'static str,
    allows: fn(char) -> bool,
) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > len_max {
        return Err(NameError::TooLong { what, name: name.to_owned(), len_max });
    }
    match name.chars().find(|c| !allows(*c)) {
        None => Ok(()),
        Some(found) => Err(NameError::Character { what, name: name.to_owned(), found, allowed }),
    }
}

impl Datacenter {
    /// Checks a name and makes it one, in lower case.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let lower = name.as_ref().to_ascii_lowercase();
        checked(
            "datacenter",
            &lower,
            DATACENTER_LEN_MAX,
            "letters, digits, dashes and underscores",
            |c| c.is_ascii_alphanumeric() || c == '-' || c == '_',
        )?;
        Ok(Self(lower.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NodeName {
    /// Checks a name and makes it one.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        let name = name.as_ref();
        checked(
            "node",
            name,
            NODE_NAME_LEN_MAX,
            "letters, digits, dashes, underscores and dots",
            |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'),
        )?;
        Ok(Self(name.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name that the node has in the WAN pool: `node.dc`.
    pub fn in_wan(&self, dc: &Datacenter) -> String {
        format!("{self}.{dc}")
    }
}

macro_rules! text_name {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

text_name!(Datacenter);
text_name!(NodeName);

impl NodeId {
    /// Returns the id as the 64-bit number that Raft counts servers by: the first half of the UUID.
    ///
    /// Two of a datacenter's few servers share it with a probability below 2^-50.
    pub fn raft(&self) -> u64 {
        self.0.as_u64_pair().0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datacenter_names_are_lowered() {
        assert_eq!(Datacenter::new("DC1").unwrap().as_str(), "dc1");
    }

    #[test]
    fn datacenter_names_hold_no_dots() {
        let error = Datacenter::new("dc.1").unwrap_err();
        assert!(error.to_string().contains("'.'"), "{error}");
    }

    #[test]
    fn node_names_hold_dots_but_no_slashes() {
        assert!(NodeName::new("web.rack-1").is_ok());
        assert!(NodeName::new("web/1").is_err());
        assert!(NodeName::new("").is_err());
        assert!(NodeName::new("n".repeat(NODE_NAME_LEN_MAX + 1)).is_err());
    }
}
