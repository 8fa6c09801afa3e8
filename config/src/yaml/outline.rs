//! Where in a text each value of a document stands: what is needed to change one of them and nothing beside it.
//!
//! The one idea: serde tells what a value is and not how it is written (`0644`, `yes` and `"yes"` are one to it), so a manifest that is
//! to keep every byte of what is not changed is outlined from the parser's events instead.
//!
//! Values are not interpreted: a scalar is its text, and whether it was plain. What holds for every document
//! ([`super::Document::check`]) is checked before, so that aliases cannot expand without bound here.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{Document, YamlError};

/// One value. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    span: Range<usize>,
    line: usize,
    column: usize,
    kind: Rc<Kind>,
    /// It stands elsewhere: what is here is `*name`.
    pub(crate) is_alias: bool,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Its text after unquoting.
    Scalar { text: String, is_plain: bool },
    /// `is_flow`: written in brackets.
    List { items: Vec<Node>, is_flow: bool },
    /// Keys and values in the order of the text.
    Map { entries: Vec<(Node, Node)>, is_flow: bool },
}

impl Kind {
    fn nothing() -> Kind {
        Kind::List { items: Vec::new(), is_flow: false }
    }
}

impl Node {
    /// Bytes of the document's text, without the anchor; of a block collection from its first key or item to the end of its last value.
    pub(crate) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Line of the document's text, counted from 1.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Characters before it on its line.
    pub(crate) fn column(&self) -> usize {
        self.column
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The text of a scalar, null or not.
    pub(crate) fn scalar(&self) -> Option<&str> {
        match self.kind() {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// As YAML 1.1 and 1.2 have it.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind(), Kind::Scalar { text, is_plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The key and value of a mapping's entry.
    pub(crate) fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        match self.kind() {
            Kind::Map { entries, .. } => entries.iter().find(|(name, _)| name.scalar() == Some(key)),
            _ => None,
        }
    }

    /// The elements of a list; of anything else, none.
    pub(crate) fn items(&self) -> &[Node] {
        match self.kind() {
            Kind::List { items, .. } => items,
            _ => &[],
        }
    }

    /// The keys and values of a mapping; of anything else, none.
    pub(crate) fn entries(&self) -> &[(Node, Node)] {
        match self.kind() {
            Kind::Map { entries, .. } => entries,
            _ => &[],
        }
    }
}

/// A collection whose end has not come yet.
struct Open {
    anchor: usize,
    start: Span,
    is_map: bool,
    children: Vec<Node>,
}

/// Outlines a document.
pub(crate) fn outline(document: &Document<'_>) -> Result<Node, YamlError> {
    let offsets = Offsets::of(document.text);
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(document.text) {
        let (event, span) = event.map_err(|error| {
            let line = document.first_line + error.marker().line().saturating_sub(1);
            YamlError { line, field: None, message: error.info().to_owned() }
        })?;
        let done = match event {
            Event::SequenceStart(anchor, _) => {
                open.push(Open { anchor, start: span, is_map: false, children: Vec::new() });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { anchor, start: span, is_map: true, children: Vec::new() });
                continue;
            }
            Event::Scalar(text, style, anchor, _) => {
                let node = scalar(document.text, &offsets, &text, style, span);
                anchors.insert(anchor, node.clone());
                node
            }
            Event::Alias(anchor) => {
                let target = anchors.get(&anchor).cloned();
                let target = target.ok_or_else(|| YamlError::whole(document, "an alias of what is not complete"))?;
                Node { is_alias: true, kind: target.kind, ..node(span, offsets.range(span), Kind::nothing()) }
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(collection) = open.pop() else { continue };
                let anchor = collection.anchor;
                let node = collection.close(document.text, &offsets, span);
                anchors.insert(anchor, node.clone());
                node
            }
            _ => continue,
        };
        match open.last_mut() {
            Some(parent) => parent.children.push(done),
            None => return Ok(done),
        }
    }
    Err(YamlError::whole(document, "the document is empty"))
}

impl Open {
    fn close(self, text: &str, offsets: &Offsets, end: Span) -> Node {
        let Open { start, is_map, children, .. } = self;
        // What the parser gives is the bracket and blanks after it, or for a block nothing; with an anchor, everything from there on.
        let opening = offsets.range(start);
        let bracket = text.get(opening.clone()).map_or("", str::trim_end);
        let is_flow = bracket.ends_with(['[', '{']);
        let first = if is_flow { opening.start + bracket.len() - 1 } else { opening.end };
        let last = match children.last() {
            _ if is_flow => closed(text, offsets.range(end)),
            Some(child) => child.span().end.max(first),
            None => first,
        };
        let kind = if is_map {
            let mut entries = Vec::with_capacity(children.len() / 2);
            let mut children = children.into_iter();
            while let (Some(key), Some(value)) = (children.next(), children.next()) {
                entries.push((key, value));
            }
            Kind::Map { entries, is_flow }
        } else {
            Kind::List { items: children, is_flow }
        };
        let place = if is_flow { start.start } else { start.end };
        Node { span: first..last, line: place.line(), column: place.col(), kind: Rc::new(kind), is_alias: false }
    }
}

fn node(start: Span, span: Range<usize>, kind: Kind) -> Node {
    Node { span, line: start.start.line(), column: start.start.col(), kind: Rc::new(kind), is_alias: false }
}

/// Where brackets end. The parser's last event stands for the bracket with blanks and a comment after it, or for the comma before it.
fn closed(text: &str, event: Range<usize>) -> usize {
    let mut rest = text.get(event.start..).unwrap_or_default();
    rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    while let Some(comment) = rest.strip_prefix('#') {
        rest = comment.split_once('\n').map_or("", |(_, below)| below).trim_start();
    }
    if rest.starts_with([']', '}']) { text.len() - rest.len() + 1 } else { event.end }
}

fn scalar(text: &str, offsets: &Offsets, value: &str, style: ScalarStyle, span: Span) -> Node {
    let mut range = offsets.range(span);
    if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
        // The parser lets block text end where the next token begins.
        let kept = content(text.get(range.clone()).unwrap_or_default(), span.start.col());
        range.end = range.start + kept;
    }
    let is_plain = style == ScalarStyle::Plain;
    let value = if is_plain && range.is_empty() { "" } else { value };
    node(span, range, Kind::Scalar { text: value.to_owned(), is_plain })
}

/// How many bytes of a block text, indented by `column`, are its own: blank lines and comments to the left of it are not.
fn content(text: &str, column: usize) -> usize {
    let mut kept = 0;
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        offset += line.len();
        let indented = index == 0 || line.chars().take_while(|c| *c == ' ').count() >= column;
        if !line.trim().is_empty() && indented {
            kept = offset - line.len() + line.trim_end_matches(['\n', '\r']).len();
        }
    }
    kept
}

/// The parser counts characters; text is cut at bytes.
enum Offsets {
    /// They are the same.
    Ascii,
    /// The byte of each character, and one for the end.
    Table(Vec<usize>),
}

impl Offsets {
    fn of(text: &str) -> Offsets {
        if text.is_ascii() {
            return Offsets::Ascii;
        }
        Offsets::Table(text.char_indices().map(|(at, _)| at).chain([text.len()]).collect())
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }

    fn byte(&self, character: usize) -> usize {
        match self {
            Offsets::Ascii => character,
            Offsets::Table(table) => table.get(character).or(table.last()).copied().unwrap_or_default(),
        }
    }
}
