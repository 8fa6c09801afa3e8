//! Cuts a stream of bytes into lines, and keeps no more of a line than a line may have.

/// A line that is longer than any may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of more than {0} bytes")]
pub struct TooLong(usize);

/// The beginning of a line whose end has not come yet.
#[derive(Debug)]
pub struct Lines {
    partial: Vec<u8>,
    max: usize,
}

impl Lines {
    /// For lines of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { partial: Vec::new(), max }
    }

    /// Whether a line has begun.
    pub fn is_within(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Takes the next bytes, and gives the lines that they end, without their ends.
    ///
    /// # Errors
    /// A line is too long; nothing is to be taken from this stream any more.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut lines = Vec::new();
        while let Some((line, rest)) =
            bytes.iter().position(|byte| *byte == b'\n').and_then(|at| bytes.split_at_checked(at))
        {
            self.extend(line)?;
            lines.push(std::mem::take(&mut self.partial));
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.extend(bytes)?;
        Ok(lines)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.partial.len() + bytes.len() > self.max {
            return Err(TooLong(self.max));
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(lines: &mut Lines, bytes: &str) -> Result<Vec<String>, TooLong> {
        let lines = lines.push(bytes.as_bytes())?;
        Ok(lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect())
    }

    #[test]
    fn a_line_may_come_in_pieces_and_many_in_one() {
        let mut lines = Lines::new(100);
        assert_eq!(pushed(&mut lines, "").unwrap(), [""; 0]);
        assert_eq!(pushed(&mut lines, "ab").unwrap(), [""; 0]);
        assert!(lines.is_within());
        assert_eq!(pushed(&mut lines, "c\n\nd\ne").unwrap(), ["abc", "", "d"]);
        assert_eq!(pushed(&mut lines, "\n").unwrap(), ["e"]);
        assert!(!lines.is_within());
        assert_eq!(pushed(&mut lines, "\n\n").unwrap(), ["", ""]);
    }

    #[test]
    fn however_it_is_cut_a_text_has_the_same_lines() {
        let text = "one\n\n{\"two\": 2}\r\nthree\n";
        for size in 1..=text.len() {
            let mut lines = Lines::new(100);
            let found: Vec<_> = text.as_bytes().chunks(size).flat_map(|piece| lines.push(piece).unwrap()).collect();
            assert_eq!(found, [&b"one"[..], b"", b"{\"two\": 2}\r", b"three"], "{size}");
        }
    }

    #[test]
    fn no_more_is_kept_than_a_line_may_have() {
        let mut lines = Lines::new(3);
        assert_eq!(pushed(&mut lines, "abc\nabc").unwrap(), ["abc"]);
        assert_eq!(pushed(&mut lines, "d"), Err(TooLong(3)));
        assert_eq!(pushed(&mut Lines::new(3), "abcd\n"), Err(TooLong(3)));
    }
}
