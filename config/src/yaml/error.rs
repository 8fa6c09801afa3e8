//! The YAML crate's errors with line numbers of the file and the field apart from the message.

use std::path::Path;

use super::Document;
use crate::problem::Problem;
use crate::suggest::nearest;

/// What the reader could not take, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    /// Line of the file.
    pub(crate) line: usize,
    /// Path of the field, when the error is below the document's root.
    pub(crate) field: Option<String>,
    pub(crate) message: String,
}

impl YamlError {
    /// The error as it is reported.
    pub(crate) fn into_problem(self, file: &Path) -> Problem {
        Problem::error(file, self.message).at(Some(self.line)).in_field(self.field)
    }

    /// An error of the document as a whole.
    pub(super) fn whole(document: &Document<'_>, message: impl Into<String>) -> YamlError {
        YamlError { line: document.line(), field: None, message: message.into() }
    }

    /// Turns the crate's error, which counts lines from the document's beginning and keeps the field's path and the
    /// position only in its text, into one for the file.
    pub(super) fn located(error: &serde_yaml::Error, document: &Document<'_>) -> YamlError {
        let own_line = error.location().map(|location| location.line());
        let text = error.to_string();
        let (text, offset) = take_byte_position(&text);
        let text = renumber(text, own_line, document.first_line);
        let line = match (offset, own_line) {
            (Some(offset), _) => line_of_byte(document, offset),
            (None, Some(line)) => document.first_line + line - 1,
            (None, None) => document.line(),
        };
        let (path, message) = split_path(&text);
        let field = match (path, unknown_field(message)) {
            (Some(path), Some(unknown)) => Some(format!("{path}.{unknown}")),
            (None, Some(unknown)) => Some(unknown.to_owned()),
            (path, None) => path.map(str::to_owned),
        };
        YamlError { line, field, message: with_hint(with_suggestion(&without_type_name(message))) }
    }
}

/// What the scanner says is right, but not what to do about it.
fn with_hint(message: String) -> String {
    const HINTS: [(&str, &str); 4] = [
        ("while scanning an alias", "a value that begins with * must be in quotes"),
        ("unknown anchor", "a value that begins with * must be in quotes"),
        (
            "found character that cannot start any token",
            "YAML is indented by spaces, not tabs; @ and ` must be in quotes",
        ),
        ("repetition limit exceeded", "aliases expand to too many values"),
    ];
    match HINTS.iter().find(|(said, _)| message.contains(said)) {
        Some((_, hint)) => format!("{message} ({hint})"),
        None => message,
    }
}

/// Errors in the bytes themselves end in ` at position N` and carry no line.
fn take_byte_position(text: &str) -> (&str, Option<usize>) {
    text.rsplit_once(" at position ")
        .and_then(|(message, offset)| Some((message, Some(offset.parse().ok()?))))
        .unwrap_or((text, None))
}

fn line_of_byte(document: &Document<'_>, offset: usize) -> usize {
    let before = document.text.as_bytes().iter().take(offset);
    document.first_line + before.filter(|byte| **byte == b'\n').count()
}

/// Drops ` at line N column M` where it is the error's own position, and rewrites other positions to the file's lines.
fn renumber(text: &str, own_line: Option<usize>, first_line: usize) -> String {
    const MARK: &str = " at line ";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut own_seen = false;
    while let Some((before, after)) = rest.split_once(MARK) {
        out.push_str(before);
        let Some((line, tail)) = leading_number(after)
            .and_then(|(line, tail)| Some((line, leading_number(tail.strip_prefix(" column ")?)?.1)))
        else {
            out.push_str(MARK);
            rest = after;
            continue;
        };
        if own_seen || Some(line) != own_line {
            out.push_str(&format!(" that starts at line {}", line + first_line - 1));
        }
        own_seen = true;
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn leading_number(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, tail) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, tail))
}

/// The crate writes `path: message`; a path has no white space and no quotes, the beginnings of serde's own messages
/// (`invalid type: `) do have.
fn split_path(text: &str) -> (Option<&str>, &str) {
    match text.split_once(": ") {
        Some((path, message)) if !path.contains(|c: char| c.is_whitespace() || "`\"'".contains(c)) => {
            (Some(path), message)
        }
        _ => (None, text),
    }
}

fn unknown_field(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

/// The names of our own types, and serde's words for YAML's, say nothing to who writes YAML.
fn without_type_name(message: &str) -> String {
    const WORDS: [(&str, &str); 4] = [
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: object"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
    ];
    const NUMBERS: [(&str, &str); 7] = [
        ("u8", "a whole number from 0 to 255"),
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number from 0 to 4294967295"),
        ("u64", "a whole number, 0 or more"),
        ("usize", "a whole number, 0 or more"),
        ("f64", "a number"),
        ("a boolean", "true or false"),
    ];
    let number = message.rsplit_once("expected ").and_then(|(before, name)| {
        let (_, ours) = NUMBERS.iter().find(|(theirs, _)| *theirs == name)?;
        Some(format!("{before}expected {ours}"))
    });
    if let Some(message) = number {
        return message;
    }
    let message = WORDS.iter().fold(message.to_owned(), |message, (from, to)| message.replace(from, to));
    match message.rsplit_once("expected struct ") {
        Some((before, name)) if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            format!("{before}expected an object")
        }
        _ => message,
    }
}

/// serde lists what it expected in backquotes after the word it did not know.
fn with_suggestion(message: &str) -> String {
    let is_unknown = message.starts_with("unknown field `") || message.starts_with("unknown variant `");
    let mut words = message.split('`').skip(1).step_by(2);
    let suggestion = words.next().filter(|_| is_unknown).and_then(|unknown| nearest(unknown, words));
    match suggestion {
        Some(word) => format!("{message} (did you mean `{word}`?)"),
        None => message.to_owned(),
    }
}
