//! `MESHGATE_*` variables: the few settings that differ from pod to pod, for the downward API to fill in.

use std::collections::BTreeMap;

use super::app_probes;
use super::document::Raw;
use super::validate::Validator;
use crate::suggest::nearest;

const PREFIX: &str = "MESHGATE_";

/// What `identity.workloadApi` may be for the socket to be the one that SPIFFE's own variable names.
pub(super) const ENDPOINT: &str = "$SPIFFE_ENDPOINT_SOCKET";

/// Says where the bootstrap file is: the command line reads it before there is a bootstrap.
const BOOTSTRAP: &str = "MESHGATE_BOOTSTRAP";

/// Lays the variables over what the file says. Later messages about an overridden field name the variable.
pub(super) fn apply(env: impl IntoIterator<Item = (String, String)>, raw: &mut Raw, validator: &mut Validator<'_>) {
    for (name, value) in env {
        if ENDPOINT.strip_prefix('$') == Some(&name) && raw.identity.workload_api.as_deref() == Some(ENDPOINT) {
            raw.identity.workload_api = Some(value);
            continue;
        }
        if !name.starts_with(PREFIX) || name == BOOTSTRAP || is_service_link(&name, &value) {
            continue;
        }
        let Some((variable, field, set)) = VARIABLES.iter().find(|(variable, ..)| *variable == name) else {
            validator.fail_variable(&name, unknown(&name));
            continue;
        };
        match set(raw, value) {
            Ok(()) => validator.overridden(field, variable),
            Err(message) => validator.fail_variable(variable, message),
        }
    }
}

/// Each variable that overrides a field, and the field.
pub(super) fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    VARIABLES.iter().map(|(variable, field, _)| (*variable, *field))
}

type Set = fn(&mut Raw, String) -> Result<(), String>;

/// Variable, the field it overrides, and how.
const VARIABLES: [(&str, &str, Set); 12] = [
    ("MESHGATE_WORKLOAD_NAME", "workload.name", |raw, value| put(&mut raw.workload.name, value)),
    ("MESHGATE_WORKLOAD_NAMESPACE", "workload.namespace", |raw, value| put(&mut raw.workload.namespace, value)),
    ("MESHGATE_WORKLOAD_SERVICE_ACCOUNT", "workload.serviceAccount", |raw, value| {
        put(&mut raw.workload.service_account, value)
    }),
    ("MESHGATE_WORKLOAD_LABELS", "workload.labels", |raw, value| {
        raw.workload.labels_file = None;
        raw.workload.labels = labels(&value)?;
        Ok(())
    }),
    ("MESHGATE_WORKLOAD_LABELS_FILE", "workload.labelsFile", |raw, value| put(&mut raw.workload.labels_file, value)),
    ("MESHGATE_CLUSTER_KEY", "clusterKey", |raw, value| put(&mut raw.cluster_key, value)),
    ("MESHGATE_TRUST_DOMAIN", "trustDomain", |raw, value| put(&mut raw.trust_domain, value)),
    ("MESHGATE_ADMIN_ADDRESS", "admin.address", |raw, value| put(&mut raw.admin.address, value)),
    ("MESHGATE_APP_PROBES", "appProbes", |raw, value| {
        raw.app_probes = app_probes::from_variable(&value)?;
        Ok(())
    }),
    ("MESHGATE_LOG_LEVEL", "log.level", |raw, value| put(&mut raw.log.level, value)),
    ("MESHGATE_WORKERS", "workers", |raw, value| {
        raw.workers = value.parse().map_err(|_| format!("`{value}` is not a number of worker threads"))?;
        Ok(())
    }),
    ("MESHGATE_RESOURCES_DIRECTORY", "resources.directory", |raw, value| put(&mut raw.resources.directory, value)),
];

// The common shape of `Set` is what makes the table readable.
#[allow(clippy::unnecessary_wraps)]
fn put(field: &mut Option<String>, value: String) -> Result<(), String> {
    *field = Some(value);
    Ok(())
}

/// `app=backend,version=v1`, as kubectl writes them. Neither mark can be in a label.
fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pair = |item: &str| {
        let (key, value) = item.trim().split_once('=').filter(|(key, _)| !key.is_empty())?;
        Some((key.to_owned(), value.to_owned()))
    };
    let items = text.split(',').filter(|item| !item.trim().is_empty());
    items.map(|item| pair(item).ok_or_else(|| format!("`{item}` is not of the form key=value"))).collect()
}

fn unknown(name: &str) -> String {
    let known: Vec<&str> = VARIABLES.iter().map(|(variable, ..)| *variable).collect();
    let suggestion = nearest(name, known.iter().copied()).map(|near| format!(" (did you mean {near}?)"));
    format!("unknown variable, known ones are {}{}", known.join(", "), suggestion.unwrap_or_default())
}

/// A Service whose name begins with `meshgate` makes the kubelet give every pod of its namespace variables such as
/// `MESHGATE_ADMIN_SERVICE_HOST` and `MESHGATE_PORT_80_TCP=tcp://10.0.0.1:80`. They are not ours, and refusing to
/// start over them would take the namespace down.
fn is_service_link(name: &str, value: &str) -> bool {
    let is_link = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.contains("_PORT") && is_link)
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
            name.rsplit_once(protocol).is_some_and(|(before, detail)| {
                before.contains("_PORT_") && matches!(detail, "_PROTO" | "_PORT" | "_ADDR")
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_kubectl_writes_them() {
        let read = labels("app=backend, app.kubernetes.io/part-of=mesh,empty=").unwrap();
        let expected = [("app", "backend"), ("app.kubernetes.io/part-of", "mesh"), ("empty", "")];
        assert!(read.iter().map(|(key, value)| (key.as_str(), value.as_str())).eq(expected), "{read:?}");
        assert!(labels("").unwrap().is_empty());
        for text in ["app", "=x", "app=x,y"] {
            assert!(labels(text).is_err(), "{text}");
        }
    }

    #[test]
    fn service_links_are_told_from_settings() {
        for (name, value) in [
            ("MESHGATE_SERVICE_HOST", "10.0.0.1"),
            ("MESHGATE_SERVICE_PORT", "80"),
            ("MESHGATE_SERVICE_PORT_HTTP", "80"),
            ("MESHGATE_PORT", "tcp://10.0.0.1:80"),
            ("MESHGATE_ADMIN_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("MESHGATE_ADMIN_PORT_80_TCP_PROTO", "tcp"),
            ("MESHGATE_ADMIN_PORT_80_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_service_link(name, value), "{name}");
        }
        for (name, value) in [("MESHGATE_ADMIN_PORT", "15000"), ("MESHGATE_WORKLOAD_NAME", "tcp://x")] {
            assert!(!is_service_link(name, value), "{name}");
        }
    }
}
