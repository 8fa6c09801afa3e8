//! The only user of the YAML crate: text in, typed documents or located errors out.
//!
//! The one idea: a file is split at its document markers first, remembering the line each document starts on, and
//! every later step (envelope, typed body, position of a field) reads *that same text* again. Going through a generic
//! value would be shorter and would lose every line number.
//!
//! Bounds: a file's size, the depth of brackets, and the number of values a document has once its aliases are
//! expanded. The crate itself bounds nesting (128) and the number of alias jumps, but not what the jumps expand to.
//!
//! Not read: YAML merge keys and tags, which Kubernetes does not read either; they are errors. The crate is
//! `serde_norway` under the name `serde_yaml`; should `serde-saphyr` settle, this file and its folder are what changes.

mod error;
pub(crate) mod outline;
pub(crate) mod path;
mod seek;
mod walk;

use std::cell::Cell;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed};

pub(crate) use error::YamlError;
pub(crate) use walk::NoNulls;

/// Bytes. Kubernetes' own store refuses objects above 1.5 MiB, so a folder of files this big holds any real mesh,
/// while a parser that needs some 100 bytes for a byte of input stays well inside a sidecar's memory.
pub(crate) const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Values in one document after alias expansion. Real objects have thousands.
const MAX_VALUES: usize = 1_000_000;

/// Brackets open at once, counted without regard to quotes (so it must be far above what prose could hold). The
/// scanner spends microseconds on each level before anything else has a say: 4 MiB of `[` would take half a minute.
const MAX_OPEN_BRACKETS: usize = 1_000;

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    /// From its `---` line (or the directives before that) to the next marker.
    pub(crate) text: &'a str,
    /// Line of the file on which `text` starts, counted from 1.
    pub(crate) first_line: usize,
}

/// What some editors write at the beginning of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Splits a file at its document markers; documents of nothing but blank lines and comments are left out.
pub(crate) fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut found = Vec::new();
    let mut start = 0;
    let mut first_line = 1;
    let mut has_content = false;
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let ends = is_marker(line, "...");
        let begins = is_marker(line, "---");
        // Comments and directives before the first marker belong to the document that follows.
        if ends || (begins && has_content) {
            push_document(&mut found, text.get(start..offset), first_line);
            has_content = false;
            start = if ends { offset + line.len() } else { offset };
            first_line = if ends { index + 2 } else { index + 1 };
        }
        has_content |= !ends && !is_comment(line) && !line.starts_with('%');
        offset += line.len();
    }
    push_document(&mut found, text.get(start..), first_line);
    found
}

impl<'a> Document<'a> {
    /// The first line with something on it: what a message about the document as a whole points at.
    pub(crate) fn line(&self) -> usize {
        self.first_line + self.text.lines().position(|line| !is_empty(line)).unwrap_or(0)
    }

    /// Reads the document as a `T`.
    pub(crate) fn parse<T: Deserialize<'a>>(&self) -> Result<T, YamlError> {
        self.parse_seed(PhantomData)
    }

    /// Reads the document by `seed`.
    pub(crate) fn parse_seed<S: DeserializeSeed<'a>>(&self, seed: S) -> Result<S::Value, YamlError> {
        self.check_marks()?;
        self.check_brackets()?;
        let mut deserializers = serde_yaml::Deserializer::from_str(self.text);
        let Some(deserializer) = deserializers.next() else {
            return Err(YamlError::whole(self, "the document is empty"));
        };
        let value = seed.deserialize(deserializer).map_err(|error| YamlError::located(&error, self))?;
        // Only a marker that the splitter does not know (after a lone carriage return) can lead here.
        if deserializers.next().is_some() {
            return Err(YamlError::whole(self, "a document marker does not stand at the beginning of a line"));
        }
        Ok(value)
    }

    /// What holds for a document whatever its type: no key twice, no tags or merge keys, and no more than
    /// [`MAX_VALUES`] values.
    pub(crate) fn check(&self) -> Result<(), YamlError> {
        let budget = Cell::new(MAX_VALUES);
        self.parse_seed(walk::Walk::new(&budget))
    }

    /// Files put together by `cat` have byte order marks in the middle, where they hide the marker or key after them.
    fn check_marks(&self) -> Result<(), YamlError> {
        match self.text.lines().position(|line| line.starts_with(BYTE_ORDER_MARK)) {
            None => Ok(()),
            Some(at) => {
                let message = "a byte order mark (U+FEFF) stands here; only a file may begin with one".to_owned();
                Err(YamlError { line: self.first_line + at, field: None, message })
            }
        }
    }

    fn check_brackets(&self) -> Result<(), YamlError> {
        let mut open = 0usize;
        for byte in self.text.bytes() {
            match byte {
                b'[' | b'{' => open += 1,
                b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
            if open > MAX_OPEN_BRACKETS {
                return Err(YamlError::whole(self, format!("more than {MAX_OPEN_BRACKETS} brackets are open at once")));
            }
        }
        Ok(())
    }

    /// Reads the value at `path` as a `T`; `None` when nothing is there.
    pub(crate) fn parse_at<T: Deserialize<'a>>(&self, path: &str) -> Result<Option<T>, YamlError> {
        self.parse_seed(seek::Seek::new(&path::segments(path), PhantomData))
    }

    /// Reads the elements of the list under the key `items`, each by the seed that `seed_of` gives for its index, or
    /// not at all. An error comes with the index of its element.
    pub(crate) fn parse_items<S: DeserializeSeed<'a>>(
        &self,
        seed_of: impl FnMut(usize) -> Option<S>,
    ) -> Result<Vec<Option<S::Value>>, (usize, YamlError)> {
        let at = Cell::new(0);
        self.parse_seed(seek::Seek::new(&path::segments("items"), seek::Elements::new(seed_of, &at)))
            .map(Option::unwrap_or_default)
            .map_err(|error| (at.get(), error))
    }

    /// The line of the value at `path` (of its key, when it has one), or of the nearest parent that is there.
    ///
    /// The document is read once more and fails on purpose at the place: the crate's error then says where that is.
    pub(crate) fn locate(&self, path: &str) -> usize {
        let segments = path::segments(path);
        for length in (1..=segments.len()).rev() {
            let reached = Cell::new(false);
            let Some(prefix) = segments.get(..length) else { break };
            let result = self.parse_seed(seek::Find::new(prefix, &reached));
            if let (Err(error), true) = (result, reached.get()) {
                return error.line;
            }
        }
        self.line()
    }
}

fn push_document<'a>(found: &mut Vec<Document<'a>>, text: Option<&'a str>, first_line: usize) {
    if let Some(text) = text
        && text.lines().any(|line| !is_empty(line))
    {
        found.push(Document { text, first_line });
    }
}

/// A document marker stands at the beginning of a line and is followed by white space, even inside block text.
fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_comment(line: &str) -> bool {
    let line = line.trim_start_matches(BYTE_ORDER_MARK).trim();
    line.is_empty() || line.starts_with('#')
}

/// Nothing but a comment or a bare marker.
fn is_empty(line: &str) -> bool {
    is_comment(line) || line.starts_with('%') || (is_marker(line, "---") && line.get(3..).is_some_and(is_comment))
}

#[cfg(test)]
mod tests;
