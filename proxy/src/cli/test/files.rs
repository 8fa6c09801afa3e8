//! Test files: where they are, and what stands in them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use meshgate_config::Problem;
use meshgate_config::source::{Source, Written};
use meshgate_identity::TrustDomain;
use meshgate_policy::normalize::Level;
use meshgate_policy::{CatchAllDeny, SmiMode, Workload};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::expect::Expected;
use crate::case::{Case, Parsed};

const GROUP: &str = "test.meshgate.io";
const VERSION: &str = "test.meshgate.io/v1";
const KIND: &str = "PolicyTest";

/// Folders inside each other; deeper than any that people keep.
const MAX_DEPTH: usize = 32;

/// A PolicyTest, and where it is from.
#[derive(Debug)]
pub(super) struct Test<'a> {
    pub(super) written: Written<'a>,
    pub(super) name: String,
    pub(super) spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    metadata: Metadata,
    spec: Spec,
}

/// What else objects have there is tolerated.
#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

/// What is tested.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    /// Folders and files, relative to the test's own folder.
    pub(super) resources: Option<Places>,
    pub(super) workload: Option<Called>,
    #[serde(default)]
    pub(super) settings: WrittenSettings,
    #[serde(default)]
    pub(super) defaults: Case,
    pub(super) cases: Vec<TestCase>,
}

/// One path or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a path or a list of paths")]
pub(super) enum Places {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

/// The workload that is called: by its name or label among the resources, or described.
#[derive(Debug)]
pub(super) enum Called {
    Named(String),
    Described(Workload),
}

/// What the mesh is set to, where that differs from the defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct WrittenSettings {
    pub(super) trust_domain: Option<Parsed<TrustDomain>>,
    pub(super) trust_domain_aliases: Option<Vec<Parsed<TrustDomain>>>,
    pub(super) root_namespace: Option<String>,
    pub(super) cluster_domain: Option<String>,
    pub(super) catch_all_deny: Option<CatchAllDeny>,
    pub(super) smi: Option<SmiMode>,
    pub(super) path_normalization: Option<Level>,
    pub(super) num_trusted_proxies: Option<u32>,
}

/// One case of a test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestCase {
    pub(super) name: String,
    #[serde(default)]
    pub(super) request: Case,
    pub(super) expect: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
}

/// Reads the files that may have tests in them.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<Source>, Vec<Problem>> {
    let mut files = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        if path.is_dir() {
            problems.extend(walk(path, MAX_DEPTH, &mut files).err());
        } else {
            files.push(path.clone());
        }
    }
    files.sort();
    files.dedup();
    let mut sources = Vec::new();
    for file in files {
        // `.` is where most people start: its files are named without it.
        let shown = file.strip_prefix(".").unwrap_or(&file);
        match Source::open(shown) {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

/// Gathers the YAML files below a folder. Hidden ones are left out, and links to folders are not followed.
fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::error(directory, format!("the folder cannot be read: {error}"));
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() && depth > 0 {
            walk(&path, depth - 1, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") && path.is_file()
        {
            files.push(path);
        }
    }
    Ok(())
}

/// The tests in files; none at all is a mistake, as a suite that vanished must not pass.
pub(super) fn tests(sources: &[Source]) -> Result<Vec<Test<'_>>, Vec<Problem>> {
    let mut tests = Vec::new();
    let mut problems = Vec::new();
    for written in sources.iter().flat_map(Source::documents) {
        match test(written) {
            Ok(found) => tests.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    if tests.is_empty() && problems.is_empty() {
        let message = format!("there is no {KIND} ({VERSION}) in the files looked at");
        problems.push(Problem::error("meshgate test", message));
    }
    if problems.is_empty() { Ok(tests) } else { Err(problems) }
}

fn test(written: Written<'_>) -> Result<Option<Test<'_>>, Problem> {
    let head = match written.parse::<Head>() {
        Ok(head) => head,
        // What cannot be read may have been a test; what never says so is somebody else's.
        Err(problem) if written.mentions(GROUP) || written.mentions(KIND) => return Err(problem),
        Err(_) => return Ok(None),
    };
    let (version, kind) = (head.api_version.unwrap_or_default(), head.kind.unwrap_or_default());
    match (version == VERSION, kind == KIND) {
        (true, true) => {}
        (false, true) => {
            return Err(written.error("apiVersion", format!("`{version}` is not read: expected {VERSION}")));
        }
        (_, false) if version.starts_with(GROUP) => {
            return Err(written.error("kind", format!("`{kind}` is not a kind of {GROUP}: expected {KIND}")));
        }
        (_, false) => return Ok(None),
    }
    let Document { metadata, spec, .. } = written.parse()?;
    if spec.cases.is_empty() {
        return Err(written.error("spec.cases", "there is no case in it"));
    }
    for (index, case) in spec.cases.iter().enumerate() {
        let path = format!("spec.cases[{index}].request");
        case.request.check().map_err(|error| written.error(&format!("{path}.{}", error.field), error.message))?;
    }
    Ok(Some(Test { written, name: metadata.name, spec }))
}

impl Places {
    /// Relative to the folder of the file that names them.
    pub(super) fn resolve(&self, file: &Path) -> Vec<PathBuf> {
        let places = match self {
            Places::One(place) => std::slice::from_ref(place),
            Places::Many(places) => places,
        };
        places.iter().map(|place| folder_of(file).join(place)).collect()
    }
}

/// Where a file lies.
pub(super) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl<'de> Deserialize<'de> for Called {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Called, D::Error> {
        deserializer.deserialize_any(CalledVisitor)
    }
}

struct CalledVisitor;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CalledDocument {
    namespace: Option<String>,
    service_account: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl<'de> Visitor<'de> for CalledVisitor {
    type Value = Called;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("namespace/name, namespace/label=value, or an object with namespace, serviceAccount and labels")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Called, E> {
        Ok(Called::Named(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Called, A::Error> {
        let CalledDocument { namespace, service_account, labels } =
            CalledDocument::deserialize(MapAccessDeserializer::new(map))?;
        let default = || "default".to_owned();
        Ok(Called::Described(Workload {
            namespace: namespace.unwrap_or_else(default),
            service_account: service_account.unwrap_or_else(default),
            labels,
        }))
    }
}
