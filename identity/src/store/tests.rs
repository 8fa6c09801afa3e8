use std::fs;

use rcgen::KeyPair;
use tempfile::TempDir;

use super::*;
use crate::ClientAlpn;
use crate::testing::*;

struct Fixture {
    dir: TempDir,
    root: Signer,
    store: IdentityStore,
}

impl Fixture {
    fn new() -> Self {
        let (dir, root) = (TempDir::new().unwrap(), Signer::root("root"));
        let store = IdentityStore::open(root.workload(FRONTEND).write(dir.path(), &[&root], &[])).unwrap();
        Self { dir, root, store }
    }

    /// Puts a new certificate and key in place.
    fn renew(&self) -> Sources {
        self.root.workload(FRONTEND).write(self.dir.path(), &[&self.root], &[])
    }

    /// A reload must fail with this error and change nothing.
    fn assert_stays(&self, expected: fn(&IdentityError) -> bool) {
        let (before, mut receiver) = (self.store.current(), self.store.subscribe());
        receiver.mark_unchanged();
        let error = self.store.reload().unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert!(Arc::ptr_eq(&before, &self.store.current()));
        assert!(!receiver.has_changed().unwrap());
    }
}

#[test]
fn publishes_a_new_generation_only_when_the_bytes_differ() {
    let fixture = Fixture::new();
    let mut receiver = fixture.store.subscribe();
    let first = fixture.store.current();
    assert_eq!(first.generation(), 1);
    assert!(Arc::ptr_eq(&first, &receiver.borrow_and_update()));

    let sources = &fixture.store.sources;
    fs::write(&sources.certificate, fs::read(&sources.certificate).unwrap()).unwrap();
    assert_eq!(fixture.store.reload().unwrap(), Reload::Unchanged);
    assert!(!receiver.has_changed().unwrap());

    fixture.renew();
    assert_eq!(fixture.store.reload().unwrap(), Reload::Published);
    assert!(receiver.has_changed().unwrap());
    let second = Arc::clone(&receiver.borrow_and_update());
    assert_eq!(second.generation(), 2);
    assert_ne!(first.svid().serial(), second.svid().serial());
    assert_eq!(fixture.store.reload().unwrap(), Reload::Unchanged);
}

#[test]
fn a_new_root_alone_is_a_new_generation() {
    let fixture = Fixture::new();
    let both = format!("{}{}", Signer::root("next").pem, fixture.root.pem);
    fs::write(&fixture.store.sources.trust_bundle, both).unwrap();
    assert_eq!(fixture.store.reload().unwrap(), Reload::Published);
    assert_eq!(fixture.store.current().bundles().roots(&HOME.parse().unwrap()).len(), 2);
}

#[test]
fn the_last_good_one_stays_through_every_kind_of_bad_files() {
    let fixture = Fixture::new();
    let sources = fixture.renew();
    let good = [&sources.certificate, &sources.key, &sources.trust_bundle].map(|file| fs::read(file).unwrap());

    // Half-written, at every tenth byte of the new certificate.
    for cut in (0..good[0].len() - 27).step_by(10) {
        fs::write(&sources.certificate, &good[0][..cut]).unwrap();
        fixture.assert_stays(|e| matches!(e, IdentityError::Pem { .. } | IdentityError::NoCertificate { .. }));
    }
    fs::write(&sources.certificate, &good[0]).unwrap();

    // The certificate is there, its key not yet.
    fs::write(&sources.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    fixture.assert_stays(|e| matches!(e, IdentityError::KeyMismatch { .. }));
    fs::write(&sources.key, &good[1]).unwrap();

    // The root is gone, or another.
    fs::write(&sources.trust_bundle, "").unwrap();
    fixture.assert_stays(|e| matches!(e, IdentityError::NoCertificate { .. }));
    fs::write(&sources.trust_bundle, Signer::root("other").pem).unwrap();
    fixture.assert_stays(|e| matches!(e, IdentityError::Untrusted { .. }));
    fs::remove_file(&sources.trust_bundle).unwrap();
    fixture.assert_stays(|e| matches!(e, IdentityError::Read { .. }));

    // Once all is in place the failures before have left nothing behind.
    fs::write(&sources.trust_bundle, &good[2]).unwrap();
    assert_eq!(fixture.store.reload().unwrap(), Reload::Published);
    assert_eq!(fixture.store.current().generation(), 2);
}

#[test]
fn going_back_to_the_files_in_force_is_no_change() {
    let fixture = Fixture::new();
    let file = &fixture.store.sources.certificate;
    let good = fs::read(file).unwrap();
    fs::write(file, "").unwrap();
    assert!(fixture.store.reload().is_err());
    fs::write(file, good).unwrap();
    assert_eq!(fixture.store.reload().unwrap(), Reload::Unchanged);
}

#[test]
fn configurations_of_an_earlier_generation_go_on_working() {
    let fixture = Fixture::new();
    let first = fixture.store.current();
    fixture.renew();
    fixture.store.reload().unwrap();
    let second = fixture.store.current();
    for (client, server) in [(&first, &second), (&second, &first), (&first, &first)] {
        let client = client.client_config(&id(FRONTEND).into(), ClientAlpn::Http2);
        let handshake = Handshake::run(client, server.server_config());
        assert_eq!((handshake.client_result, handshake.server_result), (Ok(()), Ok(())));
    }
}

#[test]
fn a_root_that_was_taken_out_is_trusted_no_more() {
    let (old, new) = (Signer::root("old"), Signer::root("new"));
    let dir = TempDir::new().unwrap();
    let store = IdentityStore::open(new.workload(BACKEND).write(dir.path(), &[&old, &new], &[])).unwrap();
    let frontend = old.workload(FRONTEND).identity(&[&old, &new], &[]);
    let handshake = || {
        let client = frontend.client_config(&id(BACKEND).into(), ClientAlpn::Http2);
        Handshake::run(client, store.current().server_config()).server_result
    };
    assert_eq!(handshake(), Ok(()));
    fs::write(&store.sources.trust_bundle, &new.pem).unwrap();
    assert_eq!(store.reload().unwrap(), Reload::Published);
    assert!(handshake().is_err());
}

#[test]
fn paths_names_every_file_once() {
    let (dir, root, friend) = (TempDir::new().unwrap(), Signer::root("root"), Signer::root("friend"));
    let mut sources = root.workload(FRONTEND).write(dir.path(), &[&root], &[("friend.example", &friend)]);
    sources.federated.insert("third.example".parse().unwrap(), sources.trust_bundle.clone());
    let store = IdentityStore::open(sources).unwrap();
    let expected = ["friend.example.pem", "root.pem", "svid-key.pem", "svid.pem"].map(|name| dir.path().join(name));
    assert_eq!(store.paths(), expected);
}
