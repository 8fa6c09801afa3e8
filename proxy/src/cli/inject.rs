//! `meshgate inject`: the sidecar and the init container, put into Kubernetes workloads. YAML or JSON in, the same out.
//!
//! The one idea: the text is changed in place ([`meshgate_config::manifest`]), so that what is not ours keeps every byte; and before anything is
//! printed it is read once more, by another parser, to prove that without our additions it says what it said before (`proof`).
//!
//! It asks nobody anything: whether Secrets and ConfigMaps are there is found out by the kubelet.

mod annotations;
mod edit;
mod object;
mod probes;
mod proof;
mod quantity;
mod refusals;
mod settings;
mod sidecar;
mod sources;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use meshgate_config::manifest::{self, Sheet};
use meshgate_config::{Problem, Severity};

use crate::cli::{NO, complain, fail_with};
use object::Object;

/// Options of `meshgate inject`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Files, or folders of *.yaml, *.yml and *.json; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
    /// Take everything out again
    #[arg(long)]
    uninject: bool,
    /// Run the proxy as a native sidecar: an init container that goes on (Kubernetes 1.29 and later)
    #[arg(long)]
    native_sidecar: bool,
    /// Image of the proxy
    #[arg(long, value_name = "IMAGE", default_value = concat!("meshgate:", env!("CARGO_PKG_VERSION")))]
    proxy_image: String,
    /// Image of the init container, whose entry point is `meshgate iptables`
    #[arg(long, value_name = "IMAGE", default_value = concat!("meshgate-init:", env!("CARGO_PKG_VERSION")))]
    init_image: String,
    /// When the kubelet pulls both images: Always, IfNotPresent, Never [default: the kubelet's own]
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,
    /// Where the proxy learns the pod's name, namespace, service account and labels
    #[arg(long, value_enum, default_value_t = Labels::DownwardApi, value_name = "FROM")]
    labels: Labels,
    /// With --labels literal: the namespace of documents that name none
    #[arg(long, default_value = "default")]
    namespace: String,
    /// Name of the Secret with tls.crt, tls.key and ca.crt; `{serviceAccount}` stands for the pod's
    #[arg(long, value_name = "NAME", default_value = "meshgate-identity-{serviceAccount}")]
    identity_secret: String,
    /// Name of the ConfigMap with the mesh's roots, where certificates come from an authority (`identity.ca`): the pod gets it and a
    /// token to ask with, and no Secret
    #[arg(long, value_name = "NAME", conflicts_with = "identity_secret")]
    roots_config_map: Option<String>,
    /// Name of the ConfigMap with bootstrap.yaml, in the pod's namespace
    #[arg(long, value_name = "NAME", default_value = "meshgate-bootstrap")]
    bootstrap_config_map: String,
    /// Name of the ConfigMap with the resources, in the pod's namespace
    #[arg(long, value_name = "NAME", default_value = "meshgate-resources")]
    resources_config_map: String,
    /// Port of the admin endpoint, which the kubelet's probes reach past the mesh
    #[arg(long, value_name = "PORT", default_value_t = 15021, value_parser = clap::value_parser!(u16).range(1024..))]
    admin_port: u16,
    #[command(flatten)]
    resources: Resources,
}

/// What the proxy's container asks of the node and may use of it. An empty value leaves one out.
#[derive(Debug, clap::Args)]
struct Resources {
    /// CPU that is kept for the proxy
    #[arg(long, value_name = "QUANTITY", default_value = "100m", value_parser = quantity::parse_or_none)]
    cpu_request: String,
    /// Memory that is kept for the proxy
    #[arg(long, value_name = "QUANTITY", default_value = "64Mi", value_parser = quantity::parse_or_none)]
    memory_request: String,
    /// CPU that the proxy may use; it has a worker thread for each whole one
    #[arg(long, value_name = "QUANTITY", default_value = "2", value_parser = quantity::parse_or_none)]
    cpu_limit: String,
    /// Memory that the proxy may use
    #[arg(long, value_name = "QUANTITY", default_value = "1Gi", value_parser = quantity::parse_or_none)]
    memory_limit: String,
}

/// Where the proxy learns what its pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Labels {
    /// From the kubelet
    DownwardApi,
    /// From the document, written out: where there is no kubelet, as with `podman kube play`
    Literal,
}

const EXAMPLES: &str = "Examples:
  meshgate inject deployment.yaml | kubectl apply -f -
  kubectl get deployment web -o yaml | meshgate inject --native-sidecar | kubectl apply -f -
  meshgate inject --uninject deployment.yaml";

/// What was done, for standard error.
#[derive(Debug, Default)]
struct Report {
    problems: Vec<Problem>,
    lines: Vec<String>,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let sources = match sources::read(&args.files) {
        Ok(sources) => sources,
        Err(problems) => return fail_with(&problems),
    };
    let mut report = Report::default();
    let mut output = String::new();
    for source in &sources {
        let text = file(source, args, &mut report);
        join(&mut output, &text);
    }
    for problem in &report.problems {
        let word = if problem.is_error() { "error" } else { "warning" };
        complain(format_args!("{word}: {problem}"));
    }
    if report.problems.iter().any(Problem::is_error) {
        complain("nothing is printed, because a document is refused");
        return ExitCode::from(NO);
    }
    for line in &report.lines {
        complain(line);
    }
    if report.lines.is_empty() {
        complain("note: there is no workload in it that a sidecar could be put into; it is printed as it came");
    }
    crate::cli::print_all(output.as_bytes()).map_or_else(crate::cli::fail, |()| ExitCode::SUCCESS)
}

/// Puts a file's documents behind those of the files before it.
fn join(output: &mut String, text: &str) {
    if !output.is_empty() && !text.is_empty() {
        if !output.ends_with('\n') {
            output.push('\n');
        }
        if !text.starts_with("---") {
            output.push_str("---\n");
        }
    }
    output.push_str(text);
}

/// A file with its workloads changed. What is wrong is in the report.
fn file(source: &sources::Source, args: &Args, report: &mut Report) -> String {
    let mut output = String::new();
    let mut copied = 0;
    for (place, first_line) in manifest::documents(&source.text) {
        let text = source.text.get(place.clone()).unwrap_or_default();
        output.push_str(source.text.get(copied..place.start).unwrap_or_default());
        match document(text, first_line, &source.name, args, report) {
            Ok(changed) => output.push_str(&changed),
            Err(problem) => report.problems.push(problem),
        }
        copied = place.end;
    }
    output.push_str(source.text.get(copied..).unwrap_or_default());
    output
}

fn document(text: &str, line: usize, file: &Path, args: &Args, report: &mut Report) -> Result<String, Problem> {
    let mut sheet = Sheet::new(text, line, file)?;
    for prefix in object::prefixes(&sheet) {
        let Some(object) = Object::new(&sheet, &prefix, file) else { continue };
        let said =
            if args.uninject { taken_out(&mut sheet, &object)? } else { put_in(&mut sheet, &object, args, report)? };
        report.lines.push(format!("{object}: {said}"));
    }
    Ok(sheet.text().to_owned())
}

fn taken_out(sheet: &mut Sheet, object: &Object) -> Result<String, Problem> {
    if !object.is_injected(sheet) {
        return Ok("unchanged, nothing of ours is in it".to_owned());
    }
    let before = sheet.clone();
    edit::take_out(sheet, object)?;
    proof::same_but_for_ours(sheet, &before, object)?;
    Ok("taken out".to_owned())
}

fn put_in(sheet: &mut Sheet, object: &Object, args: &Args, report: &mut Report) -> Result<String, Problem> {
    if let Some(reason) = annotations::opt_out(sheet, object)? {
        return Ok(format!("left as it is: {reason}"));
    }
    let mut clean = sheet.clone();
    if object.is_injected(sheet) {
        edit::take_out(&mut clean, object)?;
        proof::same_but_for_ours(&clean, sheet, object)?;
    }
    let settings = settings::Settings::of(&clean, object, args, report)?;
    refusals::judge(&clean, object, args, report)?;
    let mut injected = clean.clone();
    edit::put_in(&mut injected, object, &settings, args)?;
    proof::same_but_for_ours(&clean, &injected, object)?;
    // What is the same already keeps its bytes, however they came to be arranged.
    if proof::says_the_same(sheet, &injected, object)? {
        return Ok("unchanged, it is injected already".to_owned());
    }
    *sheet = injected;
    Ok(settings.summary(args))
}

impl Report {
    fn warn(&mut self, object: &Object, sheet: &Sheet, path: &str, message: impl Into<String>) {
        self.problems.push(Problem { severity: Severity::Warning, ..object.problem(sheet, path, message) });
    }
}

#[cfg(test)]
mod tests;
