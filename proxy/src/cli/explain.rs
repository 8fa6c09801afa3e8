//! `meshgate explain`: would this request be allowed, and which policy and rule decides?

use std::collections::BTreeMap;
use std::process::ExitCode;

use meshgate_config::check::{Rules, policies};
use meshgate_config::{Bootstrap, Problem};
use meshgate_policy::normalize::Level;
use meshgate_policy::{PolicySet, Verdict, Workload};

use crate::cli::facts::Described;
use crate::cli::{NO, Output, Perspective, Seen, fail, fail_with, print};

/// Options of `meshgate explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    perspective: Perspective,
    /// The called workload's namespace, without a bootstrap
    #[arg(long, default_value = "default")]
    namespace: String,
    /// One of the called workload's labels, without a bootstrap; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    described: Described,
    /// Text or JSON
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn run(args: Args) -> ExitCode {
    let seen = match args.perspective.resolve() {
        Ok(seen) => seen,
        Err(status) => return status,
    };
    let Seen { directory, settings, bootstrap } = seen;
    let level = bootstrap.as_ref().map_or(Level::MergeSlashes, |bootstrap| bootstrap.authorization.path_normalization);
    let workload = bootstrap.as_ref().map_or_else(
        || Workload {
            namespace: args.namespace,
            labels: args.labels.into_iter().collect::<BTreeMap<_, _>>(),
            ..Workload::default()
        },
        Bootstrap::workload,
    );
    let Rules { policies, settings, problems } = policies(&directory, &settings);
    if problems.iter().any(Problem::is_error) {
        return fail_with(&problems);
    }
    let ready = match args.described.ready(level) {
        Ok(ready) => ready,
        Err(error) => return fail(format_args!("--path: {error}: the proxy answers 400")),
    };
    let set = PolicySet::compile(&policies, &workload, &settings);
    let explanation = set.explain(&ready.connection(), ready.request().as_ref());
    let printed = match args.output {
        Output::Text => print(explanation.to_string().trim_end()),
        Output::Json => match serde_json::to_string_pretty(&explanation) {
            Ok(json) => print(json),
            Err(error) => return fail(error),
        },
    };
    match (printed, explanation.verdict) {
        (Err(error), _) => fail(error),
        (Ok(()), Verdict::Allow) => ExitCode::SUCCESS,
        (Ok(()), Verdict::Deny) => ExitCode::from(NO),
    }
}
