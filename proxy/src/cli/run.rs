//! `meshgate run`: the proxy itself.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use meshgate_config::Bootstrap;
use meshgate_identity::IdentityError;

use crate::app::{self, StartError};
use crate::cli::status::BROKE;
use crate::cli::{fail, fail_advising, fail_with, load_bootstrap};
use crate::{descriptors, log};

/// Options of `meshgate run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The bootstrap file
    #[arg(long, value_name = "FILE", env = "MESHGATE_BOOTSTRAP")]
    bootstrap: PathBuf,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let path = args.bootstrap.clone();
    match app::run(move || bootstrap(path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Config(problems)) => fail_with(&problems),
        Err(error @ StartError::Broke(_)) => {
            fail(error);
            ExitCode::from(BROKE)
        }
        Err(error) => match advice(&error) {
            Some(advice) => fail_advising(error, advice),
            None => fail(error),
        },
    }
}

/// What the file says, with a log of its level and no more connections than there are descriptors for.
fn bootstrap(path: PathBuf) -> Result<Bootstrap, StartError> {
    let mut bootstrap = load_bootstrap(&path).map_err(StartError::Config)?;
    log::start(&bootstrap.log).map_err(|level| StartError::Log { path, field: level_field(), level })?;
    bootstrap.limits.connections = descriptors::fit(bootstrap.limits.connections, descriptors::raise());
    Ok(bootstrap)
}

/// What says the log's level: the bootstrap's field, or the variable that stands above it.
fn level_field() -> &'static str {
    const FIELD: &str = "log.level";
    let set = |(variable, field): &(&str, &str)| *field == FIELD && std::env::var_os(variable).is_some();
    Bootstrap::variables().find(set).map_or(FIELD, |(variable, _)| variable)
}

/// What to do about it, where that is not the operating system's to say.
fn advice(error: &StartError) -> Option<String> {
    use IdentityError::{Expired, KeyMismatch, NotSvid, NotYetValid, Read, Untrusted, WrongWorkload};
    let shown = |file: &Path| format!("`meshgate ca show {}` says what is in it", file.display());
    match error {
        StartError::Bind { source, address, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(format!(
            "ports below 1024, as {}, take the capability NET_BIND_SERVICE; one above takes none",
            address.port()
        )),
        StartError::Identity(
            Expired { file, .. } | NotYetValid { file, .. } | NotSvid { file, .. } | WrongWorkload { file, .. },
        ) => Some(shown(file)),
        StartError::Identity(Untrusted { file, bundle, .. }) => Some(format!(
            "`meshgate ca verify {} --roots {}` looks again once either is replaced",
            file.display(),
            bundle.display()
        )),
        StartError::Identity(Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Some(
            "its name in the bootstrap starts at the bootstrap's folder; `meshgate ca init` and `meshgate ca issue` make identities for trying out"
                .to_owned(),
        ),
        StartError::Identity(KeyMismatch { certificate, .. }) => {
            Some(format!("both must be of one issue; {}", shown(certificate)))
        }
        _ => None,
    }
}
