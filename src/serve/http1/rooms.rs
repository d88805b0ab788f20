//! Memory that the connections of a thread use in turn, since each of them needs it only while it is driven: what is used
//! again at once is still in the processor's cache, and a connection that rests holds none of it.
//!
//! What is read here is short, so that it does not matter where it begins ([`crate::http::room`]).

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// How much is read at once. A head that is larger is hyper's.
pub(super) const READ: usize = 8 * 1024;
/// No larger buffer is kept for the heads of answers.
const LARGEST_SPARE: usize = 4 * 1024;
/// How many such buffers a thread keeps.
const MOST_SPARES: usize = 64;

thread_local! {
    static ROOM: RefCell<BytesMut> = RefCell::default();
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What was read into the room, in which there is place for [`READ`] bytes, or half of that: requests whose answers take
/// their time hold the room, and lie in it side by side.
pub(super) fn read<R>(read: impl FnOnce(&mut BytesMut) -> R) -> (R, Bytes) {
    ROOM.with_borrow_mut(|room| {
        if !room.try_reclaim(READ) && room.capacity() < READ / 2 {
            *room = BytesMut::with_capacity(READ);
        }
        let result = read(room);
        let what = if room.is_empty() { Bytes::new() } else { room.split().freeze() };
        (result, what)
    })
}

/// Where a head can be written: empty, with the memory of the last one.
pub(super) fn take_spare() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Keeps it for the next one.
pub(super) fn keep_spare(mut spare: Vec<u8>) {
    SPARE.with_borrow_mut(|spares| {
        if spare.capacity() <= LARGEST_SPARE && spares.len() < MOST_SPARES {
            spare.clear();
            spares.push(spare);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(with: &[u8]) -> Bytes {
        read(|room| room.extend_from_slice(with)).1
    }

    #[test]
    fn what_nobody_holds_is_written_over_and_what_somebody_holds_is_not() {
        let place = fill(b"a").as_ptr();
        let held: Vec<_> = (0..=READ / 2).map(|_| fill(b"b")).collect();
        assert_eq!(held[0].as_ptr(), place, "nobody holds it");
        assert_eq!(held[1].as_ptr(), place.wrapping_add(1), "side by side");
        let other = fill(b"c");
        assert_ne!(other.as_ptr(), place.wrapping_add(READ / 2 + 1), "there is not enough left");
        assert!(held.iter().all(|piece| piece == "b") && other == "c");
        let place = other.as_ptr();
        drop((held, other));
        assert!(["d", "e"].iter().all(|next| std::ptr::eq(fill(next.as_bytes()).as_ptr(), place)));
    }

    #[test]
    fn there_is_always_room_for_half_a_read() {
        let mut held = Vec::new();
        for length in [0, READ / 2, 1, READ / 2, READ / 2 + 1, 0] {
            let (room, piece) = read(|room| {
                let room_for = room.capacity();
                room.resize(length.min(room_for), 0);
                room_for
            });
            assert!((READ / 2..=READ).contains(&room), "{room}");
            held.push(piece);
        }
    }

    #[test]
    fn a_spare_is_empty_and_not_large() {
        let mut spare = take_spare();
        spare.extend_from_slice(b"head");
        let place = spare.as_ptr();
        keep_spare(spare);
        let again = take_spare();
        assert!(again.is_empty() && again.as_ptr() == place && take_spare().capacity() == 0);
        keep_spare(Vec::with_capacity(LARGEST_SPARE + 1));
        assert_eq!(take_spare().capacity(), 0);
    }
}
