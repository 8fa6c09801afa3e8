//! The objects of a document: itself, or the items of a `List`.
//!
//! A list is read in passes over all of its text, one for each step, because a pass for each item would take hours over
//! what `kubectl get pods -A -o yaml` writes for a large cluster.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeSeed;

use crate::yaml::{Document, YamlError};

/// Bytes of a document that are read again in search of lines and of broken items, some seconds' worth. When they are
/// spent, errors have the line of the document, and a list with one more broken item is refused as a whole.
const REREADING: usize = 64 * 1024 * 1024;

/// A document and how to take it apart.
pub(super) struct Parts<'a> {
    document: Document<'a>,
    /// One copy for all objects in it.
    text: Arc<str>,
    is_list: bool,
    /// What is left of [`REREADING`].
    rereading: Cell<usize>,
}

/// For each part: nothing when it was not asked for, else what it was read as.
pub(super) type Each<T> = Vec<Option<Result<T, YamlError>>>;

impl<'a> Parts<'a> {
    /// One part.
    pub(super) fn whole(document: Document<'a>) -> Self {
        Parts { document, text: document.text.into(), is_list: false, rereading: Cell::new(REREADING) }
    }

    /// As many parts as there are elements under `items`.
    pub(super) fn items(document: Document<'a>) -> Self {
        Parts { is_list: true, ..Parts::whole(document) }
    }

    pub(super) fn document(&self) -> &Document<'a> {
        &self.document
    }

    pub(super) fn text(&self) -> Arc<str> {
        self.text.clone()
    }

    /// Reads every part for which there is a seed. Fails as a whole only when parts cannot be told apart.
    pub(super) fn each<S: DeserializeSeed<'a>>(
        &self,
        seed_of: impl Fn(usize) -> Option<S>,
    ) -> Result<Each<S::Value>, YamlError> {
        if !self.is_list {
            return Ok(vec![seed_of(0).map(|seed| self.document.parse_seed(seed))]);
        }
        let mut broken: BTreeMap<usize, YamlError> = BTreeMap::new();
        loop {
            let unbroken = |index: usize| if broken.contains_key(&index) { None } else { seed_of(index) };
            match self.document.parse_items(unbroken) {
                Ok(values) => {
                    let part = |(index, value): (usize, Option<S::Value>)| match broken.remove(&index) {
                        Some(error) => Some(Err(error)),
                        None => value.map(Ok),
                    };
                    return Ok(values.into_iter().enumerate().map(part).collect());
                }
                // A part that was passed over cannot be at fault: the list itself is.
                Err((index, error)) if broken.contains_key(&index) || !self.may_reread() => return Err(error),
                Err((index, error)) => broken.insert(index, error),
            };
        }
    }

    /// Takes a part out of what [`Parts::each`] read.
    pub(super) fn take<T>(&self, parts: &mut Each<T>, index: usize) -> Result<T, YamlError> {
        let missing = || YamlError { line: self.document.line(), field: None, message: "was not read".to_owned() };
        parts.get_mut(index).and_then(Option::take).unwrap_or_else(|| Err(missing()))
    }

    /// An error at a field of a part.
    pub(super) fn error_at(&self, index: usize, path: &str, message: String) -> YamlError {
        let path = format!("{}{path}", self.prefix(index));
        let line = if self.may_reread() { self.document.locate(&path) } else { self.document.line() };
        YamlError { line, field: Some(path), message }
    }

    /// The labels by which a part selects workloads, if it says so legibly.
    pub(super) fn selector(&self, index: usize) -> Option<BTreeMap<String, String>> {
        let path = format!("{}spec.selector.matchLabels", self.prefix(index));
        if self.may_reread() { self.document.parse_at(&path).ok().flatten() } else { None }
    }

    fn prefix(&self, index: usize) -> String {
        if self.is_list { format!("items[{index}].") } else { String::new() }
    }

    /// Pays for one more pass.
    fn may_reread(&self) -> bool {
        let left = self.rereading.get().checked_sub(self.document.text.len());
        self.rereading.set(left.unwrap_or(0));
        left.is_some()
    }
}
