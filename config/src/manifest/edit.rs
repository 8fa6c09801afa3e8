//! Changes of a document's text, one at a time.
//!
//! The one idea: what is put in or taken out is whole lines in block text, and whole elements with their commas in brackets. A place
//! where that is not so is refused rather than guessed at.

use std::ops::Range;

use super::value::{key as plain_key, quoted};
use super::{Sheet, Value, segments, step};
use crate::yaml::outline::{Kind, Node};

/// The text is written in a way in which it cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}; write it as an ordinary block (one key or item a line)")]
pub struct CannotEdit {
    /// The place, as in messages.
    pub path: String,
    why: &'static str,
}

impl Sheet {
    /// Sets `key` of the mapping at `path`. One that has a value is replaced; a new one is put before the key `before`, if that is there, or
    /// else before all others.
    ///
    /// # Errors
    /// When there is no mapping, or it is written so that a line cannot be put into it.
    pub fn set(&mut self, path: &str, key: &str, value: &Value, before: &str) -> Result<(), CannotEdit> {
        let cannot = |why| CannotEdit { path: path.to_owned(), why };
        let Some(map) = self.find(path) else { return Err(cannot("there is no mapping here")) };
        if map.is_alias {
            return Err(cannot("it is an alias of another value"));
        }
        let Kind::Map { entries, is_flow } = map.kind() else { return Err(cannot("this is no mapping")) };
        if let Some((name, old)) = map.entry(key) {
            let column = name.column();
            let new = if *is_flow { format!(" {}", value.json(None)) } else { value.after_key(column) };
            let place =
                self.value_place(name, old, *is_flow).ok_or_else(|| cannot("its value is not beside its key"))?;
            return self.splice(path, place, &new);
        }
        if *is_flow {
            let (place, new) = self.in_brackets(map.span(), entries.first().map(|(key, _)| key), |column| {
                format!("{}: {}", quoted(key), value.json(column))
            });
            return self.splice(path, place, &new);
        }
        let mut candidates = entries.iter().filter(|(name, _)| name.scalar() == Some(before)).chain(entries);
        let place = candidates.find_map(|(name, _)| Some((self.line_start(name)?, name.column())));
        let (start, column) = place.ok_or_else(|| cannot("no key of it begins a line"))?;
        let start = self.above_comments(start, column);
        let lines = format!("{}{}:{}\n", " ".repeat(column), plain_key(key), value.after_key(column));
        self.splice(path, start..start, &lines)
    }

    /// Puts `new: value` in the place of the entry `key` of the mapping at `path`. Gives the entry as it was written, from its key to the
    /// end of its value, and the column at which it began.
    ///
    /// # Errors
    /// As [`Sheet::set`]; and when there is no such entry.
    pub fn exchange(&mut self, path: &str, key: &str, new: &str, value: &Value) -> Result<(String, usize), CannotEdit> {
        let (place, column, is_flow) = self.entry_place(path, key)?;
        let was = self.text.get(place.clone()).unwrap_or_default().replace("\r\n", "\n");
        let text = match is_flow {
            true => format!("{}: {}", quoted(new), value.json(None)),
            false => format!("{}:{}", plain_key(new), value.after_key(column)),
        };
        self.splice(path, place, &text)?;
        Ok((was, column))
    }

    /// Puts `text` in the place of the entry `key` of the mapping at `path`: one that [`Sheet::exchange`] gave with `column`. Where the
    /// entry now begins at another one the text's lines move with it.
    ///
    /// # Errors
    /// As [`Sheet::exchange`]. That it can be changed does not say that the text means the same here.
    pub fn exchange_text(&mut self, path: &str, key: &str, text: &str, column: usize) -> Result<(), CannotEdit> {
        let (place, now, _) = self.entry_place(path, key)?;
        self.splice(path, place, &moved(text, column, now))
    }

    /// Where an entry stands: from its key to the end of its value, its column, and whether it is in brackets.
    fn entry_place(&self, path: &str, key: &str) -> Result<(Range<usize>, usize, bool), CannotEdit> {
        let cannot = |why| CannotEdit { path: path.to_owned(), why };
        let Some(map) = self.find(path) else { return Err(cannot("there is no mapping here")) };
        if map.is_alias {
            return Err(cannot("it is an alias of another value"));
        }
        let Kind::Map { is_flow, .. } = map.kind() else { return Err(cannot("this is no mapping")) };
        let Some((name, value)) = map.entry(key) else { return Err(cannot("there is no such key")) };
        let start = name.span().start;
        Ok((start..value.span().end.max(name.span().end), name.column(), *is_flow))
    }

    /// Puts `item` before all others into the list at `path`, which has some.
    ///
    /// # Errors
    /// As [`Sheet::set`].
    pub fn push_front(&mut self, path: &str, item: &Value) -> Result<(), CannotEdit> {
        let cannot = |why| CannotEdit { path: path.to_owned(), why };
        let Some((name, list)) = self.entry_at(path) else { return Err(cannot("there is no list here")) };
        if list.is_alias {
            return Err(cannot("it is an alias of another value"));
        }
        let Kind::List { items, is_flow } = list.kind() else { return Err(cannot("this is no list")) };
        if *is_flow {
            let (place, new) = self.in_brackets(list.span(), items.first(), |column| item.json(column));
            return self.splice(path, place, &new);
        }
        let dash = items.first().and_then(|first| self.dash(first)).ok_or_else(|| cannot("its items are not lines"))?;
        let start = self.next_line(name.span().end).ok_or_else(|| cannot("it ends on the line of its key"))?;
        let column = self.text.get(..dash).map_or(0, |before| before.chars().rev().take_while(|c| *c == ' ').count());
        let lines = format!("{}\n", item.item(column));
        self.splice(path, start..start, &lines)
    }

    /// Takes out the entry or the item at `path`; with the last one of it the mapping or list goes, too.
    ///
    /// # Errors
    /// As [`Sheet::set`]; and when nothing is there.
    pub fn remove(&mut self, path: &str) -> Result<(), CannotEdit> {
        let cannot = |why| CannotEdit { path: path.to_owned(), why };
        let (parent, last) = split(path);
        let Some(holder) = self.find(parent) else { return Err(cannot("there is nothing here")) };
        let count = holder.items().len().max(holder.entries().len());
        if count == 1 && !parent.is_empty() {
            let parent = parent.to_owned();
            return self.remove(&parent);
        }
        let Some(segment) = segments(last).into_iter().next() else { return Err(cannot("there is nothing here")) };
        let Some((key, value)) = step(holder, segment) else { return Err(cannot("there is nothing here")) };
        let is_flow = matches!(holder.kind(), Kind::Map { is_flow: true, .. } | Kind::List { is_flow: true, .. });
        let first = key.unwrap_or(value);
        let end = value.span().end.max(first.span().end);
        let place = if is_flow {
            self.flow_place(first.span().start..end, holder.span())
        } else {
            let start = match key {
                Some(key) => self.line_start(key),
                None => self.dash(value).and_then(|dash| self.blank_before(dash)),
            };
            let start = start.ok_or_else(|| cannot("it does not begin a line"))?;
            start..self.next_line(end).unwrap_or(self.text.len())
        };
        self.splice(path, place, "")
    }

    /// A value and its key.
    fn entry_at(&self, path: &str) -> Option<(&Node, &Node)> {
        let (parent, last) = split(path);
        let (key, value) = step(self.find(parent)?, segments(last).into_iter().next()?)?;
        Some((key?, value))
    }

    /// From behind a key's colon to the end of its value.
    fn value_place(&self, key: &Node, value: &Node, is_flow: bool) -> Option<Range<usize>> {
        let after = key.span().end;
        let colon = after + self.text.get(after..)?.find(':')? + 1;
        let end = value.span().end.max(colon);
        // A comment between the two would swallow what is put there; an anchor may be meant elsewhere.
        let between = self.text.get(colon..value.span().start.max(colon))?;
        let is_clear = if is_flow { between.trim().is_empty() } else { between.chars().all(char::is_whitespace) };
        is_clear.then_some(colon..end)
    }

    /// Where something new goes between brackets, before all others, and with what around it.
    fn in_brackets(
        &self,
        span: Range<usize>,
        first: Option<&Node>,
        text: impl FnOnce(Option<usize>) -> String,
    ) -> (Range<usize>, String) {
        let at = span.start + 1;
        match first {
            None => (at..at, text(None)),
            // What is laid out in lines stays so.
            Some(first) if self.line_start(first).is_some() => {
                let (start, column) = (first.span().start, first.column());
                (start..start, format!("{},\n{}", text(Some(column)), " ".repeat(column)))
            }
            Some(_) => (at..at, format!("{}, ", text(None))),
        }
    }

    /// An element in brackets with the comma that goes with it.
    fn flow_place(&self, element: Range<usize>, holder: Range<usize>) -> Range<usize> {
        let after = self.text.get(element.end..holder.end).unwrap_or_default();
        if let Some(rest) = after.trim_start().strip_prefix(',') {
            let next = rest.trim_start();
            return element.start..holder.end - next.len();
        }
        let before = self.text.get(holder.start..element.start).unwrap_or_default().trim_end();
        holder.start + before.strip_suffix(',').unwrap_or(before).len()..element.end
    }

    /// Where the line begins whose first thing this is.
    fn line_start(&self, node: &Node) -> Option<usize> {
        self.blank_before(node.span().start)
    }

    /// Where the line begins, if nothing but blanks stands on it before `at`.
    fn blank_before(&self, at: usize) -> Option<usize> {
        let before = self.text.get(..at)?;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        before.get(start..)?.bytes().all(|byte| byte == b' ').then_some(start)
    }

    /// Where the dash stands that begins an item of a block list.
    fn dash(&self, item: &Node) -> Option<usize> {
        let mut before = self.text.get(..item.span().start)?.trim_end();
        let word = before.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        if before.get(word..)?.starts_with('&') {
            before = before.get(..word)?.trim_end();
        }
        before.ends_with('-').then(|| before.len() - 1)
    }

    /// Where the next line begins, if nothing but blanks, an anchor or a comment is left on this one after `at`, and a key's colon.
    fn next_line(&self, at: usize) -> Option<usize> {
        let rest = self.text.get(at..)?;
        let newline = rest.find('\n')?;
        let line = rest.get(..newline)?.trim();
        let line = line.strip_prefix(':').unwrap_or(line).trim_start();
        (line.is_empty() || line.starts_with(['#', '&'])).then_some(at + newline + 1)
    }

    /// The first of the comment lines directly above that are indented alike: they belong to what follows.
    fn above_comments(&self, mut start: usize, column: usize) -> usize {
        while let Some(before) = self.text.get(..start.saturating_sub(1)).filter(|_| start > 0) {
            let above = before.rfind('\n').map_or(0, |newline| newline + 1);
            let line = before.get(above..).unwrap_or_default();
            if !line.trim_start_matches(' ').starts_with('#')
                || line.len() - line.trim_start_matches(' ').len() != column
            {
                break;
            }
            start = above;
        }
        start
    }

    fn splice(&mut self, path: &str, place: Range<usize>, new: &str) -> Result<(), CannotEdit> {
        let cannot = || CannotEdit { path: path.to_owned(), why: "a change here would not be read as it is meant" };
        let (before, after) = (self.text.get(..place.start), self.text.get(place.end..));
        let (Some(before), Some(after)) = (before, after) else { return Err(cannot()) };
        let new = if self.text.contains("\r\n") { new.replace('\n', "\r\n") } else { new.to_owned() };
        let text = [before, &new, after].concat();
        *self = Sheet::outlined(text, self.first_line).map_err(|_| cannot())?;
        Ok(())
    }
}

/// Lines of which all but the first are indented as much more or less as the columns differ.
fn moved(text: &str, from: usize, to: usize) -> String {
    let mut lines = text.split('\n');
    let mut out = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        let content = line.trim_start_matches(' ');
        let indent = if content.is_empty() { 0 } else { (line.len() - content.len() + to).saturating_sub(from) };
        out.push('\n');
        match from == to {
            true => out.push_str(line),
            false => out.extend([&" ".repeat(indent), content]),
        }
    }
    out
}

/// A path's last step, and all before.
fn split(path: &str) -> (&str, &str) {
    let at = match path.strip_suffix(']') {
        Some(inner) => inner.rfind('['),
        None => path.rfind('.'),
    };
    let (parent, last) = path.split_at(at.unwrap_or(0));
    (parent, last.strip_prefix('.').unwrap_or(last))
}
