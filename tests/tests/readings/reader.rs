//! Readers of HTTP/1 that share no code with the product: one by the letter of RFC 9112, and others as lenient as servers have
//! been found to be.

/// Which leniencies a reader has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reader {
    pub(crate) name: &'static str,
    /// LF alone ends a line.
    lf: bool,
    /// So does CR alone.
    cr: bool,
    /// Lines that begin with a blank go on with the one before.
    folds: bool,
    /// Blanks around a name are taken off.
    blanks: bool,
    /// `_` is `-`.
    underscores: bool,
    /// Of Content-Length and Transfer-Encoding the first wins.
    length_wins: bool,
    /// Of several lengths the last counts.
    last_length: bool,
    /// A number is as many digits as there are, after a sign or `0x`.
    numbers: bool,
    /// Any coding with `chunked` in it is chunked.
    codings: bool,
    /// What follows a chunk up to LF is skipped.
    chunk_ends: bool,
    /// Whatever is in the rules that are left is not checked.
    careless: bool,
}

/// By the letter.
pub(crate) const STRICT: Reader = Reader {
    name: "strict",
    lf: false,
    cr: false,
    folds: false,
    blanks: false,
    underscores: false,
    length_wins: false,
    last_length: false,
    numbers: false,
    codings: false,
    chunk_ends: false,
    careless: false,
};

/// Only where messages begin and end.
pub(crate) const CARELESS: Reader = Reader { name: "careless", careless: true, ..STRICT };

/// All of them.
pub(crate) const READERS: [Reader; 8] = [
    STRICT,
    Reader { name: "takes LF for a line end", lf: true, ..STRICT },
    Reader { name: "takes CR for a line end", lf: true, cr: true, careless: true, ..STRICT },
    Reader { name: "prefers the length", length_wins: true, careless: true, ..STRICT },
    Reader {
        name: "takes the last length",
        length_wins: true,
        last_length: true,
        numbers: true,
        careless: true,
        ..STRICT
    },
    Reader { name: "takes any coding for chunked", codings: true, numbers: true, careless: true, lf: true, ..STRICT },
    Reader { name: "takes _ for -", underscores: true, careless: true, blanks: true, ..STRICT },
    Reader {
        name: "lenient in everything",
        lf: true,
        folds: true,
        blanks: true,
        numbers: true,
        codings: true,
        chunk_ends: true,
        careless: true,
        ..STRICT
    },
];

/// What a reader understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Three words of the first line; of an answer, version, status and nothing.
    pub(crate) start: [Vec<u8>; 3],
    pub(crate) hosts: Vec<Vec<u8>>,
    pub(crate) body: Vec<u8>,
    /// Where the next one begins.
    pub(crate) end: usize,
}

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not yet.
    Incomplete,
    /// By this reader's rules it is none.
    Bad,
}

/// What is to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Request,
    Answer { to_head: bool },
}

type Field = (Vec<u8>, Vec<u8>);

impl Reader {
    /// The message that begins at `at`.
    pub(crate) fn read(&self, kind: Kind, bytes: &[u8], mut at: usize) -> Result<Message, Stop> {
        if matches!(kind, Kind::Request) {
            while let Some(next) = self.empty_line(bytes, at) {
                at = next;
            }
        }
        let (line, next) = self.line(bytes, at)?;
        let start = self.start(kind, line)?;
        let (fields, next) = self.fields(bytes, next)?;
        let values = |name: &str| -> Vec<Vec<u8>> {
            let is_named = |field: &&Field| field.0.eq_ignore_ascii_case(name.as_bytes());
            fields.iter().filter(is_named).map(|(_, value)| value.clone()).collect()
        };
        let hosts = values("host");
        let http11 = start.iter().any(|word| word == b"HTTP/1.1");
        if matches!(kind, Kind::Request) && !self.careless && (hosts.len() > 1 || (http11 && hosts.is_empty())) {
            return Err(Stop::Bad);
        }
        let status = String::from_utf8_lossy(&start[1]).parse::<u16>().unwrap_or_default();
        let (body, end) = match kind {
            Kind::Answer { .. } if (100..200).contains(&status) && status != 101 => {
                return self.read(kind, bytes, next);
            }
            Kind::Answer { to_head } if to_head || [204, 304].contains(&status) => (Vec::new(), next),
            _ => self.body(kind, http11, &values("content-length"), &values("transfer-encoding"), bytes, next)?,
        };
        Ok(Message { start, hosts, body, end })
    }

    fn body(
        &self,
        kind: Kind,
        http11: bool,
        lengths: &[Vec<u8>],
        codings: &[Vec<u8>],
        bytes: &[u8],
        at: usize,
    ) -> Result<(Vec<u8>, usize), Stop> {
        let is_chunked = match codings {
            [] => false,
            [one] if one.eq_ignore_ascii_case(b"chunked") => true,
            _ if self.codings => codings.iter().any(|coding| find(&coding.to_ascii_lowercase(), b"chunked").is_some()),
            _ => return Err(Stop::Bad),
        };
        if !self.careless && ((is_chunked && (!http11 || !lengths.is_empty())) || lengths.len() > 1) {
            return Err(Stop::Bad);
        }
        let length = if self.last_length { lengths.last() } else { lengths.first() };
        match length {
            Some(length) if self.length_wins || !is_chunked => {
                let length = usize::try_from(self.number(length, 10)?).map_err(|_| Stop::Bad)?;
                let end = at.checked_add(length).ok_or(Stop::Bad)?;
                Ok((bytes.get(at..end).ok_or(Stop::Incomplete)?.to_vec(), end))
            }
            _ if is_chunked => self.chunks(bytes, at),
            _ if matches!(kind, Kind::Answer { .. }) => Ok((bytes[at..].to_vec(), bytes.len())),
            _ => Ok((Vec::new(), at)),
        }
    }

    fn chunks(&self, bytes: &[u8], mut at: usize) -> Result<(Vec<u8>, usize), Stop> {
        let mut body = Vec::new();
        loop {
            let (line, next) = self.line(bytes, at)?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            if !self.careless && line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
                return Err(Stop::Bad);
            }
            let size = usize::try_from(self.number(digits, 16)?).map_err(|_| Stop::Bad)?;
            if size == 0 {
                let (_, end) = self.fields(bytes, next)?;
                return Ok((body, end));
            }
            let end = next.checked_add(size).ok_or(Stop::Bad)?;
            body.extend_from_slice(bytes.get(next..end).ok_or(Stop::Incomplete)?);
            let (rest, after) = self.line(bytes, end)?;
            if !rest.is_empty() && !self.chunk_ends {
                return Err(Stop::Bad);
            }
            at = after;
        }
    }

    fn number(&self, digits: &[u8], radix: u32) -> Result<u64, Stop> {
        let text = std::str::from_utf8(digits).map_err(|_| Stop::Bad)?;
        if self.numbers {
            let text = text.trim().trim_start_matches(['+', '-']);
            let text = if radix == 16 { text.trim_start_matches("0x") } else { text };
            let end = text.find(|digit: char| !digit.is_digit(radix)).unwrap_or(text.len());
            return Ok(u64::from_str_radix(&text[..end], radix).unwrap_or_default());
        }
        if text.is_empty() || !text.chars().all(|digit| digit.is_digit(radix)) {
            return Err(Stop::Bad);
        }
        u64::from_str_radix(text, radix).map_err(|_| Stop::Bad)
    }

    fn start(&self, kind: Kind, line: &[u8]) -> Result<[Vec<u8>; 3], Stop> {
        let mut words = line.split(|byte| *byte == b' ');
        let mut word = || words.next().unwrap_or_default().to_vec();
        let start = [word(), word(), word()];
        let versions: [&[u8]; 2] = [b"HTTP/1.1", b"HTTP/1.0"];
        match kind {
            Kind::Request => {
                let is_valid = start[0].iter().copied().all(is_token)
                    && !start[0].is_empty()
                    && start[1].iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#')
                    && !start[1].is_empty()
                    && words.next().is_none();
                if versions.contains(&&*start[2]) && (is_valid || self.careless) { Ok(start) } else { Err(Stop::Bad) }
            }
            Kind::Answer { .. } => {
                let [version, status, _] = start;
                let is_status = status.len() == 3 && status.iter().all(u8::is_ascii_digit) && status[0] != b'0';
                let is_valid = versions.contains(&&*version) && is_status;
                if is_valid { Ok([version, status, Vec::new()]) } else { Err(Stop::Bad) }
            }
        }
    }

    fn fields(&self, bytes: &[u8], mut at: usize) -> Result<(Vec<Field>, usize), Stop> {
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let (line, next) = self.line(bytes, at)?;
            at = next;
            if line.is_empty() {
                return Ok((fields, at));
            }
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                match fields.last_mut() {
                    Some((_, value)) if self.folds => value.extend_from_slice(line),
                    _ if self.careless => {}
                    _ => return Err(Stop::Bad),
                }
                continue;
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                if self.careless {
                    continue;
                }
                return Err(Stop::Bad);
            };
            let mut name = line[..colon].to_vec();
            if self.blanks {
                name = name.trim_ascii().to_vec();
            }
            if self.underscores {
                name.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
            }
            let value = &line[colon + 1..];
            let is_value = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
            let is_valid = !name.is_empty() && name.iter().copied().all(is_token) && value.iter().all(is_value);
            if !is_valid && !self.careless {
                return Err(Stop::Bad);
            }
            fields.push((name, value.trim_ascii().to_vec()));
        }
    }

    fn empty_line(&self, bytes: &[u8], at: usize) -> Option<usize> {
        match self.line(bytes, at) {
            Ok(([], next)) => Some(next),
            _ => None,
        }
    }

    /// A line without its end, and where the next one begins.
    fn line<'a>(&self, bytes: &'a [u8], at: usize) -> Result<(&'a [u8], usize), Stop> {
        let rest = &bytes[at.min(bytes.len())..];
        for (index, byte) in rest.iter().enumerate() {
            match byte {
                b'\n' if index > 0 && rest[index - 1] == b'\r' => return Ok((&rest[..index - 1], at + index + 1)),
                b'\n' if self.lf => return Ok((&rest[..index], at + index + 1)),
                b'\n' if !self.careless => return Err(Stop::Bad),
                b'\r' if self.cr && rest.get(index + 1).is_some_and(|next| *next != b'\n') => {
                    return Ok((&rest[..index], at + index + 1));
                }
                _ => {}
            }
        }
        Err(Stop::Incomplete)
    }
}

pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
