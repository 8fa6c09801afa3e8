//! Problems as people read them: where, what, the line it is about with the place marked, and how many there are.
//!
//! The one idea: a problem knows its line and its field, and the line says where in it that is. What is marked is the name that the
//! message quotes or the field ends in, where the line has it; else the line's first word. So it is a help to the eye, never more.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use meshgate_config::check::Checked;
use meshgate_config::{Problem, Severity};

use super::code;

const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[1;33m";
const PLAIN: &str = "\u{1b}[0m";

/// Characters of a line that are shown: it is there to be recognised.
const WIDTH: usize = 120;

/// Bytes of a file that is read once more to show lines of it: as much as the reader of resources takes.
const MAX_FILE: u64 = 4 << 20;

/// Lines of an object in which its name is looked for: metadata comes first, or soon.
const LOOKED_AT: usize = 40;

/// Files whose lines are shown, read once each.
#[derive(Default)]
pub(super) struct Sources(HashMap<PathBuf, Vec<String>>);

/// A line of a file, and what in it is meant.
pub(super) struct Excerpt {
    line: usize,
    /// Without control characters, and no longer than [`WIDTH`].
    text: String,
    /// Characters before the mark, and below it.
    before: usize,
    marked: usize,
}

/// All of it.
pub(super) fn of(checked: &Checked, colours: bool) -> String {
    let mut sources = Sources::default();
    let mut text = String::new();
    for problem in &checked.problems {
        let colour = if problem.is_error() { RED } else { YELLOW };
        let paint = |text: &str| if colours { format!("{colour}{text}{PLAIN}") } else { text.to_owned() };
        let word = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let excerpt = sources.excerpt(problem);
        let _ = writeln!(text, "{}", headline(problem, excerpt.as_ref(), &paint(word)));
        if let Some(Excerpt { line, text: shown, before, marked }) = excerpt {
            let number = line.to_string();
            let _ = writeln!(text, "  {number} | {shown}");
            let _ = writeln!(text, "  {:1$} | {2:before$}{3}", "", number.len(), "", paint(&"^".repeat(marked)));
        }
    }
    let _ = writeln!(text, "{}", summary(checked));
    text
}

/// `file:line:column: error: ` and the rest of the problem's own line.
fn headline(problem: &Problem, excerpt: Option<&Excerpt>, word: &str) -> String {
    // Escaped as a whole, by the problem itself; the place comes first and ends where a problem without more would.
    let place = Problem { object: None, field: None, message: String::new(), ..problem.clone() }.to_string();
    let all = problem.to_string();
    let rest = all.strip_prefix(&place).unwrap_or(&all);
    let place = place.trim_end_matches(": ");
    let column = excerpt.and_then(|excerpt| excerpt.column(problem));
    let column = column.map(|column| format!(":{column}")).unwrap_or_default();
    format!("{place}{column}: {word}: {rest}")
}

fn summary(checked: &Checked) -> String {
    let Checked { problems, files, objects } = checked;
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    let found: Vec<_> =
        [(errors, "error"), (warnings, "warning")].into_iter().filter(|(count, _)| *count > 0).collect();
    let found: Vec<_> = found.into_iter().map(|(count, what)| counted(count, what)).collect();
    let found = if found.is_empty() { "no problems".to_owned() } else { found.join(", ") };
    format!("{found}: {} in {}", counted(*objects, "object"), counted(*files, "file"))
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

impl Sources {
    /// The line that a problem is about, when it has one and the file can still be read.
    pub(super) fn excerpt(&mut self, problem: &Problem) -> Option<Excerpt> {
        let lines = self.lines(&problem.file);
        let line = named(lines, problem).or(problem.line)?;
        let text = lines.get(line.checked_sub(1)?)?;
        let (start, marked) = place(text, problem)?;
        let shown: String = text.chars().take(WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let before = text.get(..start)?.chars().count();
        (before < WIDTH).then_some(Excerpt { line, text: shown, before, marked: marked.chars().count() })
    }

    fn lines(&mut self, file: &Path) -> &[String] {
        self.0.entry(file.to_owned()).or_insert_with(|| {
            let is_small = std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() <= MAX_FILE);
            let text = if is_small { std::fs::read_to_string(file).unwrap_or_default() } else { String::new() };
            text.lines().map(str::to_owned).collect()
        })
    }
}

impl Excerpt {
    /// In the problem's own line, if it is that which is shown. Counted from 1, in characters.
    pub(super) fn column(&self, problem: &Problem) -> Option<usize> {
        (problem.line == Some(self.line)).then_some(self.before + 1)
    }
}

/// What is about an object as a whole is said of its first line, which tells nobody anything: the one with its name does.
fn named(lines: &[String], problem: &Problem) -> Option<usize> {
    let first = problem.line.filter(|_| code(problem).is_some())?;
    let name = problem.object.as_deref()?.rsplit(['/', ' ']).next()?;
    let document = lines.iter().enumerate().skip(first.checked_sub(1)?).take(LOOKED_AT);
    let mut document = document.take_while(|(index, line)| *index < first || !line.starts_with("---"));
    document.find(|(_, line)| line.contains("name:") && word_in(line, name).is_some()).map(|(index, _)| index + 1)
}

/// Where in a line what a problem is about stands: at which byte, and the text.
fn place<'a>(line: &'a str, problem: &Problem) -> Option<(usize, &'a str)> {
    let quoted = problem.message.split('`').nth(1);
    let field = problem.field.as_deref().and_then(|field| field.rsplit(['.', ']']).find(|name| !name.is_empty()));
    let field = field.map(|field| field.split('[').next().unwrap_or(field));
    // What an object is called is on the line where it stands, mostly.
    let name = problem.object.as_deref().and_then(|object| object.rsplit(['/', ' ']).next());
    let found = [quoted, field, name].into_iter().flatten().find_map(|word| word_in(line, word));
    found.or_else(|| {
        let start = line.find(|c: char| !c.is_whitespace() && c != '-')?;
        let rest = line.get(start..)?;
        Some((start, rest.split([' ', ':', '{']).find(|word| !word.is_empty()).unwrap_or(rest)))
    })
}

/// A word in a line, as a word of its own.
fn word_in<'a>(line: &'a str, word: &str) -> Option<(usize, &'a str)> {
    if word.is_empty() {
        return None;
    }
    let is_inner = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    line.match_indices(word).find(|(start, found)| {
        let before = line.get(..*start).and_then(|before| before.chars().next_back());
        let after = line.get(start + found.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_inner) && !after.is_some_and(is_inner)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(line: &str, message: &str, field: Option<&str>, object: Option<&str>) -> String {
        let mut problem = Problem::error("a.yaml", message);
        problem.field = field.map(str::to_owned);
        problem.object = object.map(str::to_owned);
        let (start, text) = place(line, &problem).unwrap();
        format!("{start} {text}")
    }

    #[test]
    fn what_is_marked_is_what_the_message_is_about() {
        let line = "  - to: [{operation: {methds: [GET]}}]";
        assert_eq!(marked(line, "unknown field `methds`", Some("spec.rules[0]"), None), "22 methds");
        assert_eq!(marked(line, "not a list", Some("spec.rules[0].to[0].operation"), None), "10 operation");
        assert_eq!(marked("metadata: {name: web}", "odd", Some("MG001"), Some("Kind shop/web")), "17 web");
        assert_eq!(marked("  - from:", "odd `elsewhere`", None, None), "4 from");
        assert_eq!(marked("portals: 1", "`port` is odd", Some("spec.port"), None), "0 portals");
    }
}
