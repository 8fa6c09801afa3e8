//! A set of policies, once for both sides.

use serde_json::{Value, json};

/// Where the workload lives.
pub(crate) const NAMESPACE: &str = "default";
/// Policies there are for every namespace.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";
/// The workload's label `app`.
pub(crate) const APP: &str = "backend";

/// An AuthorizationPolicy.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Evaluated and reported, never enforced.
    pub(crate) dry_run: bool,
    pub(crate) spec: Value,
}

impl Document {
    /// One of the workload's own namespace. `spec` is YAML's JSON subset, or what `json!` gives.
    pub(crate) fn new(name: &str, spec: Value) -> Self {
        Self { namespace: NAMESPACE.to_owned(), name: name.to_owned(), dry_run: false, spec }
    }

    /// ALLOW, DENY or AUDIT.
    pub(crate) fn action(&self) -> &str {
        self.spec["action"].as_str().unwrap_or("ALLOW")
    }

    /// The rules as written.
    pub(crate) fn rules(&self) -> &[Value] {
        self.spec["rules"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Whether it is for the workload: its namespace, or the root; all of its labels; not for a gateway.
    pub(crate) fn applies(&self) -> bool {
        let labels = self.spec["selector"]["matchLabels"].as_object();
        let selected = labels.is_none_or(|labels| labels.iter().all(|(key, value)| key == "app" && value == APP));
        let here = self.namespace == NAMESPACE || self.namespace == ROOT_NAMESPACE;
        here && selected && self.spec.get("targetRefs").is_none()
    }

    fn object(&self) -> Value {
        let mut object = json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"namespace": self.namespace, "name": self.name},
            "spec": self.spec,
        });
        if self.dry_run {
            object["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
        }
        object
    }
}

/// The name of the one extension provider.
pub(crate) const PROVIDER: &str = "sso";

/// The `jwtRules` of a RequestAuthentication for the workload, each with its keys in it.
#[derive(Clone, Debug)]
pub(crate) struct Authentication(pub(crate) Value);

impl Authentication {
    fn object(rules: &Value) -> Value {
        json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "RequestAuthentication",
            "metadata": {"namespace": NAMESPACE, "name": "tokens"},
            "spec": {"selector": {"matchLabels": {"app": APP}}, "jwtRules": rules},
        })
    }
}

/// The names that documents of a set may have.
pub(crate) const NAMES: [&str; 4] = ["p0", "p1", "p2", "p3"];
/// The namespaces that documents of a set may be in.
pub(crate) const NAMESPACES: [&str; 3] = [NAMESPACE, ROOT_NAMESPACE, "other"];

/// A resource file with these policies. Every file has the same objects, so that one file after the other comes into force
/// in one step: a name without a policy is one that does nothing. One of them is another in every file, because a change
/// that changes nothing would not be noticed.
pub(crate) fn resources(documents: &[Document], authentication: Option<&Authentication>, marker: usize) -> String {
    let names = NAMESPACES.iter().flat_map(|namespace| NAMES.iter().map(move |name| (*namespace, *name)));
    let missing =
        names.filter(|name| !documents.iter().any(|document| (&*document.namespace, &*document.name) == *name));
    let nothing = |(namespace, name): (&str, &str)| idle(namespace, name, 0);
    let all = documents.iter().cloned().chain(missing.map(nothing)).chain([idle(NAMESPACE, "marker", marker)]);
    let tokens = authentication.map(|Authentication(rules)| Authentication::object(rules));
    let texts: Vec<_> = all.map(|document| document.object()).chain(tokens).map(|object| object.to_string()).collect();
    texts.join("\n---\n")
}

fn idle(namespace: &str, name: &str, marker: usize) -> Document {
    let spec = json!({
        "selector": {"matchLabels": {"app": "nobody"}},
        "action": "AUDIT",
        "rules": [{"to": [{"operation": {"paths": [format!("/marker/{marker}")]}}]}],
    });
    Document { namespace: namespace.to_owned(), ..Document::new(name, spec) }
}
