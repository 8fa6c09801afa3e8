use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;

use super::*;
use crate::testing::{BACKEND, FRONTEND, HOME, Handshake, Signer, id};
use crate::{ClientAlpn, Identity, IdentityError, Sources, peer_identity};

fn authority() -> (TempDir, Authority) {
    let dir = TempDir::new().unwrap();
    let authority = init(dir.path(), &InitOptions::new(HOME.parse().unwrap())).unwrap();
    (dir, authority)
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn issue(authority: &Authority, options: &IssueOptions) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(authority.issue(options).unwrap().certificate_pem.as_bytes()).unwrap()
}

fn identity(dir: &Path, authority: &Authority, id: &str, name: &str) -> Identity {
    let files = write_svid(dir, name, &authority.issue(&IssueOptions::new(id.parse().unwrap())).unwrap()).unwrap();
    Identity::load(&Sources {
        id: id.parse().unwrap(),
        certificate: files.certificate,
        key: files.key,
        trust_bundle: dir.join(CERTIFICATE_FILE),
        federated: Default::default(),
        clusters: Default::default(),
        cluster: None,
        crl: Vec::new(),
        require_crl: false,
    })
    .unwrap()
}

#[test]
fn what_it_issues_is_accepted_at_both_ends() {
    let (dir, authority) = authority();
    let frontend = identity(dir.path(), &authority, FRONTEND, "frontend");
    let backend = identity(dir.path(), &authority, BACKEND, "backend");
    let client = frontend.client_config(&id(BACKEND).into(), ClientAlpn::Http2);
    let handshake = Handshake::run(client, backend.server_config());
    assert_eq!((handshake.client_result, handshake.server_result), (Ok(()), Ok(())));
}

#[test]
fn the_root_is_a_signing_certificate_after_the_standard() {
    let (dir, authority) = authority();
    let [root] = show(&dir.path().join(CERTIFICATE_FILE)).unwrap().try_into().unwrap();
    assert_eq!(root.spiffe_id, Some(id("spiffe://cluster.local")));
    assert_eq!((root.subject.as_str(), root.issuer.as_str()), ("CN=meshgate root CA", "CN=meshgate root CA"));
    assert!(root.is_ca);
    assert_eq!(root.key_usages, ["keyCertSign", "cRLSign"]);
    assert_eq!(root.problems, [""; 0]);
    assert_eq!(root.not_after, authority.not_after());
    let der = CertificateDer::from_pem_file(dir.path().join(CERTIFICATE_FILE)).unwrap();
    let parsed = certificate::parse(&der).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && parsed.key_usage().unwrap().unwrap().critical);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let years = root.not_after.duration_since(root.not_before).unwrap().as_secs() / (365 * 86_400);
    assert_eq!(years, 10);
}

#[test]
fn a_leaf_says_what_the_standard_wants_and_no_more() {
    let (dir, authority) = authority();
    let mut options = IssueOptions::new(id(FRONTEND));
    options.dns_names = vec!["frontend.default.svc".to_owned()];
    let files = write_svid(dir.path(), "frontend", &authority.issue(&options).unwrap()).unwrap();
    let [leaf] = show(&files.certificate).unwrap().try_into().unwrap();
    assert_eq!(leaf.spiffe_id, Some(id(FRONTEND)));
    assert_eq!((leaf.subject.as_str(), leaf.is_ca), ("", false));
    assert_eq!(leaf.key_usages, ["digitalSignature"]);
    assert_eq!(leaf.extended_key_usages, ["serverAuth", "clientAuth"]);
    assert_eq!(leaf.dns_names, ["frontend.default.svc"]);
    assert_eq!(leaf.problems, [""; 0]);
    assert_eq!(leaf.serial.len(), 32);
    let now = SystemTime::now();
    let backdated = now.duration_since(leaf.not_before).unwrap().as_secs();
    assert!((59..=90).contains(&backdated), "{backdated}");
    let left = leaf.not_after.duration_since(now).unwrap().as_secs();
    assert!((24 * 3600 - 30..=24 * 3600).contains(&left), "{left}");

    let der = CertificateDer::from_pem_file(&files.certificate).unwrap();
    assert_eq!(peer_identity(&der).unwrap(), id(FRONTEND));
    let parsed = certificate::parse(&der).unwrap();
    assert!(parsed.basic_constraints().unwrap().is_some(), "cA false is said, not left out");
    assert!(parsed.subject_alternative_name().unwrap().unwrap().critical);
    for identifier in ["2.5.29.14", "2.5.29.35"] {
        assert!(parsed.extensions().iter().any(|e| e.oid.to_string() == identifier), "{identifier}");
    }
}

#[test]
fn serial_numbers_do_not_repeat() {
    let (_dir, authority) = authority();
    let options = IssueOptions::new(id(FRONTEND));
    let serials: std::collections::BTreeSet<_> =
        (0..20).map(|_| certificate::serial(&certificate::parse(&issue(&authority, &options)).unwrap())).collect();
    assert_eq!(serials.len(), 20);
}

#[test]
fn a_leaf_never_outlives_its_root() {
    let dir = TempDir::new().unwrap();
    let mut options = InitOptions::new(HOME.parse().unwrap());
    options.validity = Duration::from_secs(3600);
    let authority = init(dir.path(), &options).unwrap();
    for validity in [Duration::from_secs(7200), Duration::MAX] {
        let leaf = issue(&authority, &IssueOptions { validity, ..IssueOptions::new(id(FRONTEND)) });
        assert_eq!(certificate::validity(&certificate::parse(&leaf).unwrap()).1, authority.not_after());
    }
}

#[test]
fn refuses_to_issue_what_nobody_would_accept() {
    let (_dir, authority) = authority();
    let error = |options: IssueOptions| authority.issue(&options).unwrap_err();
    let of = |text: &str| IssueOptions::new(id(text));
    assert!(matches!(error(of("spiffe://other.example/ns/a/sa/b")), CaError::OtherTrustDomain { .. }));
    assert!(matches!(error(of("spiffe://cluster.local")), CaError::NoPath { .. }));
    for validity in [Duration::ZERO, Duration::from_millis(999)] {
        assert!(matches!(error(IssueOptions { validity, ..of(FRONTEND) }), CaError::Validity { .. }));
    }
    for name in ["", "a b", "*.example", "a\0b", "\u{e4}.example"] {
        let dns_names = vec![name.to_owned()];
        assert!(matches!(error(IssueOptions { dns_names, ..of(FRONTEND) }), CaError::DnsName { .. }), "{name:?}");
    }
}

#[test]
fn refuses_options_that_no_certificate_can_hold() {
    let dir = TempDir::new().unwrap();
    let options = InitOptions::new(HOME.parse().unwrap());
    for name in ["", "a\nb", "x".repeat(65).as_str()] {
        let options = InitOptions { common_name: name.to_owned(), ..options.clone() };
        assert!(matches!(init(dir.path(), &options), Err(CaError::CommonName { .. })), "{name:?}");
    }
    for validity in [Duration::ZERO, Duration::from_secs(10_000 * 366 * 86_400), Duration::MAX] {
        let options = InitOptions { validity, ..options.clone() };
        assert!(matches!(init(dir.path(), &options), Err(CaError::Validity { .. })), "{validity:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn keys_are_readable_for_their_owner_only() {
    let (dir, authority) = authority();
    let issued = authority.issue(&IssueOptions::new(id(FRONTEND))).unwrap();
    let files = write_svid(dir.path(), "frontend", &issued).unwrap();
    assert_eq!(mode(&dir.path().join(KEY_FILE)), 0o600);
    assert_eq!(mode(&files.key), 0o600);
    // What the umask leaves of 0644.
    assert_eq!(mode(&files.certificate) & !0o644, 0);
    assert_eq!(files.certificate, dir.path().join("frontend.pem"));
    assert_eq!(files.key, dir.path().join("frontend-key.pem"));
    assert!(!format!("{issued:?}{authority:?}").contains("PRIVATE"));
}

#[test]
fn overwrites_nothing_and_leaves_nothing_half_done() {
    let (dir, authority) = authority();
    let options = InitOptions::new(HOME.parse().unwrap());
    let before = fs::read(dir.path().join(KEY_FILE)).unwrap();
    assert!(matches!(init(dir.path(), &options), Err(CaError::Exists { .. })));
    assert_eq!(fs::read(dir.path().join(KEY_FILE)).unwrap(), before);

    // Only one of the two files is there: the other is not made.
    let issued = authority.issue(&IssueOptions::new(id(FRONTEND))).unwrap();
    for (present, absent) in [("x.pem", "x-key.pem"), ("y-key.pem", "y.pem")] {
        fs::write(dir.path().join(present), "mine").unwrap();
        let error = write_svid(dir.path(), &present[..1], &issued).unwrap_err();
        assert!(matches!(&error, CaError::Exists { file } if file.ends_with(present)), "{error}");
        assert_eq!(fs::read(dir.path().join(present)).unwrap(), b"mine");
        assert!(!dir.path().join(absent).exists());
    }

    // A link is not followed, not even one to nothing.
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), dir.path().join("z-key.pem")).unwrap();
    assert!(matches!(write_svid(dir.path(), "z", &issued), Err(CaError::Exists { .. })));
    assert!(!dir.path().join("elsewhere").exists() && !dir.path().join("z.pem").exists());
}

#[test]
fn an_interrupted_init_is_no_authority() {
    let (dir, _) = authority();
    fs::remove_file(dir.path().join(CERTIFICATE_FILE)).unwrap();
    assert!(matches!(Authority::open(dir.path()), Err(CaError::File(IdentityError::Read { .. }))));
    assert!(matches!(init(dir.path(), &InitOptions::new(HOME.parse().unwrap())), Err(CaError::Exists { .. })));
}

#[test]
fn names_of_files_stay_in_the_directory() {
    let (dir, authority) = authority();
    let issued = authority.issue(&IssueOptions::new(id(FRONTEND))).unwrap();
    for name in ["", ".", "..", "../x", "a/b", "/x", "a/", "./a"] {
        assert!(matches!(write_svid(dir.path(), name, &issued), Err(CaError::FileName { .. })), "{name:?}");
    }
}

#[test]
fn opens_nothing_but_a_root_with_its_key() {
    let (dir, _) = authority();
    let (certificate, key) = (dir.path().join(CERTIFICATE_FILE), dir.path().join(KEY_FILE));
    let reason = || match Authority::open(dir.path()).unwrap_err() {
        CaError::NotAuthority { reason, .. } => reason,
        other => panic!("{other}"),
    };
    let write = |signer: &Signer| {
        fs::write(&certificate, &signer.pem).unwrap();
        fs::write(&key, signer.issuer.key().serialize_pem()).unwrap();
    };
    let good = fs::read_to_string(&certificate).unwrap();
    fs::write(&key, Signer::root("x").issuer.key().serialize_pem()).unwrap();
    assert!(reason().contains("is not its key"));
    fs::write(&certificate, good.repeat(2)).unwrap();
    assert!(reason().contains("2 certificates"));
    write(&Signer::root("no ID"));
    assert!(reason().contains("0 URI names"));
    let named = |text: &'static str| Signer::root_with("x", |p| p.subject_alt_names = vec![uri(text).unwrap()]);
    write(&named(FRONTEND));
    assert!(reason().contains("has no path"));
    write(&named("https://a"));
    assert!(reason().contains("not a SPIFFE ID"));
    write(&Signer::root_with("x", |p| p.is_ca = IsCa::ExplicitNoCa));
    assert!(reason().contains("not a certificate authority"));
    write(&Signer::root("x").intermediate("y", |p| p.subject_alt_names = vec![uri("spiffe://a").unwrap()]));
    assert!(reason().contains("another authority issued it"));
    write(&named("spiffe://a"));
    assert_eq!(Authority::open(dir.path()).unwrap().trust_domain().as_str(), "a");
    let hour = time::Duration::hours(1);
    write(&Signer::root_with("x", |p| {
        p.subject_alt_names = vec![uri("spiffe://a").unwrap()];
        p.not_after = OffsetDateTime::now_utc() - hour;
    }));
    let expired = Authority::open(dir.path()).unwrap();
    let error = expired.issue(&IssueOptions::new(id("spiffe://a/b"))).unwrap_err();
    assert!(matches!(error, CaError::NotValidNow { .. }), "{error}");
}

#[test]
fn show_lists_every_certificate_and_its_problems() {
    let dir = TempDir::new().unwrap();
    let root = Signer::root("a\u{1b}[31mb");
    let leaf = root.workload_with(FRONTEND, |p| {
        p.key_usages.push(KeyUsagePurpose::KeyCertSign);
        p.not_after = OffsetDateTime::now_utc() - time::Duration::minutes(1);
    });
    let sources = leaf.write(dir.path(), &[&root], &[]);
    fs::write(&sources.certificate, format!("{}{}", leaf.chain_pem(), root.pem)).unwrap();
    let [shown, above] = show(&sources.certificate).unwrap().try_into().unwrap();
    assert_eq!(shown.problems.len(), 2, "{:?}", shown.problems);
    let text = shown.to_string();
    assert!(text.starts_with(FRONTEND), "{text}");
    assert!(text.contains("PROBLEM     its key usage has keyCertSign"), "{text}");
    assert!(text.contains("PROBLEM     it expired at"), "{text}");
    assert!(text.contains("issuer      CN=a\\u{1b}[31mb"), "{text}");
    assert!(above.to_string().contains("kind        certificate authority"), "{above}");
    assert!(above.to_string().starts_with("(no SPIFFE ID)"), "{above}");
    fs::write(&sources.certificate, "").unwrap();
    assert!(matches!(show(&sources.certificate), Err(CaError::File(IdentityError::NoCertificate { .. }))));
}

#[test]
fn openssl_agrees_where_it_is_installed() {
    let (dir, authority) = authority();
    let issued = authority.issue(&IssueOptions::new(id(FRONTEND))).unwrap();
    let files = write_svid(dir.path(), "frontend", &issued).unwrap();
    let root = dir.path().join(CERTIFICATE_FILE);
    for purpose in ["sslclient", "sslserver"] {
        let mut openssl = Command::new("openssl");
        openssl.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]).arg(&root).arg(&files.certificate);
        match openssl.output() {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => return eprintln!("skipped: openssl cannot be run: {error}"),
        }
    }
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-serial", "-in"])
        .arg(&files.certificate)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap().to_lowercase().replace(':', "");
    let [leaf] = show(&files.certificate).unwrap().try_into().unwrap();
    assert!(text.contains(&leaf.fingerprint) && text.contains(&leaf.serial), "{text}");
}

#[test]
fn lists_take_over_what_was_revoked_and_what_others_issued_is_not_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let options = InitOptions::new("cluster.local".parse().unwrap());
    let authority = init(dir.path(), &options).unwrap();
    let issue = |authority: &Authority, name: &str| {
        let id = format!("spiffe://cluster.local/ns/default/sa/{name}").parse().unwrap();
        write_svid(dir.path(), name, &authority.issue(&IssueOptions::new(id)).unwrap()).unwrap().certificate
    };
    let (one, two) = (issue(&authority, "one"), issue(&authority, "two"));
    let revoke = |files: &[PathBuf]| authority.revoke(dir.path(), files, &[], DEFAULT_LIST_VALIDITY);
    assert_eq!(revoke(&[]).unwrap().revoked, 0);
    assert_eq!(revoke(std::slice::from_ref(&one)).unwrap().revoked, 1);
    assert_eq!(revoke(&[one.clone(), two.clone()]).unwrap().revoked, 2);
    let number = || {
        let contents = Contents::read(&dir.path().join(REVOCATION_LIST_FILE)).unwrap();
        let lists = contents.revocation_lists().unwrap();
        crate::crl::parse(&lists[0]).unwrap().crl_number().unwrap().to_string()
    };
    assert_eq!(number(), "3");

    let elsewhere = tempfile::tempdir().unwrap();
    let other = init(elsewhere.path(), &options).unwrap();
    let stranger = issue(&other, "stranger");
    assert!(matches!(revoke(&[stranger]), Err(CaError::NotOurs { .. })));
    let theirs = other.revoke(elsewhere.path(), &[], &[], DEFAULT_LIST_VALIDITY).unwrap().file;
    assert_eq!(number(), "3");
    fs::copy(theirs, dir.path().join(REVOCATION_LIST_FILE)).unwrap();
    assert!(matches!(revoke(&[]), Err(CaError::NotOurs { .. })));
}

#[test]
fn a_serial_number_revokes_what_a_file_would() {
    let (dir, authority) = authority();
    let issued = authority.issue(&IssueOptions::new(id(FRONTEND))).unwrap();
    let files = write_svid(dir.path(), "one", &issued).unwrap();
    let [leaf] = show(&files.certificate).unwrap().try_into().unwrap();
    let revoke = |files: &[PathBuf], serials: &[&str]| {
        let serials: Vec<_> = serials.iter().map(|&text| text.to_owned()).collect();
        authority.revoke(dir.path(), files, &serials, DEFAULT_LIST_VALIDITY)
    };
    assert_eq!(revoke(&[], &[&leaf.serial]).unwrap().revoked, 1);
    assert_eq!(revoke(&[files.certificate], &["0a:0B:c", &leaf.serial]).unwrap().revoked, 2);
    for wrong in ["", "xyz", "0x12", &"a".repeat(42), "é"] {
        assert!(matches!(revoke(&[], &[wrong]), Err(CaError::Serial { .. })), "{wrong}");
    }
}

#[test]
fn a_revoked_certificate_is_refused_by_who_has_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let authority = init(dir.path(), &InitOptions::new("cluster.local".parse().unwrap())).unwrap();
    let id: SpiffeId = "spiffe://cluster.local/ns/default/sa/one".parse().unwrap();
    let files = write_svid(dir.path(), "one", &authority.issue(&IssueOptions::new(id.clone())).unwrap()).unwrap();
    let list =
        authority.revoke(dir.path(), std::slice::from_ref(&files.certificate), &[], DEFAULT_LIST_VALIDITY).unwrap();
    let identity = Identity::load(&Sources {
        id,
        certificate: files.certificate,
        key: files.key,
        trust_bundle: dir.path().join(CERTIFICATE_FILE),
        federated: Default::default(),
        clusters: Default::default(),
        cluster: None,
        crl: vec![list.file],
        require_crl: true,
    })
    .unwrap();
    assert!(identity.is_revoked());
    assert!(show_lists(&dir.path().join(REVOCATION_LIST_FILE)).unwrap()[0].to_string().contains("revoked     1"));
    assert!(show(&dir.path().join(REVOCATION_LIST_FILE)).unwrap().is_empty());
}

#[test]
fn a_bundle_has_each_root_once_and_takes_the_place_of_the_last() {
    let ((old, _), (new, _)) = (authority(), authority());
    let (old, new) = (old.path().join(CERTIFICATE_FILE), new.path().join(CERTIFICATE_FILE));
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("bundle.pem");
    assert_eq!(write_bundle(&[old.clone(), new.clone(), old.clone()], &out).unwrap(), 2);
    let found: Vec<_> = show(&out).unwrap().into_iter().map(|root| root.fingerprint).collect();
    let each = [&old, &new].map(|file| show(file).unwrap()[0].fingerprint.clone());
    assert_eq!(found, each);
    // What is there may be one of those that it is made of.
    assert_eq!(write_bundle(&[out.clone(), new.clone()], &out).unwrap(), 2);
    assert_eq!(write_bundle(std::slice::from_ref(&new), &out).unwrap(), 1);
    assert_eq!(fs::read(&out).unwrap(), fs::read(&new).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_bundle_is_of_roots_of_one_trust_domain_and_never_an_authority() {
    let (dir, authority) = authority();
    let other = TempDir::new().unwrap();
    init(other.path(), &InitOptions::new("other.example".parse().unwrap())).unwrap();
    let root = dir.path().join(CERTIFICATE_FILE);
    let out = dir.path().join("bundle.pem");
    let files = write_svid(dir.path(), "leaf", &authority.issue(&IssueOptions::new(id(FRONTEND))).unwrap()).unwrap();
    let error = |files: &[PathBuf], out: &Path| write_bundle(files, out).unwrap_err().to_string();
    let mixed = error(&[root.clone(), other.path().join(CERTIFICATE_FILE)], &out);
    assert!(mixed.contains("it is a root of other.example, and the bundle is of cluster.local"), "{mixed}");
    let leaf = error(&[root.clone(), files.certificate], &out);
    assert!(
        leaf.contains("leaf.pem: it is not an authority's certificate: it is not a certificate authority"),
        "{leaf}"
    );
    let key = error(&[root.clone(), files.key], &out);
    assert!(key.contains("there is no certificate in it"), "{key}");
    let own = error(std::slice::from_ref(&root), &root);
    assert!(own.contains("which is not overwritten"), "{own}");
    assert!(!out.exists());
    Authority::open(dir.path()).unwrap();
}

#[test]
fn a_renewed_certificate_takes_the_place_of_the_last_and_its_key_stays_secret() {
    let (dir, authority) = authority();
    let issued = || authority.issue(&IssueOptions::new(id(FRONTEND))).unwrap();
    let first = write_svid_over(dir.path(), "frontend", &issued(), Existing::Replace).unwrap();
    let before = [&first.certificate, &first.key].map(|file| fs::read(file).unwrap());
    let second = write_svid_over(dir.path(), "frontend", &issued(), Existing::Replace).unwrap();
    assert_eq!(first, second);
    assert!(before[0] != fs::read(&second.certificate).unwrap() && before[1] != fs::read(&second.key).unwrap());
    assert_eq!((mode(&second.key), mode(&second.certificate)), (0o600, 0o644));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    Authority::open(dir.path()).unwrap();
}

#[test]
fn no_name_writes_over_the_authoritys_own_files_or_the_key_of_another() {
    let (dir, authority) = authority();
    authority.revoke(dir.path(), &[], &["40".to_owned()], DEFAULT_LIST_VALIDITY).unwrap();
    let issued = authority.issue(&IssueOptions::new(id(FRONTEND))).unwrap();
    let (a, key) = (write_svid(dir.path(), "a", &issued).unwrap(), write_svid(dir.path(), "b-key", &issued).unwrap());
    let own = [CERTIFICATE_FILE, KEY_FILE, REVOCATION_LIST_FILE].map(|file| dir.path().join(file));
    let files: Vec<_> = own.into_iter().chain([a.certificate, a.key, key.certificate, key.key]).collect();
    let read = || files.iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>();
    let before = read();
    for name in ["ca", "ca-crl", "ca-key", "a-key", "b"] {
        let error = write_svid_over(dir.path(), name, &issued, Existing::Replace).unwrap_err();
        assert!(matches!(error, CaError::Taken { .. }), "{name}: {error}");
    }
    assert!(before == read());
    // The first list is not in anybody's way either.
    fs::remove_file(dir.path().join(REVOCATION_LIST_FILE)).unwrap();
    assert!(matches!(write_svid(dir.path(), "ca-crl", &issued), Err(CaError::Taken { .. })));
    // Where there is no authority, its names are as good as others.
    let elsewhere = TempDir::new().unwrap();
    for name in ["ca-crl", "ca-crl", "ca"] {
        write_svid_over(elsewhere.path(), name, &issued, Existing::Replace).unwrap();
    }
}

#[test]
fn what_is_revoked_at_once_by_many_is_revoked() {
    let (dir, authority) = authority();
    let serials: Vec<_> = (1..=16).map(|number| format!("40{number:02}")).collect();
    std::thread::scope(|scope| {
        for serial in &serials {
            let (dir, authority) = (dir.path(), &authority);
            scope.spawn(move || {
                authority.revoke(dir, &[], std::slice::from_ref(serial), DEFAULT_LIST_VALIDITY).unwrap();
            });
        }
    });
    assert_eq!(authority.revoke(dir.path(), &[], &[], DEFAULT_LIST_VALIDITY).unwrap().revoked, serials.len());
    let own = dir.path().join(CERTIFICATE_FILE);
    assert!(matches!(authority.revoke(dir.path(), &[own], &[], DEFAULT_LIST_VALIDITY), Err(CaError::Itself { .. })));
}

#[test]
fn what_lies_beside_is_not_touched() {
    let (dir, authority) = authority();
    let root = dir.path().join(CERTIFICATE_FILE);
    for name in ["bundle.new", "ca-crl.new"] {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    write_bundle(&[root], &dir.path().join("bundle.pem")).unwrap();
    authority.revoke(dir.path(), &[], &[], DEFAULT_LIST_VALIDITY).unwrap();
    for name in ["bundle.new", "ca-crl.new"] {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"mine");
    }
}
