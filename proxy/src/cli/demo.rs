//! `meshgate demo`: the walk-throughs on this machine, each step with what was expected and what came.

mod report;
mod walkthrough_a;
mod walkthrough_b;
mod walkthrough_c;

use std::process::ExitCode;

use crate::cli::{Output, fail, print};
use crate::{runtime, sandbox};
use report::Reporter;

/// Options of `meshgate demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Text, or one JSON object a line
    #[arg(short, long, value_enum, default_value_t = Output::Text, conflicts_with = "json")]
    output: Output,
    /// As --output json
    #[arg(long)]
    json: bool,
    /// Leave the mesh running afterwards, and say what to try on it
    #[arg(long)]
    keep: bool,
    /// In walk-through B, let gateways say what they export instead of reading ServiceImports
    #[arg(long)]
    discover: bool,
    /// Only this step, for example A3, or only this walk-through, for example B
    #[arg(long, value_name = "STEP", value_parser = step_name)]
    step: Option<String>,
}

/// The walk-throughs: their names, and the steps of each.
const WALKTHROUGHS: [(&str, &[&str]); 3] =
    [("A", &walkthrough_a::STEPS), ("B", &walkthrough_b::STEPS), ("C", &walkthrough_c::STEPS)];

/// Checks a step's name.
fn step_name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_uppercase();
    let known = || WALKTHROUGHS.iter().flat_map(|(letter, steps)| steps.iter().chain([letter]));
    if known().any(|step| *step == name) {
        Ok(name)
    } else {
        Err(format!("expected one of {}", known().copied().collect::<Vec<_>>().join(", ")))
    }
}

/// Whether a walk-through, or some of it, is wanted; and the only step of it that is.
fn wanted<'a>(only: Option<&'a str>, walkthrough: &str) -> Option<Option<&'a str>> {
    let Some(name) = only else { return Some(None) };
    let (letter, steps) = WALKTHROUGHS.iter().find(|(letter, _)| *letter == walkthrough)?;
    match name == *letter {
        true => Some(None),
        false => steps.contains(&name).then_some(Some(name)),
    }
}

/// Why a walk-through stopped.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// A result differed from what was expected; it has been reported.
    #[error("step {0} differs")]
    Differs(&'static str),
    /// Somebody did not wait for the end.
    #[error("stopped before all was tried")]
    Interrupted,
    /// The mesh itself failed.
    #[error(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    /// Something else did.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

pub(super) fn run(args: &Args) -> ExitCode {
    let result = runtime::local().map_err(Stopped::from).and_then(|runtime| runtime.block_on(walk(args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stopped::Differs(step)) => {
            crate::cli::complain(format_args!("step {step} differs from what was expected"));
            ExitCode::from(crate::cli::NO)
        }
        Err(error @ Stopped::Interrupted) => {
            crate::cli::complain(error);
            ExitCode::from(crate::cli::NO)
        }
        Err(error) => fail(error),
    }
}

async fn walk(args: &Args) -> Result<(), Stopped> {
    let reporter = Reporter::new(args.json || args.output == Output::Json);
    let mut stop = crate::signal::Stop::listen()?;
    let only = args.step.as_deref();
    let steps = async {
        let mut hints = Vec::new();
        // Kept until the end: with --keep all meshes can be tried.
        let (mut first, mut second, mut third) = (None, None, None);
        if let Some(only) = wanted(only, "A") {
            let mesh = first.insert(walkthrough_a::Mesh::start(&reporter).await?);
            mesh.walk(&reporter, only).await?;
            hints.extend(mesh.hints());
        }
        if let Some(only) = wanted(only, "B") {
            let mesh = second.insert(walkthrough_b::Mesh::start(&reporter, args.discover).await?);
            mesh.walk(&reporter, only).await?;
            hints.extend(mesh.hints());
        }
        if let Some(only) = wanted(only, "C") {
            let mesh = third.insert(walkthrough_c::Mesh::start(&reporter).await?);
            mesh.walk(&reporter, only).await?;
            hints.extend(mesh.hints());
        }
        reporter.summary()?;
        if args.keep {
            for line in hints {
                print(line)?;
            }
            print("Ctrl-C ends it.")?;
            std::future::pending::<()>().await;
        }
        Ok(())
    };
    tokio::select! {
        result = steps => result,
        // The sidecars are killed and the files removed as the mesh is dropped.
        _ = stop.next() => if reporter.is_over() { Ok(()) } else { Err(Stopped::Interrupted) },
    }
}
