//! `meshgate completions`: what a shell needs to complete our command line. Made of what clap knows, so that it is never behind.

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use crate::cli::{command, fail, print_all};

/// Options of `meshgate completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "Examples:
  source <(meshgate completions bash)                                 # this shell only
  meshgate completions bash > /etc/bash_completion.d/meshgate
  meshgate completions zsh > \"${fpath[1]}/_meshgate\"
  meshgate completions fish > ~/.config/fish/completions/meshgate.fish";

pub(super) fn run(args: &Args) -> ExitCode {
    // Into memory first: clap_complete panics when its output is closed, as by `| head`.
    let mut script = Vec::new();
    generate(args.shell, &mut command(), "meshgate", &mut script);
    print_all(&script).map_or_else(fail, |()| ExitCode::SUCCESS)
}
