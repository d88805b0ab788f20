//! Memory that the system reads into.

use bytes::{Buf as _, BytesMut};

/// Where a room begins: at a multiple of this.
const ALIGNMENT: usize = 64;

/// Empties a room, and makes it large enough for `size` bytes, in the same memory as before unless somebody holds a
/// piece of it.
///
/// Where a room begins decides how fast the system can copy into it. On AMD's processors (Zen 3, Zen 4) a copy takes
/// eight times as long if the place in its page where it goes to is 1 to 31 bytes behind the place in its page where it
/// comes from: 585 µs a MB and not 66, measured on an EPYC. The page cache comes from the begin of a page, and what malloc
/// gives begins at any multiple of 16; where it maps memory, always 16 bytes behind a page. A line of the cache is more
/// than far enough.
pub fn clear(room: &mut BytesMut, size: usize) {
    room.clear();
    if !room.try_reclaim(size + ALIGNMENT) {
        *room = BytesMut::with_capacity(size + ALIGNMENT);
    }
    // It may say that it cannot tell.
    let before = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    room.resize(before, 0);
    room.advance(before);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_begins_where_the_system_copies_fast_and_is_used_again() {
        let (mut room, mut held) = (BytesMut::new(), Vec::new());
        for size in [1, 10, 4096, 64 * 1024, 192 * 1024, 192 * 1024, 1 << 20] {
            clear(&mut room, size);
            assert!(room.is_empty() && room.capacity() >= size, "{size}");
            assert_eq!(room.as_ptr().addr() % ALIGNMENT, 0, "{size}");
            room.resize(size, 1);
            let (place, piece) = (room.as_ptr(), room.split().freeze());
            clear(&mut room, size);
            assert_ne!(room.as_ptr(), place, "somebody holds a piece");
            room.resize(size, 2);
            assert!(piece.iter().all(|byte| *byte == 1));
            let place = room.as_ptr();
            drop(room.split());
            clear(&mut room, size);
            assert_eq!(room.as_ptr(), place, "nobody does");
            held.push(piece);
        }
    }
}
