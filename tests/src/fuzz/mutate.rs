//! Changes of an input, by chance.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

/// The longest input that is tried.
const LONGEST: usize = 16 << 10;

/// Bytes that often stand where a parser decides.
const EDGES: &[u8] = b"\0\t\r\n \"'#$%&*+,-./0:;<=>?@[\\]^_`{|}~\x7f\x80\xc3\xff";

/// `input` with one to eight changes; `other` is another input to borrow from.
pub(super) fn mutated(input: &[u8], other: &[u8], words: &[&str], chance: &mut StdRng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..chance.random_range(1..=8) {
        let at = chance.random_range(0..=bytes.len());
        let end = chance.random_range(at..=bytes.len().min(at.saturating_add(32)));
        match chance.random_range(0..8) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << chance.random_range(0..8);
                }
            }
            1 => bytes.insert(at, *EDGES.choose(chance).unwrap_or(&0)),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes.get(at..end).unwrap_or_default().to_vec();
                drop(bytes.splice(at..at, copy));
            }
            4 => {
                let from = chance.random_range(0..=other.len());
                let piece = other
                    .get(from..)
                    .unwrap_or_default()
                    .iter()
                    .take(64)
                    .copied();
                drop(bytes.splice(at..end, piece.collect::<Vec<_>>()));
            }
            5 => bytes.truncate(at),
            6 => bytes.insert(at, chance.random()),
            _ => {
                let word = words.choose(chance).copied().unwrap_or_default();
                drop(bytes.splice(at..end, word.bytes()));
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}
