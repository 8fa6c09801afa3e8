//! The application's probes, which the mesh would refuse the kubelet: rewritten so that the kubelet asks the proxy, and put back.
//!
//! The one idea: what stood there is kept in an annotation of the template twice, as what it means and as how it was written. The text
//! goes back where it still means the same; where the document has been laid out anew since (by the API server), what it means does.
//!
//! Not rewritten, with a warning: gRPC, HTTPS, probes of other hosts, hooks, and what runs before the proxy.

use std::collections::BTreeMap;

use meshgate_config::manifest::{CannotEdit, Sheet, Value};
use meshgate_config::{AppProbe, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::annotations::REWRITE_PROBES;
use super::object::Object;
use super::sidecar::{INBOUND_PORT, OUTBOUND_PORT};
use super::{Args, Report};

/// Holds what the rewritten probes were.
pub(super) const PROBES: &str = "meshgate.io/probes";

/// Fields of a container, and how the admin endpoint's paths name them.
const KINDS: [(&str, &str); 3] =
    [("livenessProbe", "livez"), ("readinessProbe", "readyz"), ("startupProbe", "startupz")];

/// What a probe that can be rewritten may consist of: a field that is not known may mean anything.
const FIELDS: [&str; 5] = ["path", "port", "scheme", "host", "httpHeaders"];

/// Bytes of the variable: half of what Linux takes in one.
const VARIABLE_MOST: usize = 64 * 1024;

const REFUSED: &str =
    "comes from the kubelet, in plaintext and with no identity: STRICT mTLS and ALLOW policies refuse it";

/// A probe that is to be rewritten.
#[derive(Debug)]
pub(super) struct Rewrite {
    /// Where it stands.
    place: String,
    /// `httpGet` or `tcpSocket`.
    how: &'static str,
    /// `<container>/<kind>`.
    key: String,
    /// What it means.
    was: Json,
    /// What the proxy is to ask.
    asks: Json,
}

/// What a rewritten probe was.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// One entry, `httpGet` or `tcpSocket`.
    was: Map<String, Json>,
    /// How that entry was written, and at which column it began.
    text: String,
    column: usize,
}

type AllKept = BTreeMap<String, Kept>;

/// Finds what is to be rewritten, and warns of what the mesh refuses.
///
/// # Errors
/// The first probe that cannot be what is meant.
pub(super) fn of(sheet: &Sheet, object: &Object, args: &Args, report: &mut Report) -> Result<Vec<Rewrite>, Problem> {
    let annotation = object.annotation(REWRITE_PROBES);
    let is_wanted = match sheet.scalar(&annotation) {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => {
            let message = format!("`{other}` is neither \"true\" nor \"false\"");
            return Err(object.problem(sheet, &annotation, message));
        }
    };
    let mut found: Vec<Rewrite> = Vec::new();
    // Without a native sidecar there is no proxy yet when init containers run.
    for (list, is_served) in [("containers", is_wanted), ("initContainers", is_wanted && args.native_sidecar)] {
        for (container, name) in object.containers(sheet, list) {
            warn_hooks(sheet, object, &container, report);
            for (field, kind) in KINDS {
                let place = format!("{container}.{field}");
                let Some(how) = how(sheet, object, &place)? else { continue };
                if let Some(reason) = not_rewritten(sheet, object, &place, how, is_served)? {
                    report.warn(object, sheet, &format!("{place}.{how}"), reason);
                    continue;
                }
                let key = format!("{name}/{kind}");
                if found.iter().any(|other| other.key == key) {
                    let message = format!("there is another container `{name}`, with the same probe");
                    return Err(object.problem(sheet, &container, message));
                }
                found.push(rewrite(sheet, object, &container, place, how, key, args)?);
            }
        }
    }
    let path = object.at("spec.containers");
    let variable = variable(&found);
    if variable.len() > VARIABLE_MOST {
        let message = format!("their probes take {} bytes, and may take {VARIABLE_MOST}", variable.len());
        return Err(object.problem(sheet, &path, message));
    }
    AppProbe::read(&variable).map_err(|message| object.problem(sheet, &path, format!("their probes: {message}")))?;
    Ok(found)
}

fn warn_hooks(sheet: &Sheet, object: &Object, container: &str, report: &mut Report) {
    for hook in ["postStart", "preStop"] {
        for how in ["httpGet", "tcpSocket"] {
            let path = format!("{container}.lifecycle.{hook}.{how}");
            if sheet.has(&path) {
                report.warn(object, sheet, &path, format!("{REFUSED}. Hooks are not rewritten; use exec"));
            }
        }
    }
}

/// How a probe asks over the network, if it does.
fn how(sheet: &Sheet, object: &Object, place: &str) -> Result<Option<&'static str>, Problem> {
    let asks = |how: &&str| sheet.has(&format!("{place}.{how}"));
    let mut found = ["httpGet", "tcpSocket", "grpc"].into_iter().filter(asks);
    let first = found.next();
    if found.next().is_some() || (first.is_some() && sheet.has(&format!("{place}.exec"))) {
        return Err(object.problem(sheet, place, "asks in more than one way"));
    }
    Ok(first)
}

/// Why a probe stays as it is.
fn not_rewritten(
    sheet: &Sheet,
    object: &Object,
    place: &str,
    how: &str,
    is_served: bool,
) -> Result<Option<String>, Problem> {
    let scheme = format!("{place}.{how}.scheme");
    let instead = "Use an exec probe, or allow the path without an identity in PERMISSIVE mode";
    let why = match sheet.scalar(&scheme) {
        _ if how == "grpc" => "gRPC probes are not rewritten",
        Some("HTTPS") => "HTTPS probes are not rewritten",
        Some(other) if other != "HTTP" => {
            return Err(object.problem(sheet, &scheme, format!("`{other}` is neither HTTP nor HTTPS")));
        }
        _ if !is_served => "it is not rewritten here",
        _ => {
            let host = sheet.scalar(&format!("{place}.{how}.host")).filter(|host| !host.is_empty());
            return Ok(host.map(|host| format!("goes to {host}, not to the pod: it is not rewritten")));
        }
    };
    Ok(Some(format!("{REFUSED}; {why}. {instead}")))
}

fn rewrite(
    sheet: &Sheet,
    object: &Object,
    container: &str,
    place: String,
    how: &'static str,
    key: String,
    args: &Args,
) -> Result<Rewrite, Problem> {
    let path = format!("{place}.{how}");
    let was = object.json(sheet)?.pointer(&pointer(&path)).cloned().unwrap_or_default();
    let unknown = was.as_object().and_then(|fields| fields.keys().find(|field| !FIELDS.contains(&field.as_str())));
    if let Some(unknown) = unknown {
        return Err(object.problem(sheet, &format!("{path}.{unknown}"), "is no field of a probe"));
    }
    let port = port(sheet, object, container, &format!("{path}.port"), args)?;
    let mut asks = Map::from_iter([("port".to_owned(), port.into())]);
    if how == "httpGet" {
        // The kubelet puts the slash there as well.
        let written = sheet.scalar(&format!("{path}.path")).unwrap_or_default();
        let slash = if written.starts_with('/') { "" } else { "/" };
        asks.insert("path".to_owned(), format!("{slash}{written}").into());
        let field = |index: usize, name: &str| sheet.scalar(&format!("{path}.httpHeaders[{index}].{name}"));
        let header =
            |index| json!({ "name": field(index, "name"), "value": field(index, "value").unwrap_or_default() });
        let headers: Vec<Json> = (0..sheet.length(&format!("{path}.httpHeaders"))).map(header).collect();
        if !headers.is_empty() {
            asks.insert("httpHeaders".to_owned(), headers.into());
        }
    }
    let mut asks = Map::from_iter([(how.to_owned(), Json::Object(asks))]);
    if let Some(seconds) = sheet.scalar(&format!("{place}.timeoutSeconds")) {
        let seconds = sheet.integer(&format!("{place}.timeoutSeconds")).map_or_else(|| seconds.into(), Json::from);
        asks.insert("timeoutSeconds".to_owned(), seconds);
    }
    let asks = Json::Object(asks);
    // What the proxy would refuse is refused here, where it stands.
    let alone = json!({ admin_path(&key): asks }).to_string();
    AppProbe::read(&alone).map_err(|message| object.problem(sheet, &place, message))?;
    Ok(Rewrite { place, how, key, was, asks })
}

/// The number of a port, which may be one of the container's by name.
fn port(sheet: &Sheet, object: &Object, container: &str, path: &str, args: &Args) -> Result<u64, Problem> {
    let Some(written) = sheet.scalar(path) else {
        return Err(object.problem(sheet, path, "there is no port"));
    };
    let field = |index: usize, name: &str| format!("{container}.ports[{index}].{name}");
    let mut ports = 0..sheet.length(&format!("{container}.ports"));
    let named = ports.find(|index| sheet.scalar(&field(*index, "name")) == Some(written));
    let number = match named {
        Some(index) => sheet.integer(&field(index, "containerPort")),
        None => sheet.integer(path),
    };
    let number = number.ok_or_else(|| {
        let message = format!("`{written}` is neither a number nor the name of one of the container's ports");
        object.problem(sheet, path, message)
    })?;
    if [OUTBOUND_PORT, INBOUND_PORT, args.admin_port].map(u64::from).contains(&number) {
        return Err(object.problem(sheet, path, format!("port {number} is the proxy's, not the application's")));
    }
    Ok(number)
}

/// The value of `MESHGATE_APP_PROBES`; `{}` when there is none.
pub(super) fn variable(rewrites: &[Rewrite]) -> String {
    let entries = rewrites.iter().map(|rewrite| (admin_path(&rewrite.key), rewrite.asks.clone()));
    Json::Object(entries.collect()).to_string()
}

fn admin_path(key: &str) -> String {
    format!("/app-health/{key}")
}

/// Rewrites them; gives what is to be kept in the annotation.
pub(super) fn put_in(sheet: &mut Sheet, rewrites: &[Rewrite], args: &Args) -> Result<Option<String>, CannotEdit> {
    let mut all = AllKept::new();
    for Rewrite { place, how, key, was, .. } in rewrites {
        let ours = Value::map([("path", admin_path(key).into()), ("port", args.admin_port.into())]);
        let (text, column) = sheet.exchange(place, how, "httpGet", &ours)?;
        let was = Map::from_iter([((*how).to_owned(), was.clone())]);
        all.insert(key.clone(), Kept { was, text, column });
    }
    // Strings, numbers and what was JSON before can always be written.
    Ok((!all.is_empty()).then(|| serde_json::to_string(&all).unwrap_or_default()))
}

/// Puts back what was there. A probe that is not as it was rewritten is somebody's own, and stays.
///
/// # Errors
/// When the annotation is not as it was put there, or the document is written so that it cannot be changed.
pub(super) fn take_out(sheet: &mut Sheet, object: &Object) -> Result<(), Problem> {
    let path = object.annotation(PROBES);
    let Some(text) = sheet.scalar(&path) else { return Ok(()) };
    let all: AllKept = serde_json::from_str(text)
        .map_err(|error| object.problem(sheet, &path, format!("is not as it was put there: {error}")))?;
    for (key, kept) in all {
        let Some(place) = place(sheet, object, &key) else { continue };
        let pointer = pointer(&place);
        let is_ours = |json: &Json| json.pointer(&pointer).is_some_and(|probe| is_ours(probe, &key));
        if !is_ours(&object.json(sheet)?) {
            continue;
        }
        let mut changed = sheet.clone();
        let fits = changed.exchange_text(&place, "httpGet", &kept.text, kept.column).is_ok()
            && object.json(&changed)?.pointer(&pointer).is_some_and(|probe| says(probe, &kept.was));
        if !fits {
            changed = sheet.clone();
            let Some((how, was)) = kept.was.iter().next() else { continue };
            let put_back = changed.exchange(&place, "httpGet", how, &value(was));
            put_back.map_err(|error| object.problem(sheet, &error.path, error.to_string()))?;
        }
        *sheet = changed;
    }
    sheet.remove(&path).map_err(|error| object.problem(sheet, &error.path, error.to_string()))
}

/// Where the probe of a key stands.
fn place(sheet: &Sheet, object: &Object, key: &str) -> Option<String> {
    let (name, kind) = key.split_once('/')?;
    let (field, _) = KINDS.iter().find(|(_, known)| *known == kind)?;
    let all = ["containers", "initContainers"].map(|list| object.containers(sheet, list));
    let (container, _) = all.into_iter().flatten().find(|(_, other)| other == name)?;
    Some(format!("{container}.{field}"))
}

/// Whether a probe asks what it was rewritten to ask, and nothing else.
fn is_ours(probe: &Json, key: &str) -> bool {
    let Some(get) = probe.get("httpGet").and_then(Json::as_object) else { return false };
    get.len() == 2 && get.get("path") == Some(&admin_path(key).into()) && get.get("port").is_some_and(Json::is_u64)
}

/// Whether a probe asks what it did, and in no other way.
fn says(probe: &Json, was: &Map<String, Json>) -> bool {
    ["httpGet", "tcpSocket", "grpc", "exec"].iter().all(|how| probe.get(how) == was.get(*how))
}

/// For the proof: puts back what was there in what another parser has read of the template, and drops the annotation's value.
pub(super) fn restore(spec: &mut Json, annotation: &Json) {
    let all: Option<AllKept> = annotation.as_str().and_then(|text| serde_json::from_str(text).ok());
    for (key, kept) in all.unwrap_or_default() {
        let Some((name, kind)) = key.split_once('/') else { continue };
        let Some((field, _)) = KINDS.iter().find(|(_, known)| *known == kind) else { continue };
        let container = ["containers", "initContainers"].into_iter().find_map(|list| {
            let containers = spec.get(list)?.as_array()?;
            let index = containers.iter().position(|container| container.get("name").is_some_and(|own| own == name))?;
            Some((list, index))
        });
        let Some((list, index)) = container else { continue };
        let probe =
            spec.get_mut(list).and_then(|list| list.get_mut(index)).and_then(|container| container.get_mut(field));
        if let Some(probe) = probe.filter(|probe| is_ours(probe, &key))
            && let Some(fields) = probe.as_object_mut()
        {
            fields.remove("httpGet");
            fields.extend(kept.was);
        }
    }
}

/// Leaves out of the annotation's value how the probes were written: what they mean is the same however a document is laid out.
pub(super) fn without_texts(annotation: &mut Json) {
    let all: Option<AllKept> = annotation.as_str().and_then(|text| serde_json::from_str(text).ok());
    if let Some(all) = all {
        *annotation = all.into_iter().map(|(key, kept)| (key, Json::Object(kept.was))).collect::<Map<_, _>>().into();
    }
}

/// A path of our own making, as a JSON pointer.
fn pointer(path: &str) -> String {
    path.split(['.', '[', ']']).filter(|step| !step.is_empty()).fold(String::new(), |all, step| all + "/" + step)
}

/// As it is written into a manifest. Nulls are nothing.
fn value(json: &Json) -> Value {
    match json {
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => number.as_u64().map_or_else(|| number.to_string().into(), Value::Number),
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Object(fields) => Value::Map(
            fields
                .iter()
                .filter(|(_, field)| !field.is_null())
                .map(|(key, field)| (key.clone(), value(field)))
                .collect(),
        ),
        Json::Null => Value::Text(String::new()),
    }
}
