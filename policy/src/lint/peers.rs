//! PeerAuthentications without effect, or with more than they seem to have.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{About, Lint, PEER_EMPTY_SELECTOR, PEER_SCOPE_TAKEN, PEER_SELECTOR_IN_ROOT};
use crate::model::ObjectName;
use crate::peer_authentication::{PeerAuthentication, PeerScope};

pub(super) fn lints(peer_authentications: &[Arc<PeerAuthentication>]) -> Vec<Lint> {
    let mut sorted: Vec<_> = peer_authentications.iter().collect();
    sorted.sort_by_key(|object| &object.name);
    let mut first_of: BTreeMap<PeerScope<'_>, &ObjectName> = BTreeMap::new();
    let mut lints = Vec::new();
    for object in sorted {
        if object.empty_selector {
            let message = "a selector without labels makes this the rule of the whole namespace (of the mesh, in the root \
                           namespace); leave it out if that is meant";
            lints.push(Lint {
                code: PEER_EMPTY_SELECTOR,
                about: About::PeerAuthentication,
                policy: object.name.clone(),
                message: message.to_owned(),
            });
        }
        let (code, message) = match (object.scope(), first_of.get(&object.scope())) {
            (PeerScope::Nobody, _) => {
                let message = "is ignored: in the root namespace a PeerAuthentication with a selector counts for nobody; \
                               move it to the namespace of its workloads";
                (PEER_SELECTOR_IN_ROOT, message.to_owned())
            }
            (_, Some(first)) => {
                (PEER_SCOPE_TAKEN, format!("is ignored: {first} is for the same workloads and comes first"))
            }
            (scope, None) => {
                first_of.insert(scope, &object.name);
                continue;
            }
        };
        lints.push(Lint { code, about: About::PeerAuthentication, policy: object.name.clone(), message });
    }
    lints
}
