//! Kubernetes manifests that are changed in place: what is not changed keeps every byte, comments and spelling included.
//!
//! The one idea: a document is a text and an outline of where its values stand. A change cuts the text and outlines it anew, so that each
//! is made to a document that is known to be whole, and what a value is *written as* (`0644`, `yes`, `"yes"`) never passes through a
//! reader and a writer. JSON is YAML: it is changed in the same way.
//!
//! What the documents mean, and what there is to change in them, is not known here.

mod edit;
mod value;

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::files;
use crate::problem::Problem;
use crate::yaml::outline::{self, Kind, Node};
use crate::yaml::path::{Segment, segments};
use crate::yaml::{self, YamlError};
pub use edit::CannotEdit;
pub use value::Value;

/// A document, which can be looked into and changed.
///
/// Paths are those of messages, `spec.template.metadata.annotations[meshgate.io/injected]`: what holds a dot stands in brackets.
#[derive(Clone, Debug)]
pub struct Sheet {
    text: String,
    first_line: usize,
    root: Node,
}

/// Reads a file of manifests.
///
/// # Errors
/// When it cannot be read, is larger than 4 MiB, or is not UTF-8.
pub fn read(path: &Path) -> Result<String, Problem> {
    files::read(path).map_err(|error| unreadable(path, &error))
}

/// As [`read`], from standard input or the like; `name` stands in messages.
///
/// # Errors
/// As [`read`].
pub fn read_from(reader: impl Read, name: &Path) -> Result<String, Problem> {
    files::read_from(reader).map_err(|error| unreadable(name, &error))
}

fn unreadable(path: &Path, error: &files::ReadError) -> Problem {
    Problem::error(path, error.to_string()).at(error.line())
}

/// The documents of a file: where each stands, in bytes, and on which line it begins. What lies between belongs to none.
pub fn documents(text: &str) -> Vec<(Range<usize>, usize)> {
    let place = |document: yaml::Document<'_>| {
        // A document is a part of the text, so that the difference of their beginnings is where it stands.
        let start = document.text.as_ptr() as usize - text.as_ptr() as usize;
        (start..start + document.text.len(), document.first_line)
    };
    yaml::documents(text).into_iter().map(place).collect()
}

impl Sheet {
    /// Takes a document that begins on `first_line` of `file`.
    ///
    /// # Errors
    /// When it is no YAML, or has what no manifest should: tags, merge keys, a key twice, aliases without end.
    pub fn new(text: impl Into<String>, first_line: usize, file: &Path) -> Result<Sheet, Problem> {
        Sheet::outlined(text.into(), first_line).map_err(|error| error.into_problem(file))
    }

    fn outlined(text: String, first_line: usize) -> Result<Sheet, YamlError> {
        let document = yaml::Document { text: &text, first_line };
        document.check()?;
        let root = outline::outline(&document)?;
        Ok(Sheet { text, first_line, root })
    }

    /// The document as it now is.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The whole document as a `T`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse<T: DeserializeOwned>(&self, file: &Path) -> Result<T, Problem> {
        let document = yaml::Document { text: &self.text, first_line: self.first_line };
        document.parse().map_err(|error| error.into_problem(file))
    }

    /// Whether anything is at the path. A null is nothing, as to Kubernetes.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some_and(|node| !node.is_null())
    }

    /// Whether there is nothing at the path, or a mapping or list without anything in it.
    pub fn is_empty(&self, path: &str) -> bool {
        self.find(path).is_none_or(|node| {
            node.is_null() || (node.scalar().is_none() && node.items().is_empty() && node.entries().is_empty())
        })
    }

    /// The text of the scalar at the path, as it means after quotes are gone; `None` for a null and for what is no scalar.
    pub fn scalar(&self, path: &str) -> Option<&str> {
        self.find(path).filter(|node| !node.is_null())?.scalar()
    }

    /// Whether the value at the path is `true`, in a spelling that YAML 1.1 or 1.2 takes for it.
    pub fn is_true(&self, path: &str) -> bool {
        matches!(
            self.scalar(path),
            Some("true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y")
        )
    }

    /// The integer at the path, in any of YAML's spellings; `None` for what is none.
    pub fn integer(&self, path: &str) -> Option<u64> {
        value::integer(self.scalar(path)?)
    }

    /// How many elements the list at the path has; of anything else, none.
    pub fn length(&self, path: &str) -> usize {
        self.find(path).map_or(0, |node| node.items().len())
    }

    /// The keys of the mapping at the path whose values are scalars, and their texts. A null is an empty text.
    pub fn scalars(&self, path: &str) -> Vec<(&str, &str)> {
        let entries = self.find(path).map_or(&[][..], Node::entries);
        entries.iter().filter_map(text_entry).collect()
    }

    /// Line of the file on which the value at the path stands (its key, where it has one), or else the nearest parent that is there.
    pub fn line(&self, path: &str) -> usize {
        let mut node = &self.root;
        let mut line = node.line();
        for segment in segments(path) {
            let Some((key, value)) = step(node, segment) else { break };
            line = key.unwrap_or(value).line();
            node = value;
        }
        self.first_line + line - 1
    }

    fn find(&self, path: &str) -> Option<&Node> {
        segments(path).into_iter().try_fold(&self.root, |node, segment| Some(step(node, segment)?.1))
    }
}

/// A value inside another, and its key where it has one.
fn step<'n>(node: &'n Node, segment: Segment<'_>) -> Option<(Option<&'n Node>, &'n Node)> {
    match (node.kind(), segment) {
        (Kind::List { items, .. }, Segment::Index(index)) => Some((None, items.get(index)?)),
        (_, Segment::Key(key)) => node.entry(key).map(|(key, value)| (Some(key), value)),
        (_, Segment::Index(index)) => node.entry(&index.to_string()).map(|(key, value)| (Some(key), value)),
    }
}

fn text_entry((key, value): &(Node, Node)) -> Option<(&str, &str)> {
    Some((key.scalar()?, if value.is_null() { "" } else { value.scalar()? }))
}

#[cfg(test)]
mod tests;
