//! Who vouches for whom where clusters have roots of their own: real certificates, handshakes in memory.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::testing::*;
use crate::{ClientAlpn, ClusterRoots, Identity, IdentityStore, Reload, Sources, Who};

const ONE: &str = "default/default/default/cluster-1";
const TWO: &str = "default/default/default/cluster-2";
const THREE: &str = "default/default/default/cluster-3";
const WEST: &str = "west.example";
const WESTERN: &str = "spiffe://west.example/ns/default/sa/backend";

/// Files of a workload of cluster-1 that knows these clusters: key, trust domain, roots.
fn sources(dir: &Path, own: &Workload, root: &Signer, clusters: &[(&str, &str, &str)]) -> Sources {
    let mut sources = own.write(dir, &[root], &[]);
    sources.cluster = Some(ONE.to_owned());
    for (index, (key, trust_domain, pem)) in clusters.iter().enumerate() {
        let file = dir.join(format!("cluster-{index}.pem"));
        std::fs::write(&file, pem).unwrap();
        sources.clusters.insert((*key).to_owned(), ClusterRoots { trust_domain: trust_domain.parse().unwrap(), file });
    }
    sources
}

fn identity(own: &Workload, root: &Signer, clusters: &[(&str, &str, &str)]) -> Identity {
    let dir = TempDir::new().unwrap();
    Identity::load(&sources(dir.path(), own, root, clusters)).unwrap()
}

/// What `us` makes of a caller with this certificate: who it is, and which cluster's.
fn calls(us: &Identity, caller: &Workload) -> Result<Option<Arc<str>>, String> {
    let mut config = (*expecting(us, us.svid().id().as_str(), None)).clone();
    config.client_auth_cert_resolver = caller.resolver();
    let handshake = Handshake::run(Arc::new(config), us.server_config());
    handshake.server_result.map_err(|error| why(&error))?;
    Ok(us.cluster_of(handshake.server.peer_certificates().unwrap()))
}

/// What `us` makes of a server with this certificate, at an endpoint in `cluster` that `id` should answer at.
fn answers(us: &Identity, server: &Workload, id: &str, cluster: Option<&str>) -> Result<(), String> {
    let mut config = (*us.server_config()).clone();
    config.cert_resolver = server.resolver();
    Handshake::run(expecting(us, id, cluster), Arc::new(config)).client_result.map_err(|error| why(&error))
}

fn why(error: &TlsError) -> String {
    PeerError::of(error).map_or_else(|| format!("another error: {error}"), ToString::to_string)
}

fn expecting(us: &Identity, id: &str, cluster: Option<&str>) -> Arc<rustls::ClientConfig> {
    let expected = Expected { who: Who::Exactly(self::id(id)), cluster: cluster.map(Arc::from) };
    us.client_config(&expected, ClientAlpn::Http2)
}

fn assert_refused<T: fmt::Debug>(what: &str, outcome: Result<T, String>, reason: &str) {
    let error = outcome.expect_err(what);
    assert!(error.contains(reason), "{what}: {reason:?} expected, found {error}");
}

/// Three clusters of one trust domain, each with a root of its own, seen from the first one.
struct OneDomain {
    roots: [Signer; 3],
    us: Identity,
}

impl OneDomain {
    fn new() -> Self {
        let roots = ["one", "two", "three"].map(Signer::root);
        let clusters = [(TWO, HOME, roots[1].pem.as_str()), (THREE, HOME, roots[2].pem.as_str())];
        let us = identity(&roots[0].workload(FRONTEND), &roots[0], &clusters);
        Self { roots, us }
    }
}

#[test]
fn of_clusters_that_share_a_trust_domain_every_root_answers_for_its_own_endpoints_only() {
    let OneDomain { roots, us } = OneDomain::new();
    // Our own endpoints are those of no other cluster; one of which no roots are known counts as ours.
    let endpoints = [(0, None), (0, Some(ONE)), (1, Some(TWO)), (2, Some(THREE)), (0, Some("a/b/c/unknown"))];
    for (wanted, cluster) in endpoints {
        for (found, root) in roots.iter().enumerate() {
            let outcome = answers(&us, &root.workload(BACKEND), BACKEND, cluster);
            match wanted == found {
                true => assert_eq!(outcome, Ok(()), "root {found} at {cluster:?}"),
                false => assert_refused(&format!("root {found} at {cluster:?}"), outcome, "does not lead to a root of"),
            }
        }
    }
    // The right root does not make it the right workload.
    assert_refused("another account", answers(&us, &roots[1].workload(FRONTEND), BACKEND, Some(TWO)), "the server is");
}

#[test]
fn callers_of_all_three_roots_come_in_and_their_cluster_is_told() {
    let OneDomain { roots, us } = OneDomain::new();
    for (root, cluster) in roots.iter().zip([ONE, TWO, THREE]) {
        assert_eq!(calls(&us, &root.workload(BACKEND)).unwrap().as_deref(), Some(cluster));
        let below = root.intermediate("below", |_| {}).workload(BACKEND);
        assert_eq!(calls(&us, &below).unwrap().as_deref(), Some(cluster), "through an intermediate");
    }
    assert_refused("a fourth", calls(&us, &Signer::root("four").workload(BACKEND)), "a root of that trust domain");
    // Whoever holds the key of the third root may take any name of the shared domain, but not another cluster's place.
    let posing = roots[2].workload(FRONTEND);
    assert_eq!(calls(&us, &posing).unwrap().as_deref(), Some(THREE));
    assert_refused("as cluster-1's", answers(&us, &posing, FRONTEND, None), "does not lead to");
}

#[test]
fn what_a_foreign_signer_shows_beside_its_own_chain_helps_nothing() {
    let OneDomain { roots, us } = OneDomain::new();
    let mut posing = roots[2].workload(BACKEND);
    for root in &roots {
        posing.chain.push(root.der.clone());
        posing.chain.extend(root.workload(BACKEND).chain);
    }
    assert_eq!(calls(&us, &posing).unwrap().as_deref(), Some(THREE));
    for cluster in [None, Some(ONE), Some(TWO)] {
        assert_refused("with others' roots", answers(&us, &posing, BACKEND, cluster), "does not lead to");
    }
    // A signer of the third cluster that bears the name of the first one's.
    let named = roots[2].intermediate("one", |_| {}).workload(BACKEND);
    assert_eq!(calls(&us, &named).unwrap().as_deref(), Some(THREE));
    assert_refused("by a root's name", answers(&us, &named, BACKEND, None), "is not valid");
}

#[test]
fn a_cluster_of_another_trust_domain_answers_in_that_domain_only() {
    let [home, west, east] = ["home", "west", "east"].map(Signer::root);
    let clusters = [(TWO, WEST, west.pem.as_str()), (THREE, "east.example", east.pem.as_str())];
    let us = identity(&home.workload(FRONTEND), &home, &clusters);
    assert_eq!(answers(&us, &west.workload(WESTERN), WESTERN, Some(TWO)), Ok(()));
    assert_eq!(calls(&us, &west.workload(WESTERN)).unwrap().as_deref(), Some(TWO));

    let ours = west.workload(BACKEND);
    assert_refused("our domain, at home", answers(&us, &ours, BACKEND, None), "does not lead to");
    assert_refused("our domain, there", answers(&us, &ours, BACKEND, Some(TWO)), "vouch for west.example only");
    assert_refused("our domain, calling", calls(&us, &ours), "does not lead to");
    assert_refused(
        "the other's domain",
        calls(&us, &east.workload(WESTERN)),
        "a root of default/default/default/cluster-2",
    );
    assert_refused("by our root", answers(&us, &home.workload(WESTERN), WESTERN, Some(TWO)), "does not lead to");
    assert_refused("by our root, calling", calls(&us, &home.workload(WESTERN)), "does not lead to");
    // The domain has no bundle of its own: a root of one cluster does not speak for the endpoints of others.
    for cluster in [None, Some(ONE), Some("a/b/c/unknown")] {
        let outcome = answers(&us, &west.workload(WESTERN), WESTERN, cluster);
        assert_refused("elsewhere", outcome, "without a trust bundle");
    }
}

#[test]
fn a_federated_domain_and_a_cluster_of_it_keep_their_roots_apart() {
    let [home, domain, cluster] = ["home", "domain", "cluster"].map(Signer::root);
    let dir = TempDir::new().unwrap();
    let mut sources = sources(dir.path(), &home.workload(FRONTEND), &home, &[(TWO, WEST, &cluster.pem)]);
    let file = dir.path().join("domain.pem");
    std::fs::write(&file, &domain.pem).unwrap();
    sources.federated.insert(WEST.parse().unwrap(), file);
    let us = Identity::load(&sources).unwrap();
    let [by_domain, by_cluster] = [&domain, &cluster].map(|root| root.workload(WESTERN));
    assert_eq!(answers(&us, &by_cluster, WESTERN, Some(TWO)), Ok(()));
    assert_refused("the domain's there", answers(&us, &by_domain, WESTERN, Some(TWO)), "does not lead to");
    for elsewhere in [None, Some(THREE)] {
        assert_eq!(answers(&us, &by_domain, WESTERN, elsewhere), Ok(()));
        assert_refused("the cluster's elsewhere", answers(&us, &by_cluster, WESTERN, elsewhere), "does not lead to");
    }
    assert_eq!(calls(&us, &by_cluster).unwrap().as_deref(), Some(TWO));
    assert_eq!(calls(&us, &by_domain), Ok(None), "which of its clusters, a domain does not tell");
}

#[test]
fn roots_that_stand_in_two_places_tell_no_cluster() {
    let [home, shared] = ["home", "shared"].map(Signer::root);
    let ours = home.workload(FRONTEND);
    let backend = shared.workload(BACKEND);
    let us = identity(&ours, &home, &[(TWO, HOME, &shared.pem), (THREE, HOME, &shared.pem)]);
    assert_eq!(calls(&us, &backend), Ok(None), "one of two others");
    assert_eq!(calls(&us, &home.workload(BACKEND)).unwrap().as_deref(), Some(ONE));
    for cluster in [TWO, THREE] {
        assert_eq!(answers(&us, &backend, BACKEND, Some(cluster)), Ok(()));
    }
    let us = identity(&ours, &home, &[(TWO, HOME, &home.pem)]);
    assert_eq!(calls(&us, &home.workload(BACKEND)), Ok(None), "another, or our own");
    // In different trust domains one root is no riddle.
    let us = identity(&ours, &home, &[(TWO, WEST, &home.pem)]);
    assert_eq!(calls(&us, &home.workload(BACKEND)).unwrap().as_deref(), Some(ONE));
    assert_eq!(calls(&us, &home.workload(WESTERN)).unwrap().as_deref(), Some(TWO));
}

#[test]
fn our_own_bundle_tells_our_cluster_only_where_it_is_ours_alone() {
    let root = Signer::root("root");
    let dir = TempDir::new().unwrap();
    let mut sources = sources(dir.path(), &root.workload(FRONTEND), &root, &[]);
    let caller = root.workload(BACKEND);
    assert_eq!(calls(&Identity::load(&sources).unwrap(), &caller).unwrap().as_deref(), Some(ONE));
    sources.cluster = None;
    let us = Identity::load(&sources).unwrap();
    assert_eq!(calls(&us, &caller), Ok(None));
    assert_eq!((us.cluster_of(&[]), us.cluster_of(&[b"none".as_slice().into()])), (None, None));
    // Not verified, not told.
    assert_eq!(us.cluster_of(&Signer::root("root").workload(BACKEND).chain), None);
}

#[test]
fn the_roots_of_a_cluster_are_replaced_while_running() {
    let [home, old, new] = ["home", "old", "new"].map(Signer::root);
    let dir = TempDir::new().unwrap();
    let sources = sources(dir.path(), &home.workload(FRONTEND), &home, &[(TWO, HOME, &old.pem)]);
    let file = sources.clusters[TWO].file.clone();
    let store = IdentityStore::open(sources).unwrap();
    assert!(store.paths().contains(&file));
    let known = || {
        [&old, &new].map(|root| {
            let (us, workload) = (store.current(), root.workload(BACKEND));
            let answers = answers(&us, &workload, BACKEND, Some(TWO)).is_ok();
            assert_eq!(answers, calls(&us, &workload).is_ok_and(|cluster| cluster.as_deref() == Some(TWO)));
            answers
        })
    };
    assert_eq!(known(), [true, false]);
    for (pem, expected) in [(format!("{}{}", old.pem, new.pem), [true, true]), (new.pem.clone(), [false, true])] {
        std::fs::write(&file, pem).unwrap();
        assert_eq!(store.reload().unwrap(), Reload::Published);
        assert_eq!(known(), expected);
    }
    // Half-written, empty, no root, gone: what was in force stays, for all clusters.
    let leaf = new.workload(BACKEND).chain_pem();
    for bad in [&new.pem[..new.pem.len() - 30], "", &leaf] {
        std::fs::write(&file, bad).unwrap();
        assert!(store.reload().unwrap_err().to_string().contains(&file.display().to_string()));
        assert_eq!(known(), [false, true]);
    }
    std::fs::remove_file(&file).unwrap();
    assert!(store.reload().is_err());
    assert_eq!(known(), [false, true]);
}

#[test]
fn of_several_refusals_the_one_that_knows_the_issuer_is_told() {
    let OneDomain { roots, us } = OneDomain::new();
    let expired =
        roots[1].workload_with(BACKEND, |p| p.not_after = time::OffsetDateTime::now_utc() - time::Duration::MINUTE);
    assert_refused("expired", calls(&us, &expired), "has expired");
}
