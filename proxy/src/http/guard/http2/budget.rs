//! What an HTTP/2 peer may have done for it, beside the work that it is there for.
//!
//! Each kind of frame that costs us something and moves nothing takes from an [`Allowance`]; real work (streams, bytes) gives to it, and so
//! does time. So a ping now and then, or an acknowledgement for every frame of a long download, never uses one up, and a flood does
//! within a moment, however long the connection was good before.

use std::time::Duration;

use tokio::time::Instant;

use super::Limits;
use super::frame::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
};

/// In so long an allowance that was used up is whole again: soon enough for whoever waits for an answer to be tried again, and
/// so slow that a tenth of a flood a second is all that goes on.
const WHOLE_AGAIN: Duration = Duration::from_secs(10);

/// What real work may save up, in allowances: a reader that rests acknowledges all that is in its windows at once.
const SAVED_MAX: u32 = 16;

/// The same for streams taken back. Each of those is work begun for nothing behind us, however cheap the answers were by which it
/// was earned; a page of a hundred parts that is left twice in a row is all that has to be borne.
const RESETS_SAVED_MAX: u32 = 2;

/// A stream that ends later than this was not opened to be taken back.
const YOUNG: Duration = Duration::from_secs(1);

/// SETTINGS may touch every stream, and must be acknowledged; two or three are usual.
const SETTINGS_COST: u32 = 10;

/// A stream that is refused costs more than [`STREAM_EARNS`].
const REFUSED_COST: u32 = 8;

/// Control frames that go with a stream: its priority, its window, its reset.
const STREAM_EARNS: u32 = 4;

/// Control frames that answer a DATA frame of ours: two windows, a measuring ping, and one to spare.
const DATA_SENT_EARNS: u32 = 4;

/// Control frames that answer ours: an acknowledgement, and one to spare.
const CONTROL_SENT_EARNS: u32 = 2;

/// As many bytes of DATA, either way, earn one control frame.
const BYTES_EARN: u32 = 1024;

/// Heads of answers for a request: one with 100 before it, one that gives hints, trailers.
const HEADS_A_REQUEST: u32 = 4;

/// Heads beyond those: each is small on the wire and may be as large as the limit in memory.
const HEADS: u32 = 100;

/// RST_STREAM's codes for what is no error, and for what was not even begun (RFC 9113, section 7).
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;

/// Which end of the connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The peer sends requests.
    Server,
    /// The peer sends answers.
    Client,
}

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// Frames that move nothing.
    Control,
    /// Streams opened and reset before there was an answer, by the peer or by its errors.
    Resets,
    /// Bytes of one header block.
    HeaderBlock,
    /// Heads of answers.
    Heads,
    /// It does not begin as HTTP/2 does.
    Preface,
}

impl Excess {
    /// For the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control_frames",
            Self::Resets => "resets",
            Self::HeaderBlock => "header_block",
            Self::Heads => "heads",
            Self::Preface => "preface",
        }
    }

    /// For the GOAWAY: ENHANCE_YOUR_CALM, or PROTOCOL_ERROR.
    pub fn code(self) -> u32 {
        if self == Self::Preface { 1 } else { 11 }
    }
}

/// Something that may be used up.
#[derive(Debug)]
struct Allowance {
    left: u32,
    whole: u32,
    /// What may be saved up.
    most: u32,
    looked: Instant,
}

impl Allowance {
    fn new(whole: u32, saved: u32, now: Instant) -> Self {
        Self { left: whole, whole, most: whole.saturating_mul(saved), looked: now }
    }

    fn earn(&mut self, much: u32) {
        self.left = self.left.saturating_add(much).min(self.most);
    }

    /// Takes some, if there is enough.
    fn spend(&mut self, much: u32, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.looked).as_millis();
        let gained = u32::try_from(u128::from(self.whole) * since / WHOLE_AGAIN.as_millis()).unwrap_or(u32::MAX);
        if self.left >= self.whole {
            self.looked = now;
        } else if gained > 0 {
            // Less than one is not lost, only waited for.
            (self.left, self.looked) = (self.left.saturating_add(gained).min(self.whole), now);
        }
        let enough = self.left >= much;
        self.left = self.left.saturating_sub(much);
        enough
    }
}

/// What one connection has used.
#[derive(Debug)]
pub struct Budget {
    role: Role,
    control: Allowance,
    resets: Allowance,
    heads: Allowance,
    block_max: u32,
    /// Bytes of the header block that is coming; `None` between blocks.
    block: Option<u32>,
    begun: bool,
    /// The peer's last stream, and when it was opened.
    last: u32,
    opened: Instant,
    /// Which it was when this was last noted, and when that was.
    noted: (u32, Instant),
    /// Which it was when that was noted before, at least [`YOUNG`] ago.
    old: u32,
    bytes: u32,
}

impl Budget {
    /// Of a new connection.
    pub fn new(role: Role, limits: &Limits, now: Instant) -> Self {
        Self {
            role,
            control: Allowance::new(limits.control_frames, SAVED_MAX, now),
            resets: Allowance::new(limits.resets, RESETS_SAVED_MAX, now),
            heads: Allowance::new(HEADS, SAVED_MAX, now),
            block_max: limits.header_block_bytes,
            block: None,
            begun: false,
            last: 0,
            opened: now,
            noted: (0, now),
            old: 0,
            bytes: 0,
        }
    }

    /// The last stream that the peer has opened.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// Whether a header block is on its way, or the connection has not begun.
    pub fn is_within_head(&self) -> bool {
        self.block.is_some() || !self.begun
    }

    /// A frame has begun to come.
    ///
    /// # Errors
    /// There have been too many of its kind.
    pub fn received(&mut self, frame: &Frame, now: impl Fn() -> Instant) -> Result<(), Excess> {
        if !std::mem::replace(&mut self.begun, true) && (frame.kind != SETTINGS || frame.has(ACK)) {
            return Err(Excess::Preface);
        }
        let cost = match frame.kind {
            DATA => {
                let data = frame.data();
                self.moved(data);
                u32::from(data == 0 && !frame.has(END_STREAM))
            }
            HEADERS => return self.head(frame, now),
            CONTINUATION => {
                self.block(frame)?;
                1
            }
            RST_STREAM => {
                self.reset(frame, &now)?;
                1
            }
            SETTINGS if !frame.has(ACK) => SETTINGS_COST,
            GOAWAY => SETTINGS_COST,
            _ => 1,
        };
        if cost == 0 || self.control.spend(cost, now()) { Ok(()) } else { Err(Excess::Control) }
    }

    /// A frame of ours begins to go out.
    ///
    /// # Errors
    /// It answers an error of the peer's, and there have been too many.
    pub fn sent(&mut self, frame: &Frame, now: impl Fn() -> Instant) -> Result<(), Excess> {
        match frame.kind {
            DATA => {
                self.control.earn(DATA_SENT_EARNS);
                self.moved(frame.data());
            }
            HEADERS if self.role == Role::Server => self.resets.earn(1),
            HEADERS => {
                self.heads.earn(HEADS_A_REQUEST);
                self.control.earn(STREAM_EARNS);
            }
            RST_STREAM if frame.code() == REFUSED_STREAM => {
                let enough = self.control.spend(REFUSED_COST, now());
                return if enough { Ok(()) } else { Err(Excess::Control) };
            }
            RST_STREAM if frame.code() != NO_ERROR => self.reset(frame, now)?,
            SETTINGS | PING if !frame.has(ACK) => self.control.earn(CONTROL_SENT_EARNS),
            _ => {}
        }
        Ok(())
    }

    /// The peer's header block has come whole.
    pub fn block_ended(&mut self) {
        self.block = None;
    }

    fn head(&mut self, frame: &Frame, now: impl FnOnce() -> Instant) -> Result<(), Excess> {
        self.block = Some(0);
        if self.role == Role::Client {
            if !self.heads.spend(1, now()) {
                return Err(Excess::Heads);
            }
        } else if frame.stream > self.last {
            (self.last, self.opened) = (frame.stream, now());
            self.control.earn(STREAM_EARNS);
        }
        self.block(frame)
    }

    fn block(&mut self, frame: &Frame) -> Result<(), Excess> {
        let bytes = self.block.unwrap_or_default().saturating_add(frame.length);
        self.block = Some(bytes);
        if bytes > self.block_max { Err(Excess::HeaderBlock) } else { Ok(()) }
    }

    /// A stream is reset, by the peer or because of it. As a client we bear what becomes of our own.
    fn reset(&mut self, frame: &Frame, now: impl Fn() -> Instant) -> Result<(), Excess> {
        if self.role == Role::Client {
            return Ok(());
        }
        let now = now();
        if now.saturating_duration_since(self.noted.1) >= YOUNG {
            self.old = std::mem::replace(&mut self.noted, (self.last, now)).0;
        }
        if now.saturating_duration_since(self.opened) >= YOUNG {
            self.old = self.last;
        }
        if frame.stream <= self.old || self.resets.spend(1, now) { Ok(()) } else { Err(Excess::Resets) }
    }

    fn moved(&mut self, data: u32) {
        self.bytes = self.bytes.saturating_add(data);
        if self.bytes >= BYTES_EARN {
            self.control.earn(self.bytes / BYTES_EARN);
            self.bytes %= BYTES_EARN;
        }
    }

    /// Whether a frame of the peer's ends its header block.
    pub(super) fn ends_block(frame: &Frame) -> bool {
        matches!(frame.kind, HEADERS | CONTINUATION) && frame.has(END_HEADERS)
    }
}

#[cfg(test)]
mod tests;
