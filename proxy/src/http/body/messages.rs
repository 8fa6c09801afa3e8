//! Counts the messages in a gRPC body: each has a head of five bytes, of which the last four are its length.

/// How far it has been counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Messages {
    /// Messages of which the head has come.
    pub count: u64,
    /// Bytes that the message at hand still has.
    left: u32,
    /// Bytes that have come of a head.
    head: u8,
}

/// Bytes of a message's head: a flag, and the length.
const HEAD: u8 = 5;

impl Messages {
    /// So much more of the body has come. Costs a few steps a message, whatever its length.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.head == 0 && self.left > 0 {
                let skipped = bytes.len().min(self.left as usize);
                self.left -= u32::try_from(skipped).unwrap_or(self.left);
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            // The flag is pushed out again by the four bytes behind it.
            self.left = self.left << 8 | u32::from(*first);
            self.head += 1;
            bytes = rest;
            if self.head == HEAD {
                self.head = 0;
                self.count += 1;
            } else if self.head == 1 {
                self.left = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut body = Vec::new();
        for length in [0_u32, 1, 300, 70_000, 0] {
            body.push(1);
            body.extend_from_slice(&length.to_be_bytes());
            body.extend(std::iter::repeat_n(0xff, length as usize));
        }
        for size in [1, 2, 3, 5, 7, 4096, body.len()] {
            let mut messages = Messages::default();
            body.chunks(size).for_each(|part| messages.feed(part));
            assert_eq!(messages.count, 5, "{size}");
            assert_eq!((messages.left, messages.head), (0, 0), "{size}");
        }
    }
}
