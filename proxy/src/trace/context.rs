//! What a request says of the trace it belongs to: W3C Trace Context (`traceparent`, `tracestate`) and Zipkin's B3, in one header or in several.
//!
//! The one idea: the forms that came are the forms that go on. W3C's leads where there is more than one, and a B3 of another trace than
//! the leading one is somebody else's and stays. What cannot be read counts as not there.

mod b3;
mod hex;
mod w3c;

use http::{HeaderMap, HeaderName};

use b3::B3;
use w3c::W3c;

static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a `tracestate` that is recorded: what the standard asks everybody to pass on (3.3.1.5). Longer ones are passed on as well.
const STATE_MAX: usize = 512;

/// What a request brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caller {
    w3c: Option<W3c>,
    single: Option<B3>,
    multi: Option<B3>,
}

/// What it goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ours {
    /// Which trace; not zero.
    pub trace: u128,
    /// The parent of whatever comes next; not zero.
    pub span: u64,
    /// The parent of that, where there is one and it is not we who are only passing it on.
    pub parent: Option<u64>,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl Caller {
    /// What these headers say.
    pub fn read(headers: &HeaderMap) -> Self {
        let w3c = w3c::read(headers);
        if w3c.is_some_and(|w3c| !w3c.is_sampled()) {
            // Most are like that, and of them nothing is changed.
            return Self { w3c, ..Self::default() };
        }
        Self { w3c, single: b3::single(headers), multi: b3::multi(headers) }
    }

    /// The trace and its last span.
    pub fn ids(&self) -> Option<(u128, u64)> {
        match self.w3c {
            Some(w3c) => Some((w3c.trace, w3c.span)),
            None => self.b3()?.ids.map(|ids| (ids.trace, ids.span)),
        }
    }

    /// Whether it is recorded, where that is decided.
    pub fn sampled(&self) -> Option<bool> {
        match self.w3c {
            Some(w3c) => Some(w3c.is_sampled()),
            None => self.b3()?.sampled,
        }
    }

    /// W3C's flags of a trace that is recorded.
    pub fn flags(&self) -> u8 {
        self.w3c.map_or(0, |w3c| w3c.flags) | w3c::SAMPLED
    }

    fn b3(&self) -> Option<B3> {
        self.single.or(self.multi)
    }

    /// Changes the headers to what the next is to know.
    pub fn write(&self, headers: &mut HeaderMap, ours: &Ours) {
        if self.w3c.is_some() || self.b3().is_none() {
            w3c::write(headers, ours, self.w3c.map_or(0, |w3c| w3c.flags));
        }
        if self.w3c.is_none() {
            // It was the state of a trace that cannot be read, or of none (W3C Trace Context, 3.3).
            headers.remove(&TRACESTATE);
        }
        if let Some(single) = self.single.filter(|b3| b3.is_of(ours.trace)) {
            single.write_single(headers, ours);
        }
        if let Some(multi) = self.multi.filter(|b3| b3.is_of(ours.trace)) {
            multi.write_multi(headers, ours);
        }
    }
}

/// The `tracestate` that goes on, as one list, if it can be recorded.
pub(super) fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let mut lines = headers.get_all(&TRACESTATE).iter().peekable();
    lines.peek()?;
    let mut state = String::new();
    for line in lines {
        let line = line.to_str().ok()?;
        if state.len() + line.len() >= STATE_MAX {
            return None;
        }
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(line);
    }
    Some(state.into())
}

#[cfg(test)]
mod tests;
