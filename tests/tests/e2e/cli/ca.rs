//! `meshgate ca`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tempfile::TempDir;

use super::meshgate;
use crate::support::backend::{BACKEND, Backend, FRONTEND};

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
fn a_key_that_everybody_may_read_is_told_by_whoever_uses_it_and_not_one_for_a_group() {
    let dir = TempDir::new().unwrap();
    meshgate(dir.path(), &["ca", "init"]);
    for (mode, is_told) in [(0o600, false), (0o440, false), (0o444, true), (0o644, true)] {
        fs::set_permissions(dir.path().join("ca/ca-key.pem"), fs::Permissions::from_mode(mode)).unwrap();
        for command in [&["ca", "issue", "shop/cart", "--force", "--output", "json"][..], &["ca", "crl"]] {
            let (status, _, errors) = meshgate(dir.path(), command);
            assert_eq!(status, 0, "{errors}");
            assert_eq!(errors.contains("chmod 600 ca/ca-key.pem"), is_told, "{mode:o} {command:?}: {errors}");
        }
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

#[test]
fn three_words_make_an_authority_and_a_certificate_that_is_trusted() {
    let dir = TempDir::new().unwrap();
    let (status, text, _) = meshgate(dir.path(), &["ca", "init"]);
    assert!(status == 0 && text.contains("next: meshgate ca issue default/frontend"), "{text}");
    let (status, text, _) = meshgate(dir.path(), &["ca", "issue", "default/frontend", "--out", "a/b"]);
    assert!(status == 0 && text.contains(FRONTEND) && text.contains("trustBundle: ca/ca.pem"), "{text}");
    let (status, text, _) = meshgate(dir.path(), &["ca", "verify", "a/b/frontend.pem"]);
    assert_eq!((status, text), (0, format!("trusted: {FRONTEND}\n")));
    let (_, text, _) = meshgate(dir.path(), &["ca", "inspect", "a/b/frontend.pem"]);
    assert!(text.contains("(in 23 hours)") || text.contains("(in 24 hours)"), "{text}");
    assert!(text.contains("P-256"), "{text}");
}

#[test]
fn a_workload_is_named_as_one_likes() {
    let dir = TempDir::new().unwrap();
    meshgate(dir.path(), &["ca", "init"]);
    for workload in ["default/frontend", "cluster.local/ns/default/sa/frontend", FRONTEND] {
        let (status, text, errors) = meshgate(dir.path(), &["ca", "issue", workload, "--force"]);
        assert!(status == 0 && text.contains(FRONTEND), "{workload}: {text}{errors}");
    }
    for wrong in ["frontend", "a//b", "/a", "default/Front end"] {
        let (status, _, errors) = meshgate(dir.path(), &["ca", "issue", wrong]);
        assert!(status == 2 && errors.starts_with("error: "), "{wrong}: {errors}");
    }
    let both = ["ca", "issue", "default/frontend", "--id", FRONTEND];
    assert_eq!(meshgate(dir.path(), &both).0, 2);
    assert_eq!(meshgate(dir.path(), &["ca", "issue"]).0, 2);
}

#[test]
fn only_force_replaces_a_key_and_the_new_one_is_as_safe() {
    let dir = TempDir::new().unwrap();
    let key = dir.path().join("ca/frontend-key.pem");
    meshgate(dir.path(), &["ca", "init"]);
    meshgate(dir.path(), &["ca", "issue", "default/frontend"]);
    let before = fs::read(&key).unwrap();
    let (status, _, errors) = meshgate(dir.path(), &["ca", "issue", "default/frontend"]);
    assert!(status == 2 && errors.contains("hint: --force replaces it"), "{errors}");
    assert_eq!(fs::read(&key).unwrap(), before);
    assert_eq!(meshgate(dir.path(), &["ca", "issue", "default/frontend", "--force"]).0, 0);
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(meshgate(dir.path(), &["ca", "verify", "ca/frontend.pem"]).0, 0);

    let (status, _, errors) = meshgate(dir.path(), &["ca", "init"]);
    assert!(status == 2 && errors.contains("nothing it issued is trusted any more"), "{errors}");
    assert_eq!(meshgate(dir.path(), &["ca", "init", "--force"]).0, 0);
    let (status, text, errors) = meshgate(dir.path(), &["ca", "verify", "ca/frontend.pem"]);
    assert!(status == 1 && text.starts_with("not trusted: ") && errors.starts_with("hint: "), "{text}{errors}");
    let left: Vec<_> = fs::read_dir(dir.path().join("ca")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn what_is_revoked_is_not_trusted_by_who_has_the_list() {
    let dir = TempDir::new().unwrap();
    meshgate(dir.path(), &["ca", "init"]);
    meshgate(dir.path(), &["ca", "issue", "default/frontend"]);
    let (status, json, _) = meshgate(dir.path(), &["ca", "revoke", "ca/frontend.pem", "-o", "json"]);
    assert_eq!((status, &serde_json::from_str::<Value>(&json).unwrap()["revoked"]), (0, &1.into()));
    assert_eq!(meshgate(dir.path(), &["ca", "verify", "ca/frontend.pem"]).0, 0);
    let (status, json, _) =
        meshgate(dir.path(), &["ca", "verify", "ca/frontend.pem", "--crl", "ca/ca-crl.pem", "-o", "json"]);
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &found["trusted"]), (1, &false.into()));
    assert!(found["reason"].as_str().unwrap().to_lowercase().contains("revoked"), "{found}");
}

#[test]
fn what_a_running_proxy_shows_is_shown() {
    meshgate_tests::run(async {
        let backend = Backend::strict().await;
        let (inbound, admin) = (backend.sidecar.inbound().to_string(), backend.sidecar.admin().to_string());
        let show = async |server: String| {
            let run = move || meshgate(std::path::Path::new("/"), &["ca", "show", &server]);
            tokio::task::spawn_blocking(run).await.unwrap()
        };
        let (status, text, errors) = show(inbound).await;
        assert!(status == 0 && text.contains(BACKEND) && text.contains("P-256"), "{text}{errors}");
        let (status, _, errors) = show(admin).await;
        assert!(status == 2 && errors.contains("does it speak TLS?"), "{errors}");
        let (status, _, errors) = show("127.0.0.1:1".to_owned()).await;
        assert!(status == 2 && errors.contains("hint: nothing listens there"), "{errors}");
    });
}
