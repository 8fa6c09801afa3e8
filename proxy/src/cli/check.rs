//! `meshgate check`: what a reload would say, and what it would let pass and should not.

mod sarif;
mod start;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use meshgate_config::check::{Checked, Own, is_known, look};
use meshgate_config::{Problem, Severity};
use meshgate_policy::lint::CATALOGUE;
use serde_json::json;

use self::start::Start;
use crate::cli::progress::Progress;
use crate::cli::{BAD_INPUT, NO, Perspective, colours, complain, fail, hint, print};

/// Options of `meshgate check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "An object says of itself what is meant: metadata.annotations {meshgate.io/allow: \"MG005,MG010\"}."
)]
pub(super) struct Args {
    /// The folder of resources, or one file; as --resources
    #[arg(value_name = "PATH", conflicts_with = "resources")]
    path: Option<PathBuf>,
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
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
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
    let resources = args.path.clone().or_else(|| args.perspective.resources.clone());
    let seen = match (Perspective { resources, ..args.perspective.clone() }).resolve() {
        Ok(seen) => seen,
        Err(status) => return status,
    };
    let own = seen.bootstrap.as_ref().map(Own::from);
    let progress = Progress::new(format!("checking {}", seen.directory.display()));
    let mut checked = look(&seen.directory, &seen.settings, own.as_ref());
    drop(progress);
    let start = seen.bootstrap.as_ref().map(Start::of).unwrap_or_default();
    let problems = &mut checked.problems;
    if let Some(bootstrap) = &args.perspective.bootstrap {
        problems.splice(..0, start.wrong.iter().map(|wrong| Problem::error(bootstrap, wrong)));
    }
    problems.retain(|problem| code(problem).is_none_or(|code| !args.allow.iter().any(|allowed| allowed == code)));
    problems.extend(args.allow.iter().filter(|code| !is_known(code)).map(|code| {
        Problem::warning("--allow", format!("`{code}` is not the code of a finding: see `meshgate check --list`"))
    }));
    if let Err(error) = report(args.output, &checked) {
        return fail(error);
    }
    let problems = &checked.problems;
    if problems.is_empty() && checked.objects == 0 {
        hint(format_args!(
            "there was nothing to check: no object of a kind that means something here, in {}",
            seen.directory.display()
        ));
    }
    for why in start.unseen {
        complain(format_args!("note: {why} was not looked at"));
    }
    if let Some(file) = problems.iter().find_map(bootstrap_among) {
        hint(format_args!("{} looks like a bootstrap: `meshgate check --bootstrap` reads that", file.display()));
    }
    if problems.iter().any(Problem::is_error) {
        ExitCode::from(BAD_INPUT)
    } else if args.strict && !problems.is_empty() {
        ExitCode::from(NO)
    } else {
        ExitCode::SUCCESS
    }
}

/// The file of a problem, if what it is instead of an object is a bootstrap.
fn bootstrap_among(problem: &Problem) -> Option<&Path> {
    let file = problem.file.as_path();
    let sections = ["workload:", "identity:", "resources:"];
    let is_bootstrap = |text: String| sections.iter().all(|section| text.lines().any(|line| line.starts_with(section)));
    (problem.message.contains("missing field `apiVersion`") && std::fs::read_to_string(file).is_ok_and(is_bootstrap))
        .then_some(file)
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

fn report(output: Output, checked: &Checked) -> anyhow::Result<()> {
    match output {
        Output::Json => print(serde_json::to_string_pretty(&json_of_all(checked))?)?,
        Output::Sarif => print(serde_json::to_string_pretty(&sarif::of(&checked.problems))?)?,
        Output::Text => print(text::of(checked, colours()).trim_end())?,
    }
    Ok(())
}

fn json_of_all(checked: &Checked) -> serde_json::Value {
    let mut sources = text::Sources::default();
    let all: Vec<_> = checked.problems.iter().map(|problem| json_of(problem, &mut sources)).collect();
    let errors = checked.problems.iter().filter(|problem| problem.is_error()).count();
    json!({
        "problems": all,
        "errors": errors,
        "warnings": checked.problems.len() - errors,
        "files": checked.files,
        "objects": checked.objects,
    })
}

fn json_of(problem: &Problem, sources: &mut text::Sources) -> serde_json::Value {
    json!({
        "severity": match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "code": code(problem),
        "file": problem.file,
        "line": problem.line,
        "column": sources.excerpt(problem).and_then(|excerpt| excerpt.column(problem)),
        "object": problem.object,
        "field": problem.field,
        "message": problem.message,
    })
}
