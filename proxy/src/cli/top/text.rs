//! Lines for a terminal: styled, cut to a width, and with nothing in them that the terminal would obey.
//!
//! The one idea: text becomes part of a line only through [`Line::push`], and there everything is taken out of it that is no visible
//! character: names and paths come from the wire, and who sends them is not to move the cursor of who reads them.

use std::fmt::Write;

/// How a piece of a line looks; without colours it is only its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// As usual.
    Plain,
    /// A section's title.
    Title,
    /// What is less important.
    Faint,
    /// What is well.
    Good,
    /// What is doubtful.
    Warn,
    /// What is wrong.
    Bad,
}

impl Style {
    /// Select Graphic Rendition (ECMA-48, section 8.3.117).
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Title => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        }
    }
}

/// One line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Style, String)>);

impl Line {
    /// One piece.
    pub(super) fn of(style: Style, text: &str) -> Self {
        let mut line = Self::default();
        line.push(style, text);
        line
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, style: Style, text: &str) {
        self.0.push((style, clean(text)));
    }

    /// Adds a piece that takes just so many columns, at the left of them.
    pub(super) fn left(&mut self, style: Style, text: &str, columns: usize) {
        let text = fit(&clean(text), columns);
        let padding = " ".repeat(columns.saturating_sub(width(&text)));
        self.0.push((style, text + &padding));
    }

    /// Adds a piece that takes just so many columns, at the right of them.
    pub(super) fn right(&mut self, style: Style, text: &str, columns: usize) {
        let text = fit(&clean(text), columns);
        let padding = " ".repeat(columns.saturating_sub(width(&text)));
        self.0.push((style, padding + &text));
    }

    /// The line in so many columns, with or without colours; without spaces at its end.
    pub(super) fn shown(&self, columns: usize, colours: bool) -> String {
        let (mut out, mut room) = (String::new(), columns);
        let last = self.0.iter().rposition(|(_, text)| !text.trim_end().is_empty());
        for (index, (style, text)) in self.0.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
            let text = if Some(index) == last { text.trim_end() } else { text };
            let piece = fit(text, room);
            room = room.saturating_sub(width(&piece));
            match style.code() {
                code if colours && !code.is_empty() && !piece.is_empty() => {
                    // Writing into a String cannot fail.
                    let _ = write!(out, "\x1b[{code}m{piece}\x1b[0m");
                }
                _ => out.push_str(&piece),
            }
            if room == 0 {
                break;
            }
        }
        out
    }
}

/// Text without characters that a terminal obeys, or that nobody sees: controls (of both sets), marks of direction, and other
/// invisible ones. They are shown by their number.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}' => out.extend(character.escape_unicode()),
            _ if character.is_control() => out.extend(character.escape_unicode()),
            _ => out.push(character),
        }
    }
    out
}

/// The beginning of a text, as much as there are columns for, with a mark where something is left out.
fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for character in text.chars() {
        let wide = columns_of(character);
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        out.push(character);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// The columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// The columns that a character takes: none for marks that are put on the one before, two for what East Asian Width (UAX #11) calls
/// wide, in the blocks that matter. Names in a mesh are nearly always ASCII; what is misjudged is cut a column early or late.
fn columns_of(character: char) -> usize {
    match character {
        '\u{20}'..='\u{7e}' => 1,
        '\u{300}'..='\u{36f}'
        | '\u{483}'..='\u{489}'
        | '\u{591}'..='\u{5bd}'
        | '\u{610}'..='\u{61a}'
        | '\u{64b}'..='\u{65f}'
        | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{fe20}'..='\u{fe2f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_not_sent() {
        let hostile = "a\x1b[2J\x1b]0;title\x07\u{9b}31m\r\n\t\u{202e}\u{200b}\u{e0041}\u{7f}b";
        for colours in [false, true] {
            let mut line = Line::of(Style::Plain, hostile);
            line.left(Style::Plain, hostile, 200);
            line.right(Style::Plain, hostile, 200);
            let shown = line.shown(1000, colours);
            assert!(shown.chars().all(|character| !character.is_control()), "{shown:?}");
            assert!(
                shown.contains("\\u{1b}[2J") && shown.contains("\\u{202e}") && shown.contains("\\u{9b}31m"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_line_takes_no_more_columns_than_there_are() {
        let mut line = Line::default();
        line.left(Style::Good, "frontend", 10);
        line.right(Style::Plain, "日本語日本語", 7);
        line.push(Style::Bad, " e\u{301}nd of it");
        assert_eq!(line.shown(80, false), "frontend  日本語… e\u{301}nd of it");
        for columns in 0..40 {
            let shown = line.shown(columns, false);
            assert!(width(&shown) <= columns, "{columns}: {shown}");
        }
        assert_eq!(line.shown(6, false), "front…");
        assert_eq!(line.shown(13, true), "\u{1b}[32mfrontend  \u{1b}[0m日…");
    }
}
