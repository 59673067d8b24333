//! What checks print, cut to a bound, as text.
//!
//! A program or a body may be of any length; [`Tail`] keeps its end, which says how it came out,
//! and counts the rest. What an application says of itself is cut at its end instead
//! ([`beginning`]). Both are Consul's rules. A cut never parts a character: what is left of one
//! goes too, and bytes that are no UTF-8 become `U+FFFD`.

/// The end of something long.
#[derive(Debug)]
pub(crate) struct Tail {
    /// At most twice `len_max`, so that making room is rare.
    kept: Vec<u8>,
    len_max: usize,
    seen: u64,
}

impl Tail {
    pub(crate) fn new(len_max: usize) -> Self {
        Self { kept: Vec::new(), len_max, seen: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        self.kept.extend_from_slice(&bytes[bytes.len().saturating_sub(self.len_max)..]);
        if self.kept.len() > 2 * self.len_max {
            self.kept.drain(..self.kept.len() - self.len_max);
        }
    }

    /// Returns how many bytes there were in all.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the end as text.
    pub(crate) fn text(&self) -> String {
        let end = &self.kept[self.kept.len().saturating_sub(self.len_max)..];
        let whole = self.seen == end.len() as u64;
        let end = if whole { end } else { without_torn_beginning(end) };
        let mut text = String::from_utf8_lossy(end).into_owned();
        if text.len() > self.len_max {
            // The marks of bytes that are no UTF-8 are longer than those.
            text.drain(..text.ceil_char_boundary(text.len() - self.len_max));
        }
        text
    }

    /// Returns the end as text, after a line that says how much is missing if something is.
    pub(super) fn captured(&self) -> String {
        let text = self.text();
        if self.seen <= self.len_max as u64 {
            return text;
        }
        format!("Captured {} of {} bytes\n...\n{text}", self.len_max, self.seen)
    }
}

/// Returns a text's beginning, with a note of how much is missing if something is.
pub fn beginning(text: String, len_max: usize) -> String {
    if text.len() <= len_max {
        return text;
    }
    let kept = &text[..text.floor_char_boundary(len_max)];
    format!("{kept} ... (captured {len_max} of {} bytes)", text.len())
}

/// Passes over the last bytes of a character that began before.
fn without_torn_beginning(bytes: &[u8]) -> &[u8] {
    const CONTINUATIONS_MAX: usize = 3;
    let torn = bytes.iter().take(CONTINUATIONS_MAX).take_while(|byte| *byte & 0xC0 == 0x80);
    &bytes[torn.count()..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_is_kept_whole() {
        let mut tail = Tail::new(5);
        tail.push(b"ab");
        tail.push(b"cde");
        assert_eq!(tail.captured(), "abcde");
    }

    #[test]
    fn of_what_does_not_fit_the_end_is_kept_and_the_rest_counted() {
        let mut tail = Tail::new(5);
        tail.push(b"abcdef");
        tail.push(b"gh");
        assert_eq!(tail.text(), "defgh");
        assert_eq!(tail.captured(), "Captured 5 of 8 bytes\n...\ndefgh");
    }

    #[test]
    fn a_cut_parts_no_character() {
        let mut tail = Tail::new(4);
        tail.push("aäöü".as_bytes());
        assert_eq!(tail.text(), "öü");
        let mut tail = Tail::new(5);
        tail.push("aäöü".as_bytes());
        assert_eq!(tail.text(), "öü");
        assert_eq!(beginning("äöü".to_owned(), 3), "ä ... (captured 3 of 6 bytes)");
        assert_eq!(beginning("äöü".to_owned(), 6), "äöü");
    }

    #[test]
    fn bytes_that_are_no_text_become_marks_within_the_bound() {
        let mut tail = Tail::new(4);
        tail.push(&[0xFF; 100]);
        assert_eq!(tail.text(), "\u{FFFD}");
    }

    #[test]
    fn a_flood_takes_no_memory() {
        let mut tail = Tail::new(8);
        for _ in 0..10_000 {
            tail.push(b"0123456789abcdef!");
        }
        assert!(tail.kept.capacity() < 64, "{}", tail.kept.capacity());
        assert_eq!(tail.seen(), 170_000);
        assert_eq!(tail.text(), "9abcdef!");
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_end_of_the_whole(
            text in "\\PC{0,40}",
            cuts in proptest::collection::vec(1..9_usize, 0..20),
            len_max in 0..30_usize,
        ) {
            let mut tail = Tail::new(len_max);
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                tail.push(piece);
                rest = more;
            }
            tail.push(rest);
            let end = &text[text.ceil_char_boundary(text.len().saturating_sub(len_max))..];
            prop_assert_eq!(tail.text(), end);
        }
    }
}
