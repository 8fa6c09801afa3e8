//! What one workload's sidecar is like: the command line, and over it the template's annotations.

use std::collections::BTreeMap;

use clap::Parser;
use meshgate_config::manifest::Sheet;
use meshgate_config::{Problem, Severity};
use meshgate_iptables::Options;

use super::annotations::{self, FLAGS, RESOURCES, WITHOUT_EFFECT};
use super::object::Object;
use super::probes::{self, Rewrite};
use super::{Args, Report, quantity};
use crate::log;

/// The settings of one workload's sidecar.
#[derive(Debug)]
pub(super) struct Settings {
    /// Flags of `meshgate iptables apply`, which it has read once already.
    pub(super) redirection: Vec<String>,
    pub(super) proxy_image: String,
    pub(super) log_level: Option<String>,
    /// `requests` and `limits`: resource and quantity.
    pub(super) resources: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    /// Whether the application's containers wait for the proxy.
    pub(super) hold: bool,
    pub(super) service_account: String,
    /// The application's probes that the proxy carries out.
    pub(super) probes: Vec<Rewrite>,
}

/// The very options of the init container.
#[derive(Debug, Parser)]
struct Redirection {
    #[command(flatten)]
    options: Options,
}

impl Settings {
    /// What the template and the command line ask for.
    ///
    /// # Errors
    /// The first annotation whose value is no good.
    pub(super) fn of(sheet: &Sheet, object: &Object, args: &Args, report: &mut Report) -> Result<Settings, Problem> {
        let scalar = |key: &str| sheet.scalar(&object.annotation(key)).map(str::to_owned);
        warn(sheet, object, report);
        let service_account = object.service_account(sheet).unwrap_or_else(|| {
            let message = "no service account is stated: the pods get the identity of `default`, which they share with all others \
                that state none; give them their own";
            report.warn(object, sheet, &object.at("spec"), message);
            "default".to_owned()
        });
        Ok(Settings {
            redirection: redirection(sheet, object, args)?,
            proxy_image: scalar(annotations::PROXY_IMAGE).unwrap_or_else(|| args.proxy_image.clone()),
            log_level: log_level(sheet, object)?,
            resources: resources(sheet, object, args)?,
            hold: hold(sheet, object)?,
            service_account,
            probes: probes::of(sheet, object, args, report)?,
        })
    }

    /// What was done, in a line.
    pub(super) fn summary(&self, args: &Args) -> String {
        let how = if args.native_sidecar { "native sidecar" } else { "sidecar" };
        let flags = self.redirection.join(" ");
        let probes = match self.probes.len() {
            0 => String::new(),
            1 => ", 1 probe rewritten".to_owned(),
            more => format!(", {more} probes rewritten"),
        };
        format!("injected ({how}, service account {}, apply {flags}{probes})", self.service_account)
    }
}

fn warn(sheet: &Sheet, object: &Object, report: &mut Report) {
    for (key, _) in sheet.scalars(&object.at("metadata.annotations")) {
        let path = object.annotation(key);
        if let Some((_, instead)) = WITHOUT_EFFECT.iter().find(|(known, _)| *known == key) {
            report.warn(object, sheet, &path, format!("has no effect: {instead}"));
        } else if annotations::is_unknown(key) {
            report.warn(object, sheet, &path, "is not known, and has no effect");
        }
    }
}

/// The init container's flags, each checked for itself, so that the annotation can be named, and then all together.
fn redirection(sheet: &Sheet, object: &Object, args: &Args) -> Result<Vec<String>, Problem> {
    let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    // The kubelet's probes of the proxy come in plaintext, from the node.
    lists.entry("-d").or_default().push(args.admin_port.to_string());
    for (key, flag) in FLAGS {
        let path = object.annotation(key);
        let Some(value) = sheet.scalar(&path) else { continue };
        parse(&[flag.to_owned(), value.to_owned()]).map_err(|why| object.problem(sheet, &path, why))?;
        if !value.trim().is_empty() || matches!(flag, "-b" | "-i") {
            lists.entry(flag).or_default().push(value.trim().to_owned());
        }
    }
    let flags: Vec<String> = lists.into_iter().flat_map(|(flag, lists)| [flag.to_owned(), lists.join(",")]).collect();
    let options = parse(&flags).map_err(|why| object.problem(sheet, &object.at("metadata.annotations"), why))?;
    let contradiction = |error| object.problem(sheet, &object.at("metadata.annotations"), format!("{error}"));
    options.validate().map_err(contradiction)?;
    Ok(flags)
}

fn parse(flags: &[String]) -> Result<Options, String> {
    // The program's name comes first.
    let arguments = std::iter::once("apply").chain(flags.iter().map(String::as_str));
    let parsed = Redirection::try_parse_from(arguments).map_err(|error| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })?;
    Ok(parsed.options)
}

/// A level in our words. Two of Envoy's have another name here.
fn log_level(sheet: &Sheet, object: &Object) -> Result<Option<String>, Problem> {
    let path = object.annotation(annotations::LOG_LEVEL);
    let Some(level) = sheet.scalar(&path) else { return Ok(None) };
    let level = match level {
        "warning" => "warn",
        "critical" => "error",
        other => other,
    };
    log::check(level).map_err(|why| object.problem(sheet, &path, why.to_string()))?;
    Ok(Some(level.to_owned()))
}

type Quantities = BTreeMap<&'static str, BTreeMap<&'static str, String>>;

fn resources(sheet: &Sheet, object: &Object, args: &Args) -> Result<Quantities, Problem> {
    let given = &args.resources;
    let mut found = Quantities::new();
    for (group, resource, quantity) in [
        ("requests", "cpu", &given.cpu_request),
        ("requests", "memory", &given.memory_request),
        ("limits", "cpu", &given.cpu_limit),
        ("limits", "memory", &given.memory_limit),
    ] {
        found.entry(group).or_default().insert(resource, quantity.clone());
    }
    for (key, group, resource) in RESOURCES {
        let path = object.annotation(key);
        let Some(quantity) = sheet.scalar(&path) else { continue };
        let quantity =
            quantity::parse(quantity).map_err(|why| object.problem(sheet, &path, format!("`{quantity}` {why}")))?;
        found.entry(group).or_default().insert(resource, quantity);
    }
    for group in found.values_mut() {
        group.retain(|_, quantity| !quantity.is_empty());
    }
    found.retain(|_, group| !group.is_empty());
    Ok(found)
}

/// `holdApplicationUntilProxyStarts` of Istio's proxy configuration, which is YAML in an annotation. Here it is on unless it says `false`.
fn hold(sheet: &Sheet, object: &Object) -> Result<bool, Problem> {
    let path = object.annotation(annotations::PROXY_CONFIG);
    let Some(text) = sheet.scalar(&path).filter(|text| !text.trim().is_empty()) else { return Ok(true) };
    let wrong = |problem: Problem| object.problem(sheet, &path, format!("is not YAML: {}", problem.message));
    let config = Sheet::new(text, sheet.line(&path), std::path::Path::new("")).map_err(wrong)?;
    let field = "holdApplicationUntilProxyStarts";
    match config.scalar(field) {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(Problem {
            severity: Severity::Error,
            ..object.problem(sheet, &path, format!("{field}: `{other}` is neither true nor false"))
        }),
    }
}
