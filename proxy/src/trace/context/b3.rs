//! B3, Zipkin's and Envoy's, in one header (`b3`) or in several (`x-b3-…`), as <https://github.com/openzipkin/b3-propagation> has it.
//!
//! It may say whether a trace is recorded without saying which (`b3: 0`), and which without saying whether: then it is left to us.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Ours, hex};

static SINGLE: HeaderName = HeaderName::from_static("b3");
static TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
static SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
static PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
static SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
static FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// Bytes of the longest that is one: 32, 16, 1 and 16, and what is between.
const LENGTH: usize = 68;

/// What one says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct B3 {
    pub(super) ids: Option<Ids>,
    pub(super) sampled: Option<bool>,
    /// Recorded whatever anybody's share is.
    debug: bool,
}

/// Where in which trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) trace: u128,
    pub(super) span: u64,
    /// The trace's number has 64 bits, and is to be written so.
    short: bool,
}

impl Ids {
    fn read(trace: &[u8], span: &[u8]) -> Option<Self> {
        let short = match trace.len() {
            16 => true,
            32 => false,
            _ => return None,
        };
        let trace = hex::read(trace).filter(|trace| *trace != 0)?;
        Some(Self { trace, span: hex::span(span)?, short })
    }
}

/// The one header.
pub(super) fn single(headers: &HeaderMap) -> Option<B3> {
    let text = only(headers, &SINGLE)?;
    if text.len() > LENGTH {
        return None;
    }
    let mut parts = text.split(|byte| *byte == b'-');
    let (first, second) = (parts.next()?, parts.next());
    let Some(span) = second else { return decided(first) };
    let ids = Some(Ids::read(first, span)?);
    let said = match parts.next() {
        None => B3::default(),
        Some(said) => decided(said)?,
    };
    if let Some(parent) = parts.next() {
        hex::span(parent)?;
    }
    parts.next().is_none().then_some(B3 { ids, ..said })
}

fn decided(text: &[u8]) -> Option<B3> {
    let (sampled, debug) = match text {
        b"0" => (false, false),
        b"1" => (true, false),
        b"d" => (true, true),
        _ => return None,
    };
    Some(B3 { ids: None, sampled: Some(sampled), debug })
}

/// The several.
pub(super) fn multi(headers: &HeaderMap) -> Option<B3> {
    let ids = match (headers.contains_key(&TRACE), headers.contains_key(&SPAN)) {
        (false, false) => None,
        _ => Some(Ids::read(only(headers, &TRACE)?, only(headers, &SPAN)?)?),
    };
    // Older ones spell it out.
    let sampled = match headers.contains_key(&SAMPLED).then(|| only(headers, &SAMPLED)) {
        None => None,
        Some(Some(b"0" | b"false")) => Some(false),
        Some(Some(b"1" | b"true")) => Some(true),
        Some(_) => return None,
    };
    let debug = only(headers, &FLAGS) == Some(b"1");
    let sampled = if debug { Some(true) } else { sampled };
    (ids.is_some() || sampled.is_some()).then_some(B3 { ids, sampled, debug })
}

impl B3 {
    /// It is of this trace, or of none yet.
    pub(super) fn is_of(&self, trace: u128) -> bool {
        // The cut is meant: who knows 64 bits of a trace knows the last.
        self.ids.is_none_or(|ids| if ids.short { ids.trace == u128::from(trace as u64) } else { ids.trace == trace })
    }

    fn trace(&self, ours: &Ours) -> Vec<u8> {
        let digits = if self.ids.is_some_and(|ids| ids.short) { 16 } else { 32 };
        let mut text = Vec::with_capacity(LENGTH);
        hex::write(ours.trace, digits, &mut text);
        text
    }

    pub(super) fn write_single(&self, headers: &mut HeaderMap, ours: &Ours) {
        let mut text = self.trace(ours);
        text.push(b'-');
        hex::write(ours.span.into(), 16, &mut text);
        text.extend_from_slice(match (ours.sampled, self.debug) {
            (false, _) => b"-0",
            (true, false) => b"-1",
            (true, true) => b"-d",
        });
        if let Some(parent) = ours.parent {
            text.push(b'-');
            hex::write(parent.into(), 16, &mut text);
        }
        insert(headers, &SINGLE, text);
    }

    pub(super) fn write_multi(&self, headers: &mut HeaderMap, ours: &Ours) {
        insert(headers, &TRACE, self.trace(ours));
        insert(headers, &SPAN, span(ours.span));
        if let Some(parent) = ours.parent {
            insert(headers, &PARENT, span(parent));
        }
        if self.debug {
            // The flag says it, and is to stand alone.
            return;
        }
        headers.insert(&SAMPLED, HeaderValue::from_static(if ours.sampled { "1" } else { "0" }));
    }
}

fn span(id: u64) -> Vec<u8> {
    let mut text = Vec::with_capacity(16);
    hex::write(id.into(), 16, &mut text);
    text
}

/// Digits and lines can stand in a header.
fn insert(headers: &mut HeaderMap, name: &HeaderName, text: Vec<u8>) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

/// The value of a header of which there is one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.as_bytes()),
        _ => None,
    }
}
