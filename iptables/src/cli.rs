//! The `meshgate iptables` subcommand, for the binary to embed.
//!
//! Results go to the given output, what was noticed on the way to standard error. Exit status: 0 done, or as it should be;
//! 1 `check` found a difference; 2 an error; `validate` has more, see `docs/iptables.md`.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::alone::Alone;
use crate::apply;
use crate::backend::Choice;
use crate::check::check;
use crate::clean::clean;
use crate::error::Error;
use crate::nft::nft;
use crate::options::Options;
use crate::report;
use crate::restore::restore;
use crate::rules::{Family, RuleSet, rules};
use crate::session::Wanted;
use crate::system::Machine;
use crate::validate::{self, Probed};
pub use crate::validate::{INBOUND, NOT_REDIRECTED, OUTBOUND};

/// Redirects a workload's traffic to the proxy.
#[derive(Debug, Clone, Args)]
pub struct IptablesCommand {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What `meshgate iptables` can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Print the rules, without applying them
    Print(Print),
    /// Load the rules into this network namespace, in place of earlier ones
    Apply(Apply),
    /// Remove all that was ever applied here
    Clean(Clean),
    /// Compare what is loaded with what the options ask for
    Check(Check),
    /// Prove by real connections that the redirection acts, before the proxy runs
    Validate(Validate),
    /// Make one of the connections of `validate`
    #[command(hide = true)]
    Probe(Probe),
}

/// The arguments of `meshgate iptables print`.
#[derive(Debug, Clone, Args)]
pub struct Print {
    /// The tool to print for
    #[arg(long, value_enum, default_value_t = Format::Iptables)]
    pub format: Format,

    /// What to redirect.
    #[command(flatten)]
    pub options: Options,
}

/// The arguments of `meshgate iptables apply`.
#[derive(Debug, Clone, Args)]
pub struct Apply {
    /// How to get into the kernel
    #[arg(long, value_enum, default_value_t, value_name = "BACKEND")]
    pub backend: Choice,

    /// Say what would change, and change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// Prove afterwards that the redirection acts, as `validate` does
    #[arg(long, visible_alias = "run-validation")]
    pub validate: bool,

    /// How that is proved.
    #[command(flatten)]
    pub probing: Probing,

    /// Work in the machine's own network namespace as well: every process of the machine is captured
    #[arg(long)]
    pub allow_host_network: bool,

    /// How the tools are run.
    #[command(flatten)]
    pub tooling: Tooling,

    /// Text or JSON
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// What to redirect.
    #[command(flatten)]
    pub options: Options,
}

/// The arguments of `meshgate iptables clean`.
#[derive(Debug, Clone, Args)]
pub struct Clean {
    /// How the tools are run.
    #[command(flatten)]
    pub tooling: Tooling,

    /// Text or JSON
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// The arguments of `meshgate iptables check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Where the rules should be
    #[arg(long, value_enum, default_value_t, value_name = "BACKEND")]
    pub backend: Choice,

    /// How the tools are run.
    #[command(flatten)]
    pub tooling: Tooling,

    /// Text or JSON
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// What should be redirected.
    #[command(flatten)]
    pub options: Options,
}

/// The arguments of `meshgate iptables validate`.
#[derive(Debug, Clone, Args)]
pub struct Validate {
    /// How it is proved.
    #[command(flatten)]
    pub probing: Probing,

    /// Text or JSON
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// What should be redirected.
    #[command(flatten)]
    pub options: Options,
}

/// How the redirection is proved.
#[derive(Debug, Clone, Args)]
pub struct Probing {
    /// The port that the probes connect to
    #[arg(long, visible_alias = "iptables-probe-port", value_name = "PORT", default_value_t = DEFAULT_PROBE_PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub probe_port: u16,

    /// How long each probe may take
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_PROBE_SECONDS, value_parser = clap::value_parser!(u32).range(1..=MAX_SECONDS))]
    pub probe_timeout: u32,
}

/// The arguments of `meshgate iptables probe`.
#[derive(Debug, Clone, Args)]
pub struct Probe {
    /// Where the connection should arrive
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where it is sent
    #[arg(long)]
    pub to: SocketAddr,
    /// How long it may take, in seconds
    #[arg(long)]
    pub timeout: u32,
}

/// How the firewall tools are run.
#[derive(Debug, Clone, Args)]
pub struct Tooling {
    /// How long to wait for others that change rules in this namespace
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_LOCK_SECONDS, value_parser = clap::value_parser!(u32).range(1..=MAX_SECONDS))]
    pub lock_timeout: u32,

    /// How long each run of a tool may take, beside the wait for others
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TOOL_SECONDS, value_parser = clap::value_parser!(u32).range(1..=MAX_SECONDS))]
    pub tool_timeout: u32,
}

impl Tooling {
    fn machine(&self) -> Machine {
        Machine::new(Duration::from_secs(u64::from(self.lock_timeout) + u64::from(self.tool_timeout)))
    }

    fn alone(&self) -> Result<Alone, Error> {
        Alone::wait(Duration::from_secs(self.lock_timeout.into()))
    }
}

impl From<&Probing> for validate::Probing {
    fn from(probing: &Probing) -> Self {
        Self { port: probing.probe_port, timeout: Duration::from_secs(probing.probe_timeout.into()) }
    }
}

/// How what was done or found is printed. Without a short flag: `-o` is istio-iptables'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For machines
    Json,
}

/// The firewall tool that the text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// iptables-restore --noflush: IPv4
    Iptables,
    /// ip6tables-restore --noflush: IPv6; nothing when that is off
    Ip6tables,
    /// nft, one transaction for both families
    Nft,
}

/// Carries out the command, writing to `out`, and gives the exit status.
///
/// # Errors
/// Options that contradict each other, before anything is written or changed; what a tool or the kernel refuses; or `out`'s
/// own failure.
pub fn run(command: &IptablesCommand, out: &mut impl Write) -> Result<u8, Error> {
    let status = match &command.action {
        Action::Print(print) => run_print(print, out)?,
        Action::Apply(apply) => run_apply(apply, out)?,
        Action::Clean(clean) => run_clean(clean, out)?,
        Action::Check(check) => run_check(check, out)?,
        Action::Validate(validate) => run_validate(validate, out)?,
        Action::Probe(probe) => {
            validate::run_probe(probe.listen, probe.to, Duration::from_secs(probe.timeout.into()), out)?
        }
    };
    out.flush()?;
    Ok(status)
}

fn run_print(print: &Print, out: &mut impl Write) -> Result<u8, Error> {
    let rules = rules(&print.options)?;
    let text = match print.format {
        Format::Iptables => of_family(&rules, Family::V4),
        Format::Ip6tables => of_family(&rules, Family::V6),
        Format::Nft => nft(&rules),
    };
    out.write_all(text.as_bytes())?;
    Ok(0)
}

/// One restore command's input, with the command itself in a comment. A text for both families would be loaded by neither.
fn of_family(rules: &RuleSet, family: Family) -> String {
    if !rules.families().contains(&family) {
        return String::new();
    }
    let command = match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    format!("# {command} --noflush\n{}", restore(rules, family))
}

fn run_apply(args: &Apply, out: &mut impl Write) -> Result<u8, Error> {
    let machine = args.tooling.machine();
    let wanted = Wanted::settle(&machine, &args.options)?;
    let _alone = args.tooling.alone()?;
    let request = apply::Request {
        backend: args.backend,
        lock_seconds: args.tooling.lock_timeout,
        dry_run: args.dry_run,
        allow_host_network: args.allow_host_network,
    };
    let applied = apply::apply(&machine, &wanted, request)?;
    if args.output == Output::Text {
        report::applied(&applied, &args.options, args.dry_run, out)?;
    }
    let is_probed = args.validate && !args.dry_run;
    let (status, probes) = match is_probed {
        true => probe_all(&machine, &args.options, &applied.rules, &args.probing, args.output, out),
        false => (Ok(0), Vec::new()),
    };
    if args.output == Output::Json {
        report::applied_document(&applied, args.dry_run, is_probed.then_some(&probes), out)?;
    }
    status
}

fn run_clean(clean_args: &Clean, out: &mut impl Write) -> Result<u8, Error> {
    let Clean { tooling, output } = clean_args;
    let _alone = tooling.alone()?;
    report::cleaned(&clean(&tooling.machine(), tooling.lock_timeout)?, *output, out)?;
    Ok(0)
}

fn run_check(args: &Check, out: &mut impl Write) -> Result<u8, Error> {
    let machine = args.tooling.machine();
    let wanted = Wanted::settle(&machine, &args.options)?;
    let checked = check(&machine, &wanted, args.backend, args.tooling.lock_timeout)?;
    report::checked(&checked, args.output, out)?;
    Ok(if checked.difference.is_empty() { 0 } else { DIFFERENT })
}

fn run_validate(args: &Validate, out: &mut impl Write) -> Result<u8, Error> {
    let Validate { probing, options, output } = args;
    // Its one program is itself, which has a limit of its own for each probe.
    let machine = Machine::new(Duration::from_secs(4 * u64::from(probing.probe_timeout) + 1));
    let wanted = Wanted::settle(&machine, options)?;
    let (status, probes) = probe_all(&machine, options, &wanted.rules, probing, *output, out);
    if *output == Output::Json {
        report::probes_document(&probes, out)?;
    }
    status
}

/// Probes; text is written as it goes, and what was found is given for the rest.
fn probe_all(
    machine: &Machine,
    options: &Options,
    rules: &RuleSet,
    probing: &Probing,
    output: Output,
    out: &mut impl Write,
) -> (Result<u8, Error>, Vec<Probed>) {
    let mut probes = Vec::new();
    let mut tell = |probed: Probed| {
        let told = if output == Output::Text { report::probed(&probed, out) } else { Ok(()) };
        probes.push(probed);
        told
    };
    let status = validate::validate(machine, options, rules, probing.into(), &mut tell);
    (status, probes)
}

/// The status of `check` when it found a difference.
pub const DIFFERENT: u8 = 1;

/// A neighbour that changes thousands of rules is done by then; an init container that waits longer is taken for hung.
const DEFAULT_LOCK_SECONDS: u32 = 5;
/// Far longer than loading our few rules takes, with a module to load and a slow disk.
const DEFAULT_TOOL_SECONDS: u32 = 30;
/// Istio's.
const DEFAULT_PROBE_PORT: u16 = 15002;
/// Istio's; a connection within the machine takes no time at all.
const DEFAULT_PROBE_SECONDS: u32 = 5;
/// An hour is as good as for ever.
const MAX_SECONDS: i64 = 3600;
