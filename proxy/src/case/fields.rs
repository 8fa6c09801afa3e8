//! The fields of a case as they are written: read strictly, and written so that they can be read again.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use meshgate_identity::SpiffeId;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use super::{Caller, Headers, Port};

impl FromStr for Caller {
    type Err = String;

    /// Reads `spiffe://…`, a principal as Istio writes it, or `plaintext`.
    fn from_str(text: &str) -> Result<Caller, String> {
        if text == "plaintext" {
            return Ok(Caller::Plaintext);
        }
        let uri = if text.contains("://") { text.to_owned() } else { format!("spiffe://{text}") };
        let why = match uri.parse::<SpiffeId>() {
            // An ID without a path is a trust domain's own, which no workload has.
            Ok(id) if id.principal().contains('/') => return Ok(Caller::Id(id)),
            Ok(_) => "it has no path".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(format!("no workload's identity: {why}; expected such as cluster.local/ns/default/sa/web, or plaintext"))
    }
}

impl<'de> Deserialize<'de> for Caller {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Caller, D::Error> {
        Parsed::deserialize(deserializer).map(|Parsed(caller)| caller)
    }
}

/// Read from its text. The mistake is made known inside of the visitor, which is where its line is.
#[derive(Clone, Debug)]
pub(crate) struct Parsed<T>(pub(crate) T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for TextVisitor<T> {
    type Value = Parsed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Parsed<T>, E> {
        text.parse().map(Parsed).map_err(|error| E::custom(format!("`{text}`: {error}")))
    }
}

pub(super) fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(|Parsed(value)| value))
}

impl FromStr for Port {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Port, &'static str> {
        match text.parse() {
            Ok(number) => Ok(Port::Number(number)),
            Err(_) if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err("expected a number up to 65535 or the name of a port")
            }
            Err(_) => Ok(Port::Name(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Port, D::Error> {
        deserializer.deserialize_any(PortVisitor)
    }
}

struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = Port;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number up to 65535 or the name of a port")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Port, E> {
        u16::try_from(number).map(Port::Number).map_err(|_| E::custom(format!("{number} is no port")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Port, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Headers, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of header names to a string or a list of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut headers = HeaderMap::new();
        while let Some(text) = map.next_key::<String>()? {
            let name: HeaderName = text.parse().map_err(|_| A::Error::custom(format!("`{text}` is no header name")))?;
            let lines = match map.next_value::<Lines>()? {
                Lines::One(line) => vec![line],
                Lines::Many(lines) => lines,
            };
            for line in lines {
                let value: HeaderValue =
                    line.parse().map_err(|_| A::Error::custom(format!("{line:?} is no value of a header ({name})")))?;
                headers.append(&name, value);
            }
        }
        Ok(Headers(headers))
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum Lines {
    One(String),
    Many(Vec<String>),
}

impl Serialize for Caller {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Caller::Plaintext => serializer.serialize_str("plaintext"),
            Caller::Id(id) => serializer.serialize_str(id.as_str()),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Port::Number(number) => serializer.serialize_u16(*number),
            Port::Name(name) => serializer.serialize_str(name),
        }
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.keys_len()))?;
        for name in self.0.keys() {
            let lines: Vec<_> =
                self.0.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
            map.serialize_entry(name.as_str(), &lines)?;
        }
        map.end()
    }
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
pub(super) fn method_text<S: Serializer>(method: &Option<Method>, serializer: S) -> Result<S::Ok, S::Error> {
    method.as_ref().map(Method::as_str).serialize(serializer)
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
pub(super) fn header_text<S: Serializer>(value: &Option<HeaderValue>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes())).serialize(serializer)
}
