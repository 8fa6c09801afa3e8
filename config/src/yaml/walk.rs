//! Walks over a whole document that check what holds whatever its type.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Visits every value, aliases expanded.
#[derive(Clone, Copy)]
pub(super) struct Walk<'b> {
    budget: &'b Cell<usize>,
}

impl<'b> Walk<'b> {
    pub(super) fn new(budget: &'b Cell<usize>) -> Self {
        Walk { budget }
    }

    fn spend<E: Error>(self) -> Result<(), E> {
        let left = self.budget.get().checked_sub(1).ok_or_else(|| E::custom("aliases expand to too many values"))?;
        self.budget.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without a YAML tag")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.spend()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.spend()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.spend()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.spend()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.spend()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.spend()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.spend()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.spend()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.spend()?;
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.spend()?;
        let mut seen = HashSet::new();
        while map.next_key_seed(NewKey(&mut seen))?.is_some() {
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// A key that its mapping has not had yet.
struct NewKey<'s>(&'s mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NewKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a string")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if key == "<<" {
            return Err(E::custom("merge keys (<<) are not read; write the fields out"));
        }
        if !self.0.insert(key.to_owned()) {
            return Err(E::custom(format_args!("the key `{key}` is given twice")));
        }
        Ok(())
    }
}

/// Visits every value below a policy's `spec` (or `matches`, which some of SMI's have in its place) and refuses those that are null. To Kubernetes a null is the same as no
/// field; but `from:` whose lines were commented out would mean "from anybody".
#[derive(Clone, Copy)]
pub(crate) struct NoNulls {
    in_spec: bool,
}

impl NoNulls {
    /// For a whole object.
    pub(crate) fn new() -> Self {
        NoNulls { in_spec: false }
    }
}

impl<'de> DeserializeSeed<'de> for NoNulls {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NoNulls {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        let message =
            "has no value: give it one, or remove the field (an empty list is written [], an empty object {})";
        if self.in_spec { Err(E::custom(message)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(NoNulls { in_spec: self.in_spec || key == "spec" || key == "matches" })?;
        }
        Ok(())
    }
}
