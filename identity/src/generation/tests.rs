//! What is refused when the files are loaded, and that the error says which file and why.

use std::fs;
use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::testing::*;

/// A directory with files that load; each test spoils one of them.
struct Fixture {
    dir: TempDir,
    root: Signer,
    sources: Sources,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (dir, root) = (TempDir::new().unwrap(), Signer::root("root"));
        let sources = root.workload_with(FRONTEND, change).write(dir.path(), &[&root], &[]);
        Self { dir, root, sources }
    }

    /// The error, which must name the file.
    fn error(&self, file: &Path) -> IdentityError {
        let error = Identity::load(&self.sources).unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        error
    }
}

/// Asserts the variant, and that the file is named.
macro_rules! assert_refused {
    ($fixture:expr, $field:ident, $pattern:pat) => {
        let error = $fixture.error(&$fixture.sources.$field);
        assert!(matches!(error, $pattern), "{error:?}");
    };
}

#[test]
fn loads_what_belongs_together() {
    let (dir, root, friend) = (TempDir::new().unwrap(), Signer::root("root"), Signer::root("friend"));
    let workload = root.intermediate("one", |_| {}).workload(FRONTEND);
    let sources = workload.write(dir.path(), &[&root, &Signer::root("next")], &[("friend.example", &friend)]);
    let identity = Identity::load(&sources).unwrap();
    assert_eq!(identity.generation(), 1);
    assert_eq!(identity.svid().id().as_str(), FRONTEND);
    assert_eq!(identity.svid().chain(), workload.chain);
    assert!(identity.svid().not_before() < identity.svid().not_after());
    let domains: Vec<_> = identity.bundles().trust_domains().map(TrustDomain::as_str).collect();
    assert_eq!(domains, [HOME, "friend.example"]);
    let roots = |domain: &str| identity.bundles().roots(&domain.parse().unwrap()).len();
    assert_eq!((roots(HOME), roots("friend.example"), roots("stranger.example")), (2, 1, 0));
    assert!(Arc::ptr_eq(&identity.server_config(), &identity.server_config()));
}

#[test]
fn reads_keys_in_every_usual_form() {
    let convert = |key: &Path, args: &[&str]| {
        let done = Command::new("openssl").args(args).arg("-in").arg(key).arg("-out").arg(key).output();
        done.is_ok_and(|output| output.status.success())
    };
    for (algorithm, args, label) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, ["ec", "-no_public"].as_slice(), "BEGIN EC PRIVATE KEY"),
        (&PKCS_RSA_SHA256, ["rsa", "-traditional"].as_slice(), "BEGIN RSA PRIVATE KEY"),
    ] {
        let (dir, root) = (TempDir::new().unwrap(), Signer::root("root"));
        let key = KeyPair::generate_for(algorithm).unwrap();
        let sources = root.workload_of(key, FRONTEND, |_| {}).write(dir.path(), &[&root], &[]);
        assert!(fs::read_to_string(&sources.key).unwrap().contains("BEGIN PRIVATE KEY"));
        Identity::load(&sources).unwrap();
        if !convert(&sources.key, args) {
            eprintln!("skipped {label}: no openssl to convert the key with");
            continue;
        }
        assert!(fs::read_to_string(&sources.key).unwrap().contains(label));
        Identity::load(&sources).unwrap();
    }
}

#[test]
fn certificate_and_key_may_be_one_file() {
    let mut fixture = Fixture::new();
    let both = [&fixture.sources.key, &fixture.sources.certificate].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&fixture.sources.certificate, both.concat()).unwrap();
    fixture.sources.key = fixture.sources.certificate.clone();
    Identity::load(&fixture.sources).unwrap();
}

#[test]
fn refuses_files_that_are_not_there_or_not_pem() {
    type Field = fn(&Sources) -> &PathBuf;
    let fields: [Field; 3] = [|s| &s.certificate, |s| &s.key, |s| &s.trust_bundle];
    for field in fields {
        let fixture = Fixture::new();
        let file = field(&fixture.sources);
        let good = fs::read(file).unwrap();
        let cut = good.len() - 30;
        fs::write(file, &good[..cut]).unwrap();
        assert!(matches!(fixture.error(file), IdentityError::Pem { .. }));
        fs::write(file, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(fixture.error(file), IdentityError::Pem { .. } | IdentityError::KeyCount { .. }));
        fs::write(file, vec![b'x'; 1024 * 1024 + 1]).unwrap();
        assert!(matches!(fixture.error(file), IdentityError::TooLarge { .. }));
        fs::remove_file(file).unwrap();
        assert!(matches!(fixture.error(file), IdentityError::Read { .. }));
    }
}

#[test]
fn refuses_files_without_what_they_must_hold() {
    for text in ["", "hello\n"] {
        let fixture = Fixture::new();
        fs::write(&fixture.sources.trust_bundle, text).unwrap();
        assert_refused!(fixture, trust_bundle, IdentityError::NoCertificate { .. });
        fs::write(&fixture.sources.key, text).unwrap();
        assert_refused!(fixture, key, IdentityError::KeyCount { found: 0, .. });
        fs::write(&fixture.sources.certificate, text).unwrap();
        assert_refused!(fixture, certificate, IdentityError::NoCertificate { .. });
    }
    let fixture = Fixture::new();
    let key = fs::read_to_string(&fixture.sources.key).unwrap();
    fs::write(&fixture.sources.key, key.repeat(2)).unwrap();
    assert_refused!(fixture, key, IdentityError::KeyCount { found: 2, .. });
    fs::write(&fixture.sources.key, pem("PRIVATE KEY", b"no key")).unwrap();
    assert_refused!(fixture, key, IdentityError::UnusableKey { .. });
    fs::write(&fixture.sources.key, pem("ENCRYPTED PRIVATE KEY", b"secret")).unwrap();
    assert_refused!(fixture, key, IdentityError::KeyCount { found: 0, .. });
}

#[test]
fn refuses_sections_that_are_no_certificates() {
    let fixture = Fixture::new();
    let good = fs::read_to_string(&fixture.sources.certificate).unwrap();
    let bad = pem("CERTIFICATE", b"no certificate");
    fs::write(&fixture.sources.certificate, format!("{good}{bad}")).unwrap();
    assert_refused!(fixture, certificate, IdentityError::Malformed { position: 2, .. });
    fs::write(&fixture.sources.certificate, &bad).unwrap();
    assert_refused!(fixture, certificate, IdentityError::Malformed { position: 1, .. });
    fs::write(&fixture.sources.certificate, good).unwrap();
    fs::write(&fixture.sources.trust_bundle, format!("{}{bad}", fixture.root.pem)).unwrap();
    assert_refused!(fixture, trust_bundle, IdentityError::Malformed { position: 2, .. });
}

#[test]
fn refuses_a_key_of_another_certificate() {
    let fixture = Fixture::new();
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        fs::write(&fixture.sources.key, KeyPair::generate_for(algorithm).unwrap().serialize_pem()).unwrap();
        assert_refused!(fixture, key, IdentityError::KeyMismatch { .. });
    }
}

#[test]
fn refuses_certificates_out_of_their_time() {
    let now = OffsetDateTime::now_utc;
    let fixture = Fixture::with(|p| p.not_after = now() - Duration::seconds(2));
    assert_refused!(fixture, certificate, IdentityError::Expired { .. });
    let fixture = Fixture::with(|p| p.not_before = now() + Duration::minutes(1));
    assert_refused!(fixture, certificate, IdentityError::NotYetValid { .. });
}

#[test]
fn refuses_to_present_what_it_would_refuse() {
    let fixture = Fixture::with(|p| p.subject_alt_names.push(uri(BACKEND)));
    assert_refused!(fixture, certificate, IdentityError::NotSvid { .. });
    let fixture = Fixture::with(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign));
    assert_refused!(fixture, certificate, IdentityError::NotSvid { .. });
    // A root first: the chain is the wrong way round.
    let fixture = Fixture::new();
    let leaf = fs::read_to_string(&fixture.sources.certificate).unwrap();
    fs::write(&fixture.sources.certificate, format!("{}{leaf}", fixture.root.pem)).unwrap();
    assert_refused!(fixture, certificate, IdentityError::NotSvid { .. });
}

#[test]
fn refuses_a_certificate_that_its_own_bundle_does_not_trust() {
    let fixture = Fixture::new();
    fs::write(&fixture.sources.trust_bundle, Signer::root("other").pem).unwrap();
    assert_refused!(fixture, certificate, IdentityError::Untrusted { .. });
    // The chain was cut between two certificates, which is not to be seen from the PEM.
    let cut = fixture.root.intermediate("one", |_| {}).workload(FRONTEND);
    let cut = Workload { chain: cut.chain[..1].to_vec(), key: cut.key };
    let error = Identity::load(&cut.write(fixture.dir.path(), &[&fixture.root], &[])).unwrap_err();
    assert!(matches!(error, IdentityError::Untrusted { .. }), "{error}");
}

#[test]
fn refuses_the_certificate_of_another_workload_and_names_both() {
    for other in ["spiffe://other.example/ns/default/sa/frontend", BACKEND] {
        let mut fixture = Fixture::new();
        fixture.sources.id = id(other);
        let error = fixture.error(&fixture.sources.certificate);
        assert!(matches!(error, IdentityError::WrongWorkload { .. }), "{error:?}");
        assert!(error.to_string().contains(FRONTEND) && error.to_string().contains(other), "{error}");
    }
}

#[test]
fn refuses_bundles_with_anything_but_roots() {
    let fixture = Fixture::new();
    let write = |pem: &str| fs::write(&fixture.sources.trust_bundle, format!("{}{pem}", fixture.root.pem)).unwrap();
    write(&fs::read_to_string(&fixture.sources.certificate).unwrap());
    assert_refused!(fixture, trust_bundle, IdentityError::NotRoot { .. });
    write(&Signer::root_with("mute", |p| p.key_usages = vec![KeyUsagePurpose::CrlSign]).pem);
    assert_refused!(fixture, trust_bundle, IdentityError::NotRoot { .. });
    assert!(fixture.error(&fixture.sources.trust_bundle).to_string().contains("\"CN=mute\""));
    write(include_str!("../../testdata/rsa1024-root.pem"));
    assert!(fixture.error(&fixture.sources.trust_bundle).to_string().contains("1024 bits"));
}

#[test]
fn refuses_a_federated_bundle_for_our_own_domain() {
    let mut fixture = Fixture::new();
    let federated = fixture.dir.path().join("again.pem");
    fs::write(&federated, &fixture.root.pem).unwrap();
    fixture.sources.federated.insert(HOME.parse().unwrap(), federated.clone());
    assert!(matches!(fixture.error(&federated), IdentityError::FederatedWithSelf { .. }));
}

#[test]
fn shows_no_key() {
    let fixture = Fixture::new();
    let shown = format!("{:?}", Identity::load(&fixture.sources).unwrap());
    assert!(shown.contains(FRONTEND) && shown.len() < 500, "{shown}");
}
