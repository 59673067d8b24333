//! Connection ids as keys: 20 bytes at most, copied without an allocation.

use certs::initial::ID_LEN_MAX;

/// A connection id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    len: usize,
    bytes: [u8; ID_LEN_MAX],
}

impl Id {
    /// Copies it; `None` for what is longer than any.
    pub(super) fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; ID_LEN_MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { len: id.len(), bytes })
    }
}
