//! Holds header blocks back until they are whole, because half of one cannot be judged.
//!
//! What must stay true: everything else passes at once and untouched, and so does a block that came whole
//! and is sound, without a copy; a block that came in pieces goes on as one frame, since the codec
//! cannot end a stream amid its block without the connection.

use std::{
    collections::BTreeSet,
    io,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::ReadBuf;

use super::{
    Front, flag,
    hpack::{Flaw, Judged, Table, spoil},
    kind,
};

/// The largest frame that the codec takes.
const LARGEST: usize = 16 << 10;
/// The most that is held back; what is more the codec has to refuse.
const MOST_HELD: usize = 256 << 10;
/// Of so many streams it is known whether they have trailers to come.
const MOST_OPEN: usize = 4096;

/// A block that was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) stream: u32,
    pub(crate) flaw: Flaw,
    /// It is not the head of its message.
    pub(crate) trailers: bool,
}

/// What goes to the codec instead of what came.
#[derive(Debug)]
pub(crate) struct Heads {
    table: Table,
    /// Begins with a frame that is not whole yet.
    held: BytesMut,
    /// Goes to the codec before anything else.
    ready: BytesMut,
    /// What is left of the frame under way.
    passing: usize,
    /// Streams of which trailers can come.
    open: BTreeSet<u32>,
    found: Vec<Found>,
    /// The codec is about to refuse the connection.
    lost: bool,
}

/// What is to be done with the next bytes.
enum Step {
    Pass(usize),
    /// So many are replaced by these.
    Replace(usize, Vec<u8>),
    /// More have to come first.
    Wait,
}

impl Heads {
    /// `skip` bytes come before the first frame.
    pub(crate) fn behind(skip: usize) -> Self {
        Self {
            table: Table::new(),
            held: BytesMut::new(),
            ready: BytesMut::new(),
            passing: skip,
            open: BTreeSet::new(),
            found: Vec::new(),
            lost: false,
        }
    }

    /// Reads what may go to the codec; `read` reads what came.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        mut read: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.ready.is_empty() {
                self.give(buffer);
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(read(cx, buffer))?;
            let fresh = buffer.filled().get(before..).unwrap_or_default();
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = self.pass(fresh);
            if passed < fresh.len() {
                buffer.set_filled(before.saturating_add(passed));
            }
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.ready.len().min(buffer.remaining());
        buffer.put_slice(self.ready.get(..length).unwrap_or_default());
        self.ready.advance(length);
        if self.ready.is_empty() {
            // Not to be kept for as long as the connection lives.
            self.ready = BytesMut::new();
        }
    }

    /// The blocks that were mended since the last time.
    pub(crate) fn found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    /// A stream was reset from this side.
    pub(crate) fn forget(&mut self, stream: u32) {
        self.open.remove(&stream);
    }

    /// How many of the first of these bytes pass as they are. The rest is kept.
    fn pass(&mut self, fresh: &[u8]) -> usize {
        let mut passed = 0;
        if self.held.is_empty() && self.ready.is_empty() {
            loop {
                let rest = fresh.get(passed..).unwrap_or_default();
                if rest.is_empty() {
                    return passed;
                }
                match self.step(rest) {
                    Step::Pass(count) => passed = passed.saturating_add(count),
                    Step::Replace(count, frame) => {
                        self.ready.extend_from_slice(&frame);
                        let rest = rest.get(count..).unwrap_or_default();
                        self.held.extend_from_slice(rest);
                        break;
                    }
                    Step::Wait => {
                        self.held.extend_from_slice(rest);
                        return passed;
                    }
                }
            }
        } else {
            self.held.extend_from_slice(fresh);
        }
        self.sort();
        passed
    }

    /// Moves what is held and may go on.
    fn sort(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        while !held.is_empty() {
            match self.step(&held) {
                Step::Pass(count) => {
                    let passed = held.split_to(count.min(held.len()));
                    self.ready.extend_from_slice(&passed);
                }
                Step::Replace(count, frame) => {
                    held.advance(count.min(held.len()));
                    self.ready.extend_from_slice(&frame);
                }
                Step::Wait => break,
            }
        }
        if !held.is_empty() {
            self.held = held;
        }
    }

    /// What is to be done with the first of these bytes, which are not none.
    fn step(&mut self, bytes: &[u8]) -> Step {
        if self.lost {
            return Step::Pass(bytes.len());
        }
        if self.passing > 0 {
            let count = self.passing.min(bytes.len());
            self.passing = self.passing.saturating_sub(count);
            return Step::Pass(count);
        }
        let Some(front) = Front::of(bytes) else {
            return Step::Wait;
        };
        if front.kind == kind::HEADERS {
            return self.block(front, bytes);
        }
        let over = front.kind == kind::DATA && front.has(flag::END_STREAM);
        if over || front.kind == kind::RST_STREAM {
            self.open.remove(&front.stream);
        }
        self.passing = front.length;
        Step::Pass(Front::LENGTH)
    }

    /// The codec gets what is left as it comes.
    fn give_up(&mut self, bytes: &[u8]) -> Step {
        self.lost = true;
        Step::Pass(bytes.len())
    }

    fn block(&mut self, front: Front, bytes: &[u8]) -> Step {
        let whole = match whole(front, bytes) {
            Ok(whole) => whole,
            Err(Missing::More) if bytes.len() <= MOST_HELD => return Step::Wait,
            Err(Missing::More | Missing::Sense) => return self.give_up(bytes),
        };
        let Some((first, dependency)) = contents(front, bytes) else {
            return self.give_up(bytes);
        };
        let pieces = whole > front.whole();
        let joined = pieces.then(|| join(front, first, bytes, whole));
        let block = joined.as_deref().unwrap_or(first);
        let trailers = self.open.contains(&front.stream);
        let judged = match self.table.judge(block, trailers) {
            Judged::Sound { .. } if dependency == Some(front.stream) => {
                Judged::Flawed(Flaw::Dependency, spoil(block.to_vec()))
            }
            judged => judged,
        };
        let over = front.has(flag::END_STREAM);
        match judged {
            Judged::Sound { interim } => {
                if over {
                    self.open.remove(&front.stream);
                } else if !trailers && !interim {
                    self.expect_trailers(front.stream);
                }
                joined.map_or(Step::Pass(whole), |block| {
                    Step::Replace(whole, frames(front, &block))
                })
            }
            Judged::Flawed(flaw, block) => {
                self.open.remove(&front.stream);
                let stream = front.stream;
                self.found.push(Found {
                    stream,
                    flaw,
                    trailers,
                });
                Step::Replace(whole, frames(front, &block))
            }
            Judged::Unreadable => self.give_up(bytes),
        }
    }

    fn expect_trailers(&mut self, stream: u32) {
        if self.open.len() >= MOST_OPEN {
            self.open.pop_first();
        }
        self.open.insert(stream);
    }
}

/// Why there is no whole block.
enum Missing {
    /// It is still on its way.
    More,
    /// There will be none.
    Sense,
}

/// The length of all frames of a block.
fn whole(front: Front, bytes: &[u8]) -> Result<usize, Missing> {
    let (mut last, mut end) = (front, front.whole());
    loop {
        if last.length > LARGEST {
            return Err(Missing::Sense);
        }
        let rest = bytes.get(end..).ok_or(Missing::More)?;
        if last.has(flag::END_HEADERS) {
            return Ok(end);
        }
        last = Front::of(rest).ok_or(Missing::More)?;
        if last.kind != kind::CONTINUATION || last.stream != front.stream {
            return Err(Missing::Sense);
        }
        end = end.saturating_add(last.whole());
    }
}

/// What a HEADERS frame has of its block, and the stream that its own depends on.
fn contents(front: Front, bytes: &[u8]) -> Option<(&[u8], Option<u32>)> {
    let mut rest = bytes.get(Front::LENGTH..front.whole())?;
    let mut padding = 0;
    if front.has(flag::PADDED) {
        let length;
        (length, rest) = rest.split_first()?;
        padding = usize::from(*length);
    }
    let mut dependency = None;
    if front.has(flag::PRIORITY) {
        let (stream, behind) = rest.split_first_chunk()?;
        dependency = Some(u32::from_be_bytes(*stream) & 0x7fff_ffff);
        // Its weight.
        rest = behind.get(1..)?;
    }
    let length = rest.len().checked_sub(padding)?;
    Some((rest.get(..length)?, dependency))
}

/// A block in one piece: what its first frame has of it, and what the others have.
fn join(front: Front, first: &[u8], bytes: &[u8], whole: usize) -> Vec<u8> {
    let mut block = first.to_vec();
    let mut rest = bytes.get(front.whole()..whole).unwrap_or_default();
    while let Some(next) = Front::of(rest) {
        let piece = rest.get(Front::LENGTH..next.whole());
        block.extend_from_slice(piece.unwrap_or_default());
        rest = rest.get(next.whole()..).unwrap_or_default();
    }
    block
}

/// A block in as few frames as there can be: one, mostly. In more than one, what spoils it stands in the
/// last.
fn frames(front: Front, block: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(block.len().saturating_add(Front::LENGTH));
    let mut begun = front.flags & flag::END_STREAM;
    let mut kind = kind::HEADERS;
    let mut rest = block;
    loop {
        let (piece, more) = rest.split_at(rest.len().min(LARGEST));
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let [_, a, b, c] = length.to_be_bytes();
        let ends = if more.is_empty() {
            flag::END_HEADERS
        } else {
            0
        };
        bytes.extend([a, b, c, kind, begun | ends]);
        bytes.extend(front.stream.to_be_bytes());
        bytes.extend_from_slice(piece);
        if more.is_empty() {
            return bytes;
        }
        (begun, kind, rest) = (0, kind::CONTINUATION, more);
    }
}

#[cfg(test)]
mod tests;
