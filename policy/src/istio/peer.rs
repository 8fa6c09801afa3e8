//! PeerAuthentication.

use std::collections::BTreeMap;

use crate::istio::report::Report;
use crate::istio::spec::{ModeSpec, MutualTls, PeerAuthenticationSpec, PortKey};
use crate::istio::{attribute, selector};
use crate::model::{Invalid, ObjectName};
use crate::peer_authentication::{MtlsMode, PeerAuthentication};

/// Gives a PeerAuthentication its meaning.
///
/// One with a selector in the root namespace is valid and without effect, as in Istio; [`lint`](crate::lint) says so.
///
/// # Errors
///
/// Everything for which Istio's admission webhook rejects it.
pub fn peer_authentication(
    name: ObjectName,
    spec: PeerAuthenticationSpec,
    root_namespace: &str,
) -> Result<PeerAuthentication, Vec<Invalid>> {
    let mut report = Report::default();
    let labels = selector::labels(spec.selector.as_ref(), &mut report).unwrap_or_default();
    let empty_selector = spec.selector.is_some() && labels.is_empty();
    let mut ports = BTreeMap::new();
    if let Some(levels) = spec.port_level_mtls {
        if levels.is_empty() {
            report.add("spec.portLevelMtls", "must not be empty; leave it out when no port differs");
        } else if labels.is_empty() {
            report.add("spec.portLevelMtls", "needs a selector with labels");
        }
        for (PortKey(port), level) in levels {
            let path = format!("spec.portLevelMtls[{port}]");
            match attribute::port(&port) {
                Ok(number) if number > 0 => {
                    if ports.insert(number, mode(level)).is_some() {
                        report.add(path, format!("the port {number} is given twice"));
                    }
                }
                _ => report.add(path, "is not a port, 1 to 65535"),
            }
        }
    }
    let mesh_wide = name.namespace == root_namespace;
    report.finish(PeerAuthentication { name, mesh_wide, labels, empty_selector, mode: mode(spec.mtls), ports })
}

/// `None` where the next wider scope decides.
fn mode(mtls: Option<MutualTls>) -> Option<MtlsMode> {
    match mtls?.mode? {
        ModeSpec::Unset => None,
        ModeSpec::Disable => Some(MtlsMode::Disable),
        ModeSpec::Permissive => Some(MtlsMode::Permissive),
        ModeSpec::Strict => Some(MtlsMode::Strict),
    }
}
