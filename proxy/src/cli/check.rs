//! `meshgate check`: what a reload would say, and what it would let pass and should not.

use std::process::ExitCode;

use meshgate_config::check::{Own, check};
use meshgate_config::{Problem, Severity};
use serde_json::json;

use crate::cli::{BAD_INPUT, NO, Output, Perspective, fail, print};

/// Options of `meshgate check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    perspective: Perspective,
    /// Count warnings as a no: exit status 1
    #[arg(long)]
    strict: bool,
    /// Text or JSON
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let seen = match args.perspective.resolve() {
        Ok(seen) => seen,
        Err(status) => return status,
    };
    let own = seen.bootstrap.as_ref().map(Own::from);
    let problems = check(&seen.directory, &seen.settings, own.as_ref());
    if let Err(error) = report(args.output, &problems) {
        return fail(error);
    }
    if problems.iter().any(Problem::is_error) {
        ExitCode::from(BAD_INPUT)
    } else if args.strict && !problems.is_empty() {
        ExitCode::from(NO)
    } else {
        ExitCode::SUCCESS
    }
}

fn report(output: Output, problems: &[Problem]) -> anyhow::Result<()> {
    match output {
        Output::Json => {
            let all: Vec<_> = problems.iter().map(json_of).collect();
            print(serde_json::to_string_pretty(&json!({ "problems": all }))?)?;
        }
        Output::Text if problems.is_empty() => print("no problems")?,
        Output::Text => {
            for problem in problems {
                print(problem)?;
            }
        }
    }
    Ok(())
}

fn json_of(problem: &Problem) -> serde_json::Value {
    json!({
        "severity": match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "file": problem.file,
        "line": problem.line,
        "object": problem.object,
        "field": problem.field,
        "message": problem.message,
    })
}
