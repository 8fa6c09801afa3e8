//! The containers and volumes that are put in, and why each field of them is as it is.

use meshgate_config::manifest::{Sheet, Value};

use super::object::Object;
use super::settings::Settings;
use super::{Args, Labels, probes};

/// The init container that redirects the pod's traffic.
pub(super) const INIT: &str = "meshgate-init";
/// The proxy.
pub(super) const PROXY: &str = "meshgate-proxy";
/// Our volumes.
pub(super) const VOLUMES: [&str; 4] = [BOOTSTRAP, RESOURCES, IDENTITY, POD];
const BOOTSTRAP: &str = "meshgate-bootstrap";
const RESOURCES: &str = "meshgate-resources";
const IDENTITY: &str = "meshgate-identity";
const POD: &str = "meshgate-pod";

/// The proxy's user and group: the one that the image has and the redirection exempts.
pub(super) const UID: u32 = 1337;
/// The proxy's listeners, as `meshgate iptables` has them by default.
pub(super) const OUTBOUND_PORT: u16 = 15001;
pub(super) const INBOUND_PORT: u16 = 15006;

/// Where the four volumes are mounted. Siblings: a volume inside a read-only one cannot be mounted everywhere.
const BOOTSTRAP_DIR: &str = "/etc/meshgate";
const RESOURCES_DIR: &str = "/var/lib/meshgate/resources";
const IDENTITY_DIR: &str = "/var/lib/meshgate/identity";
const POD_DIR: &str = "/var/lib/meshgate/pod";

/// Where the proxy looks for the token that it proves itself to an authority with (`identity.ca.tokenFile`): Istio's place, name and audience.
const TOKEN_DIR: &str = "/var/run/secrets/tokens";
const TOKEN: &str = "istio-token";
const TOKEN_AUDIENCE: &str = "istio-ca";
/// Seconds: half a day, as Istio's injector has it. The kubelet writes a new one when four fifths of it are over.
const TOKEN_LIFE: u32 = 12 * 60 * 60;

/// Where xtables, which some nodes' kernels need, keeps its lock: the one place that can be written under a read-only root.
const XTABLES_LOCK: &str = "/dev/shm/xtables.lock";

/// How long the application is held back for the proxy, at most. The kubelet then starts the container anew.
const WAIT: &str = "60s";

/// The container that redirects. Root with two capabilities and nothing else, for as long as it runs.
pub(super) fn init(settings: &Settings, args: &Args) -> Value {
    let mut container = image(INIT, &args.init_image, args);
    let flags = std::iter::once("apply".to_owned()).chain(settings.redirection.iter().cloned());
    container.push(("args".to_owned(), Value::from(flags.collect::<Vec<_>>())));
    container.push(("env".to_owned(), Value::List(vec![literal("XTABLES_LOCKFILE", XTABLES_LOCK)])));
    // Said in full, for pods whose own security context says otherwise.
    let security = Value::map([
        ("allowPrivilegeEscalation", false.into()),
        ("capabilities", Value::map([("add", vec!["NET_ADMIN", "NET_RAW"].into()), ("drop", vec!["ALL"].into())])),
        ("privileged", false.into()),
        ("readOnlyRootFilesystem", true.into()),
        ("runAsGroup", 0u32.into()),
        ("runAsNonRoot", false.into()),
        ("runAsUser", 0u32.into()),
        ("seccompProfile", Value::map([("type", "RuntimeDefault".into())])),
    ]);
    container.push(("securityContext".to_owned(), security));
    let resources = Value::map([
        ("limits", Value::map([("cpu", "100m".into()), ("memory", "64Mi".into())])),
        ("requests", Value::map([("cpu", "10m".into()), ("memory", "16Mi".into())])),
    ]);
    container.push(("resources".to_owned(), resources));
    Value::Map(container)
}

/// The proxy's container, or init container.
pub(super) fn proxy(sheet: &Sheet, object: &Object, settings: &Settings, args: &Args) -> Value {
    let mut container = image(PROXY, &settings.proxy_image, args);
    if args.native_sidecar {
        container.push(("restartPolicy".to_owned(), "Always".into()));
    }
    container.push(("args".to_owned(), vec!["run", "--bootstrap", "/etc/meshgate/bootstrap.yaml"].into()));
    container.push(("env".to_owned(), Value::List(environment(sheet, object, settings, args))));
    let port = |name: &str, port: u16| Value::map([("name", name.into()), ("containerPort", port.into())]);
    let ports = vec![port("mesh-admin", args.admin_port), port("mesh-inbound", INBOUND_PORT)];
    container.push(("ports".to_owned(), Value::List(ports)));
    container.extend(own_probes(args));
    if settings.hold && !args.native_sidecar {
        // The kubelet starts the next container when this has returned.
        let wait = Value::from(vec!["/usr/local/bin/meshgate", "wait", "--timeout", WAIT]);
        let after_start = Value::map([("exec", Value::map([("command", wait)]))]);
        container.push(("lifecycle".to_owned(), Value::map([("postStart", after_start)])));
    }
    if !settings.resources.is_empty() {
        let quantities = |group: &std::collections::BTreeMap<&str, String>| {
            Value::Map(
                group.iter().map(|(resource, quantity)| ((*resource).to_owned(), quantity.clone().into())).collect(),
            )
        };
        let groups = settings.resources.iter().map(|(group, found)| ((*group).to_owned(), quantities(found)));
        container.push(("resources".to_owned(), Value::Map(groups.collect())));
    }
    let security = Value::map([
        ("allowPrivilegeEscalation", false.into()),
        ("capabilities", Value::map([("drop", vec!["ALL"].into())])),
        ("privileged", false.into()),
        ("readOnlyRootFilesystem", true.into()),
        ("runAsGroup", UID.into()),
        ("runAsNonRoot", true.into()),
        ("runAsUser", UID.into()),
        ("seccompProfile", Value::map([("type", "RuntimeDefault".into())])),
    ]);
    container.push(("securityContext".to_owned(), security));
    container.push(("volumeMounts".to_owned(), Value::List(mounts(args))));
    Value::Map(container)
}

fn image(name: &str, image: &str, args: &Args) -> Vec<(String, Value)> {
    let mut container = vec![("name".to_owned(), name.into()), ("image".to_owned(), image.into())];
    if let Some(policy) = &args.image_pull_policy {
        container.push(("imagePullPolicy".to_owned(), policy.as_str().into()));
    }
    container
}

fn literal(name: &str, value: &str) -> Value {
    Value::map([("name", name.into()), ("value", value.into())])
}

fn from_field(name: &str, field: &str) -> Value {
    let source = Value::map([("fieldRef", Value::map([("fieldPath", field.into())]))]);
    Value::map([("name", name.into()), ("valueFrom", source)])
}

/// What differs from pod to pod, so that all share one bootstrap.
fn environment(sheet: &Sheet, object: &Object, settings: &Settings, args: &Args) -> Vec<Value> {
    let mut environment = vec![from_field("MESHGATE_WORKLOAD_NAME", "metadata.name")];
    match args.labels {
        Labels::DownwardApi => environment.extend([
            from_field("MESHGATE_WORKLOAD_NAMESPACE", "metadata.namespace"),
            from_field("MESHGATE_WORKLOAD_SERVICE_ACCOUNT", "spec.serviceAccountName"),
            literal("MESHGATE_WORKLOAD_LABELS_FILE", &format!("{POD_DIR}/labels")),
        ]),
        Labels::Literal => {
            let labels = sheet.scalars(&object.at("metadata.labels"));
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            environment.extend([
                literal("MESHGATE_WORKLOAD_NAMESPACE", object.namespace.as_deref().unwrap_or(&args.namespace)),
                literal("MESHGATE_WORKLOAD_SERVICE_ACCOUNT", &settings.service_account),
                literal("MESHGATE_WORKLOAD_LABELS", &labels.join(",")),
            ]);
        }
    }
    environment.push(literal("MESHGATE_RESOURCES_DIRECTORY", RESOURCES_DIR));
    // Every address, because the kubelet probes the pod's; what is not for everybody is refused to whoever is not on this machine.
    environment.push(literal("MESHGATE_ADMIN_ADDRESS", &format!("0.0.0.0:{}", args.admin_port)));
    if !settings.probes.is_empty() {
        environment.push(literal("MESHGATE_APP_PROBES", &probes::variable(&settings.probes)));
    }
    if let Some(level) = &settings.log_level {
        environment.push(literal("MESHGATE_LOG_LEVEL", level));
    }
    environment
}

/// Istio's figures: ready is looked at every 15 s, and a start may take ten minutes (a Secret that is not there yet).
fn own_probes(args: &Args) -> Vec<(String, Value)> {
    let get = |path: &str| Value::map([("path", path.into()), ("port", args.admin_port.into())]);
    let probe = |path: &str, period: u32, failures: u32| {
        Value::map([
            ("httpGet", get(path)),
            ("periodSeconds", period.into()),
            ("timeoutSeconds", 3u32.into()),
            ("failureThreshold", failures.into()),
        ])
    };
    vec![
        ("startupProbe".to_owned(), probe("/healthz/ready", 1, 600)),
        ("readinessProbe".to_owned(), probe("/healthz/ready", 15, 4)),
        ("livenessProbe".to_owned(), probe("/live", 10, 6)),
    ]
}

fn mounts(args: &Args) -> Vec<Value> {
    let mount = |name: &str, path: &str| {
        Value::map([("name", name.into()), ("mountPath", path.into()), ("readOnly", true.into())])
    };
    let mut mounts =
        vec![mount(BOOTSTRAP, BOOTSTRAP_DIR), mount(RESOURCES, RESOURCES_DIR), mount(IDENTITY, IDENTITY_DIR)];
    if args.roots_config_map.is_some() {
        mounts.push(mount(IDENTITY, TOKEN_DIR));
    }
    if args.labels == Labels::DownwardApi {
        mounts.push(mount(POD, POD_DIR));
    }
    mounts
}

/// Our volumes, the last one first: each is put before the others.
pub(super) fn volumes(settings: &Settings, args: &Args) -> Vec<Value> {
    let config_map = |volume: &str, name: &str| {
        // Not optional is the default; podman 4.3 wants it said.
        let source = Value::map([("name", name.into()), ("optional", false.into())]);
        Value::map([("name", volume.into()), ("configMap", source)])
    };
    let mut volumes = vec![
        config_map(BOOTSTRAP, &args.bootstrap_config_map),
        config_map(RESOURCES, &args.resources_config_map),
        identity(settings, args),
    ];
    if args.labels == Labels::DownwardApi {
        let field = Value::map([("fieldPath", "metadata.labels".into())]);
        let items = Value::List(vec![Value::map([("path", "labels".into()), ("fieldRef", field)])]);
        volumes.push(Value::map([("name", POD.into()), ("downwardAPI", Value::map([("items", items)]))]));
    }
    volumes
}

/// The certificate and its key; or what it takes to get them from an authority: a token, and the roots that it is told by.
fn identity(settings: &Settings, args: &Args) -> Value {
    let Some(roots) = &args.roots_config_map else {
        let secret = args.identity_secret.replace("{serviceAccount}", &settings.service_account);
        let secret = Value::map([("secretName", secret.into()), ("optional", false.into())]);
        return Value::map([("name", IDENTITY.into()), ("secret", secret)]);
    };
    let token = Value::map([
        ("path", TOKEN.into()),
        ("audience", TOKEN_AUDIENCE.into()),
        ("expirationSeconds", TOKEN_LIFE.into()),
    ]);
    let roots = Value::map([("name", roots.as_str().into()), ("optional", false.into())]);
    let sources = vec![Value::map([("serviceAccountToken", token)]), Value::map([("configMap", roots)])];
    Value::map([("name", IDENTITY.into()), ("projected", Value::map([("sources", Value::List(sources))]))])
}
