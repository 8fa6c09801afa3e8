//! Follows HTTP/1 messages through a stream of bytes, head, body, next head, however they are cut into reads (RFC 9112).
//!
//! Of a head it looks at where lines end and at the few that frame the message; a body it skips by its length. It keeps no
//! message: a constant number of bytes a connection, of a line that came in pieces its beginning. It does not validate names,
//! values or methods: the library behind it does, and what the library refuses ends the connection, whatever was found here.

mod breach;
mod chunks;
mod io;
mod line;

use memchr::{memchr, memchr_iter};

use self::chunks::Chunks;
use self::line::Line;
pub use breach::Breach;
pub use io::{Guarded, Signals};

/// Interim answers (1xx) before an answer. Servers that say that they are still at it (102) do so every few seconds, for minutes;
/// each costs its reader a head.
const INTERIM_MAX: u8 = 100;

/// Where a stream broke the rules, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Bytes of the last read that are as they should be.
    pub at: usize,
    /// What is wrong with what follows them.
    pub breach: Breach,
    /// It is in a head that nobody has been given the end of.
    pub in_head: bool,
}

/// Where a stream of messages stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// Behind a message, or at its beginning.
    #[default]
    Between,
    /// In the middle of a head.
    Head,
    /// In a body, or behind an empty line that no head has followed yet.
    Elsewhere,
}

/// Reads one direction of one connection. After a refusal it is of no more use.
#[derive(Debug)]
pub struct Scanner {
    of: Of,
    at: At,
    head: Head,
    line: Line,
    /// Bytes of chunk extensions in this message.
    extensions: usize,
    /// Interim answers before this one.
    interim: u8,
    /// Heads that were whole, and that nobody has been told of.
    heads: u32,
}

#[derive(Debug, Clone, Copy)]
enum Of {
    Requests,
    /// Answers; to what the next one is.
    Answers(Option<Asked>),
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    is_head: bool,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Head,
    /// So many bytes of a body are left.
    Length(u64),
    Chunks(Chunks),
    Trailers,
    /// Nothing more to follow: the body lasts until the connection ends, or what comes is no HTTP.
    Rest,
}

/// What a head has said so far.
#[derive(Debug, Default)]
struct Head {
    /// The start line is over.
    begun: bool,
    /// An empty line came before it.
    blank: bool,
    /// Of the request line the method is over.
    in_target: bool,
    http10: bool,
    status: u16,
    length: Option<u64>,
    chunked: bool,
    host: bool,
}

/// An offence, and how far into the bytes that were looked at.
type Offence = (usize, Breach);

impl Scanner {
    /// For what a server reads.
    pub fn requests() -> Self {
        Self::of(Of::Requests)
    }

    /// For what a client reads: nothing, until it has asked.
    pub fn answers() -> Self {
        Self::of(Of::Answers(None))
    }

    fn of(of: Of) -> Self {
        Self { of, at: At::Head, head: Head::default(), line: Line::default(), extensions: 0, interim: 0, heads: 0 }
    }

    /// The next answer is to a request; whether that is a HEAD, which is answered without a body.
    pub fn ask(&mut self, is_head: bool) {
        if let Of::Answers(asked) = &mut self.of {
            *asked = Some(Asked { is_head });
        }
    }

    /// Whether all that was scanned is whole messages, and perhaps the empty line that may stand behind one.
    pub fn is_between_messages(&self) -> bool {
        matches!(self.at, At::Head) && !self.head.begun && self.line.is_empty()
    }

    /// Where the stream stands.
    fn place(&self) -> Place {
        match self.at {
            At::Head if !self.is_between_messages() => Place::Head,
            At::Head if !self.head.blank => Place::Between,
            _ => Place::Elsewhere,
        }
    }

    /// Looks at the bytes that come next.
    ///
    /// # Errors
    /// At the first byte by which a message has broken the rules. A head that breaks them does so before its end.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let step = match self.at {
                At::Head => self.head(rest),
                At::Trailers => self.trailers(rest),
                At::Length(left) => Ok(self.skip(left, rest)),
                At::Chunks(chunks) => self.chunks(chunks, rest),
                At::Rest => return Ok(()),
            };
            let in_head = matches!(self.at, At::Head) && !matches!(self.of, Of::Answers(None));
            at += step.map_err(|(offset, breach)| Refused { at: at + offset, breach, in_head })?;
        }
        Ok(())
    }

    fn skip(&mut self, left: u64, rest: &[u8]) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        match left - taken as u64 {
            0 => self.ended(),
            left => self.at = At::Length(left),
        }
        taken
    }

    fn chunks(&mut self, mut chunks: Chunks, rest: &[u8]) -> Result<usize, Offence> {
        let mut at = 0;
        while let Some(&byte) = rest.get(at) {
            if let Chunks::Data(left) = chunks {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len() - at);
                chunks = Chunks::after(left - taken as u64);
                at += taken;
                continue;
            }
            match chunks.byte(byte, &mut self.extensions).map_err(|breach| (at, breach))? {
                Some(next) => chunks = next,
                None => {
                    self.at = At::Trailers;
                    return Ok(at + 1);
                }
            }
            at += 1;
        }
        self.at = At::Chunks(chunks);
        Ok(at)
    }

    fn trailers(&mut self, rest: &[u8]) -> Result<usize, Offence> {
        let mut start = 0;
        for end in memchr_iter(b'\n', rest) {
            let piece = rest.get(start..end).unwrap_or_default();
            let is_empty = self.line.end(piece).map_err(|breach| (end, breach))?.text.is_empty();
            self.line.clear();
            start = end + 1;
            if is_empty {
                self.ended();
                return Ok(start);
            }
        }
        self.line.keep(rest.get(start..).unwrap_or_default());
        Ok(rest.len())
    }

    fn head(&mut self, rest: &[u8]) -> Result<usize, Offence> {
        if matches!(self.of, Of::Answers(None)) {
            return Err((0, Breach::Unasked));
        }
        let mut start = 0;
        for end in memchr_iter(b'\n', rest) {
            let piece = rest.get(start..end).unwrap_or_default();
            let is_over = self.head_line(piece).map_err(|breach| (end, breach))?;
            start = end + 1;
            if is_over {
                self.head_ended();
                return Ok(start);
            }
        }
        let piece = rest.get(start..).unwrap_or_default();
        if !self.head.begun && matches!(self.of, Of::Requests) {
            self.head.target(piece).map_err(|breach| (start, breach))?;
        }
        self.line.keep(piece);
        Ok(rest.len())
    }

    /// A line of a head, or what is left of it, without LF. Whether it was the last.
    fn head_line(&mut self, piece: &[u8]) -> Result<bool, Breach> {
        let is_request = matches!(self.of, Of::Requests);
        if !self.head.begun && is_request {
            // Before how the line ends: the first byte that breaks a rule says which, however the line is cut.
            self.head.target(piece)?;
        }
        let line = self.line.end(piece)?;
        let is_empty = line.text.is_empty();
        let is_over = self.head.begun && is_empty;
        match self.head.begun {
            _ if is_over => {}
            true => self.head.field(line.text, line.whole, is_request)?,
            false if is_empty => self.head.empty_line(is_request)?,
            false if is_request => {
                self.head.http10 = line.last == b'0';
                self.head.begun = true;
            }
            false => {
                self.head.status_line(line.text)?;
                self.interim = if self.head.is_interim() { self.interim + 1 } else { 0 };
                if self.interim > INTERIM_MAX {
                    return Err(Breach::Interim);
                }
            }
        }
        self.line.clear();
        Ok(is_over)
    }

    fn head_ended(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        self.at = match (self.of, head.status) {
            // The answer itself is still to come.
            (Of::Answers(_), _) if head.is_interim() => At::Head,
            (Of::Answers(_), 101) => At::Rest,
            (Of::Answers(Some(Asked { is_head: true })), _) | (Of::Answers(_), 204 | 304) => return self.ended(),
            _ if head.chunked => At::Chunks(Chunks::new()),
            (of, _) => match (head.length, of) {
                (Some(0), _) | (None, Of::Requests) => return self.ended(),
                (Some(length), _) => At::Length(length),
                (None, Of::Answers(_)) => At::Rest,
            },
        };
    }

    fn ended(&mut self) {
        self.at = At::Head;
        self.extensions = 0;
        if let Of::Answers(asked) = &mut self.of {
            *asked = None;
        }
    }
}

impl Head {
    /// It is that of an answer before the answer; behind a 101 comes none.
    fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    fn empty_line(&mut self, is_request: bool) -> Result<(), Breach> {
        if self.blank || !is_request {
            return Err(Breach::EmptyLines);
        }
        self.blank = true;
        Ok(())
    }

    /// A piece of the request line.
    fn target(&mut self, piece: &[u8]) -> Result<(), Breach> {
        let behind = match memchr(b' ', piece) {
            _ if self.in_target => piece,
            Some(space) => piece.get(space..).unwrap_or_default(),
            None => return Ok(()),
        };
        self.in_target = true;
        if memchr(b'#', behind).is_some() { Err(Breach::Fragment) } else { Ok(()) }
    }

    fn status_line(&mut self, line: &[u8]) -> Result<(), Breach> {
        let (version, rest) = line.split_at_checked(b"HTTP/1.1 ".len()).ok_or(Breach::BadStatus)?;
        let (digits, reason) = rest.split_at_checked(3).ok_or(Breach::BadStatus)?;
        let digits = digits.iter().try_fold(0, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u16::from(digit - b'0')).ok_or(Breach::BadStatus)
        });
        self.status = digits?;
        let known = matches!(version, b"HTTP/1.1 " | b"HTTP/1.0 ");
        if !known || self.status < 100 || reason.first().is_some_and(|byte| *byte != b' ') {
            return Err(Breach::BadStatus);
        }
        self.http10 = version == b"HTTP/1.0 ";
        self.begun = true;
        Ok(())
    }

    /// A field line; unless it is `whole`, only its beginning.
    fn field(&mut self, line: &[u8], whole: bool, is_request: bool) -> Result<(), Breach> {
        let value = |name: &str| {
            let (start, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            start.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        };
        // Most lines are told by their first byte not to be one of these.
        match line.first() {
            Some(b'c' | b'C') => value("content-length").map_or(Ok(()), |value| self.length(value, whole)),
            Some(b't' | b'T') => value("transfer-encoding").map_or(Ok(()), |value| self.coding(value, whole)),
            Some(b'h' | b'H') if is_request && value("host").is_some() => {
                if std::mem::replace(&mut self.host, true) {
                    Err(Breach::RepeatedHost)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    fn length(&mut self, value: &[u8], whole: bool) -> Result<(), Breach> {
        if self.chunked {
            return Err(Breach::TwoFramings);
        }
        if self.length.is_some() {
            return Err(Breach::RepeatedLength);
        }
        let digits = Some(trimmed(value)).filter(|digits| whole && !digits.is_empty()).ok_or(Breach::BadLength)?;
        let length = digits.iter().try_fold(0_i64, |length, digit| {
            let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
            length.checked_mul(10)?.checked_add(digit)
        });
        self.length = Some(length.ok_or(Breach::BadLength)?.unsigned_abs());
        Ok(())
    }

    fn coding(&mut self, value: &[u8], whole: bool) -> Result<(), Breach> {
        if self.http10 {
            return Err(Breach::CodingInHttp10);
        }
        if self.length.is_some() {
            return Err(Breach::TwoFramings);
        }
        if self.chunked {
            return Err(Breach::RepeatedCoding);
        }
        if !whole || !trimmed(value).eq_ignore_ascii_case(b"chunked") {
            return Err(Breach::BadCoding);
        }
        self.chunked = true;
        Ok(())
    }
}

/// Without optional white space around it (RFC 9110, section 5.6.3).
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests;
