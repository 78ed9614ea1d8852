//! Header blocks (RFC 7541), as far as it takes to see which of their fields the codec can make none of.
//!
//! To the codec a field with a malformed name or value is a broken block: it loses its table, and with
//! it the connection. RFC 9113 §8.2.1 wants the stream to end, and no other. So such a block is mended:
//! what comes of it is malformed in a way that the codec survives, and does to its table what the block
//! as it was does to the table of its sender. What must stay true: both tables have entries of the same
//! sizes in the same places, always; and an entry that stands in for a malformed one is never taken for
//! a field, in this block or in a later one.

use std::collections::VecDeque;

use super::{huffman, name::Kind};

/// The size of both tables as long as nobody says anything else, and we never do.
const TABLE: usize = 4096;
/// Of an entry, beside its name and its value (RFC 7541 §4.1).
const BESIDE: usize = 32;
/// The most entries of a table.
const ENTRIES: usize = TABLE / BESIDE;
/// The method again: whatever was before it, the block is malformed.
const SPOILT: [u8; 2] = [0x82, 0x82];

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("a field has a malformed name")]
    Name,
    #[error("a field has a malformed value")]
    Value,
    #[error("a pseudo-header stands in trailers")]
    Trailers,
    /// The codec would end the connection, since it has no body there to hold it against.
    #[error("CONNECT says that it has a body")]
    Connect,
    #[error("a stream depends on itself")]
    Dependency,
}

/// A header block, looked through.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// The codec can take it as it is.
    Sound {
        /// Its status is that of an interim response.
        interim: bool,
    },
    /// The codec is to take this instead.
    Flawed(Flaw, Vec<u8>),
    /// No header block: the codec has to refuse it.
    Unreadable,
}

/// An entry of a table, as far as it matters to blocks that come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    /// Of its name.
    length: u16,
    /// The codec has the same name and value.
    sound: bool,
}

/// The dynamic table of one direction of a connection. It may remember what both sides have forgotten:
/// who refers to that is refused by the codec.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    most: usize,
}

/// One representation (RFC 7541 §6), looked at.
enum Seen {
    /// Of a field with such a name.
    Sound(Kind),
    Flawed {
        flaw: Flaw,
        /// What does the same to the codec's table.
        instead: Vec<u8>,
    },
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            most: TABLE,
        }
    }

    /// Looks a whole block through, which changes the table. In `trailers` pseudo-headers are out of place.
    pub(super) fn judge(&mut self, block: &[u8], trailers: bool) -> Judged {
        let mut reader = Reader {
            rest: block,
            text: Vec::new(),
        };
        let (mut interim, mut connect, mut length) = (false, false, false);
        let mut mended: Option<(Flaw, Vec<u8>)> = None;
        while let Some(first) = reader.rest.first() {
            let here = reader.rest;
            let seen = match first {
                0x80..=0xff => self.indexed(&mut reader),
                0x40..=0x7f => self.literal(&mut reader, 6, true),
                0x20..=0x3f => self.resized(&mut reader),
                0x00..=0x1f => self.literal(&mut reader, 4, false),
            };
            let taken = here.len().saturating_sub(reader.rest.len());
            let bytes = here.get(..taken).unwrap_or_default();
            let (flaw, instead) = match seen {
                None => return Judged::Unreadable,
                Some(Seen::Flawed { flaw, instead }) => (flaw, instead),
                Some(Seen::Sound(kind)) if trailers && kind.is_pseudo() => {
                    (Flaw::Trailers, bytes.to_vec())
                }
                Some(Seen::Sound(kind)) => {
                    interim |= kind == Kind::Status { interim: true };
                    connect |= kind == Kind::Method { connect: true };
                    length |= kind == Kind::Length { none: false };
                    if let Some((_, mended)) = &mut mended {
                        mended.extend_from_slice(bytes);
                    }
                    continue;
                }
            };
            let before = block.len().saturating_sub(here.len());
            let sound = || block.get(..before).unwrap_or_default().to_vec();
            let (_, mended) = mended.get_or_insert_with(|| (flaw, sound()));
            mended.extend(instead);
        }
        match mended {
            None if connect && length => Judged::Flawed(Flaw::Connect, spoil(block.to_vec())),
            None => Judged::Sound { interim },
            Some((flaw, block)) => Judged::Flawed(flaw, spoil(block)),
        }
    }

    fn indexed(&self, reader: &mut Reader<'_>) -> Option<Seen> {
        let entry = self.entry(reader.integer(7)?)?;
        if entry.sound {
            return Some(Seen::Sound(entry.kind));
        }
        Some(Seen::Flawed {
            flaw: flaw(entry.kind),
            instead: Vec::new(),
        })
    }

    fn resized(&mut self, reader: &mut Reader<'_>) -> Option<Seen> {
        let most = reader.integer(5)?;
        self.most = most;
        (most <= TABLE).then_some(Seen::Sound(Kind::Field))
    }

    fn literal(&mut self, reader: &mut Reader<'_>, bits: u32, indexing: bool) -> Option<Seen> {
        let begins = reader.rest;
        let (kind, length) = match reader.integer(bits)? {
            0 => {
                let name = reader.string()?;
                (Kind::of(name), name.len())
            }
            index => {
                let entry = self.entry(index)?;
                (entry.kind, usize::from(entry.length))
            }
        };
        let named = begins.len().checked_sub(reader.rest.len())?;
        let value = reader.string()?;
        let sound = kind.takes(value);
        let (kind, size) = (kind.with(value), value.len());
        if sound {
            if indexing {
                self.insert(kind, length, size, true);
            }
            return Some(Seen::Sound(kind));
        }
        let flaw = flaw(kind);
        let mut instead = Vec::new();
        if indexing {
            let name = begins.get(..named)?;
            let kind = stand_in(&mut instead, name, kind, length, size)?;
            self.insert(kind, length, size, false);
        }
        Some(Seen::Flawed { flaw, instead })
    }

    fn insert(&mut self, kind: Kind, length: usize, value: usize, sound: bool) {
        let size = length.saturating_add(value).saturating_add(BESIDE);
        // RFC 7541 §4.4: what is too large for the table empties it.
        let Some(length) = u16::try_from(length).ok().filter(|_| size <= self.most) else {
            self.entries.clear();
            return;
        };
        self.entries.truncate(ENTRIES - 1);
        self.entries.push_front(Entry {
            kind,
            length,
            sound,
        });
    }

    fn entry(&self, index: usize) -> Option<Entry> {
        let dynamic = || {
            let place = index.checked_sub(STATIC.saturating_add(1))?;
            self.entries.get(place).copied()
        };
        static_entry(index).or_else(dynamic)
    }
}

fn flaw(kind: Kind) -> Flaw {
    match kind {
        Kind::Malformed => Flaw::Name,
        Kind::Field
        | Kind::Length { .. }
        | Kind::Text
        | Kind::Method { .. }
        | Kind::Status { .. } => Flaw::Value,
    }
}

/// Says the method twice behind what a block is to do to the table.
pub(super) fn spoil(mut block: Vec<u8>) -> Vec<u8> {
    block.extend(SPOILT);
    block
}

/// Appends an entry of the same size that the codec can make a field of, and gives the kind that its name
/// has from now on. `name` is how the name was said. None where there is no such entry: nothing is as
/// small as an empty name with an empty value.
fn stand_in(
    instead: &mut Vec<u8>,
    name: &[u8],
    kind: Kind,
    length: usize,
    value: usize,
) -> Option<Kind> {
    let keeps = match kind {
        Kind::Field | Kind::Length { .. } | Kind::Text => true,
        Kind::Method { .. } => value > 0,
        Kind::Status { .. } | Kind::Malformed => false,
    };
    if keeps {
        instead.extend_from_slice(name);
        fill(instead, value);
        return Some(kind);
    }
    let letters = length.max(1);
    let value = length.checked_add(value)?.checked_sub(letters)?;
    instead.push(0x40);
    fill(instead, letters);
    fill(instead, value);
    Some(Kind::Malformed)
}

/// Appends a string of so many letters.
fn fill(bytes: &mut Vec<u8>, length: usize) {
    const MOST: usize = 0x7f;
    let byte = |value: usize| u8::try_from(value).unwrap_or_default();
    bytes.push(byte(length.min(MOST)));
    if let Some(mut rest) = length.checked_sub(MOST) {
        while rest >= 0x80 {
            bytes.push(byte(rest & 0x7f) | 0x80);
            rest >>= 7;
        }
        bytes.push(byte(rest));
    }
    bytes.resize(bytes.len().saturating_add(length), b'x');
}

/// What is left of a block.
struct Reader<'a> {
    rest: &'a [u8],
    /// What a string in code stands for.
    text: Vec<u8>,
}

impl Reader<'_> {
    /// An integer below the first bits of a byte (RFC 7541 §5.1), as long as the codec takes it.
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let (first, mut rest) = self.rest.split_first()?;
        let most = !(u8::MAX << bits);
        let mut value = usize::from(first & most);
        if first & most == most {
            let mut shift = 0;
            loop {
                let byte;
                (byte, rest) = rest.split_first()?;
                value = value.saturating_add(usize::from(byte & 0x7f) << shift);
                if byte & 0x80 == 0 {
                    break;
                }
                shift += 7;
                if shift == 28 {
                    return None;
                }
            }
        }
        self.rest = rest;
        Some(value)
    }

    /// A string (RFC 7541 §5.2), out of its code.
    fn string(&mut self) -> Option<&[u8]> {
        let coded = self.rest.first()? & 0x80 != 0;
        let length = self.integer(7)?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        if !coded {
            return Some(bytes);
        }
        self.text.clear();
        huffman::decode(bytes, &mut self.text)?;
        Some(&self.text)
    }
}

/// How many entries the static table has (RFC 7541 appendix A).
const STATIC: usize = 61;

/// The lengths of the names in the static table behind the pseudo-headers.
#[rustfmt::skip] // a table is read as a table
const LENGTHS: [u16; 47] = [
    14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7, 4, 4,
    8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
];

fn static_entry(index: usize) -> Option<Entry> {
    let (kind, length) = match index {
        0 => return None,
        1 => (Kind::Text, 10),
        2 | 3 => (Kind::Method { connect: false }, 7),
        4 | 5 => (Kind::Text, 5),
        6 | 7 => (Kind::Text, 7),
        8..=14 => (Kind::Status { interim: false }, 7),
        28 => (Kind::Length { none: true }, 14),
        _ => (Kind::Field, *LENGTHS.get(index.checked_sub(15)?)?),
    };
    let sound = true;
    Some(Entry {
        kind,
        length,
        sound,
    })
}

#[cfg(test)]
mod tests;
