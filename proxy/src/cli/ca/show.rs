//! `meshgate ca show`: what is in certificates and revocation lists.

use std::path::{Path, PathBuf};

use meshgate_identity::ca::{self, CertificateSummary};
use meshgate_identity::{RevocationList, SpiffeId};
use serde_json::json;

use super::{presented, time};
use crate::cli::progress::Progress;
use crate::cli::{Output, print};

/// Options of `meshgate ca show`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A PEM file; or a server, as HOST:PORT, to see what it shows there
    #[arg(value_name = "FILE|HOST:PORT")]
    from: PathBuf,
    /// Text or JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const EXAMPLES: &str = "Examples:
  meshgate ca show ca/frontend.pem
  meshgate ca show 127.0.0.1:15006       # what a running proxy shows to callers

What a server shows is read and not believed: `ca verify` checks a file.";

/// What was found, with the number of what follows from it.
pub(super) fn show(args: &Args) -> anyhow::Result<()> {
    let server = args.from.to_str().filter(|_| !args.from.exists()).filter(|text| is_server(text));
    let (certificates, lists) = match server {
        Some(server) => {
            let _progress = Progress::new(format!("asking {server}"));
            (ca::describe(Path::new(server), &presented::by(server)?)?, Vec::new())
        }
        None => (ca::show(&args.from)?, ca::show_lists(&args.from)?),
    };
    match args.output {
        Output::Text => {
            for certificate in &certificates {
                print(certificate)?;
            }
            for list in &lists {
                print(list)?;
            }
        }
        Output::Json => {
            let all: Vec<_> = certificates.iter().map(json_of).chain(lists.iter().map(json_of_list)).collect();
            print(serde_json::to_string_pretty(&all)?)?;
        }
    }
    Ok(())
}

/// `HOST:PORT`; what has a slash in it is a file that is not there.
fn is_server(text: &str) -> bool {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    port.is_some() && !text.contains('/')
}

fn json_of(certificate: &CertificateSummary) -> serde_json::Value {
    json!({
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "spiffeId": certificate.spiffe_id.as_ref().map(SpiffeId::as_str),
        "dnsNames": certificate.dns_names,
        "notBefore": time(certificate.not_before),
        "notAfter": time(certificate.not_after),
        "serial": certificate.serial,
        "fingerprintSha256": certificate.fingerprint,
        "isCa": certificate.is_ca,
        "publicKey": certificate.public_key,
        "keyUsages": certificate.key_usages,
        "extendedKeyUsages": certificate.extended_key_usages,
        "problems": certificate.problems,
    })
}

fn json_of_list(list: &RevocationList) -> serde_json::Value {
    json!({
        "revocationListOf": list.issuer(),
        "thisUpdate": time(list.this_update()),
        "nextUpdate": list.next_update().map(time),
        "revoked": list.revoked(),
    })
}

#[cfg(test)]
mod tests {
    use super::is_server;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        assert!(is_server("127.0.0.1:15006") && is_server("[::1]:443") && is_server("web.example:443"));
        for file in ["web.pem", "a/b:1", "c:", ":1", "web:http", "web:70000"] {
            assert!(!is_server(file), "{file}");
        }
    }
}
