//! `meshgate import`: what other clusters export, as the ServiceImports that this cluster needs.
//!
//! The one idea: whether an export is read from files or told by a gateway, it is the same list ([`Exported`]); lists are merged
//! into one ServiceImport a service, and the result depends on nothing but them.

mod files;
mod live;
mod merge;
mod target;
mod text;

use std::process::ExitCode;

use meshgate_config::source::Source;
use meshgate_config::{Bootstrap, ClusterKey};
use meshgate_policy::Settings;
use serde_json::{Value, json};

use crate::cli::progress::Progress;
use crate::cli::{NO, Output, Perspective, complain, fail, print, whole};
use crate::clusters::wire::Exported;
use crate::runtime;
use target::{FromFiles, FromGateway, HostPort};

/// Options of `meshgate import`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    perspective: Perspective,
    /// An exporting cluster: its key, the folder of its Services and ServiceExports, and where its gateway is; may be repeated
    #[arg(long = "cluster", value_name = "KEY=DIR,HOST:PORT")]
    clusters: Vec<FromFiles>,
    /// A gateway to ask, with the identity of --bootstrap; KEY may be left out for one that the bootstrap names; may be repeated
    #[arg(long, value_name = "[KEY=]HOST:PORT", requires = "bootstrap")]
    from_gateway: Vec<FromGateway>,
    /// With --resources: the exporting cluster's key
    #[arg(long, value_name = "KEY", requires_all = ["resources", "gateway_host", "gateway_port"])]
    cluster_key: Option<ClusterKey>,
    /// With --resources: where the exporting cluster's gateway is
    #[arg(long, value_name = "HOST", requires = "cluster_key")]
    gateway_host: Option<String>,
    /// With --resources: the gateway's port
    #[arg(long, value_name = "PORT", requires = "cluster_key")]
    gateway_port: Option<u16>,
    /// The importing cluster's key: exports for other clusters are left out [default: the bootstrap's]
    #[arg(long = "for", value_name = "KEY")]
    importer: Option<ClusterKey>,
    /// Do not look up host names: leave `ip` out
    #[arg(long)]
    no_resolve: bool,
    /// Text, which is YAML, or JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

const EXAMPLES: &str = "Examples:
  meshgate import --resources cluster-1/ --cluster-key default/default/default/cluster-1 \\
      --gateway-host 192.168.1.110 --gateway-port 15443
  meshgate import --for default/default/default/cluster-2 \\
      --cluster default/default/default/cluster-1=cluster-1/,192.168.1.110:81 \\
      --cluster default/default/default/cluster-3=cluster-3/,192.168.1.110:83
  meshgate import --bootstrap sidecar.yaml --from-gateway default/default/default/cluster-1=gateway.example:15443";

/// One cluster's list, and where its gateway is.
#[derive(Debug)]
struct Offer {
    cluster: ClusterKey,
    exported: Exported,
    gateway: HostPort,
}

/// What was left out, a line each, and whether the input is no good at all.
#[derive(Debug, Default)]
struct Complaints {
    left_out: Vec<String>,
    /// Printed, and no reason for another exit status.
    notes: Vec<String>,
}

pub(super) fn run(args: Args) -> ExitCode {
    match import(args) {
        Ok(status) => status,
        Err(error) => fail(whole(&error)),
    }
}

fn import(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        perspective,
        mut clusters,
        from_gateway,
        cluster_key,
        gateway_host,
        gateway_port,
        importer,
        no_resolve,
        output,
    } = args;
    let (settings, bootstrap) = match perspective.settings() {
        Ok(settings) => settings,
        Err(status) => return Ok(status),
    };
    if let (Some(key), Some(directory), Some(host), Some(port)) =
        (cluster_key, perspective.resources, gateway_host, gateway_port)
    {
        clusters.push(FromFiles { key, directory, gateway: HostPort { host, port } });
    }
    let importer = importer.or_else(|| bootstrap.as_ref().map(|bootstrap| bootstrap.cluster_key.clone()));
    let mut complaints = Complaints::default();
    let mut offers = from_files(clusters, &settings, importer.as_ref(), &mut complaints)?;
    if let Some(bootstrap) = &bootstrap {
        offers.extend(from_gateways(from_gateway, bootstrap)?);
    }
    anyhow::ensure!(
        !offers.is_empty(),
        "nothing to import from: give --cluster, or --from-gateway, or --resources with --cluster-key, --gateway-host and --gateway-port"
    );
    offers.sort_by(|one, other| one.cluster.cmp(&other.cluster));
    if let Some(twice) =
        offers.windows(2).find_map(|pair| (pair.first()?.cluster == pair.last()?.cluster).then(|| pair.first())?)
    {
        anyhow::bail!("cluster {} is there twice", twice.cluster);
    }
    // Nobody imports from itself, so that one command line serves all clusters.
    offers.retain(|offer| importer.as_ref() != Some(&offer.cluster));
    let imports = merge::merge(&offers, &mut complaints);
    let resolved = if no_resolve { Vec::new() } else { target::resolve(&offers, &mut complaints) };
    complaints.notes.iter().for_each(|note| complain(format_args!("warning: {note}")));
    complaints.left_out.iter().for_each(|line| complain(format_args!("left out: {line}")));
    let all: Vec<_> = imports.iter().map(|import| text::yaml(import, &resolved)).collect();
    match output {
        Output::Json => print(format_args!("{:#}", list(&all)?))?,
        Output::Text if all.is_empty() => {}
        Output::Text => print(all.join("---\n").trim_end())?,
    }
    Ok(if complaints.left_out.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

/// All of them as `kubectl` takes them: what was written as YAML, read once more, so that both are the same.
fn list(imports: &[String]) -> anyhow::Result<Value> {
    let read = |text: &String| -> anyhow::Result<Vec<Value>> {
        let source = Source::read("the import", text.as_bytes()).map_err(|problem| anyhow::anyhow!("{problem}"))?;
        let documents = source.documents().into_iter().map(|document| document.parse());
        documents.collect::<Result<_, _>>().map_err(|problem| anyhow::anyhow!("{problem}"))
    };
    let items: Vec<Value> = imports.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?.concat();
    Ok(json!({ "apiVersion": "v1", "kind": "List", "items": items }))
}

fn from_files(
    clusters: Vec<FromFiles>,
    settings: &Settings,
    importer: Option<&ClusterKey>,
    complaints: &mut Complaints,
) -> anyhow::Result<Vec<Offer>> {
    let read = |from: FromFiles| {
        let exported = files::exported(&from, settings, importer, complaints)?;
        Ok(Offer { cluster: from.key, exported, gateway: from.gateway })
    };
    clusters.into_iter().map(read).collect()
}

fn from_gateways(gateways: Vec<FromGateway>, bootstrap: &Bootstrap) -> anyhow::Result<Vec<Offer>> {
    if gateways.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = runtime::local()?;
    let _progress = Progress::new("asking gateways");
    let asking = |from: FromGateway| {
        let (cluster, exported) = runtime.block_on(live::ask(&from, bootstrap))?;
        Ok(Offer { cluster, exported, gateway: from.gateway })
    };
    gateways.into_iter().map(asking).collect()
}

#[cfg(test)]
mod tests;
