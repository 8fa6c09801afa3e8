//! A line that may come in pieces, of which only the beginning is of interest.

use super::Breach;

/// Bytes kept of a line that came in pieces: the longest name that is looked for, its value, and all the white space that
/// anybody would put between.
const KEPT: usize = 64;

/// What came so far of a line whose end has not come.
#[derive(Debug)]
pub(super) struct Line {
    kept: [u8; KEPT],
    length: usize,
    /// Its last two bytes.
    last: [u8; 2],
}

/// A line without its CRLF.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<'a> {
    /// The line, or its beginning.
    pub(super) text: &'a [u8],
    /// It is all of it, and not longer than what is kept of one.
    pub(super) whole: bool,
    /// Its last byte; 0 where it has none.
    pub(super) last: u8,
}

impl Default for Line {
    fn default() -> Self {
        Self { kept: [0; KEPT], length: 0, last: [0; 2] }
    }
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// More of the line has come, and not its end.
    pub(super) fn keep(&mut self, piece: &[u8]) {
        if let Some(room) = self.kept.get_mut(self.length.min(KEPT)..) {
            let fits = room.len().min(piece.len());
            if let (Some(room), Some(piece)) = (room.get_mut(..fits), piece.get(..fits)) {
                room.copy_from_slice(piece);
            }
        }
        self.last = match piece {
            [.., before, last] => [*before, *last],
            [last] => [self.last[1], *last],
            [] => self.last,
        };
        self.length = self.length.saturating_add(piece.len());
    }

    /// The line whose last piece, without LF, this is.
    pub(super) fn end<'a>(&'a mut self, piece: &'a [u8]) -> Result<Ended<'a>, Breach> {
        if self.length == 0 {
            let Some((b'\r', text)) = piece.split_last() else { return Err(Breach::BareLf) };
            // As if it had come in pieces: what is refused must not depend on how it is cut.
            let whole = text.len() <= KEPT;
            return Ok(Ended { text, whole, last: text.last().copied().unwrap_or_default() });
        }
        self.keep(piece);
        if self.last[1] != b'\r' {
            return Err(Breach::BareLf);
        }
        let length = self.length - 1;
        let last = if length == 0 { 0 } else { self.last[0] };
        Ok(Ended { text: self.kept.get(..length).unwrap_or(&self.kept), whole: length <= KEPT, last })
    }
}
