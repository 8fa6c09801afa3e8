//! What documents were read as, so that one whose text is the same is not read again.
//!
//! The one idea: what a document without a fault is read as depends on its text and on nothing else. So it is known by its text,
//! in whichever file and on whichever line that stands now, and only its place is worked out anew. A document with anything wrong
//! in it is read each time, as its messages have lines. It holds the documents of the last reading and no more.

use std::collections::HashMap;
use std::sync::Arc;

use super::FileReading;
use crate::resource::{Found, Key, Object, Place};

/// Documents by their text.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(super) root_namespace: Box<str>,
    known: HashMap<Arc<str>, Known>,
    /// Which reading this is.
    reading: u64,
}

#[derive(Debug)]
struct Known {
    objects: Box<[Good]>,
    /// The last reading that it was in.
    reading: u64,
}

#[derive(Debug)]
struct Good {
    key: Key,
    allow: Option<Box<str>>,
    object: Arc<Object>,
}

impl Documents {
    /// None yet. What policies mean depends on the root namespace.
    pub(crate) fn new(root_namespace: &str) -> Documents {
        Documents { root_namespace: root_namespace.into(), known: HashMap::new(), reading: 0 }
    }

    /// Begins a reading.
    pub(crate) fn begin(&mut self) {
        self.reading += 1;
    }

    /// Lets go of what was not in the last reading.
    pub(crate) fn forget_others(&mut self) {
        let reading = self.reading;
        self.known.retain(|_, known| known.reading == reading);
        // A folder that was once large must not cost for ever.
        if self.known.capacity() > 4 * self.known.len() {
            self.known.shrink_to_fit();
        }
    }

    /// What a document of this text is, at this place.
    pub(super) fn find(&mut self, text: &str, place: impl FnOnce() -> Place) -> Option<Vec<Found>> {
        let shared = self.known.get_key_value(text)?.0.clone();
        let known = self.known.get_mut(text)?;
        known.reading = self.reading;
        if known.objects.is_empty() {
            return Some(Vec::new());
        }
        let place = place();
        let found = |good: &Good| Found {
            key: good.key.clone(),
            place: place.clone(),
            text: shared.clone(),
            allow: good.allow.clone(),
            outcome: Ok(good.object.clone()),
        };
        Some(known.objects.iter().map(found).collect())
    }

    /// Keeps what a document of this text was read as, unless there was anything to say about it.
    pub(super) fn keep(&mut self, text: &str, read: &FileReading) {
        let good = |found: &Found| {
            let object = found.outcome.as_ref().ok()?.clone();
            Some(Good { key: found.key.clone(), allow: found.allow.clone(), object })
        };
        let FileReading { found, problems, unnamed } = read;
        if let (Some(objects), true, false) = (found.iter().map(good).collect(), problems.is_empty(), *unnamed) {
            let text = found.first().map_or_else(|| text.into(), |found| found.text.clone());
            self.known.insert(text, Known { objects, reading: self.reading });
        }
    }
}

#[cfg(test)]
mod tests;
