//! Values that are strings and nothing else, as the schemas of Istio and Kubernetes have them.
//!
//! A YAML reader that is asked for a string takes `80`, `true` or `1.10` for one; an API server refuses them. Who writes
//! `ports: [80]` or `version: 1.10` has to know on which of the two they are.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use super::Values;

/// A list of strings; `null` is one that is absent.
///
/// # Errors
///
/// Of the deserializer, and for an element that is no string.
pub fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
    let list = Option::<Vec<Text>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.into_iter().map(|Text(text)| text).collect()))
}

/// An object whose values are strings; `null` is one that is absent. Keys may be written without quotes: in JSON they
/// always are strings.
///
/// # Errors
///
/// Of the deserializer, and for a value that is no string.
pub fn map<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let map = Option::<BTreeMap<String, Text>>::deserialize(deserializer)?;
    Ok(map.map(|map| map.into_iter().map(|(key, Text(text))| (key, text)).collect()))
}

/// One string.
///
/// # Errors
///
/// Of the deserializer, and for what is no string.
pub fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Text::deserialize(deserializer).map(|Text(text)| text)
}

struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        // Not `deserialize_string`: that is what turns a number into its text.
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
        Err(unquoted(Unexpected::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
        Err(unquoted(Unexpected::Signed(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Text, E> {
        Err(unquoted(Unexpected::Unsigned(value)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Text, E> {
        Err(unquoted(Unexpected::Float(value)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Text, E> {
        Ok(Text(text))
    }
}

fn unquoted<E: Error>(value: Unexpected<'_>) -> E {
    E::invalid_type(value, &"a string; put it in quotes")
}
