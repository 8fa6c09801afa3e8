//! `meshgate run`: the proxy itself.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::app::{App, StartError};
use crate::cli::status::BROKE;
use crate::cli::{fail, fail_with, load_bootstrap};
use crate::{descriptors, log};

/// Options of `meshgate run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The bootstrap file
    #[arg(long, value_name = "FILE", env = "MESHGATE_BOOTSTRAP")]
    bootstrap: PathBuf,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mut bootstrap = match load_bootstrap(&args.bootstrap) {
        Ok(bootstrap) => bootstrap,
        Err(problems) => return fail_with(&problems),
    };
    if let Err(error) = log::start(&bootstrap.log) {
        return fail(format_args!("{}: log.level: {error}", args.bootstrap.display()));
    }
    bootstrap.limits.connections = descriptors::fit(bootstrap.limits.connections, descriptors::raise());
    match App::open(bootstrap).and_then(App::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ StartError::Broke(_)) => {
            fail(error);
            ExitCode::from(BROKE)
        }
        Err(error) => fail(error),
    }
}
