//! Where in a rule a condition stands, and what was written there. For people only, so it takes little room.

use std::fmt;

/// The lists of `from`, `to` and `when`, as Istio names them.
const LISTS: &[&str] = &[
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
    "hosts",
    "notHosts",
    "ports",
    "notPorts",
    "methods",
    "notMethods",
    "paths",
    "notPaths",
    "values",
    "notValues",
];

/// A place in a rule: `to[0].operation.methods`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// `<part>[<index>]<of><list>`, the list by its index in [`LISTS`].
    Istio { part: Part, index: u16, list: u8 },
    /// Any other.
    Text(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    From,
    To,
    When,
}

impl Part {
    const ALL: [Part; 3] = [Part::From, Part::To, Part::When];

    /// What stands before and behind the index.
    fn around(self) -> (&'static str, &'static str) {
        match self {
            Part::From => ("from[", "].source."),
            Part::To => ("to[", "].operation."),
            Part::When => ("when[", "]."),
        }
    }
}

fn istio(text: &str) -> Option<Place> {
    Part::ALL.into_iter().find_map(|part| {
        let (before, behind) = part.around();
        let (index, list) = text.strip_prefix(before)?.split_once(behind)?;
        let list = u8::try_from(LISTS.iter().position(|name| *name == list)?).ok()?;
        let place = Place::Istio { part, index: index.parse().ok()?, list };
        // `+1` and `01` are read as 1 too.
        (Field(place.clone()).to_string() == text).then_some(place)
    })
}

impl From<&str> for Field {
    fn from(text: &str) -> Field {
        Field(istio(text).unwrap_or_else(|| Place::Text(text.into())))
    }
}

impl From<String> for Field {
    fn from(text: String) -> Field {
        Field::from(text.as_str())
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Text(text) => f.write_str(text),
            Place::Istio { part, index, list } => {
                let (before, behind) = part.around();
                let list = LISTS.get(usize::from(*list)).copied().unwrap_or_default();
                write!(f, "{before}{index}{behind}{list}")
            }
        }
    }
}

/// Values as written, in one piece of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written(Box<str>);

/// A value that has one in it reads as two, which misleads nobody but its author.
const BETWEEN: char = '\0';

impl Written {
    /// One by one, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator(BETWEEN)
    }

    /// With `between` between them.
    pub(crate) fn join(&self, between: &str) -> String {
        self.iter().collect::<Vec<_>>().join(between)
    }
}

impl From<Vec<String>> for Written {
    fn from(values: Vec<String>) -> Written {
        let mut text = String::with_capacity(values.iter().map(|value| value.len() + 1).sum());
        for value in values {
            text.push_str(&value);
            text.push(BETWEEN);
        }
        Written(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_it_was_written() {
        for text in ["from[0].source.notPrincipals", "to[511].operation.paths", "when[3].values", "matches[0]", ""] {
            assert_eq!(Field::from(text).to_string(), text);
        }
        for (text, short) in [("to[1].operation.paths", true), ("to[01].operation.paths", false), ("to[0].a", false)] {
            let field = Field::from(text);
            assert_eq!(matches!(field.0, Place::Istio { .. }), short, "{text}");
            assert_eq!(field.to_string(), text);
        }
    }

    #[test]
    fn keeps_values_apart() {
        let values = vec!["a, b".to_owned(), "".to_owned(), "c".to_owned()];
        let written = Written::from(values.clone());
        assert_eq!(written.iter().collect::<Vec<_>>(), values);
        assert_eq!(written.join("; "), "a, b; ; c");
    }
}
