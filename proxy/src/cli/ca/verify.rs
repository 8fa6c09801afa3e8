//! `meshgate ca verify`: whether peers would accept a certificate.

use std::path::PathBuf;
use std::process::ExitCode;

use meshgate_identity::SpiffeId;
use meshgate_identity::ca;
use serde_json::json;

use super::{DIRECTORY, refused};
use crate::cli::{NO, Output, fail, hint, print};

/// Options of `meshgate ca verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A PEM file: the workload's certificate, and those between it and the root
    #[arg(value_name = "CERTIFICATE")]
    certificate: PathBuf,
    /// The trust bundle of those who are to accept it [default: that of the authority in ca]
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// Revocation lists that they have; may be repeated
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// Text or JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn verify(args: &Args) -> ExitCode {
    let own = || PathBuf::from(DIRECTORY).join(ca::CERTIFICATE_FILE);
    let roots = args.roots.clone().unwrap_or_else(own);
    let found = match ca::verify(&args.certificate, &roots, &args.crl) {
        Ok(found) => found,
        Err(error) => return refused(&error.into()),
    };
    let reason = found.as_ref().err().map(ToString::to_string);
    let text = match (args.output, &found, &reason) {
        (Output::Json, _, _) => {
            let id = found.as_ref().ok().map(SpiffeId::as_str);
            json!({ "trusted": found.is_ok(), "spiffeId": id, "reason": reason }).to_string()
        }
        (Output::Text, Ok(id), _) => format!("trusted: {id}"),
        (Output::Text, Err(_), reason) => format!("not trusted: {}", reason.as_deref().unwrap_or_default()),
    };
    if let Err(error) = print(text) {
        return fail(error);
    }
    if found.is_ok() {
        return ExitCode::SUCCESS;
    }
    hint(format_args!("`meshgate ca show {}` says what is in it", args.certificate.display()));
    ExitCode::from(NO)
}
