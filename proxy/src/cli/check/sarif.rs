//! Problems in the format that code scanning reads: SARIF 2.1.0 (OASIS), as much of it as there is to say.

use meshgate_config::{Problem, Severity};
use meshgate_policy::lint::CATALOGUE;
use serde_json::{Value, json};

use super::code;

/// What a problem without a code is filed under.
const ERROR: &str = "error";
const WARNING: &str = "warning";

/// One run.
pub(super) fn of(problems: &[Problem]) -> Value {
    let lints = CATALOGUE.iter().map(|lint| rule(lint.code, lint.summary));
    let others = [rule(ERROR, "something cannot be read"), rule(WARNING, "something is doubtful")];
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "meshgate check",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": lints.chain(others).collect::<Vec<_>>(),
            } },
            "results": problems.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn rule(id: &str, summary: &str) -> Value {
    json!({ "id": id, "shortDescription": { "text": summary } })
}

fn result(problem: &Problem) -> Value {
    let level = match problem.severity {
        Severity::Error => ERROR,
        Severity::Warning => WARNING,
    };
    let field = problem.field.as_deref().filter(|_| code(problem).is_none());
    let parts = [problem.object.as_deref(), field, Some(&*problem.message)];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
    json!({
        "ruleId": code(problem).unwrap_or(level),
        "level": level,
        "message": { "text": text },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": problem.file },
            "region": { "startLine": problem.line.unwrap_or(1) },
        } }],
    })
}
