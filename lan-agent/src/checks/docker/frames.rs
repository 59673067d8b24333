//! What a program within a container prints, as the engine frames it: which of its two outputs,
//! three bytes of nothing, the length in four bytes, and that many bytes.

/// Bytes before what was printed.
const HEAD_LEN: usize = 8;

/// Takes frames apart that come in pieces of any length.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    /// Bytes that the present frame still has.
    left: usize,
}

impl Frames {
    /// Hands on what a piece holds of what was printed, in order.
    pub(super) fn push(&mut self, mut piece: &[u8], mut printed: impl FnMut(&[u8])) {
        while !piece.is_empty() {
            if self.left > 0 {
                let (body, rest) = piece.split_at(self.left.min(piece.len()));
                printed(body);
                self.left -= body.len();
                piece = rest;
                continue;
            }
            let (head, rest) = piece.split_at((HEAD_LEN - self.head.len()).min(piece.len()));
            self.head.extend_from_slice(head);
            piece = rest;
            if let Some([_, _, _, _, len @ ..]) = self.head.first_chunk::<HEAD_LEN>() {
                self.left = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
                self.head.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart_however_they_are_cut() {
        let whole = [
            &[1, 0, 0, 0, 0, 0, 0, 3][..],
            b"out",
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, 4],
            b"err\n",
        ]
        .concat();
        for len in 1..=whole.len() {
            let mut frames = Frames::default();
            let mut text = Vec::new();
            for piece in whole.chunks(len) {
                frames.push(piece, |printed| text.extend_from_slice(printed));
            }
            assert_eq!(text, b"outerr\n", "in pieces of {len}");
        }
    }
}
