//! HTTP/2 frames as bytes, before the codec of a connection sees them.
//!
//! [`Cursor`] finds where frames begin, [`Heads`] holds header blocks back until they are whole and
//! mends those that would cost their whole connection. What must stay true: nothing here needs a
//! socket or a clock, and what is not understood passes as it came: it is the codec's to refuse.

mod heads;
mod hpack;
mod huffman;
mod name;

pub(crate) use self::heads::{Found, Heads};

/// What every HTTP/2 client says first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames (RFC 9113 §6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Their flags.
pub(crate) mod flag {
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// The front of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Front {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Front {
    pub(crate) const LENGTH: usize = 9;

    fn read(bytes: [u8; Self::LENGTH]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        let length = u32::from_be_bytes([0, a, b, c]);
        Self {
            length: usize::try_from(length).unwrap_or(usize::MAX),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    /// The one that these bytes begin with; none while there are too few.
    fn of(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().copied().map(Self::read)
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The length of the whole frame.
    fn whole(&self) -> usize {
        self.length.saturating_add(Self::LENGTH)
    }
}

/// Finds the fronts of frames in one direction of a connection, however its bytes are cut.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    front: [u8; Front::LENGTH],
    filled: usize,
    /// What is left of the contents of the frame under way.
    left: usize,
}

impl Cursor {
    /// Behind `skip` bytes that are no frame.
    pub(crate) fn behind(skip: usize) -> Self {
        Self {
            left: skip,
            ..Self::default()
        }
    }

    /// Takes what came next, up to the front of a frame that is now complete; gives what is left.
    pub(crate) fn next<'a>(&mut self, bytes: &'a [u8]) -> (Option<Front>, &'a [u8]) {
        let bytes = self.finish(bytes);
        let space = self.front.get_mut(self.filled..).unwrap_or_default();
        let (taken, rest) = bytes.split_at(space.len().min(bytes.len()));
        if let Some(space) = space.get_mut(..taken.len()) {
            space.copy_from_slice(taken);
        }
        self.filled = self.filled.saturating_add(taken.len());
        if self.filled < Front::LENGTH {
            return (None, rest);
        }
        self.filled = 0;
        let front = Front::read(self.front);
        self.left = front.length;
        (Some(front), rest)
    }

    /// Takes what is left of the frame under way and nothing of the next; gives that.
    pub(crate) fn finish<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (contents, next) = bytes.split_at(self.left.min(bytes.len()));
        self.left = self.left.saturating_sub(contents.len());
        next
    }

    /// Whether the front of a frame has begun and not ended.
    pub(crate) fn is_in_front(&self) -> bool {
        self.filled > 0
    }

    /// What is left of the contents of the frame under way.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Whether one frame has ended and no other begun.
    pub(crate) fn is_between(&self) -> bool {
        self.filled == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.resize(bytes.len() + length, 0);
        bytes
    }

    #[test]
    fn finds_frames_however_the_bytes_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(kind::SETTINGS, 0, 0, 18));
        bytes.extend(frame(kind::HEADERS, flag::END_HEADERS, 1, 40));
        bytes.extend(frame(kind::DATA, 0, 1, 0));
        bytes.extend(frame(kind::PING, 0, 0, 8));
        for size in 1..bytes.len() {
            let mut cursor = Cursor::behind(PREFACE.len());
            let mut kinds = Vec::new();
            for mut piece in bytes.chunks(size) {
                while !piece.is_empty() {
                    let (front, rest) = cursor.next(piece);
                    kinds.extend(front.map(|front| (front.kind, front.length, front.stream)));
                    piece = rest;
                }
            }
            let expected = [
                (kind::SETTINGS, 18, 0),
                (kind::HEADERS, 40, 1),
                (kind::DATA, 0, 1),
                (kind::PING, 8, 0),
            ];
            assert_eq!(kinds, expected, "pieces of {size}");
            assert!(cursor.is_between());
        }
    }
}
