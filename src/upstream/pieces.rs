//! Bytes in memory, in the pieces in which they came: what is large is not copied.

use bytes::Bytes;

/// From this size on, a piece is kept as it came. It may hold on to a buffer that is larger than itself, and a smaller
/// one is sooner copied.
pub(super) const WORTH_KEEPING: usize = 8 * 1024;
/// How long what was put together of small pieces gets.
const LONGEST_COPY: usize = 64 * 1024;

/// Bytes that are gathered.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    list: Vec<Bytes>,
    /// What comes after those: small pieces, put together.
    last: Vec<u8>,
    length: usize,
}

impl Pieces {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds a piece. `room` is how much memory all may take together; the piece fits into it.
    pub(super) fn add(&mut self, piece: &Bytes, room: usize) {
        let spare = room - self.length;
        self.length += piece.len();
        if piece.len() >= WORTH_KEEPING {
            self.put_away();
            return self.list.push(piece.clone());
        }
        if self.last.capacity() - self.last.len() < piece.len() {
            if self.last.len() + piece.len() > LONGEST_COPY {
                self.put_away();
            }
            // As much as there may be: bytes that come one by one are not copied over and over.
            self.last.reserve_exact(spare.min(LONGEST_COPY - self.last.len()));
        }
        self.last.extend_from_slice(piece);
    }

    /// All of them; none is left.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.put_away();
        self.length = 0;
        std::mem::take(&mut self.list)
    }

    fn put_away(&mut self) {
        if !self.last.is_empty() {
            self.list.push(std::mem::take(&mut self.last).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_large_stays_where_it_is_and_what_is_small_is_put_together() {
        let large = Bytes::from(vec![b'x'; WORTH_KEEPING]);
        let small = Bytes::from_static(b"abc");
        let mut pieces = Pieces::default();
        for piece in [&small, &small, &large, &large, &small] {
            pieces.add(piece, 1 << 20);
        }
        let taken = pieces.take();
        assert_eq!(taken.iter().map(Bytes::len).collect::<Vec<_>>(), [6, WORTH_KEEPING, WORTH_KEEPING, 3]);
        assert_eq!(taken[1].as_ptr(), large.as_ptr());
        assert_eq!((pieces.len(), pieces.take().len()), (0, 0));
    }

    proptest! {
        #[test]
        fn what_is_added_is_taken_in_its_order_and_no_more_memory(
            lengths in prop::collection::vec(prop_oneof![4 => 0usize..100, 1 => 7_000usize..90_000], 0..60),
            spare in prop::collection::vec(0usize..100_000, 60),
        ) {
            let (mut pieces, mut whole) = (Pieces::default(), Vec::new());
            let mut room = 0;
            for (length, spare) in lengths.into_iter().zip(spare) {
                let piece = Bytes::from((0..length).map(|n| (n + whole.len()) as u8).collect::<Vec<_>>());
                whole.extend_from_slice(&piece);
                room = room.max(whole.len() + spare);
                pieces.add(&piece, room);
                let kept = pieces.list.iter().map(Bytes::len).sum::<usize>();
                prop_assert!(kept + pieces.last.capacity() <= room);
            }
            prop_assert_eq!(pieces.len(), whole.len());
            prop_assert!(pieces.take().concat() == whole);
        }
    }
}
