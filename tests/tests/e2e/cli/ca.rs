//! `meshgate ca`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tempfile::TempDir;

use super::meshgate;
use crate::support::backend::FRONTEND;

#[test]
fn ca_writes_keys_for_their_owner_only_and_never_over_anything() {
    let dir = TempDir::new().unwrap();
    let init = ["ca", "init", "--dir", "ca", "--trust-domain", "cluster.local"];
    let issue = ["ca", "issue", "--dir", "ca", "--id", FRONTEND, "--name", "web"];
    let files = ["ca/ca.pem", "ca/ca-key.pem", "ca/web.pem", "ca/web-key.pem"].map(|file| dir.path().join(file));
    for (command, made) in [(&init[..], &files[..2]), (&issue[..], &files[2..])] {
        let (status, text, errors) = meshgate(dir.path(), command);
        assert_eq!(status, 0, "{errors}");
        let before: Vec<_> = made.iter().map(|file| fs::read(file).unwrap()).collect();
        for file in made {
            assert!(text.contains(file.file_name().unwrap().to_str().unwrap()), "{text}");
            let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if file.to_str().unwrap().contains("-key") { 0o600 } else { 0o644 }, "{}", file.display());
        }
        let (status, _, errors) = meshgate(dir.path(), command);
        assert_eq!(status, 2);
        assert!(errors.contains("-key.pem") && errors.contains("exist"), "{errors}");
        assert_eq!(before, made.iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>());
    }
}

#[test]
fn ca_shows_what_it_issued() {
    let dir = TempDir::new().unwrap();
    meshgate(dir.path(), &["ca", "init", "--dir", "."]);
    let issue = ["ca", "issue", "--dir", ".", "--id", FRONTEND, "--validity", "1h", "--dns", "web.example"];
    assert_eq!(meshgate(dir.path(), &issue).0, 0);
    let (status, text, _) = meshgate(dir.path(), &["ca", "show", "frontend.pem"]);
    assert_eq!(status, 0);
    assert!(text.contains(FRONTEND) && text.contains("web.example") && !text.contains("PROBLEM"), "{text}");
    let (status, json, _) = meshgate(dir.path(), &["ca", "show", "frontend.pem", "--output", "json"]);
    let all: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status, 0);
    assert_eq!((&all[0]["spiffeId"], &all[0]["isCa"]), (&FRONTEND.into(), &false.into()), "{all}");
    assert_eq!(all[0]["dnsNames"], serde_json::json!(["web.example"]), "{all}");
    let (status, text, errors) = meshgate(dir.path(), &["ca", "show", "frontend-key.pem"]);
    assert_eq!((status, text.as_str()), (2, ""));
    assert!(errors.contains("frontend-key.pem: there is no certificate in it"), "{errors}");
    assert!(!format!("{text}{errors}").contains("PRIVATE"), "{errors}");
}

#[test]
fn ca_refuses_what_nobody_would_accept() {
    let dir = TempDir::new().unwrap();
    meshgate(dir.path(), &["ca", "init", "--dir", "."]);
    for (wrong, about) in [
        (["--id", "spiffe://partner.example/ns/a/sa/b"], "partner.example"),
        (["--id", "spiffe://cluster.local"], "spiffe://cluster.local"),
        (["--id", "frontend"], "--id"),
    ] {
        let (status, _, errors) = meshgate(dir.path(), &[&["ca", "issue", "--dir", "."], &wrong[..]].concat());
        assert_eq!(status, 2, "{wrong:?}");
        assert!(errors.contains(about), "{errors}");
    }
    let nowhere = ["ca", "issue", "--dir", "nowhere", "--id", FRONTEND];
    let (status, _, errors) = meshgate(dir.path(), &nowhere);
    assert!(status == 2 && errors.contains("nowhere/ca.pem"), "{errors}");
}
