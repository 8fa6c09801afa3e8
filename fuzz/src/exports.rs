//! What a gateway of another cluster says it exports: bytes from a peer that is who it says it is, and may be anything else.

use std::collections::BTreeSet;

use meshgate::clusters::{Lines, List};
use meshgate_config::GatewayAddress;

/// Bytes of a line at the most, fewer than there really may be: a fuzzer's input is short.
const LINE_MAX: usize = 4096;

/// The first byte says in pieces of how many bytes the rest arrives.
pub fn exports(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = cut(stream.chunks(stream.len().max(1)));
    let pieces = cut(stream.chunks(usize::from(*size).max(1)));
    // A line that is too long may be noticed earlier or later, and nothing that comes after it is heard.
    let heard = whole.len().min(pieces.len());
    assert_eq!(whole.get(..heard), pieces.get(..heard), "however it is cut it has the same lines");
    let gateway = GatewayAddress {
        cluster: "default/default/default/cluster-1".parse().expect("a key"),
        host: "gateway.example".into(),
        ip: None,
        port: 15443,
        identity: "spiffe://cluster.local/ns/meshgate-system/sa/meshgate-gateway".parse().expect("an ID"),
    };
    for line in pieces {
        assert!(line.len() <= LINE_MAX);
        match List::read(&line, &gateway) {
            Ok(None) => assert!(line.trim_ascii().is_empty()),
            Ok(Some(list)) => keeps_its_promises(&list),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut lines = Lines::new(LINE_MAX);
    pieces.map_while(|piece| lines.push(piece).ok()).flatten().collect()
}

fn keeps_its_promises(list: &List) {
    let said = &list.discovered;
    assert_eq!(said.trust_domain.as_str(), "cluster.local");
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['/', ':']);
    let mut authorities = BTreeSet::new();
    for export in &said.exports {
        let (name, namespace) = (&export.service.name, &export.service.namespace);
        assert!(is_plain(name) && is_plain(namespace) && !format!("{name}{namespace}").contains('.'));
        assert!(is_plain(&export.service_account));
        for port in &export.ports {
            assert_ne!(port.number, 0);
            assert!(authorities.insert(format!("{name}.{namespace}.svc.clusterset.local:{}", port.number)), "twice");
        }
    }
    assert!(said.exports.is_sorted_by(|one, other| one.service < other.service), "by name, each once");
    let ready: BTreeSet<_> = list.ready.keys().map(ToString::to_string).collect();
    assert_eq!(ready, authorities, "each port has a count, and nothing else has");
}
