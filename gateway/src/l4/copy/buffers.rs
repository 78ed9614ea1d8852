//! Buffers that a worker lends to streams on which something moves.

use std::cell::RefCell;

/// What one direction holds at most while little moves, besides what the sockets hold.
pub(super) const SMALL: usize = 16 << 10;

/// The same while much moves that the kernel cannot move by itself.
pub(super) const LARGE: usize = 64 << 10;

/// Bytes in buffers of each size that a worker keeps for the next stream on which something moves.
const SPARE: usize = 1 << 20;

thread_local! {
    static SMALL_ONES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static LARGE_ONES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer, with whatever was in it last.
pub(super) fn take(large: bool) -> Box<[u8]> {
    let (kept, size) = if large {
        (LARGE_ONES.with_borrow_mut(Vec::pop), LARGE)
    } else {
        (SMALL_ONES.with_borrow_mut(Vec::pop), SMALL)
    };
    kept.unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

/// For the next stream.
pub(super) fn give_back(buffer: Box<[u8]>) {
    let size = buffer.len();
    let ones = if size == LARGE {
        &LARGE_ONES
    } else {
        &SMALL_ONES
    };
    ones.with_borrow_mut(|kept| {
        if kept.len().saturating_mul(size) < SPARE {
            kept.push(buffer);
        }
    });
}
