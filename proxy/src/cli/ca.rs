//! `meshgate ca`: a self-signed authority, by hand or as a server, and a look into certificates.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use meshgate_identity::ca::{self, Authority, CertificateSummary, InitOptions, IssueOptions};
use meshgate_identity::{RevocationList, SpiffeId, TrustDomain};
use serde_json::json;

use crate::cli::{Output, fail, print};

mod serve;

/// Options of `meshgate ca`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a new authority: ca.pem, which is the trust bundle, and ca-key.pem
    Init {
        /// Where to put the two files
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The trust domain it signs for
        #[arg(long, default_value = "cluster.local")]
        trust_domain: TrustDomain,
        /// How long it is valid, for example 8760h
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        validity: Option<Duration>,
    },
    /// Issue a certificate for a workload: NAME.pem and NAME-key.pem
    Issue {
        /// Where the authority is
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Whose it is, for example `spiffe://cluster.local/ns/default/sa/frontend`
        #[arg(long)]
        id: SpiffeId,
        /// Where to put the two files; the authority's folder if not given
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Their name; the service account if not given
        #[arg(long)]
        name: Option<String>,
        /// How long it is valid
        #[arg(long, value_parser = duration, default_value = "24h", value_name = "DURATION")]
        validity: Duration,
        /// A DNS name for clients outside of the mesh; may be repeated
        #[arg(long = "dns", value_name = "NAME")]
        dns_names: Vec<String>,
    },
    /// Take certificates back: the next revocation list, ca-crl.pem, with these beside those of the last one
    Revoke {
        /// Where the authority is
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// PEM files; the first certificate of each is revoked
        #[arg(required_unless_present = "serials", value_name = "CERTIFICATE")]
        certificates: Vec<PathBuf>,
        /// A serial number in hexadecimal, as the journal of `meshgate ca serve` has it; may be repeated
        #[arg(long = "serial", value_name = "HEX")]
        serials: Vec<String>,
        /// Until when the next list has to be made
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        validity: Option<Duration>,
    },
    /// Make the next revocation list, ca-crl.pem, with nothing new in it
    Crl {
        /// Where the authority is
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Until when the next list has to be made
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        validity: Option<Duration>,
    },
    /// Sign certificates for workloads that prove who they are, over Istio's protocol
    Serve(Box<serve::Args>),
    /// Say what is in a file of certificates and revocation lists
    Show {
        /// A PEM file
        file: PathBuf,
        /// Text or JSON
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    meshgate_config::duration::parse(text).map_err(|error| error.to_string())
}

pub(super) fn run(args: Args) -> ExitCode {
    let result = match args.action {
        Action::Init { dir, trust_domain, validity } => init(&dir, trust_domain, validity),
        Action::Issue { dir, id, out, name, validity, dns_names } => {
            let options = IssueOptions { id, validity, dns_names };
            issue(&dir, out.as_deref(), name, &options)
        }
        Action::Revoke { dir, certificates, serials, validity } => revoke(&dir, &certificates, &serials, validity),
        Action::Crl { dir, validity } => revoke(&dir, &[], &[], validity),
        Action::Serve(args) => serve::run(*args),
        Action::Show { file, output } => show(&file, output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error),
    }
}

fn init(dir: &Path, trust_domain: TrustDomain, validity: Option<Duration>) -> anyhow::Result<()> {
    let mut options = InitOptions::new(trust_domain);
    options.validity = validity.unwrap_or(options.validity);
    let authority = ca::init(dir, &options)?;
    print(format_args!(
        "wrote {} and {} (the key: keep it secret)\ntrust domain {}, valid until {}",
        dir.join(ca::CERTIFICATE_FILE).display(),
        dir.join(ca::KEY_FILE).display(),
        authority.trust_domain(),
        time(authority.not_after()),
    ))?;
    Ok(())
}

fn issue(dir: &Path, out: Option<&Path>, name: Option<String>, options: &IssueOptions) -> anyhow::Result<()> {
    let authority = Authority::open(dir)?;
    let name = name.or_else(|| options.id.service_account().map(str::to_owned)).unwrap_or_else(|| "workload".into());
    let issued = authority.issue(options)?;
    let files = ca::write_svid(out.unwrap_or(dir), &name, &issued)?;
    print(format_args!("wrote {} and {}\n{}", files.certificate.display(), files.key.display(), options.id))?;
    Ok(())
}

fn revoke(dir: &Path, certificates: &[PathBuf], serials: &[String], validity: Option<Duration>) -> anyhow::Result<()> {
    let validity = validity.unwrap_or(ca::DEFAULT_LIST_VALIDITY);
    let list = Authority::open(dir)?.revoke(dir, certificates, serials, validity)?;
    let (file, until) = (list.file.display(), time(list.next_update));
    print(format_args!("wrote {file}: {} revoked, the next one is due by {until}", list.revoked))?;
    Ok(())
}

fn show(file: &Path, output: Output) -> anyhow::Result<()> {
    let (certificates, lists) = (ca::show(file)?, ca::show_lists(file)?);
    match output {
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

/// RFC 3339, to the second.
fn time(at: SystemTime) -> String {
    crate::access_log::rfc3339(at)
}
