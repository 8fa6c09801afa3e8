//! `meshgate check`: what a reload would say, and what it would let pass and should not.

mod sarif;

use std::process::ExitCode;

use clap::ValueEnum;
use meshgate_config::check::{Own, check, is_known};
use meshgate_config::{Problem, Severity};
use meshgate_policy::lint::CATALOGUE;
use serde_json::json;

use crate::cli::{BAD_INPUT, NO, Perspective, fail, print};

/// Options of `meshgate check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "An object says of itself what is meant: metadata.annotations {meshgate.io/allow: \"MG005,MG010\"}.\n\n\
    Exit status: 0 fine, or warnings only; 1 warnings, where they count as a no; 2 errors."
)]
pub(super) struct Args {
    #[command(flatten)]
    perspective: Perspective,
    /// Count warnings as a no: exit status 1
    #[arg(long, visible_alias = "deny-warnings")]
    strict: bool,
    /// Leave out the warnings with this code, everywhere; may be repeated
    #[arg(long, value_name = "CODE")]
    allow: Vec<String>,
    /// List the codes there are, and look at nothing
    #[arg(long)]
    list: bool,
    /// Text, JSON or SARIF
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How problems are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For machines
    Json,
    /// For code scanning, as of GitHub: SARIF 2.1.0
    Sarif,
}

pub(super) fn run(args: &Args) -> ExitCode {
    if args.list {
        return list(args.output).map_or_else(fail, |()| ExitCode::SUCCESS);
    }
    let seen = match args.perspective.resolve() {
        Ok(seen) => seen,
        Err(status) => return status,
    };
    let own = seen.bootstrap.as_ref().map(Own::from);
    let mut problems = check(&seen.directory, &seen.settings, own.as_ref());
    problems.retain(|problem| code(problem).is_none_or(|code| !args.allow.iter().any(|allowed| allowed == code)));
    problems.extend(args.allow.iter().filter(|code| !is_known(code)).map(|code| {
        Problem::warning("--allow", format!("`{code}` is not the code of a finding: see `meshgate check --list`"))
    }));
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

/// The code of a finding; errors and other warnings have none.
fn code(problem: &Problem) -> Option<&str> {
    problem.field.as_deref().filter(|field| !problem.is_error() && is_known(field))
}

fn list(output: Output) -> anyhow::Result<()> {
    if output == Output::Text {
        for lint in CATALOGUE {
            print(format_args!("{}  {}", lint.code, lint.summary))?;
        }
        return Ok(());
    }
    let all: Vec<_> =
        CATALOGUE.iter().map(|lint| json!({ "code": lint.code, "slug": lint.slug, "summary": lint.summary })).collect();
    Ok(print(serde_json::to_string_pretty(&json!({ "lints": all }))?)?)
}

fn report(output: Output, problems: &[Problem]) -> anyhow::Result<()> {
    match output {
        Output::Json => {
            let all: Vec<_> = problems.iter().map(json_of).collect();
            print(serde_json::to_string_pretty(&json!({ "problems": all }))?)?;
        }
        Output::Sarif => print(serde_json::to_string_pretty(&sarif::of(problems))?)?,
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
        "code": code(problem),
        "file": problem.file,
        "line": problem.line,
        "object": problem.object,
        "field": problem.field,
        "message": problem.message,
    })
}
