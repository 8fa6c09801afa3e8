use std::time::{Duration, SystemTime};

use rcgen::{CertificateRevocationListParams, KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SerialNumber};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use webpki::KeyUsage;

use super::*;
use crate::testing::*;
use crate::{Identity, IdentityStore, Lost, PeerChain, PeerRole, Reload, Sources, Standing};

const HOUR: Duration = Duration::from_secs(3600);

fn serial(workload: &Workload) -> SerialNumber {
    SerialNumber::from_slice(certificate::parse(&workload.chain[0]).unwrap().raw_serial())
}

/// A list made `age` ago that lasts until an hour after that.
fn list_of_age(signer: &Signer, revoked: &[SerialNumber], age: Duration) -> String {
    let this_update = OffsetDateTime::now_utc() - age;
    let one = |serial: &SerialNumber| RevokedCertParams {
        serial_number: serial.clone(),
        revocation_time: this_update,
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update,
        next_update: this_update + HOUR,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(one).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(&signer.issuer).unwrap().pem().unwrap()
}

fn list(signer: &Signer, revoked: &[&Workload]) -> String {
    list_of_age(signer, &revoked.iter().map(|one| serial(one)).collect::<Vec<_>>(), Duration::ZERO)
}

/// The backend, of `root`, with further roots and with these lists.
struct Mesh {
    sources: Sources,
    dir: tempfile::TempDir,
}

impl Mesh {
    fn new(ours: &Signer, roots: &[&Signer], lists: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = ours.workload(BACKEND).write(dir.path(), roots, &[]);
        sources.crl = vec![dir.path().join("crl.pem")];
        let mesh = Self { sources, dir };
        mesh.write(lists);
        mesh
    }

    fn write(&self, lists: &[String]) {
        std::fs::write(self.dir.path().join("crl.pem"), lists.concat()).unwrap();
    }

    fn load(&self) -> Result<Identity, IdentityError> {
        Identity::load(&self.sources)
    }
}

/// What a handshake with it as a caller finds; the same as with it as a server.
fn verdict(us: &Identity, peer: &Workload) -> Result<(), String> {
    let (leaf, intermediates) = peer.chain.split_first().unwrap();
    let now = UnixTime::now();
    let called = us.peers().verify_caller(leaf, intermediates, now);
    let calling = us.peers().verify(leaf, intermediates, KeyUsage::server_auth(), now, None);
    assert_eq!(called, calling);
    called.map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_revoked_certificate_is_refused_at_either_end_and_no_other_is() {
    let root = Signer::root("root");
    let (revoked, other) = (root.workload(FRONTEND), root.workload(FRONTEND));
    let us = Mesh::new(&root, &[&root], &[list(&root, &[&revoked])]).load().unwrap();
    let error = verdict(&us, &revoked).unwrap_err();
    assert!(error.contains("a certificate of it has been revoked"), "{error}");
    assert_eq!(verdict(&us, &other), Ok(()));
}

#[test]
fn an_intermediate_that_its_root_has_revoked_takes_along_what_it_signed() {
    let root = Signer::root("root");
    let (bad, good) = (root.intermediate("bad", |_| {}), root.intermediate("good", |_| {}));
    let serial = SerialNumber::from_slice(certificate::parse(&bad.der).unwrap().raw_serial());
    let us = Mesh::new(&root, &[&root], &[list_of_age(&root, &[serial], Duration::ZERO)]).load().unwrap();
    assert!(verdict(&us, &bad.workload(FRONTEND)).is_err());
    assert_eq!(verdict(&us, &good.workload(FRONTEND)), Ok(()));
}

#[test]
fn the_list_of_an_intermediate_counts_for_what_it_signed() {
    let root = Signer::root("root");
    let (intermediate, namesake) = (root.intermediate("between", |_| {}), root.intermediate("between", |_| {}));
    let (revoked, other) = (intermediate.workload(FRONTEND), namesake.workload(FRONTEND));
    // The other authority of that name has a list too, the newer one, in which there is nothing.
    let lists = [list_of_age(&intermediate, &[serial(&revoked)], HOUR / 2), list(&namesake, &[])];
    let us = Mesh::new(&root, &[&root], &lists).load().unwrap();
    assert!(verdict(&us, &revoked).unwrap_err().contains("revoked"));
    assert_eq!(verdict(&us, &other), Ok(()));
}

#[test]
fn roots_of_one_name_have_lists_of_their_own() {
    let (old, new) = (Signer::root("the root"), Signer::root("the root"));
    let (revoked, other) = (old.workload(FRONTEND), new.workload(FRONTEND));
    let us = Mesh::new(&new, &[&old, &new], &[list(&old, &[&revoked])]).load().unwrap();
    assert!(verdict(&us, &revoked).unwrap_err().contains("revoked"));
    assert_eq!(verdict(&us, &other), Ok(()));
    assert_eq!(verdict(&us, &old.workload(FRONTEND)), Ok(()));
}

#[test]
fn a_root_can_be_taken_out_before_its_list_is() {
    let (old, new) = (Signer::root("the root"), Signer::root("the root"));
    let us = Mesh::new(&new, &[&new], &[list(&old, &[])]).load().unwrap();
    assert!(us.revocation_lists().all(|list| !us.knows_issuer_of(list)));
    assert_eq!(verdict(&us, &new.workload(FRONTEND)), Ok(()));
}

#[test]
fn of_two_lists_by_one_key_the_newer_counts() {
    let root = Signer::root("root");
    let (once, now) = (root.workload(FRONTEND), root.workload(FRONTEND));
    let older = list_of_age(&root, &[serial(&once)], HOUR / 2);
    for lists in [[older.clone(), list(&root, &[&now])], [list(&root, &[&now]), older]] {
        let us = Mesh::new(&root, &[&root], &lists).load().unwrap();
        assert_eq!(verdict(&us, &once), Ok(()));
        assert!(verdict(&us, &now).is_err());
    }
}

#[test]
fn who_has_no_list_is_let_in_unless_one_is_required() {
    let (root, listless) = (Signer::root("root"), Signer::root("listless"));
    let peer = listless.workload(FRONTEND);
    let mut mesh = Mesh::new(&root, &[&root, &listless], &[list(&root, &[])]);
    assert_eq!(verdict(&mesh.load().unwrap(), &peer), Ok(()));
    mesh.sources.require_crl = true;
    let us = mesh.load().unwrap();
    let error = verdict(&us, &peer).unwrap_err();
    assert!(error.contains("an issuer of it has no revocation list here"), "{error}");
    assert_eq!(verdict(&us, &root.workload(FRONTEND)), Ok(()));
    // Nobody who requires it as well would let us in.
    let ours = Mesh::new(&listless, &[&root, &listless], &[list(&root, &[])]);
    let mut sources = ours.sources.clone();
    sources.require_crl = true;
    assert!(matches!(Identity::load(&sources), Err(IdentityError::Untrusted { .. })));
}

#[test]
fn a_list_that_has_ended_refuses_those_it_would_tell_of_and_is_taken_into_use() {
    let (root, other) = (Signer::root("root"), Signer::root("other"));
    let ended = list_of_age(&root, &[], HOUR * 2);
    let us = Mesh::new(&root, &[&root, &other], &[ended]).load().unwrap();
    let error = verdict(&us, &root.workload(FRONTEND)).unwrap_err();
    assert!(error.contains("the revocation list of an issuer of it has expired"), "{error}");
    assert_eq!(verdict(&us, &other.workload(FRONTEND)), Ok(()));
}

#[test]
fn a_list_that_revokes_us_counts_against_others_too() {
    let root = Signer::root("root");
    let mesh = Mesh::new(&root, &[&root], &[]);
    let peer = root.workload(FRONTEND);
    let own = Contents::read(&mesh.sources.certificate).unwrap().certificates().unwrap();
    let own = SerialNumber::from_slice(certificate::parse(&own[0]).unwrap().raw_serial());
    mesh.write(&[list_of_age(&root, &[own, serial(&peer)], Duration::ZERO)]);
    let us = mesh.load().unwrap();
    assert!(us.is_revoked());
    assert!(verdict(&us, &peer).is_err());
}

#[test]
fn files_that_are_no_lists_keep_the_last_good_set() {
    let (root, stranger) = (Signer::root("root"), Signer::root("root"));
    let peer = root.workload(FRONTEND);
    let good = list(&root, &[&peer]);
    let mesh = Mesh::new(&root, &[&root], std::slice::from_ref(&good));
    let store = IdentityStore::open(mesh.sources.clone()).unwrap();
    let (lines, forged) = (good.lines().count(), forged(&root, &stranger));
    let half: String = good.lines().take(lines / 2).map(|line| format!("{line}\n")).collect();
    for (bad, why) in [
        (String::new(), "there is no revocation list in it"),
        (root.pem.clone(), "there is no revocation list in it"),
        (half, "it is not PEM"),
        (pem("X509 CRL", b"not a list"), "revocation list 1 cannot be used"),
        (good.clone() + &pem("X509 CRL", &root.der), "revocation list 2 cannot be used"),
        (forged, "is not signed by the root that it names"),
    ] {
        mesh.write(&[bad]);
        let error = store.reload().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("crl.pem"), "{error}");
        assert!(verdict(&store.current(), &peer).is_err());
    }
    mesh.write(&[list(&root, &[])]);
    assert_eq!(store.reload().unwrap(), Reload::Published);
    assert_eq!(verdict(&store.current(), &peer), Ok(()));
}

/// A list that names the key of `root` and is signed by another.
fn forged(root: &Signer, stranger: &Signer) -> String {
    let own = certificate::parse(&root.der).unwrap();
    let identifier = own.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(own) => Some(own.0.to_vec()),
        _ => None,
    });
    let now = OffsetDateTime::now_utc();
    let list = CertificateRevocationListParams {
        this_update: now,
        next_update: now + HOUR,
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::PreSpecified(identifier.unwrap()),
    };
    list.signed_by(&stranger.issuer).unwrap().pem().unwrap()
}

#[test]
fn a_root_that_may_not_sign_lists_has_none() {
    let root = Signer::root_with("root", |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    // The same key, as if it might.
    let may = Signer::root("root");
    assert!(matches!(
        Mesh::new(&root, &[&root], &[forged(&root, &may)]).load(),
        Err(IdentityError::RevocationListOrigin { .. })
    ));
}

#[test]
fn a_session_of_who_is_revoked_is_over_at_once_and_what_is_known_of_a_chain_goes_with_its_generation() {
    let root = Signer::root("root");
    let (peer, other) = (root.workload(FRONTEND), root.workload(FRONTEND));
    let mesh = Mesh::new(&root, &[&root], &[list(&root, &[])]);
    let store = IdentityStore::open(mesh.sources.clone()).unwrap();
    let before = store.current();
    assert_eq!(verdict(&before, &peer), Ok(()));
    assert!(before.peers().knows(&peer.chain[0], &[], UnixTime::now()));
    mesh.write(&[list(&root, &[&peer])]);
    assert_eq!(store.reload().unwrap(), Reload::Published);
    let after = store.current();
    let grace = Duration::from_secs(30);
    let standing =
        |workload: &Workload, role| after.standing(&PeerChain::new(&workload.chain, role), SystemTime::now(), grace);
    assert_eq!(standing(&peer, PeerRole::Caller), Standing::Over(Lost::Revoked));
    assert_eq!(standing(&peer, PeerRole::Server(id(FRONTEND).into())), Standing::Over(Lost::Revoked));
    assert!(matches!(standing(&other, PeerRole::Caller), Standing::Good { .. }));
    assert!(verdict(&after, &peer).is_err());
}

#[test]
fn what_rests_on_a_list_is_looked_at_again_when_the_list_ends() {
    let root = Signer::root("root");
    let peer = root.workload(FRONTEND);
    let age = HOUR - Duration::from_secs(60);
    let us = Mesh::new(&root, &[&root], &[list_of_age(&root, &[], age)]).load().unwrap();
    let (chain, now) = (PeerChain::new(&peer.chain, PeerRole::Caller), SystemTime::now());
    let Standing::Good { until } = us.standing(&chain, now, Duration::ZERO) else { panic!("not good") };
    assert!(until <= now + Duration::from_secs(62), "{:?}", until.duration_since(now));
    assert_eq!(us.standing(&chain, now + Duration::from_secs(62), Duration::ZERO), Standing::Over(Lost::Expired));
    let later = certificate::unix_time(now + Duration::from_secs(62));
    assert_eq!(verdict(&us, &peer), Ok(()));
    assert!(!us.peers().knows(&peer.chain[0], &[], later));
}
