//! `meshgate test`: policy tests in YAML, beside the policies, without a socket.
//!
//! Steps: [`files`] finds and reads them, [`run`](self::run) judges each case, [`report`], [`json`] and [`junit`] print.
//! Bad input of any test stops all: a suite that ran in part says less than it seems to.

mod coverage;
mod expect;
mod files;
mod json;
mod junit;
mod report;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use meshgate_config::{Bootstrap, Problem};
use meshgate_policy::Settings;

use crate::cli::progress::Progress;
use crate::cli::{NO, Perspective, colours, fail, fail_with, print};
use crate::judge::Answer;
use coverage::Coverage;
use files::Test;

/// Options of `meshgate test`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Files with tests, or folders to look for them in
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    perspective: Perspective,
    /// Text, JSON or JUnit's XML
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Write JUnit's XML to a file as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// List the rules that no case ever matched
    #[arg(long)]
    coverage: bool,
}

const EXAMPLES: &str =
    "A test names its resources, or takes those of --resources, of the bootstrap, or of its own folder.

A test:
  apiVersion: test.meshgate.io/v1
  kind: PolicyTest
  metadata: {name: backend}
  spec:
    workload: default/app=backend
    cases:
    - name: strangers get nothing
      request: {peer: cluster.local/ns/default/sa/other, path: /api/v1/data}
      expect: deny";

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For machines
    Json,
    /// For CI servers
    Junit,
}

/// What holds where a test does not say.
struct Given {
    settings: Settings,
    bootstrap: Option<Bootstrap>,
    resources: Option<PathBuf>,
}

/// What one test came to.
struct Outcome<'a> {
    test: &'a Test<'a>,
    cases: Vec<CaseOutcome>,
}

/// What one case came to.
struct CaseOutcome {
    name: String,
    /// Where it stands in its file, when it is not as expected.
    line: Option<usize>,
    expected: String,
    /// What differs, if anything does.
    differs: Option<String>,
    answer: Answer,
    took: Duration,
}

/// How many cases there were.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    tests: usize,
    cases: usize,
    failed: usize,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let (settings, bootstrap) = match args.perspective.settings() {
        Ok(settled) => settled,
        Err(status) => return status,
    };
    let sources = match files::find(&args.paths) {
        Ok(sources) => sources,
        Err(problems) => return fail_with(&problems),
    };
    let tests = match files::tests(&sources) {
        Ok(tests) => tests,
        Err(problems) => return fail_with(&problems),
    };
    let given = Given { settings, bootstrap, resources: args.perspective.resources.clone() };
    let progress = Progress::new("running tests");
    let mut coverage = Coverage::default();
    let mut outcomes = Vec::new();
    let mut problems: Vec<Problem> = Vec::new();
    for test in &tests {
        match suite::run(test, &given, &mut coverage) {
            Ok(outcome) => outcomes.push(outcome),
            Err(found) => problems.extend(found.into_iter().filter(|one| !problems.contains(one)).collect::<Vec<_>>()),
        }
    }
    drop(progress);
    if !problems.is_empty() {
        return fail_with(&problems);
    }
    finish(args, &outcomes, args.coverage.then_some(&coverage))
}

fn finish(args: &Args, outcomes: &[Outcome<'_>], coverage: Option<&Coverage>) -> ExitCode {
    if let Some(path) = &args.junit
        && let Err(error) = std::fs::write(path, junit::of(outcomes))
    {
        return fail(format_args!("{}: {error}", path.display()));
    }
    let text = match args.output {
        Output::Text => report::of(outcomes, coverage, colours()),
        Output::Json => match json::of(outcomes, coverage) {
            Ok(json) => json,
            Err(error) => return fail(error),
        },
        Output::Junit => junit::of(outcomes),
    };
    match print(text.trim_end()) {
        Err(error) => fail(error),
        Ok(()) if counts(outcomes).failed == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(NO),
    }
}

fn counts(outcomes: &[Outcome<'_>]) -> Counts {
    let cases = || outcomes.iter().flat_map(|outcome| &outcome.cases);
    Counts {
        tests: outcomes.len(),
        cases: cases().count(),
        failed: cases().filter(|case| case.differs.is_some()).count(),
    }
}

impl Outcome<'_> {
    fn failed(&self) -> usize {
        self.cases.iter().filter(|case| case.differs.is_some()).count()
    }
}
