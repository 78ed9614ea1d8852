//! What an HTTP/2 client sends, frame by frame, and how much of it is of use.
//!
//! The codec bounds what one frame may do; this counts what many may. Only the nine bytes at the
//! front of a frame are looked at: contents are the codec's. What must stay true: a client that asks
//! and reads is never cut, however fast it is, and one that keeps us busy for nothing always is.
//! Pure: the time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::frames::{Cursor, Front, PREFACE, flag, kind};

/// More frames than this no honest head needs: one frame holds 16 KiB.
const CONTINUATIONS: u32 = 16;
/// The encoded form of a head is shorter than the head. Four times the limit of it leaves room to
/// answer who sends too much, instead of hanging up on him.
const BLOCK_FACTOR: usize = 4;
/// What a client may cost beyond what it earns, within [`WINDOW`].
const ALLOWANCE: u32 = 4_000;
/// Of what costs and earnings are summed: this, and up to one slice more.
const WINDOW: Duration = Duration::from_secs(30);
const SLICES: usize = 6;

/// A new request.
const EARN_HEADERS: u32 = 20;
/// A piece of a request's body.
const EARN_DATA: u32 = 4;
/// A piece of a response's body went out: the client may well open its window several times.
const EARN_ANSWER: u32 = 16;
/// Each has to be acknowledged, and changes windows and tables.
const COST_SETTINGS: u32 = 20;
/// Each has to be answered.
const COST_PING: u32 = 4;
/// No piece of a body, but looked at like one.
const COST_EMPTY_DATA: u32 = 20;
/// Says nothing that anybody listens to.
const COST_PRIORITY: u32 = 2;
const COST_UNKNOWN: u32 = 2;
const COST_WINDOW: u32 = 1;

/// What a client's frames may cost before others have their turn: 16 small heads, or 128 other frames.
const TURN: usize = 4096;
/// A head, and each byte of it, which may stand for a whole field.
const TURN_HEAD: usize = 128;
const TURN_FIELD: usize = 4;
const TURN_OTHER: usize = 32;

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u8 = 1;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u8 = 11;

/// Too much of something that is of no use to anybody, or no HTTP/2 from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    /// A head in too many or too large pieces.
    #[error("a head in too many pieces")]
    Continuation,
    /// Too many requests taken back, or broken so that we had to.
    #[error("too many requests taken back or broken")]
    Resets,
    /// Too many frames that neither ask nor carry anything.
    #[error("too many frames to no purpose")]
    Useless,
    /// The first frame is not `SETTINGS` (RFC 9113 §3.4).
    #[error("the first frame is not SETTINGS")]
    NoSettings,
}

impl Breach {
    /// What a client is told that goes because of it (RFC 9113 §7).
    fn code(self) -> u8 {
        match self {
            Self::NoSettings => PROTOCOL_ERROR,
            Self::Continuation | Self::Resets | Self::Useless => ENHANCE_YOUR_CALM,
        }
    }
}

/// A sum over the last [`WINDOW`].
#[derive(Debug)]
struct Recent {
    slices: [u32; SLICES + 1],
    sum: u32,
    /// The number of the newest slice since the beginning.
    newest: u64,
}

impl Recent {
    fn new() -> Self {
        Self {
            slices: [0; SLICES + 1],
            sum: 0,
            newest: 0,
        }
    }

    /// `slice` is the number of the slice that it is now.
    fn add(&mut self, amount: u32, slice: u64) -> u32 {
        let count = u64::try_from(self.slices.len()).unwrap_or(1);
        let passed = slice.saturating_sub(self.newest).min(count);
        for step in 1..=passed {
            let index = usize::try_from(self.newest.saturating_add(step) % count);
            if let Some(old) = index.ok().and_then(|index| self.slices.get_mut(index)) {
                self.sum = self.sum.saturating_sub(std::mem::take(old));
            }
        }
        // After a long pause every slice was emptied, whichever numbers they had.
        self.newest = self.newest.max(slice);
        let index = usize::try_from(self.newest % count);
        if let Some(now) = index.ok().and_then(|index| self.slices.get_mut(index)) {
            *now = now.saturating_add(amount);
            self.sum = self.sum.saturating_add(amount);
        }
        self.sum
    }
}

/// A head that has begun and not ended.
#[derive(Debug, Clone, Copy)]
struct Block {
    since: Instant,
    continuations: u32,
    bytes: usize,
}

/// Follows both directions of a connection.
#[derive(Debug)]
pub(crate) struct Guard {
    began: Instant,
    incoming: Cursor,
    outgoing: Cursor,
    head: usize,
    resets: usize,
    block: Option<Block>,
    taken_back: Recent,
    cost: Recent,
    earned: Recent,
    last_stream: u32,
    /// The first frame was here.
    begun: bool,
    /// What this turn has cost the codec so far.
    turn: usize,
    /// A stream that we are resetting, and what was sent of the code.
    resetting: Option<(u32, u32)>,
    breach: Option<Breach>,
}

impl Guard {
    /// `head` bytes may a head have, `resets` requests may be taken back.
    pub(crate) fn new(head: usize, resets: usize, now: Instant) -> Self {
        Self {
            began: now,
            incoming: Cursor::behind(PREFACE.len()),
            outgoing: Cursor::default(),
            head,
            resets,
            block: None,
            taken_back: Recent::new(),
            cost: Recent::new(),
            earned: Recent::new(),
            last_stream: 0,
            begun: false,
            turn: 0,
            resetting: None,
            breach: None,
        }
    }

    /// The codec has its turn.
    pub(crate) fn begin_turn(&mut self) {
        self.turn = 0;
    }

    /// Whether the codec has done enough for this turn.
    pub(crate) fn ends_turn(&self) -> bool {
        self.turn >= TURN && self.incoming.is_between()
    }

    /// The client sent this. Gives how many bytes at its end are for another turn, when they have to be
    /// told once more.
    pub(crate) fn received(&mut self, bytes: &[u8], now: Instant) -> Result<usize, Breach> {
        let judged = self.judge_all(bytes, now);
        self.breach = self.breach.or(judged.err());
        judged
    }

    fn judge_all(&mut self, mut bytes: &[u8], now: Instant) -> Result<usize, Breach> {
        let slice = self.slice(now);
        // Streams that we had to reset since.
        self.count_resets(0, slice)?;
        while !bytes.is_empty() {
            if self.turn >= TURN && !self.incoming.is_in_front() {
                return Ok(self.incoming.finish(bytes).len());
            }
            let (front, rest) = self.incoming.next(bytes);
            bytes = rest;
            if let Some(front) = front {
                let cost = match front.kind {
                    kind::HEADERS | kind::CONTINUATION => {
                        let fields = front.length.saturating_mul(TURN_FIELD);
                        TURN_HEAD.saturating_add(fields)
                    }
                    _ => TURN_OTHER,
                };
                self.turn = self.turn.saturating_add(cost);
                self.judge(front, slice, now)?;
            }
        }
        Ok(0)
    }

    /// We sent this. Tells of each stream that we reset: its number, and the code where it was because
    /// the client broke the protocol.
    pub(crate) fn sent(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
        mut tell: impl FnMut(u32, Option<u32>),
    ) {
        let slice = self.slice(now);
        while !bytes.is_empty() {
            let content = bytes.get(..self.outgoing.left()).unwrap_or(bytes);
            if let Some((stream, code)) = &mut self.resetting {
                *code = content
                    .iter()
                    .fold(*code, |sum, byte| sum << 8 | u32::from(*byte));
                if content.len() == self.outgoing.left() {
                    let (stream, code) = (*stream, *code);
                    self.resetting = None;
                    let broken = is_clients_fault(code);
                    if broken {
                        self.taken_back.add(1, slice);
                    }
                    tell(stream, broken.then_some(code));
                }
            }
            let (front, rest) = self.outgoing.next(bytes);
            bytes = rest;
            match front {
                Some(front) if front.kind == kind::DATA && front.length > 0 => {
                    self.earned.add(EARN_ANSWER, slice);
                }
                Some(front) if front.kind == kind::RST_STREAM => {
                    self.resetting = Some((front.stream, 0));
                }
                _ => {}
            }
        }
    }

    /// Since when a head is on its way.
    pub(crate) fn head_since(&self) -> Option<Instant> {
        self.block.map(|block| block.since)
    }

    /// Whether a frame of ours may follow what we sent.
    pub(crate) fn may_send(&self) -> bool {
        self.outgoing.is_between()
    }

    /// Tells the client to go away because of what it did.
    pub(crate) fn farewell(&self) -> [u8; 17] {
        // 8 bytes of contents, GOAWAY, no flags, stream 0.
        let [a, b, c, d] = self.last_stream.to_be_bytes();
        let code = self.breach.map_or(ENHANCE_YOUR_CALM, Breach::code);
        [0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, code]
    }

    fn slice(&self, now: Instant) -> u64 {
        let slice = WINDOW.as_millis() / u128::try_from(SLICES).unwrap_or(1);
        let passed = now.saturating_duration_since(self.began).as_millis();
        u64::try_from(passed / slice).unwrap_or(u64::MAX)
    }

    fn judge(&mut self, front: Front, slice: u64, now: Instant) -> Result<(), Breach> {
        let first = !std::mem::replace(&mut self.begun, true);
        if first {
            // Everybody has to send it: it costs nothing.
            let settings = front.kind == kind::SETTINGS && !front.has(flag::ACK);
            return settings.then_some(()).ok_or(Breach::NoSettings);
        }
        match front.kind {
            kind::HEADERS => {
                self.last_stream = self.last_stream.max(front.stream);
                self.earned.add(EARN_HEADERS, slice);
                let block = Block {
                    since: now,
                    continuations: 0,
                    bytes: front.length,
                };
                self.block = (!front.has(flag::END_HEADERS)).then_some(block);
                Ok(())
            }
            kind::CONTINUATION => self.continued(front),
            kind::RST_STREAM => self.count_resets(1, slice),
            // How much of it is padding stands in its contents.
            kind::DATA if front.length > 0 && !front.has(flag::PADDED) => {
                self.earned.add(EARN_DATA, slice);
                Ok(())
            }
            kind::DATA if front.length > 0 || front.has(flag::END_STREAM) => Ok(()),
            kind::DATA => self.pay(COST_EMPTY_DATA, slice),
            kind::SETTINGS => self.pay(COST_SETTINGS, slice),
            kind::PING => self.pay(COST_PING, slice),
            kind::PRIORITY => self.pay(COST_PRIORITY, slice),
            kind::WINDOW_UPDATE => self.pay(COST_WINDOW, slice),
            _ => self.pay(COST_UNKNOWN, slice),
        }
    }

    /// Who makes us reset streams gets the same out of it as who resets them himself.
    fn count_resets(&mut self, more: u32, slice: u64) -> Result<(), Breach> {
        let resets = usize::try_from(self.taken_back.add(more, slice));
        if resets.unwrap_or(usize::MAX) > self.resets {
            return Err(Breach::Resets);
        }
        Ok(())
    }

    fn continued(&mut self, front: Front) -> Result<(), Breach> {
        // Without a head before it, it is the codec's to refuse.
        let Some(block) = &mut self.block else {
            return Ok(());
        };
        block.continuations = block.continuations.saturating_add(1);
        block.bytes = block.bytes.saturating_add(front.length);
        let too_long = block.bytes > self.head.saturating_mul(BLOCK_FACTOR);
        if block.continuations > CONTINUATIONS || too_long {
            return Err(Breach::Continuation);
        }
        if front.has(flag::END_HEADERS) {
            self.block = None;
        }
        Ok(())
    }

    fn pay(&mut self, cost: u32, slice: u64) -> Result<(), Breach> {
        let cost = self.cost.add(cost, slice);
        let earned = self.earned.add(0, slice);
        if cost > earned.saturating_add(ALLOWANCE) {
            return Err(Breach::Useless);
        }
        Ok(())
    }
}

/// Whether a stream that we reset with this code was reset for what its client did: neither because
/// nobody wants the rest of a request, nor because an answer broke off, nor for want of room.
fn is_clients_fault(code: u32) -> bool {
    ![NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL].contains(&code)
}

#[cfg(test)]
mod tests;
