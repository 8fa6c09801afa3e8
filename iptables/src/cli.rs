//! The `meshgate iptables` subcommand, for the binary to embed.
//!
//! It prints what the redirection is. It changes nothing: the output is for reading, for review, and for the tools
//! whose input it is.

use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};

use crate::error::Error;
use crate::nft::nft;
use crate::options::Options;
use crate::restore::restore;
use crate::rules::{Family, RuleSet, rules};

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

/// Carries out the command, writing to `out`.
///
/// # Errors
/// Options that contradict each other, before a byte is written; or `out`'s own failure.
pub fn run(command: &IptablesCommand, out: &mut impl Write) -> Result<(), Error> {
    let Action::Print(print) = &command.action;
    let rules = rules(&print.options)?;
    let text = match print.format {
        Format::Iptables => of_family(&rules, Family::V4),
        Format::Ip6tables => of_family(&rules, Family::V6),
        Format::Nft => nft(&rules),
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
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
