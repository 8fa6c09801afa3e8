//! What is put into a manifest, and how it is written: as block text beside block text, as JSON in brackets.

use std::fmt::Write as _;

/// A value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string, quoted where it would else be read as anything but that string, by YAML 1.1 or 1.2.
    Text(String),
    /// An integer.
    Number(u64),
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    List(Vec<Value>),
    /// A mapping, in this order.
    Map(Vec<(String, Value)>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Value {
        Value::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(items: Vec<V>) -> Value {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl Value {
    /// A mapping of these entries.
    pub fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
        Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// What follows `key:`, with the key at `column`: ` text`, or lines of their own. No line break at the end.
    pub(super) fn after_key(&self, column: usize) -> String {
        match self {
            Value::List(items) if !items.is_empty() => format!("\n{}", lines(items, column)),
            Value::Map(entries) if !entries.is_empty() => format!("\n{}", block(entries, column + 2, true)),
            other => format!(" {}", other.inline()),
        }
    }

    /// As an item of a list whose dashes stand at `column`. No line break at the end.
    pub(super) fn item(&self, column: usize) -> String {
        let dash = format!("{}- ", " ".repeat(column));
        match self {
            Value::Map(entries) if !entries.is_empty() => format!("{dash}{}", block(entries, column + 2, false)),
            other => format!("{dash}{}", other.inline()),
        }
    }

    /// A scalar, or an empty collection, in block text; what is inside brackets is [`Value::json`].
    fn inline(&self) -> String {
        match self {
            Value::Text(text) if is_plain(text) => text.clone(),
            other => other.json(None),
        }
    }

    /// As JSON: on one line, or, with a column, on lines of which all but the first are indented from there.
    pub(super) fn json(&self, column: Option<usize>) -> String {
        let (open, close, parts) = match self {
            Value::Text(text) => return quoted(text),
            Value::Number(number) => return number.to_string(),
            Value::Bool(value) => return value.to_string(),
            Value::List(items) => ('[', ']', items.iter().map(|item| item.json(deeper(column))).collect::<Vec<_>>()),
            Value::Map(entries) => {
                let entry = |(key, value): &(String, Value)| format!("{}: {}", quoted(key), value.json(deeper(column)));
                ('{', '}', entries.iter().map(entry).collect())
            }
        };
        match column {
            Some(column) if !parts.is_empty() => {
                let (inner, outer) = (" ".repeat(column + 2), " ".repeat(column));
                format!("{open}\n{inner}{}\n{outer}{close}", parts.join(&format!(",\n{inner}")))
            }
            _ => format!("{open}{}{close}", parts.join(", ")),
        }
    }
}

fn deeper(column: Option<usize>) -> Option<usize> {
    column.map(|column| column + 2)
}

fn lines(items: &[Value], column: usize) -> String {
    items.iter().map(|item| item.item(column)).collect::<Vec<_>>().join("\n")
}

/// Entries at `column`; the first one's indentation only where it is wanted.
fn block(entries: &[(String, Value)], column: usize, indent_first: bool) -> String {
    let mut out = String::new();
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if index > 0 || indent_first {
            out.push_str(&" ".repeat(column));
        }
        out.push_str(&self::key(key));
        out.push(':');
        out.push_str(&value.after_key(column));
    }
    out
}

/// A key as block text has it.
pub(super) fn key(key: &str) -> String {
    if is_plain(key) { key.to_owned() } else { quoted(key) }
}

/// Whether a string may stand without quotes: beyond doubt, not by the letter of the grammar.
fn is_plain(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'/');
    let rest = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-:@$()".contains(&byte));
    first && rest && !text.ends_with(':') && !is_word(text)
}

/// What YAML 1.1 takes for a boolean, a null or a number although it begins with a letter.
fn is_word(text: &str) -> bool {
    let word = text.to_ascii_lowercase();
    matches!(word.as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null")
}

/// In double quotes, by JSON's rules, which YAML's contain.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // YAML breaks lines at more characters than JSON knows.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An integer as YAML 1.1 (`0644`) and 1.2 (`0o644`) write it.
pub(super) fn integer(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    let digits = digits.strip_prefix('+').unwrap_or(&digits);
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, digits.get(2..)?),
        Some("0o" | "0O") => (8, digits.get(2..)?),
        Some("0b" | "0B") => (2, digits.get(2..)?),
        Some(start) if start.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    u64::from_str_radix(digits, radix).ok()
}
