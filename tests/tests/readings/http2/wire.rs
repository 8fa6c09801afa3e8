//! The client's end of an HTTP/2 connection: writes any fields and any order of frames, and sees what each stream comes to.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::call::{Call, End, Field};
use crate::dice::Dice;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types and flags (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// Names and fields of HPACK's static table (RFC 7541, appendix A) that are likely here.
const NAMES: [(&str, u8); 8] = [
    (":authority", 1),
    (":method", 2),
    (":path", 4),
    (":scheme", 6),
    ("content-length", 28),
    ("cookie", 32),
    ("expect", 35),
    ("host", 38),
];
const FIELDS: [(&str, &str, u8); 5] =
    [(":method", "GET", 2), (":method", "POST", 3), (":path", "/", 4), (":scheme", "http", 6), (":scheme", "https", 7)];

/// The newest entry of the dynamic table (RFC 7541, section 2.3.3).
const NEWEST: u8 = 62;

/// What becomes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The application's answer came.
    Answered,
    /// Another answer.
    Refused,
    Reset,
    /// Its client took it back.
    TakenBack,
}

pub(super) struct Client {
    stream: DuplexStream,
    read: Vec<u8>,
    next: u32,
    newest: Option<Field>,
}

impl Client {
    pub(super) async fn new(mut stream: DuplexStream) -> Self {
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let _ = stream.write_all(&hello).await;
        Self { stream, read: Vec::new(), next: 1, newest: None }
    }

    /// Sends all of these, frame by frame among each other, and waits for what each comes to. `None` when the connection ends.
    pub(super) async fn ask(&mut self, dice: &mut Dice, calls: &[Call], number: usize) -> Option<Vec<Ended>> {
        let mut bytes = Vec::new();
        let (mut ended, mut streams, mut open) =
            (vec![None; calls.len()], BTreeMap::new(), Vec::<(u32, Steps<'_>)>::new());
        let mut coming = calls.iter().enumerate();
        loop {
            if (open.is_empty() || dice.one_in(2))
                && let Some((index, call)) = coming.next()
            {
                let (stream, mut steps) = (self.next, Steps::of(call));
                self.next += 2;
                streams.insert(stream, index);
                self.head(dice, &mut bytes, stream, call, number + index, steps.is_empty());
                if call.end == End::Reset {
                    ended[index] = Some(Ended::TakenBack);
                }
                if !steps.is_empty() {
                    steps.0.reverse();
                    open.push((stream, steps));
                }
                continue;
            }
            if open.is_empty() {
                break;
            }
            let which = dice.below(open.len());
            let (stream, steps) = &mut open[which];
            let (stream, Some(step)) = (*stream, steps.0.pop()) else { break };
            let is_last = steps.is_empty();
            if is_last {
                open.swap_remove(which);
            }
            self.step(dice, &mut bytes, stream, &step, is_last);
        }
        self.stream.write_all(&bytes).await.ok()?;
        self.answers(&streams, &mut ended).await?;
        ended.into_iter().collect()
    }

    fn head(&mut self, dice: &mut Dice, out: &mut Vec<u8>, stream: u32, call: &Call, number: usize, is_last: bool) {
        let own = (super::NUMBER.as_bytes().to_vec(), number.to_string().into_bytes());
        let fields: Vec<Field> = call.fields.iter().cloned().chain([own]).collect();
        self.block(dice, out, stream, &fields, call.cut, is_last);
    }

    fn step(&mut self, dice: &mut Dice, out: &mut Vec<u8>, stream: u32, step: &Step<'_>, is_last: bool) {
        let end = if is_last { END_STREAM } else { 0 };
        match step {
            Step::Data(piece) if dice.one_in(6) => {
                let padding = dice.below(9);
                let payload = [&[padding as u8][..], piece, &vec![0; padding]].concat();
                out.extend(frame(DATA, end | PADDED, stream, &payload));
            }
            Step::Data(piece) => out.extend(frame(DATA, end, stream, piece)),
            Step::Trailers(fields, cut) => self.block(dice, out, stream, fields, *cut, true),
            Step::Reset => out.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())),
        }
    }

    /// HEADERS, and CONTINUATION where it is cut.
    fn block(&mut self, dice: &mut Dice, out: &mut Vec<u8>, stream: u32, fields: &[Field], cut: bool, is_last: bool) {
        let mut block = Vec::new();
        fields.iter().for_each(|field| self.field(dice, &mut block, field));
        let cuts = if cut { 1 + dice.below(2) } else { 0 };
        let mut ends: Vec<usize> = (0..cuts).map(|_| dice.below(block.len())).chain([block.len()]).collect();
        ends.sort_unstable();
        let mut start = 0;
        for (index, end) in ends.iter().enumerate() {
            let mut flags = if index + 1 == ends.len() { END_HEADERS } else { 0 };
            let piece = &block[std::mem::replace(&mut start, *end)..*end];
            if index > 0 {
                out.extend(frame(CONTINUATION, flags, stream, piece));
                continue;
            }
            flags |= if is_last { END_STREAM } else { 0 };
            let payload = match dice.below(12) {
                0 => {
                    flags |= PADDED;
                    [&[3], piece, &[0; 3]].concat()
                }
                1 => {
                    flags |= PRIORITY;
                    [&[0, 0, 0, 0, 15], piece].concat()
                }
                _ => piece.to_vec(),
            };
            out.extend(frame(HEADERS, flags, stream, &payload));
        }
    }

    /// One field, in one of the ways that HPACK has for it (RFC 7541, section 6).
    fn field(&mut self, dice: &mut Dice, block: &mut Vec<u8>, field: &Field) {
        let way = dice.below(4);
        if way > 0 && self.newest.as_ref() == Some(field) {
            block.push(0x80 | NEWEST);
            return;
        }
        let whole = FIELDS.iter().find(|(name, value, _)| (name.as_bytes(), value.as_bytes()) == (&field.0, &field.1));
        if let Some((_, _, index)) = whole.filter(|_| way > 0) {
            block.push(0x80 | index);
            return;
        }
        let name =
            NAMES.iter().find(|(name, _)| name.as_bytes() == field.0).filter(|_| way > 0).map(|(_, index)| *index);
        match (way, name) {
            (3, name) => {
                block.push(0x40 | name.unwrap_or(0));
                self.newest = Some(field.clone());
            }
            // What does not fit into four bits goes on in the next byte.
            (_, Some(index @ 15..)) => block.extend([15, index - 15]),
            (way, name) => block.push(if way == 2 { 0x10 } else { 0 } | name.unwrap_or(0)),
        }
        if name.is_none() {
            text(block, &field.0);
        }
        text(block, &field.1);
    }

    async fn answers(&mut self, streams: &BTreeMap<u32, usize>, ended: &mut [Option<Ended>]) -> Option<()> {
        let mut told = vec![false; ended.len()];
        while ended.contains(&None) {
            let (kind, flags, stream, payload) = self.frame().await?;
            let Some(&index) = streams.get(&stream) else {
                match kind {
                    SETTINGS if flags & ACK == 0 => self.stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await.ok()?,
                    GOAWAY => return None,
                    _ => {}
                }
                continue;
            };
            told[index] |= kind == DATA && payload == super::SERVED.as_bytes();
            let end = match kind {
                RST_STREAM => Some(if told[index] { Ended::Answered } else { Ended::Reset }),
                DATA | HEADERS if flags & END_STREAM != 0 => {
                    Some(if told[index] { Ended::Answered } else { Ended::Refused })
                }
                _ => None,
            };
            ended[index] = ended[index].or(end);
        }
        Some(())
    }

    async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some(&[high, middle, low, kind, flags, s0, s1, s2, s3]) = self.read.first_chunk() {
                let length = 9 + u32::from_be_bytes([0, high, middle, low]) as usize;
                if self.read.len() >= length {
                    let payload = self.read[9..length].to_vec();
                    self.read.drain(..length);
                    return Some((kind, flags, u32::from_be_bytes([s0, s1, s2, s3]), payload));
                }
            }
            self.stream.read_buf(&mut self.read).await.ok().filter(|count| *count > 0)?;
        }
    }
}

/// What comes behind a head.
enum Step<'a> {
    Data(&'a [u8]),
    /// Their fields, and whether they are cut.
    Trailers(&'a [Field], bool),
    Reset,
}

struct Steps<'a>(Vec<Step<'a>>);

impl<'a> Steps<'a> {
    fn of(call: &'a Call) -> Self {
        let mut steps: Vec<_> = call.data.iter().map(|piece| Step::Data(piece)).collect();
        steps.extend(call.trailers.as_deref().map(|fields| Step::Trailers(fields, call.cut)));
        match call.end {
            End::Last => {}
            End::Empty if call.trailers.is_some() => {}
            End::Empty => steps.push(Step::Data(&[])),
            End::Reset => {
                steps.retain(|step| matches!(step, Step::Data(_)));
                steps.push(Step::Reset);
            }
        }
        Self(steps)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[high, middle, low, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A string without Huffman's code, shorter than what one more byte says (RFC 7541, section 5.2).
fn text(block: &mut Vec<u8>, text: &[u8]) {
    assert!(text.len() < 127, "{}", text.escape_ascii());
    block.push(text.len() as u8);
    block.extend(text);
}
