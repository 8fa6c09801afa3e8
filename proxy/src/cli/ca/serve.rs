//! `meshgate ca serve`: the authority as a server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meshgate_config::{LogFormat, LogSettings};

use super::{DIRECTORY, duration};
use crate::ca::server::{self, Settings, TokenSettings};
use crate::cli::{Output, print};
use crate::{descriptors, log, runtime};

/// Options of `meshgate ca serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the authority is that `meshgate ca init` has made
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    dir: PathBuf,
    /// Where to listen; istiod's port is 15012
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:15012")]
    listen: SocketAddr,
    /// Where /ready, /live and /metrics are, in the clear; nowhere if not given
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// A DNS name that callers know this authority by; may be repeated
    #[arg(long = "dns", value_name = "NAME", required = true)]
    dns_names: Vec<String>,
    /// The keys (JWK Set) that Kubernetes signs service accounts' tokens with; without, only certificates are a proof
    #[arg(long, value_name = "FILE", requires = "token_issuer")]
    token_jwks: Option<PathBuf>,
    /// Who signs the tokens: their `iss`
    #[arg(long, value_name = "ISSUER", requires = "token_jwks", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    token_issuer: Option<String>,
    /// Whom the tokens are for: one of their `aud`
    #[arg(long, value_name = "AUDIENCE", default_value = "istio-ca", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    token_audience: String,
    /// How long certificates are valid, unless less is asked for
    #[arg(long, value_name = "DURATION", value_parser = positive, default_value = "24h")]
    max_ttl: Duration,
    /// How long they are valid at the least, whatever is asked for
    #[arg(long, value_name = "DURATION", value_parser = positive, default_value = "10m")]
    min_ttl: Duration,
    /// Where a line is written for each certificate; issued.jsonl in the authority's folder if not given
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Certificates a second for one identity; ten times as many may come at once
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    identity_rate: u32,
    /// Certificates a second for all; ten times as many may come at once
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Connections at once
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Connections at once from one address
    #[arg(long, value_name = "NUMBER", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    connections_per_address: u32,
    /// For a handshake, and for a request to come
    #[arg(long, value_name = "DURATION", value_parser = positive, default_value = "10s")]
    timeout: Duration,
    /// How long a connection may be open without a call
    #[arg(long, value_name = "DURATION", value_parser = positive, default_value = "60s")]
    idle: Duration,
    /// What is logged: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
    /// A line of text, or an object of JSON for each
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    log_format: Output,
}

fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be greater than zero".to_owned()),
        duration => Ok(duration),
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.max_ttl.as_secs() > 0, "--max-ttl: a certificate is valid for whole seconds, one at least");
    anyhow::ensure!(args.min_ttl <= args.max_ttl, "--max-ttl is less than --min-ttl");
    let format = match args.log_format {
        Output::Text => LogFormat::Text,
        Output::Json => LogFormat::Json,
    };
    let settings = LogSettings { level: args.log_level, format };
    log::start(&settings).map_err(|error| anyhow::anyhow!("--log-level: {error}"))?;
    let journal = args.journal.unwrap_or_else(|| server::default_journal(&args.dir));
    let tokens = args.token_jwks.zip(args.token_issuer);
    let settings = Settings {
        dir: args.dir,
        listen: args.listen,
        admin: args.admin,
        dns_names: args.dns_names,
        tokens: tokens.map(|(jwks, issuer)| TokenSettings { jwks, issuer, audience: args.token_audience }),
        max_ttl: args.max_ttl,
        min_ttl: args.min_ttl,
        journal,
        identity_rate: args.identity_rate,
        rate: args.rate,
        connections: descriptors::fit(args.connections as usize, descriptors::raise()),
        connections_per_address: args.connections_per_address as usize,
        timeout: args.timeout,
        idle: args.idle,
    };
    let runtime = runtime::local()?;
    let served = runtime.block_on(server::run(settings, |address| {
        // Nobody who would have to hear it has to be there.
        let _ = print(format_args!("listening on {address}"));
    }));
    runtime.shutdown_background();
    Ok(served?)
}
