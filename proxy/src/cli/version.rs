//! `meshgate version`: which build this is, as `GET /version` has it of a running one.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::{Output, fail, print};
use crate::metrics::REVISION;

/// Options of `meshgate version`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Text or JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    let text = match args.output {
        Output::Text => format!("meshgate {version} ({REVISION})"),
        Output::Json => json!({ "version": version, "revision": REVISION }).to_string(),
    };
    print(text).map_or_else(fail, |()| ExitCode::SUCCESS)
}
