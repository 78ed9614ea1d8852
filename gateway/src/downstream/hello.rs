//! Reads the first message of a client that speaks TLS (RFC 8446 §4.1.2) without ending TLS: whom it asks
//! for, and what it offers to speak.
//!
//! Pure. What must stay true: how the bytes were cut into pieces makes no difference; work is in
//! proportion to the bytes, however small the pieces are; what is no TLS is known by its first bytes,
//! and nobody is waited for who sends too much.

mod message;
#[cfg(test)]
mod tests;

use crate::downstream::Hello;

/// The most that is read to find the whole message: 64 KiB, which is what TLS libraries take, and what
/// its records may cost besides.
pub const LIMIT: usize = 80 << 10;

/// The longest message, with its head.
const MESSAGE: usize = 64 << 10;

/// The longest record without its head (RFC 8446 §5.1).
const RECORD: usize = 1 << 14;

/// The head of a record: its type, its version, its length.
const RECORD_HEAD: usize = 5;

/// The head of a message: its type, its length.
const MESSAGE_HEAD: usize = 4;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// Why there is nothing to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It begins like no TLS at all.
    #[error("it is no TLS")]
    NotTls,
    /// It begins like TLS and goes on like none.
    #[error("the first message is malformed")]
    Malformed,
    /// It is larger than anybody has to read.
    #[error("the first message is too large")]
    TooLarge,
}

/// Reads what has come so far, again and again.
#[derive(Debug, Default)]
pub struct Reader {
    /// Where the first record begins that is not complete yet.
    next: usize,
    /// What of the message the complete records hold, and how it begins.
    held: usize,
    head: [u8; MESSAGE_HEAD],
}

impl Reader {
    /// What the message says once all of it is there. `bytes` are all bytes that the client sent: those
    /// of the call before, and more.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<Hello>, Flaw> {
        // No more than that is looked at, or the pieces would make a difference.
        let bytes = bytes.get(..LIMIT).unwrap_or(bytes);
        while let Some(record) = self.record(bytes)? {
            let open = self.head.iter_mut().skip(self.held);
            for (place, byte) in open.zip(record) {
                *place = *byte;
            }
            self.held = self.held.saturating_add(record.len());
            self.next = end_of(self.next, record);
            let [_, length @ ..] = self.head;
            let Some(body) = self.held.checked_sub(MESSAGE_HEAD) else {
                continue;
            };
            let length = number(&length);
            if length > MESSAGE - MESSAGE_HEAD {
                return Err(Flaw::TooLarge);
            }
            if length <= body {
                let message = self.message(bytes);
                let body = message.get(MESSAGE_HEAD..).unwrap_or_default();
                let body = body.get(..length).unwrap_or_default();
                return message::read(body).map(Some).ok_or(Flaw::Malformed);
            }
        }
        if bytes.len() < LIMIT {
            Ok(None)
        } else {
            Err(Flaw::TooLarge)
        }
    }

    /// What the next record holds, once all of it is there.
    fn record<'b>(&self, bytes: &'b [u8]) -> Result<Option<&'b [u8]>, Flaw> {
        let rest = bytes.get(self.next..).unwrap_or_default();
        let flaw = if self.next == 0 {
            Flaw::NotTls
        } else {
            Flaw::Malformed
        };
        // What is known already is looked at, so that nobody who speaks something else is waited for.
        let expected =
            |at: usize, is_fine: fn(u8) -> bool| rest.get(at).is_none_or(|it| is_fine(*it));
        if !expected(0, |kind| kind == HANDSHAKE) || !expected(1, |major| major == 3) {
            return Err(flaw);
        }
        let Some((head, body)) = rest.split_at_checked(RECORD_HEAD) else {
            return Ok(None);
        };
        let length = number(head.get(3..).unwrap_or_default());
        if length == 0 || length > RECORD {
            return Err(flaw);
        }
        if self.next == 0 && body.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(flaw);
        }
        Ok(body.get(..length))
    }

    /// The message out of its records, all of which are there. Put together only when it is complete:
    /// until then nothing is held twice.
    fn message(&self, bytes: &[u8]) -> Vec<u8> {
        let mut message = Vec::with_capacity(self.held);
        let mut again = Self::default();
        while again.next < self.next {
            let Ok(Some(record)) = again.record(bytes) else {
                break;
            };
            message.extend_from_slice(record);
            again.next = end_of(again.next, record);
        }
        message
    }
}

/// Where a record ends that begins at `start`.
fn end_of(start: usize, record: &[u8]) -> usize {
    start
        .saturating_add(RECORD_HEAD)
        .saturating_add(record.len())
}

/// Up to four bytes as a number.
fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| (number << 8) | usize::from(*byte))
}
