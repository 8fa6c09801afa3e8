//! Results for machines; `docs/policy-tests.md` has the shape.

use serde_json::{Value, json};

use super::coverage::Coverage;
use super::{CaseOutcome, Counts, Outcome, counts};

/// One object.
///
/// # Errors
/// Never with what is put into it.
pub(super) fn of(outcomes: &[Outcome<'_>], coverage: Option<&Coverage>) -> serde_json::Result<String> {
    let Counts { cases, failed, .. } = counts(outcomes);
    let tests: Vec<_> = outcomes.iter().map(test).collect();
    let mut all = json!({ "tests": tests, "passed": cases - failed, "failed": failed });
    if let (Some(coverage), Value::Object(all)) = (coverage, &mut all) {
        let summary = coverage.summary();
        all.insert(
            "coverage".to_owned(),
            json!({
                "rules": summary.rules,
                "matched": summary.matched,
                "never_matched": summary.never_matched,
                "never_asked": summary.never_asked,
            }),
        );
    }
    serde_json::to_string_pretty(&all)
}

fn test(outcome: &Outcome<'_>) -> Value {
    json!({
        "name": outcome.test.name,
        "file": outcome.test.written.name(),
        "cases": outcome.cases.iter().map(case).collect::<Vec<_>>(),
    })
}

fn case(case: &CaseOutcome) -> Value {
    json!({
        "name": case.name,
        "line": case.line,
        "ok": case.differs.is_none(),
        "expected": case.expected,
        "differs": case.differs,
        "answer": case.answer,
    })
}
