//! TrafficSplit as it is written, in each of its versions: what a document can say by itself.

use meshgate_policy::Invalid;
use serde::Deserialize;

use crate::document::Document;
use crate::resource::Key;

/// Weights are quantities in v1alpha1, and matches came with v1alpha3.
const WITH_QUANTITIES: &str = "split.smi-spec.io/v1alpha1";
/// See [`WITH_QUANTITIES`].
const WITHOUT_MATCHES: [&str; 2] = [WITH_QUANTITIES, "split.smi-spec.io/v1alpha2"];
/// Where routes are from.
const ROUTES: &str = "specs.smi-spec.io";

/// A TrafficSplit, checked, and not yet held against services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrafficSplit {
    pub(crate) root: Reference,
    /// HTTPRouteGroups of its namespace; `None` = every request.
    pub(crate) groups: Option<Vec<String>>,
    pub(crate) backends: Vec<Backend>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) service: Reference,
    /// In thousandths where the version has quantities.
    pub(crate) weight: u32,
}

/// A Service of the split's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    name: String,
    /// As written behind `svc.`.
    domain: Option<String>,
}

impl Reference {
    /// The Service's name; one in another DNS domain than the cluster's keeps it, and so is none that exists.
    pub(crate) fn service(&self, cluster_domain: &str) -> String {
        match &self.domain {
            Some(domain) if domain != cluster_domain => format!("{}.svc.{domain}", self.name),
            _ => self.name.clone(),
        }
    }
}

/// `spec` of a TrafficSplit as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitSpec {
    service: String,
    matches: Option<Vec<MatchSpec>>,
    #[serde(default)]
    backends: Vec<BackendSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MatchSpec {
    api_group: Option<String>,
    #[serde(rename = "kind")]
    _kind: MatchKind,
    name: String,
}

#[derive(Deserialize)]
enum MatchKind {
    #[serde(rename = "HTTPRouteGroup")]
    HttpRouteGroup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendSpec {
    service: String,
    /// A number, or a quantity such as `500m`.
    weight: String,
}

impl Document<SplitSpec> {
    /// Gives the document its meaning.
    ///
    /// # Errors
    /// Everything that is wrong with it: a Service of another namespace, no backend, one that is there twice, weights that are none
    /// or all 0, an empty list of matches, or matches in a version that has none.
    pub(crate) fn build(self, key: &Key) -> Result<TrafficSplit, Vec<Invalid>> {
        let mut invalid = Vec::new();
        let mut check = |path: String, result: Result<Reference, String>| {
            result.map_err(|message| invalid.push(Invalid { path, message })).ok()
        };
        let SplitSpec { service, matches, backends } = self.spec;
        let root = check("spec.service".to_owned(), reference(&service, &key.namespace));
        let mut built: Vec<Backend> = Vec::with_capacity(backends.len());
        for (index, backend) in backends.iter().enumerate() {
            let at = format!("spec.backends[{index}]");
            let service = check(format!("{at}.service"), reference(&backend.service, &key.namespace));
            let weight = match weight(&backend.weight, self.api_version == WITH_QUANTITIES) {
                Ok(weight) => weight,
                Err(message) => {
                    check(format!("{at}.weight"), Err(message));
                    continue;
                }
            };
            let Some(service) = service else { continue };
            if built.iter().any(|other| other.service.name == service.name) {
                check(format!("{at}.service"), Err(format!("{} is a backend already", service.name)));
            }
            built.push(Backend { service, weight });
        }
        if backends.is_empty() {
            check("spec.backends".to_owned(), Err("must name at least one Service".to_owned()));
        } else if built.len() == backends.len() && built.iter().all(|backend| backend.weight == 0) {
            check("spec.backends".to_owned(), Err("every weight is 0: nobody would serve a request".to_owned()));
        }
        let groups = match groups(matches, &self.api_version) {
            Ok(groups) => groups,
            Err((path, message)) => {
                check(path, Err(message));
                None
            }
        };
        match root {
            Some(root) if invalid.is_empty() => Ok(TrafficSplit { root, groups, backends: built }),
            _ => Err(invalid),
        }
    }
}

fn groups(matches: Option<Vec<MatchSpec>>, api_version: &str) -> Result<Option<Vec<String>>, (String, String)> {
    let Some(matches) = matches else { return Ok(None) };
    let fail = |path: &str, message: String| Err((path.to_owned(), message));
    if WITHOUT_MATCHES.contains(&api_version) {
        return fail("spec.matches", format!("is not a field of {api_version}: it came with v1alpha3"));
    }
    if matches.is_empty() {
        return fail("spec.matches", "must not be empty; leave it out for every request".to_owned());
    }
    for (index, one) in matches.iter().enumerate() {
        if let Some(group) = one.api_group.as_deref().filter(|group| ![ROUTES, ""].contains(group)) {
            return fail(&format!("spec.matches[{index}].apiGroup"), format!("`{group}` is not {ROUTES}"));
        }
    }
    Ok(Some(matches.into_iter().map(|one| one.name).collect()))
}

/// `name`, `name.namespace`, `name.namespace.svc` or `name.namespace.svc.<domain>`, in lower case as a Service's name is.
fn reference(text: &str, namespace: &str) -> Result<Reference, String> {
    let written = text.strip_suffix('.').unwrap_or(text);
    let mut parts = written.splitn(4, '.');
    let name = parts.next().filter(|name| !name.is_empty()).ok_or("must not be empty")?;
    match (parts.next(), parts.next(), parts.next()) {
        (Some(other), ..) if other != namespace => {
            Err(format!("`{text}` is in another namespace: a TrafficSplit is about Services of its own, {namespace}"))
        }
        (_, None, _) => Ok(Reference { name: name.to_owned(), domain: None }),
        (_, Some("svc"), domain) => Ok(Reference { name: name.to_owned(), domain: domain.map(str::to_owned) }),
        _ => Err(format!("`{text}` is not the name of a Service: expected `name` or `name.{namespace}.svc.<domain>`")),
    }
}

/// A whole number; where quantities are written, one with up to three decimals or thousandths (`500m`), in thousandths.
fn weight(text: &str, quantity: bool) -> Result<u32, String> {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    if !quantity {
        return number(text).ok_or_else(|| format!("`{text}` is not a weight: expected a whole number, 0 or more"));
    }
    let thousandths = || {
        if let Some(thousandths) = text.strip_suffix('m') {
            return number(thousandths);
        }
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let decimals = number(&format!("{decimals:0<3}")).filter(|_| (1..=3).contains(&decimals.len()))?;
        number(whole)?.checked_mul(1000)?.checked_add(decimals)
    };
    thousandths().ok_or_else(|| format!("`{text}` is not a weight: expected a quantity such as 1, 0.5 or 500m"))
}
