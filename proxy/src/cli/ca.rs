//! `meshgate ca`: a self-signed authority, by hand or as a server, and a look into certificates.

mod advice;
mod presented;
mod serve;
mod show;
mod verify;
mod whose;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use meshgate_identity::ca::{self, Authority, CaError, Existing, InitOptions, IssueOptions};
use meshgate_identity::{SpiffeId, TrustDomain};
use serde_json::json;

use crate::ca::server::ServeError;
use crate::cli::{Output, complain, fail, fail_advising, print, whole};
use whose::Whose;

/// Where an authority is unless somebody says otherwise.
const DIRECTORY: &str = "ca";

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
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        dir: PathBuf,
        /// The trust domain it signs for
        #[arg(long, default_value = "cluster.local")]
        trust_domain: TrustDomain,
        /// Replace an authority that is there: nothing that it issued is trusted by the new one
        #[arg(long)]
        force: bool,
        /// How long it is valid, for example 8760h [default: 10 years]
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        validity: Option<Duration>,
        /// Text or JSON
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Issue a certificate for a workload: NAME.pem and NAME-key.pem
    Issue {
        /// Where the authority is
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        dir: PathBuf,
        /// Whose it is: NAMESPACE/SERVICE-ACCOUNT, in the authority's trust domain, or a SPIFFE ID
        #[arg(value_name = "WORKLOAD", value_parser = Whose::parse, required_unless_present = "id")]
        workload: Option<Whose>,
        /// Whose it is as a SPIFFE ID, for example `spiffe://cluster.local/ns/default/sa/frontend`
        #[arg(long, conflicts_with = "workload")]
        id: Option<SpiffeId>,
        /// Where to put the two files, a folder, which is made if it is not there [default: the authority's]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Their name [default: the service account]
        #[arg(long)]
        name: Option<String>,
        /// How long it is valid
        #[arg(long, value_parser = duration, default_value = "24h", value_name = "DURATION")]
        validity: Duration,
        /// A DNS name for clients outside of the mesh; may be repeated
        #[arg(long = "dns", value_name = "NAME")]
        dns_names: Vec<String>,
        /// Replace the two files, where they are there
        #[arg(long)]
        force: bool,
        /// Text or JSON
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Take certificates back: the next revocation list, ca-crl.pem, with these beside those of the last one
    Revoke {
        /// Where the authority is
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        dir: PathBuf,
        /// PEM files; the first certificate of each is revoked
        #[arg(required_unless_present = "serials", value_name = "CERTIFICATE")]
        certificates: Vec<PathBuf>,
        /// A serial number in hexadecimal, as the journal of `meshgate ca serve` has it; may be repeated
        #[arg(long = "serial", value_name = "HEX")]
        serials: Vec<String>,
        /// For how long it counts: until then the next list has to be made [default: 720h]
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        validity: Option<Duration>,
        /// Text or JSON
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Make the next revocation list, ca-crl.pem, with nothing new in it
    Crl {
        /// Where the authority is
        #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
        dir: PathBuf,
        /// For how long it counts: until then the next list has to be made [default: 720h]
        #[arg(long, value_parser = duration, value_name = "DURATION")]
        validity: Option<Duration>,
        /// Text or JSON
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Sign certificates for workloads that prove who they are, over Istio's protocol
    Serve(Box<serve::Args>),
    /// Put the roots of several files together as one trust bundle, while an old and a new one count
    Bundle {
        /// PEM files of roots
        #[arg(required = true, value_name = "FILE")]
        roots: Vec<PathBuf>,
        /// The bundle; what is there is replaced in one step
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Text or JSON
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Say what is in a file of certificates and revocation lists, or what a server shows
    #[command(visible_alias = "inspect")]
    Show(show::Args),
    /// Say whether a certificate would be accepted by peers, and if not, why
    Verify(verify::Args),
}

/// What is to be issued.
struct Issue {
    whose: Whose,
    out: Option<PathBuf>,
    name: Option<String>,
    validity: Duration,
    dns_names: Vec<String>,
    existing: Existing,
}

fn duration(text: &str) -> Result<Duration, String> {
    meshgate_config::duration::parse(text).map_err(|error| error.to_string())
}

pub(super) fn run(args: Args) -> ExitCode {
    let existing = |force| if force { Existing::Replace } else { Existing::Keep };
    let result = match args.action {
        Action::Init { dir, trust_domain, force, validity, output } => {
            init(&dir, trust_domain, validity, existing(force), output)
        }
        Action::Issue { dir, workload, id, out, name, validity, dns_names, force, output } => {
            let Some(whose) = workload.or_else(|| id.map(Whose::Id)) else {
                return fail("nothing says whose certificate it is to be");
            };
            issue(&dir, Issue { whose, out, name, validity, dns_names, existing: existing(force) }, output)
        }
        Action::Revoke { dir, certificates, serials, validity, output } => {
            revoke(&dir, (&certificates, &serials), validity, output)
        }
        Action::Crl { dir, validity, output } => revoke(&dir, (&[], &[]), validity, output),
        Action::Bundle { roots, out, output } => bundle(&roots, &out, output),
        Action::Serve(args) => serve::run(*args),
        Action::Show(args) => show::show(&args),
        Action::Verify(args) => return verify::verify(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refused(&error),
    }
}

/// Says what is wrong, and what to do about it.
fn refused(error: &anyhow::Error) -> ExitCode {
    let of_authority = match error.downcast_ref() {
        Some(ServeError::Authority(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    match of_authority.and_then(advice::about) {
        Some(advice) => fail_advising(whole(error), advice),
        None => fail(whole(error)),
    }
}

fn init(
    dir: &Path,
    trust_domain: TrustDomain,
    validity: Option<Duration>,
    existing: Existing,
    output: Output,
) -> anyhow::Result<()> {
    let mut options = InitOptions::new(trust_domain);
    options.validity = validity.unwrap_or(options.validity);
    let authority = ca::init_over(dir, &options, existing)?;
    let (certificate, key) = (dir.join(ca::CERTIFICATE_FILE), dir.join(ca::KEY_FILE));
    let (trust_domain, until) = (authority.trust_domain(), time(authority.not_after()));
    if output == Output::Json {
        let made =
            json!({ "certificate": certificate, "key": key, "trustDomain": trust_domain.as_str(), "notAfter": until });
        return Ok(print(made)?);
    }
    let wanted = if dir == Path::new(DIRECTORY) { String::new() } else { format!(" --dir {}", dir.display()) };
    print(format_args!(
        "wrote {} and {} (the key: keep it secret)\ntrust domain {trust_domain}, valid until {until}\n\n\
        next: meshgate ca issue{wanted} default/frontend    # namespace and service account of a workload\n      \
        {} is the trust bundle to give to every workload (identity.trustBundle)",
        certificate.display(),
        key.display(),
        certificate.display(),
    ))?;
    Ok(())
}

/// The authority in a folder; of a key that is no secret it is said so.
fn opened(dir: &Path) -> anyhow::Result<Authority> {
    let authority = Authority::open(dir)?;
    if let Some(key) = Authority::exposed_key(dir) {
        let key = key.display();
        complain(format_args!(
            "warning: {key} is readable for everybody, and whoever has read it can be anybody in the mesh: chmod 600 {key}"
        ));
    }
    Ok(authority)
}

fn issue(dir: &Path, issue: Issue, output: Output) -> anyhow::Result<()> {
    let authority = opened(dir)?;
    let Issue { whose, out, name, validity, dns_names, existing } = issue;
    if SystemTime::now().checked_add(validity).is_none_or(|until| until > authority.not_after()) {
        complain("note: it is valid for less than was asked for: the authority itself ends before");
    }
    let options = IssueOptions { id: whose.of(authority.trust_domain())?, validity, dns_names };
    let name = name.or_else(|| options.id.service_account().map(str::to_owned)).unwrap_or_else(|| "workload".into());
    let issued = authority.issue(&options)?;
    let out = out.as_deref().unwrap_or(dir);
    std::fs::create_dir_all(out).map_err(|source| CaError::Write { file: out.to_owned(), source })?;
    let files = ca::write_svid_over(out, &name, &issued, existing)?;
    let shown = ca::show(&files.certificate)?;
    let until = shown.first().map(|certificate| time(certificate.not_after)).unwrap_or_default();
    let (certificate, key, id) = (&files.certificate, &files.key, &options.id);
    if output == Output::Json {
        let made = json!({ "certificate": certificate, "key": key, "spiffeId": id.as_str(), "notAfter": until });
        return Ok(print(made)?);
    }
    print(format_args!(
        "wrote {} and {}\n{id}, valid until {until}\n\nnext: meshgate ca show {}    # what is in it\n      \
        in the bootstrap: identity: {{certificate: {}, key: {}, trustBundle: {}}}",
        certificate.display(),
        key.display(),
        certificate.display(),
        certificate.display(),
        key.display(),
        dir.join(ca::CERTIFICATE_FILE).display(),
    ))?;
    Ok(())
}

fn revoke(
    dir: &Path,
    (certificates, serials): (&[PathBuf], &[String]),
    validity: Option<Duration>,
    output: Output,
) -> anyhow::Result<()> {
    let validity = validity.unwrap_or(ca::DEFAULT_LIST_VALIDITY);
    let list = opened(dir)?.revoke(dir, certificates, serials, validity)?;
    let (file, until) = (&list.file, time(list.next_update));
    if output == Output::Json {
        return Ok(print(json!({ "list": file, "revoked": list.revoked, "nextUpdate": until }))?);
    }
    print(format_args!("wrote {}: {} revoked, the next one is due by {until}", file.display(), list.revoked))?;
    Ok(())
}

fn bundle(roots: &[PathBuf], out: &Path, output: Output) -> anyhow::Result<()> {
    let count = ca::write_bundle(roots, out)?;
    if output == Output::Json {
        return Ok(print(json!({ "bundle": out, "roots": count }))?);
    }
    print(format_args!("wrote {}: {count} root{}", out.display(), if count == 1 { "" } else { "s" }))?;
    Ok(())
}

/// RFC 3339, to the second.
fn time(at: SystemTime) -> String {
    crate::access_log::rfc3339(at)
}
