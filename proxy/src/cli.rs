//! The command line: one module a subcommand.
//!
//! What a command ends with is in `status`, what is said of an error in `advice`; `docs/cli.md` has the conventions.

mod admin;
mod advice;
mod ca;
mod check;
mod completions;
mod demo;
mod explain;
mod facts;
mod import;
mod inject;
mod man;
mod markdown;
mod offline;
mod progress;
mod run;
mod status;
mod surroundings;
mod test;
mod top;
mod version;
mod wait;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use meshgate_config::{Bootstrap, Problem};
use meshgate_identity::TrustDomain;
use meshgate_policy::smi::PathMatch;
use meshgate_policy::{CatchAllDeny, Providers, Settings, SmiMode};

use progress::Progress;
use status::{BAD_INPUT, NO};

/// The suffix of services' names unless a bootstrap says otherwise.
const DNS_SUFFIX: &str = "cluster.local";

/// A service-mesh data-plane proxy: mutual TLS, SPIFFE identities and authorization policies beside a workload
#[derive(Debug, Parser)]
#[command(name = "meshgate", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy that a bootstrap file describes
    Run(run::Args),
    /// Show the whole thing on this machine: real processes, sockets and certificates, no root
    Demo(demo::Args),
    /// Read a folder of resources as the proxy would, and say what is wrong with it
    Check(check::Args),
    /// Say whether a request would be allowed, and which policy and rule decides
    Explain(Box<explain::Args>),
    /// Say what other clusters export, as the ServiceImports that this one needs
    Import(Box<import::Args>),
    /// Put the sidecar and the redirection into Kubernetes workloads: YAML in, YAML out
    Inject(Box<inject::Args>),
    /// Run policy tests: YAML files with requests and the verdicts they must get
    Test(test::Args),
    /// Show in the terminal what a running proxy sees: who talks to whom, who was refused, what is healthy
    Top(top::Args),
    /// Return when the proxy is ready
    Wait(wait::Args),
    /// A certificate authority for trying things out
    Ca(ca::Args),
    /// The rules that redirect a workload's traffic to the proxy
    Iptables(Box<meshgate_iptables::cli::IptablesCommand>),
    /// Print what a shell needs to complete meshgate's command line
    Completions(completions::Args),
    /// Print a manual page, or write all of them
    Man(man::Args),
    /// Say which build this is
    Version(version::Args),
}

/// The one command that stays: what it takes to know the others too, their options and help, is not to be resident beside a proxy.
#[derive(Debug, Parser)]
#[command(name = "meshgate")]
enum Alone {
    Run(run::Args),
}

/// How a command prints its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For machines
    Json,
}

/// Runs the command line `args`, the program's name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    if args.get(1).is_some_and(|command| command == "run")
        && let Ok(Alone::Run(args)) = Alone::try_parse_from(&args)
    {
        return run::run(&args);
    }
    let mut command = command();
    let matches = command.try_get_matches_from_mut(args);
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come as errors too, with status 0. If the message can't be printed there is nobody to tell.
            let status = u8::try_from(error.exit_code()).unwrap_or(BAD_INPUT);
            let _ = error.format(&mut command).print();
            return ExitCode::from(status);
        }
    };
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(*args),
        Command::Import(args) => import::run(*args),
        Command::Inject(args) => inject::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Wait(args) => wait::run(&args),
        Command::Ca(args) => ca::run(args),
        Command::Iptables(args) => iptables(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Version(args) => version::run(&args),
    }
}

/// The tree of commands, each with its exit statuses in its help.
fn command() -> clap::Command {
    status::in_help(Cli::command())
}

fn iptables(args: &meshgate_iptables::cli::IptablesCommand) -> ExitCode {
    let progress = Progress::new("working on the rules");
    let mut output = Vec::new();
    let result = meshgate_iptables::cli::run(args, &mut output);
    drop(progress);
    let printed = print_all(&output);
    match (result, printed) {
        (Ok(status), Ok(())) => ExitCode::from(status),
        (Err(error), _) => fail(error),
        (_, Err(error)) => fail(format_args!("cannot write the output: {error}")),
    }
}

/// Says what is wrong with the input, and what to do about it where that is known of the operating system's errors.
fn fail(error: impl Display) -> ExitCode {
    let error = error.to_string();
    let advice = advice::of_system(&error);
    complain(format_args!("error: {error}"));
    advice.iter().for_each(hint);
    ExitCode::from(BAD_INPUT)
}

/// As [`fail`], by someone who knows what to do about it.
fn fail_advising(error: impl Display, advice: impl Display) -> ExitCode {
    complain(format_args!("error: {error}"));
    hint(advice);
    ExitCode::from(BAD_INPUT)
}

/// An error with its causes. Some say their cause themselves, and it is not said twice.
fn whole(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// What to do about what was said last.
fn hint(advice: impl Display) {
    complain(format_args!("hint: {advice}"));
}

/// Says that standard input is read, to who sits before a terminal and would see nothing happen.
fn await_input() {
    if std::io::stdin().is_terminal() {
        complain("reading from standard input; Ctrl-D ends it");
    }
}

/// Writes a line to standard error; a closed one is nobody's loss.
fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Writes a line to standard output.
///
/// # Errors
/// When it cannot be written, as to a full disk.
fn print(line: impl Display) -> std::io::Result<()> {
    print_all(format!("{line}\n").as_bytes())
}

/// Writes to standard output.
///
/// # Errors
/// As [`print`].
fn print_all(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Who reads no further, as `| head`, has what he wanted; the exit status still says what was found.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Whether standard output takes colours: a terminal that knows them, and nobody asked for none (no-color.org).
fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted && !is_dumb()
}

/// Whether the terminal is one that knows lines of text and nothing else.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb")
}

fn load_bootstrap(path: &Path) -> Result<Bootstrap, Vec<Problem>> {
    // Only UTF-8 names can be ours; a value that is not is reported by the field that reads it.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    Bootstrap::load(path, environment)
}

fn fail_with(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        let word = if problem.is_error() { "error" } else { "warning" };
        complain(format_args!("{word}: {problem}"));
    }
    let advice = problems.iter().find_map(|problem| advice::of_system(&problem.message));
    advice.iter().for_each(hint);
    ExitCode::from(BAD_INPUT)
}

/// The options that say where resources are, and under which settings they are read.
#[derive(Debug, Clone, clap::Args)]
struct Perspective {
    /// The proxy's bootstrap file: its workload, settings and resource folder
    #[arg(long, value_name = "FILE")]
    bootstrap: Option<PathBuf>,
    /// The folder of resources, if not the bootstrap's
    #[arg(long, value_name = "DIR")]
    resources: Option<PathBuf>,
    /// The mesh's trust domain, without a bootstrap
    #[arg(long, default_value = "cluster.local")]
    trust_domain: TrustDomain,
    /// The namespace whose policies are for all, without a bootstrap
    #[arg(long, default_value = "istio-system", value_name = "NAMESPACE")]
    root_namespace: String,
}

/// A perspective, made out.
struct Seen {
    directory: PathBuf,
    settings: Settings,
    bootstrap: Option<Bootstrap>,
}

impl Perspective {
    /// Reads the bootstrap, if there is one; complains by itself.
    fn resolve(&self) -> Result<Seen, ExitCode> {
        let (settings, bootstrap) = self.settings()?;
        let own = bootstrap.as_ref().map(|bootstrap| &bootstrap.resources.directory);
        let Some(directory) = self.resources.as_ref().or(own).cloned() else {
            return Err(fail(
                "nothing says where the resources are: give their folder (--resources DIR) or a bootstrap (--bootstrap FILE)",
            ));
        };
        Ok(Seen { directory, settings, bootstrap })
    }

    /// As [`Perspective::resolve`], without a need for a folder.
    fn settings(&self) -> Result<(Settings, Option<Bootstrap>), ExitCode> {
        let bootstrap = match self.bootstrap.as_deref().map(load_bootstrap).transpose() {
            Ok(bootstrap) => bootstrap,
            Err(problems) => return Err(fail_with(&problems)),
        };
        let settings = bootstrap.as_ref().map_or_else(
            || Settings {
                root_namespace: self.root_namespace.clone(),
                trust_domain: self.trust_domain.clone(),
                trust_domain_aliases: Vec::new(),
                catch_all_deny: CatchAllDeny::default(),
                smi: SmiMode::default(),
                providers: Providers::default(),
                smi_path_match: PathMatch::default(),
            },
            Bootstrap::policy_settings,
        );
        Ok((settings, bootstrap))
    }
}
