//! Seeds that follow a path into a document: to find a place, to read a part, to read the items of a list.
//!
//! Each is its own visitor, so that one of them is one pass over the text. All read every mapping to its end, because
//! the crate calls an unfinished one an error.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::path::Segment;

/// Fails, and sets `reached`, at the place that `path` names.
#[derive(Clone, Copy)]
pub(super) struct Find<'p> {
    path: &'p [Segment<'p>],
    reached: &'p Cell<bool>,
}

impl<'p> Find<'p> {
    pub(super) fn new(path: &'p [Segment<'p>], reached: &'p Cell<bool>) -> Self {
        Find { path, reached }
    }
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // With nothing left to follow, any value will do: the visitor takes none, and its refusal is at the value.
        self.reached.set(self.path.is_empty());
        match self.path.first() {
            Some(Segment::Key(_)) => deserializer.deserialize_map(self),
            Some(Segment::Index(_)) | None => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path to go on")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Segment::Index(wanted), rest)) = self.path.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*wanted {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        seq.next_element_seed(Find { path: rest, ..self }).map(|_| ())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let number;
        let (wanted, rest) = match self.path.split_first() {
            Some((Segment::Key(wanted), rest)) => (*wanted, rest),
            Some((Segment::Index(index), rest)) => {
                number = index.to_string();
                (number.as_str(), rest)
            }
            None => return Err(A::Error::custom("here")),
        };
        let stop_at = rest.is_empty().then_some(self.reached);
        while let Some(is_wanted) = map.next_key_seed(KeyIs { wanted, stop_at })? {
            if is_wanted {
                return map.next_value_seed(Find { path: rest, ..self });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Compares a key; fails at a match, if there is where to note it.
struct KeyIs<'p> {
    wanted: &'p str,
    stop_at: Option<&'p Cell<bool>>,
}

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a string")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let is_wanted = key == self.wanted;
        match self.stop_at {
            Some(reached) if is_wanted => {
                reached.set(true);
                Err(E::custom("here"))
            }
            _ => Ok(is_wanted),
        }
    }
}

/// Reads the value at `path` by an inner seed; `None` when the path leads nowhere.
#[derive(Clone, Copy)]
pub(super) struct Seek<'p, S> {
    path: &'p [Segment<'p>],
    inner: S,
}

impl<'p, S> Seek<'p, S> {
    pub(super) fn new(path: &'p [Segment<'p>], inner: S) -> Self {
        Seek { path, inner }
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Seek<'_, S> {
    type Value = Option<S::Value>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.path.first() {
            Some(Segment::Index(_)) => deserializer.deserialize_seq(self),
            Some(Segment::Key(_)) => deserializer.deserialize_map(self),
            None => self.inner.deserialize(deserializer).map(Some),
        }
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for Seek<'_, S> {
    type Value = Option<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self.path.first(), Some(Segment::Index(_))) { "a list" } else { "an object" })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Some((Segment::Index(wanted), rest)) = self.path.split_first() else {
            return Err(A::Error::custom("not a list"));
        };
        for _ in 0..*wanted {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = seq.next_element_seed(Seek { path: rest, inner: self.inner })?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found.flatten())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((Segment::Key(wanted), rest)) = self.path.split_first() else {
            return Err(A::Error::custom("not an object"));
        };
        let mut inner = Some(self.inner);
        let mut found = None;
        while let Some(is_wanted) = map.next_key_seed(KeyIs { wanted, stop_at: None })? {
            match inner.take_if(|_| is_wanted) {
                Some(inner) => found = map.next_value_seed(Seek { path: rest, inner })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads the elements of a list, each by the seed that `seed_of` gives for its index; those without one are passed
/// over. One pass, whatever the number of elements; `at` says which element an error is in.
pub(super) struct Elements<'c, F, S> {
    seed_of: F,
    at: &'c Cell<usize>,
    seed: PhantomData<S>,
}

impl<'c, F, S> Elements<'c, F, S> {
    pub(super) fn new(seed_of: F, at: &'c Cell<usize>) -> Self {
        Elements { seed_of, at, seed: PhantomData }
    }
}

impl<'de, S: DeserializeSeed<'de>, F: FnMut(usize) -> Option<S>> DeserializeSeed<'de> for Elements<'_, F, S> {
    type Value = Vec<Option<S::Value>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de>, F: FnMut(usize) -> Option<S>> Visitor<'de> for Elements<'_, F, S> {
    type Value = Vec<Option<S::Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        loop {
            self.at.set(elements.len());
            let element = match (self.seed_of)(elements.len()) {
                Some(seed) => seq.next_element_seed(seed)?.map(Some),
                None => seq.next_element::<IgnoredAny>()?.map(|_| None),
            };
            match element {
                Some(element) => elements.push(element),
                None => return Ok(elements),
            }
        }
    }
}
