//! What was wrong or doubtful with what was read last, as the page and the dump show it.

use meshgate_config::Problem;
use serde::Serialize;

/// One problem.
#[derive(Serialize)]
pub(super) struct Shown {
    severity: &'static str,
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    message: String,
}

impl From<&Problem> for Shown {
    fn from(problem: &Problem) -> Self {
        Self {
            severity: if problem.is_error() { "error" } else { "warning" },
            file: problem.file.display().to_string(),
            line: problem.line,
            object: problem.object.clone(),
            field: problem.field.clone(),
            message: problem.message.clone(),
        }
    }
}
