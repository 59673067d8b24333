//! Reads fields off the front of bytes, never past their end.

/// What is left to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a number in network order of 4 bytes at most.
    pub(super) fn number(&mut self, len: usize) -> Option<u32> {
        let bytes = self.take(len)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Reads what is preceded by its length, in so many bytes.
    pub(super) fn prefixed(&mut self, len: usize) -> Option<&'a [u8]> {
        let len = self.number(len)?;
        self.take(usize::try_from(len).ok()?)
    }

    /// Reads a number of variable length (RFC 9000, section 16).
    pub(super) fn varint(&mut self) -> Option<u64> {
        let first = *self.0.first()?;
        let bytes = self.take(1 << (first >> 6))?;
        let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Some(number & (u64::MAX >> (64 - (bytes.len() * 8 - 2))))
    }

    /// Reads a length and takes so many bytes.
    pub(super) fn counted(&mut self) -> Option<&'a [u8]> {
        let len = self.varint()?;
        self.take(usize::try_from(len).ok()?)
    }
}
