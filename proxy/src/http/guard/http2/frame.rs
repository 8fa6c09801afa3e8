//! Where the frames of one direction of an HTTP/2 connection begin and end (RFC 9113, section 4.1).

/// What a client sends before its first frame (RFC 9113, section 3.4).
const PREFACE: u32 = 24;

/// Length, type, flags and stream.
pub(super) const HEAD: usize = 9;

/// Bytes of a payload that are looked at: the code of an RST_STREAM.
const LOOK: usize = 4;

/// Frame types (RFC 9113, section 6) and their flags.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

/// A frame that has begun: its head, and as much of its payload as its kind makes worth looking at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the payload.
    pub length: u32,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, 0 for the connection.
    pub stream: u32,
    look: [u8; LOOK],
}

impl Frame {
    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Of an RST_STREAM.
    pub(super) fn code(&self) -> u32 {
        u32::from_be_bytes(self.look)
    }

    /// Bytes of a DATA frame without its padding.
    pub(super) fn data(&self) -> u32 {
        let padding = if self.has(PADDED) { 1 + u32::from(self.look[0]) } else { 0 };
        self.length.saturating_sub(padding)
    }

    fn of(head: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
            look: [0; LOOK],
        }
    }

    fn wanted(&self) -> u32 {
        match self.kind {
            RST_STREAM => LOOK as u32,
            DATA if self.has(PADDED) => 1,
            _ => 0,
        }
        .min(self.length)
    }
}

/// Cuts a stream of bytes into frames, whatever pieces it comes in; holds one head and a count.
#[derive(Debug)]
pub struct Frames {
    head: [u8; HEAD],
    have: usize,
    frame: Option<Frame>,
    looked: u32,
    left: u32,
}

impl Frames {
    /// From a client, whose preface comes first.
    pub fn of_client() -> Self {
        Self { left: PREFACE, ..Self::of_server() }
    }

    /// From a server.
    pub fn of_server() -> Self {
        Self { head: [0; HEAD], have: 0, frame: None, looked: 0, left: 0 }
    }

    /// Whether the bytes so far end where a frame does.
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.frame.is_none() && self.left == 0
    }

    /// The next frame that begins in `bytes`, which lose what was read; `None` when there is none before their end.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        loop {
            if let Some(frame) = &mut self.frame {
                while self.looked < frame.wanted() {
                    let (byte, rest) = bytes.split_first()?;
                    if let Some(place) = frame.look.get_mut(self.looked as usize) {
                        *place = *byte;
                    }
                    (self.looked, self.left, *bytes) = (self.looked + 1, self.left - 1, rest);
                }
                return self.frame.take();
            }
            // The rest of a payload is only counted.
            let skipped = bytes.len().min(self.left as usize);
            self.left -= u32::try_from(skipped).unwrap_or(self.left);
            *bytes = bytes.get(skipped..).unwrap_or_default();
            // Most heads come whole.
            if self.have == 0
                && let Some((head, rest)) = bytes.split_first_chunk()
            {
                (self.head, self.have, *bytes) = (*head, HEAD, rest);
            }
            while self.have < HEAD {
                let (byte, rest) = bytes.split_first()?;
                if let Some(place) = self.head.get_mut(self.have) {
                    *place = *byte;
                }
                (self.have, *bytes) = (self.have + 1, rest);
            }
            let frame = Frame::of(self.head);
            (self.have, self.looked, self.left) = (0, 0, frame.length);
            self.frame = Some(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
    }

    fn cut(mut frames: Frames, bytes: &[u8], size: usize) -> (Vec<(u8, u32, u32)>, bool) {
        let mut found = Vec::new();
        for mut piece in bytes.chunks(size) {
            while let Some(frame) = frames.next(&mut piece) {
                found.push((frame.kind, frame.stream, if frame.kind == DATA { frame.data() } else { frame.code() }));
            }
        }
        (found, frames.is_between())
    }

    #[test]
    fn frames_are_found_in_whatever_pieces_they_come() {
        let bytes = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, 0, 0, &[]),
            frame(DATA, 0, 1, &[9; 300]),
            frame(DATA, PADDED, 1, &[3, 1, 1, 0, 0, 0]),
            frame(DATA, PADDED, 1, &[]),
            frame(RST_STREAM, 0, 0x8000_0003, &8_u32.to_be_bytes()),
            frame(PING, 0, 0, &[0; 8]),
        ]
        .concat();
        let expected =
            vec![(SETTINGS, 0, 0), (DATA, 1, 300), (DATA, 1, 2), (DATA, 1, 0), (RST_STREAM, 3, 8), (PING, 0, 0)];
        for size in 1..bytes.len() + 1 {
            assert_eq!(cut(Frames::of_client(), &bytes, size), (expected.clone(), true), "in pieces of {size}");
        }
        let short = &bytes[..bytes.len() - 1];
        assert_eq!(cut(Frames::of_client(), short, 7), (expected, false));
    }
}
