//! `traceparent` (W3C Trace Context, Level 2, section 3.2).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Ours, hex};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace is recorded.
pub(super) const SAMPLED: u8 = 1;

/// The trace's number was made by chance; who continues the trace keeps it (Level 2, 3.2.2.5.2).
const RANDOM: u8 = 2;

/// Bytes of version 0: two, thirty-two, sixteen and two digits, and what is between.
const LENGTH: usize = 55;

/// What one says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct W3c {
    pub(super) trace: u128,
    pub(super) span: u64,
    /// Those that are defined.
    pub(super) flags: u8,
}

impl W3c {
    pub(super) fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// What it says; `None` when there is none, more than one, or one that is none.
pub(super) fn read(headers: &HeaderMap) -> Option<W3c> {
    let mut lines = headers.get_all(&TRACEPARENT).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    parse(line.as_bytes())
}

fn parse(text: &[u8]) -> Option<W3c> {
    let (known, more) = text.split_at_checked(LENGTH)?;
    if known.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut parts = known.split(|byte| *byte == b'-');
    let mut digits = |length| parts.next().filter(|part| part.len() == length).and_then(hex::read);
    let (version, trace, span, flags) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
    // Later versions may have more behind it, and nothing in its place; 255 is none.
    let ends = match version {
        0 => more.is_empty(),
        255 => false,
        _ => matches!(more, [] | [b'-', ..]),
    };
    let (span, flags) = (u64::try_from(span).ok()?, u8::try_from(flags).ok()?);
    (ends && trace != 0 && span != 0).then_some(W3c { trace, span, flags: flags & (SAMPLED | RANDOM) })
}

/// Sets it, in version 0; of the `flags` that came, what is to be kept is.
pub(super) fn write(headers: &mut HeaderMap, ours: &Ours, flags: u8) {
    let mut text = Vec::with_capacity(LENGTH);
    text.extend_from_slice(b"00-");
    hex::write(ours.trace, 32, &mut text);
    text.push(b'-');
    hex::write(ours.span.into(), 16, &mut text);
    text.push(b'-');
    hex::write((flags & RANDOM | u8::from(ours.sampled)).into(), 2, &mut text);
    // Digits and lines can stand in a header.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(&TRACEPARENT, value);
    }
}
