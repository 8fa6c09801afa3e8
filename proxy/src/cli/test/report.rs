//! Results as people read them: every case in a line, what failed in full, the counts last.

use std::fmt::Write as _;

use super::coverage::{Coverage, Summary};
use super::{CaseOutcome, Counts, Outcome, counts};

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// All of it.
pub(super) fn of(outcomes: &[Outcome<'_>], coverage: Option<&Coverage>, colours: bool) -> String {
    let paint = |colour: &str, text: &str| match colours {
        true => format!("{colour}{text}{PLAIN}"),
        false => text.to_owned(),
    };
    let mut text = String::new();
    for outcome in outcomes {
        let file = outcome.test.written.name().display();
        let _ = writeln!(text, "{} ({file})", outcome.test.name);
        for case in &outcome.cases {
            let word = if case.differs.is_some() { paint(RED, "FAIL") } else { paint(GREEN, "ok") + "  " };
            let _ = writeln!(text, "  {word}  {}", case.name);
            if let Some(differs) = &case.differs {
                let at = place(outcome, case);
                let _ = writeln!(text, "        {at}: {differs}");
                for line in case.answer.text(colours).lines() {
                    let _ = writeln!(text, "        {line}");
                }
            }
        }
        text.push('\n');
    }
    let Counts { tests, cases, failed } = counts(outcomes);
    let passed = cases - failed;
    let failed = format!("{failed} failed");
    let failed = if failed == "0 failed" { failed } else { paint(RED, &failed) };
    let _ = writeln!(text, "{} in {}: {passed} passed, {failed}", counted(cases, "case"), counted(tests, "test"));
    if let Some(coverage) = coverage {
        covered(&mut text, &coverage.summary());
    }
    text
}

fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// `file:line` of a case that failed.
pub(super) fn place(outcome: &Outcome<'_>, case: &CaseOutcome) -> String {
    let file = outcome.test.written.name().display();
    case.line.map_or_else(|| file.to_string(), |line| format!("{file}:{line}"))
}

fn covered(text: &mut String, summary: &Summary) {
    let Summary { rules, matched, never_matched, never_asked } = summary;
    let _ = writeln!(text, "coverage: {matched} of {rules} rules matched at least once");
    for rule in never_matched {
        let _ = writeln!(text, "  never matched: {rule}");
    }
    for policy in never_asked {
        let _ = writeln!(text, "  selects the workload of no case: {policy}");
    }
}
