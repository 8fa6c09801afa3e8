//! What is wrong with what the operator wrote, and where: a [`Problem`] is one line in the style of a compiler's.
//!
//! The one idea: a problem is data (file, line, object, field, message, severity), so that the log, `meshgate check`
//! and the admin page can each show it their own way. It is not an error type: a load gathers many and goes on.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// How much a [`Problem`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something was refused: the bootstrap file, or one object, whose last good version (if any) stays in force.
    Error,
    /// Everything was read, but probably does not do what was meant.
    Warning,
}

/// One thing wrong with one place in a file.
///
/// Its `Display` is `file:line: Kind namespace/name: field: message`, without the parts that are not known; control
/// characters that came from a file are escaped, so that a file cannot forge log lines.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The file, as it was named by the bootstrap or found in the resource folder.
    pub file: PathBuf,
    /// Line in that file, counted from 1.
    pub line: Option<usize>,
    /// `Kind namespace/name`, when that much could be read.
    pub object: Option<String>,
    /// Path of the field, such as `spec.rules[0].to[0].operation.ports[1]`; for a lint its code.
    pub field: Option<String>,
    /// What is wrong and, where it can be said, what was expected.
    pub message: String,
    /// Whether something was refused.
    pub severity: Severity,
}

impl Problem {
    /// An error in `file` of which no more is known than `message`.
    pub fn error(file: impl AsRef<Path>, message: impl Into<String>) -> Problem {
        Problem {
            file: file.as_ref().to_path_buf(),
            line: None,
            object: None,
            field: None,
            message: message.into(),
            severity: Severity::Error,
        }
    }

    /// Like [`Problem::error`], for what was read but is doubtful.
    pub fn warning(file: impl AsRef<Path>, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(file, message) }
    }

    /// True when something was refused.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(crate) fn at(self, line: Option<usize>) -> Problem {
        Problem { line, ..self }
    }

    pub(crate) fn about(self, object: impl fmt::Display) -> Problem {
        Problem { object: Some(object.to_string()), ..self }
    }

    pub(crate) fn in_field(self, field: Option<String>) -> Problem {
        Problem { field, ..self }
    }
}

/// Puts problems in the order in which one mends them: by file, from top to bottom.
pub(crate) fn sort(problems: &mut [Problem]) {
    problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaped(f), "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        for part in [&self.object, &self.field].into_iter().flatten() {
            write!(Escaped(f), ": {part}")?;
        }
        write!(Escaped(f), ": {}", self.message)
    }
}

/// Writes through, with control characters as `\u{..}`.
struct Escaped<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() {
                write!(self.0, "{}", c.escape_unicode())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_as_a_compiler_would() {
        let problem = Problem::error("resources/a.yaml", "not a port")
            .at(Some(7))
            .about("AuthorizationPolicy default/a")
            .in_field(Some("spec.rules[0]".into()));
        assert_eq!(problem.to_string(), "resources/a.yaml:7: AuthorizationPolicy default/a: spec.rules[0]: not a port");
        assert_eq!(Problem::warning("a.yaml", "odd").to_string(), "a.yaml: odd");
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        let problem = Problem::error("a.yaml", "unknown field `x\nb.yaml:1: fine`");
        assert_eq!(problem.to_string(), "a.yaml: unknown field `x\\u{a}b.yaml:1: fine`");
    }
}
