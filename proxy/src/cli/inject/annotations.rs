//! What a pod template asks for by labels and annotations: Istio's and Linkerd's names, where they mean the same here.

use meshgate_config::Problem;
use meshgate_config::manifest::Sheet;

use super::object::Object;

/// Annotations that become flags of `meshgate iptables`. Where two give one flag, their lists are put together.
pub(super) const FLAGS: [(&str, &str); 13] = [
    ("traffic.sidecar.istio.io/includeInboundPorts", "-b"),
    ("traffic.sidecar.istio.io/excludeInboundPorts", "-d"),
    ("config.linkerd.io/skip-inbound-ports", "-d"),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", "-i"),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "-x"),
    ("traffic.sidecar.istio.io/includeOutboundPorts", "-q"),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "-o"),
    ("config.linkerd.io/skip-outbound-ports", "-o"),
    ("traffic.sidecar.istio.io/excludeInterfaces", "-c"),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", "-k"),
    ("istio.io/reroute-virtual-interfaces", "-k"),
    ("config.linkerd.io/skip-subnets", "--subnets-to-ignore"),
    ("config.linkerd.io/subnets-to-ignore", "--subnets-to-ignore"),
];

/// Other annotations that have an effect.
pub(super) const PROXY_IMAGE: &str = "sidecar.istio.io/proxyImage";
pub(super) const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
/// As Istio: on unless it says "false".
pub(super) const REWRITE_PROBES: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
pub(super) const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// The container that `kubectl logs` and `kubectl exec` mean.
pub(super) const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
const INJECT: &str = "sidecar.istio.io/inject";
const LINKERD_INJECT: &str = "linkerd.io/inject";

/// Resources of the proxy: annotations of both meshes, and what they set.
pub(super) const RESOURCES: [(&str, &str, &str); 8] = [
    ("sidecar.istio.io/proxyCPU", "requests", "cpu"),
    ("config.linkerd.io/proxy-cpu-request", "requests", "cpu"),
    ("sidecar.istio.io/proxyMemory", "requests", "memory"),
    ("config.linkerd.io/proxy-memory-request", "requests", "memory"),
    ("sidecar.istio.io/proxyCPULimit", "limits", "cpu"),
    ("config.linkerd.io/proxy-cpu-limit", "limits", "cpu"),
    ("sidecar.istio.io/proxyMemoryLimit", "limits", "memory"),
    ("config.linkerd.io/proxy-memory-limit", "limits", "memory"),
];

/// Annotations that ask for something that is not done: what to do instead.
pub(super) const WITHOUT_EFFECT: [(&str, &str); 3] = [
    (
        "config.linkerd.io/opaque-ports",
        "give the Service's port `appProtocol: tcp`, or list the ports under detection.opaquePorts in the bootstrap",
    ),
    ("config.linkerd.io/proxy-image", "use --proxy-image, or the annotation sidecar.istio.io/proxyImage"),
    ("config.linkerd.io/default-inbound-policy", "write a PeerAuthentication and AuthorizationPolicies"),
];

/// Why the workload does not want to be in the mesh.
pub(super) fn opt_out(sheet: &Sheet, object: &Object) -> Result<Option<String>, Problem> {
    // A label counts for more than an annotation, as with Istio.
    for place in ["labels", "annotations"] {
        let path = object.at(&format!("metadata.{place}[{INJECT}]"));
        match sheet.scalar(&path) {
            None => {}
            Some("false") => return Ok(Some(format!("its {place} say {INJECT}: \"false\""))),
            Some("true") => return Ok(None),
            Some(other) => {
                return Err(object.problem(sheet, &path, format!("`{other}` is neither \"true\" nor \"false\"")));
            }
        }
    }
    let path = object.annotation(LINKERD_INJECT);
    match sheet.scalar(&path) {
        Some("disabled") => Ok(Some(format!("its annotations say {LINKERD_INJECT}: disabled"))),
        None | Some("enabled" | "ingress") => Ok(None),
        Some(other) => Err(object.problem(sheet, &path, format!("`{other}` is none of enabled, disabled, ingress"))),
    }
}

/// Whether an annotation of Istio's redirection is one that is not known here: it may ask for something that matters.
pub(super) fn is_unknown(key: &str) -> bool {
    key.starts_with("traffic.sidecar.istio.io/") && !FLAGS.iter().any(|(known, _)| *known == key)
}
