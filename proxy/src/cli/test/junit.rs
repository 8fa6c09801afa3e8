//! Results in the XML of JUnit, as Jenkins, GitLab and GitHub's actions read it.
//!
//! There is no standard; this keeps to what all of them take: `testsuites`, `testsuite`, `testcase`, `failure`.

use std::fmt::Write as _;
use std::time::Duration;

use super::report::place;
use super::{CaseOutcome, Counts, Outcome, counts};

/// A whole document.
pub(super) fn of(outcomes: &[Outcome<'_>]) -> String {
    let Counts { cases, failed, .. } = counts(outcomes);
    let time = seconds(outcomes.iter().flat_map(|outcome| &outcome.cases));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuites name=\"meshgate test\" tests=\"{cases}\" failures=\"{failed}\" errors=\"0\" time=\"{time}\">"
    );
    for outcome in outcomes {
        suite(&mut xml, outcome);
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn suite(xml: &mut String, outcome: &Outcome<'_>) {
    let name = attribute(&outcome.test.name);
    let (tests, failed, time) = (outcome.cases.len(), outcome.failed(), seconds(&outcome.cases));
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"{time}\">"
    );
    let file = attribute(&outcome.test.written.name().display().to_string());
    for case in &outcome.cases {
        let (case_name, time) = (attribute(&case.name), seconds([case]));
        let line = case.line.map(|line| format!(" line=\"{line}\"")).unwrap_or_default();
        let _ = write!(
            xml,
            "    <testcase name=\"{case_name}\" classname=\"{name}\" file=\"{file}\"{line} time=\"{time}\""
        );
        match &case.differs {
            None => xml.push_str("/>\n"),
            Some(differs) => {
                let text = format!("{}: {differs}\n{}", place(outcome, case), case.answer.text(false));
                let (message, text) = (attribute(differs), escaped(&text));
                let _ = writeln!(xml, ">\n      <failure message=\"{message}\" type=\"verdict\">{text}</failure>");
                xml.push_str("    </testcase>\n");
            }
        }
    }
    xml.push_str("  </testsuite>\n");
}

fn seconds<'a>(cases: impl IntoIterator<Item = &'a CaseOutcome>) -> String {
    let total: Duration = cases.into_iter().map(|case| case.took).sum();
    format!("{:.6}", total.as_secs_f64())
}

/// Line ends in an attribute would be read as spaces.
fn attribute(text: &str) -> String {
    escaped(text).replace('\n', "&#10;").replace('\r', "&#13;").replace('\t', "&#9;")
}

/// As XML 1.0 has it; characters it has no way to write become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\r' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
