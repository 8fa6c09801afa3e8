//! `meshgate explain`: would this request be allowed, and which policy and rule decides? And with `--to`: where would this call
//! of the workload's own go, and what is left out on the way?
//!
//! One request by flags, or many from a file; by the resources of a folder, or by what a running proxy has in force.

mod remote;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use meshgate_config::offline::Resources;
use meshgate_config::source::{OneOrMany, Source, Written};
use meshgate_config::{Problem, Surroundings};
use meshgate_policy::Workload;
use serde::Serialize;

use crate::case::{Case, CaseError};
use crate::cli::facts::Described;
use crate::cli::offline::{Offline, Own};
use crate::cli::progress::Progress;
use crate::cli::{DNS_SUFFIX, NO, Output, Perspective, Seen, colours, fail, fail_with, load_bootstrap, print};
use crate::judge::Outcome;
use remote::{Remote, RemoteError};

/// Where a proxy's admin endpoint is unless its bootstrap says otherwise.
const DEFAULT_ADMIN: &str = "127.0.0.1:15000";

/// Options of `meshgate explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    perspective: Perspective,
    /// The called workload's namespace, for one that is not among the resources
    #[arg(long, default_value = "default", conflicts_with_all = ["bootstrap", "workload", "admin"])]
    namespace: String,
    /// One of the called workload's labels, for one that is not among the resources; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label, conflicts_with_all = ["bootstrap", "workload", "admin"])]
    labels: Vec<(String, String)>,
    /// The called workload's service account, for one that is not among the resources
    #[arg(long, default_value = "default", conflicts_with_all = ["bootstrap", "workload", "admin"])]
    service_account: String,
    /// Ask a running proxy what it would decide now [default address: the bootstrap's, or 127.0.0.1:15000]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, conflicts_with_all = ["resources", "workload"])]
    admin: Option<Option<String>>,
    /// Requests from a file, or - for standard input: YAML or JSON, one, a list, or many documents
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    #[command(flatten)]
    described: Described,
    /// Text or JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const EXAMPLES: &str = "Examples:
  meshgate explain --resources policies --label app=backend \\
      --peer cluster.local/ns/default/sa/frontend --path /api/v1/data
  meshgate explain --bootstrap sidecar.yaml --request requests.yaml --output json
  meshgate explain --admin --method DELETE --path /api/v1/data
  meshgate explain --bootstrap sidecar.yaml --to http://backend.shop:8080/";

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// An answer, from here or from elsewhere.
struct Explained {
    name: Option<String>,
    allowed: bool,
    /// As it is printed, the last line not ended.
    printed: String,
}

/// A case of a file, and where it stands there.
struct Asked<'a> {
    case: Case,
    at: Option<(Written<'a>, String)>,
}

impl Asked<'_> {
    /// A mistake in the case, by its flag or with file and line.
    fn fail(&self, field: &str, message: &str) -> ExitCode {
        match &self.at {
            Some((written, path)) => {
                let path = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
                fail_with(&[written.error(&path, message)])
            }
            None => fail(format_args!("--{field}: {message}")),
        }
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    let flags = args.described.case();
    let source = match args.request.as_deref().map(source).transpose() {
        Ok(source) => source,
        Err(problem) => return fail_with(&[problem]),
    };
    let asked = match source.as_ref().map(|source| cases(source, &flags)).transpose() {
        Ok(asked) => asked,
        Err(problem) => return fail_with(&[problem]),
    };
    let many = asked.as_ref().is_some_and(|(_, many)| *many);
    let asked = asked.map_or_else(|| vec![Asked { case: flags, at: None }], |(asked, _)| asked);
    let workload = Workload {
        namespace: args.namespace,
        service_account: args.service_account,
        labels: args.labels.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let explained = match args.admin {
        Some(address) => ask(&args.perspective, address, &asked, args.output),
        None => decide(&args.perspective, workload, &asked, args.output),
    };
    match explained {
        Ok(explained) => finish(&explained, many, args.output),
        Err(status) => status,
    }
}

fn source(path: &Path) -> Result<Source, Problem> {
    if path == Path::new("-") {
        crate::cli::await_input();
        Source::read("standard input", std::io::stdin().lock())
    } else {
        Source::open(path)
    }
}

/// The cases of a file, and whether the file is one for many.
fn cases<'a>(source: &'a Source, flags: &Case) -> Result<(Vec<Asked<'a>>, bool), Problem> {
    let mut asked = Vec::new();
    let mut many = false;
    for written in source.documents() {
        let mut add =
            |case: Case, path: String| asked.push(Asked { case: case.over(flags), at: Some((written, path)) });
        match written.parse()? {
            OneOrMany::One(case) => add(case, String::new()),
            OneOrMany::Many(cases) => {
                many = true;
                cases.into_iter().enumerate().for_each(|(index, case)| add(case, format!("[{index}]")));
            }
        }
    }
    if asked.is_empty() {
        return Err(source.error("there is no request in it"));
    }
    many |= asked.len() > 1;
    if many {
        for (index, asked) in asked.iter_mut().enumerate() {
            asked.case.name.get_or_insert_with(|| format!("request {}", index + 1));
        }
    }
    Ok((asked, many))
}

/// By the resources of a folder.
fn decide(
    perspective: &Perspective,
    workload: Workload,
    asked: &[Asked<'_>],
    output: Output,
) -> Result<Vec<Explained>, ExitCode> {
    let Seen { directory, settings, bootstrap } = perspective.resolve()?;
    let surroundings = bootstrap.as_ref().map_or_else(|| Surroundings::alone(DNS_SUFFIX), Surroundings::from);
    let _progress = Progress::new(format!("reading {}", directory.display()));
    let resources = Resources::read(&directory, &settings, &surroundings);
    if resources.problems().iter().any(Problem::is_error) {
        return Err(fail_with(resources.problems()));
    }
    let own = bootstrap.as_ref().map_or(Own { workload, name: None }, Own::of);
    let mut offline = Offline::new(resources, own, bootstrap.as_ref());
    let mut explained = Vec::new();
    for one in asked {
        let failed = |error: CaseError| one.fail(error.field, &error.message);
        explained.push(if one.case.to.is_some() {
            let called = offline.call(&one.case).map_err(failed)?;
            let printed = printed(output, &called, || called.text(colours()))?;
            Explained { allowed: called.verdict == Outcome::Allow, name: called.name, printed }
        } else {
            let answer = offline.judge(&one.case).map_err(failed)?;
            let printed = printed(output, &answer, || answer.text(colours()))?;
            Explained { allowed: answer.verdict == Outcome::Allow, name: answer.name, printed }
        });
    }
    Ok(explained)
}

fn printed(output: Output, answer: &impl Serialize, text: impl FnOnce() -> String) -> Result<String, ExitCode> {
    match output {
        Output::Text => Ok(text().trim_end().to_owned()),
        Output::Json => serde_json::to_string_pretty(answer).map_err(fail),
    }
}

/// By what a running proxy has in force.
fn ask(
    perspective: &Perspective,
    address: Option<String>,
    asked: &[Asked<'_>],
    output: Output,
) -> Result<Vec<Explained>, ExitCode> {
    let bootstrap = perspective.bootstrap.as_deref().map(load_bootstrap).transpose();
    let bootstrap = bootstrap.map_err(|problems| fail_with(&problems))?;
    let own = || bootstrap.map_or_else(|| DEFAULT_ADMIN.to_owned(), |bootstrap| bootstrap.admin.address.to_string());
    let remote = Remote::new(&address.unwrap_or_else(own)).map_err(fail)?;
    let _progress = Progress::new("asking the proxy");
    let mut explained = Vec::new();
    for one in asked {
        one.case.check().map_err(|error| one.fail(error.field, &error.message))?;
        let (allowed, printed) = remote.ask(&one.case, output).map_err(|error| match error {
            RemoteError::Field { field, message } => one.fail(&field, &message),
            other => fail(other),
        })?;
        explained.push(Explained { name: one.case.name.clone(), allowed, printed });
    }
    Ok(explained)
}

fn finish(explained: &[Explained], many: bool, output: Output) -> ExitCode {
    let text = match (output, explained) {
        (_, [one]) if !many => one.printed.clone(),
        (Output::Text, all) => all.iter().map(titled).collect::<Vec<_>>().join("\n\n"),
        (Output::Json, all) => {
            let all: Vec<_> = all.iter().map(|one| format!("  {}", one.printed.replace('\n', "\n  "))).collect();
            format!("[\n{}\n]", all.join(",\n"))
        }
    };
    match print(text) {
        Err(error) => fail(error),
        Ok(()) if explained.iter().all(|one| one.allowed) => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(NO),
    }
}

fn titled(explained: &Explained) -> String {
    format!("== {}\n{}", explained.name.as_deref().unwrap_or_default(), explained.printed)
}
