//! What a command says of a mistake: what is wrong, where, and what to do about it. Read as somebody does who has the product for an hour.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;

use tempfile::TempDir;

use super::meshgate;
use crate::support::backend::FRONTEND;

const BOOTSTRAP: &str = "\
workload: {name: web-1, namespace: default, serviceAccount: frontend, labels: {app: web}}
identity: {certificate: ca/frontend.pem, key: ca/frontend-key.pem, trustBundle: ca/ca.pem}
resources: {directory: empty}
";

/// A folder with an authority, a certificate and a bootstrap for it, and some things that are wrong.
fn prepared() -> TempDir {
    let dir = TempDir::new().unwrap();
    for made in [&["ca", "init"][..], &["ca", "issue", "default/frontend"], &["ca", "init", "--dir", "other"]] {
        assert_eq!(meshgate(dir.path(), made).0, 0);
    }
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    write("bad.yml", "a: [");
    write("unknown.yml", &BOOTSTRAP.replace("workload:", "wokload:"));
    write("stranger.yml", &BOOTSTRAP.replace("trustBundle: ca/", "trustBundle: other/"));
    write("somebody.yml", &BOOTSTRAP.replace("serviceAccount: frontend", "serviceAccount: backend"));
    write("no-key.yml", &BOOTSTRAP.replace("frontend-key.pem", "no-key.pem"));
    write("no-root.yml", &BOOTSTRAP.replace("/ca.pem", "/no-root.pem"));
    let more = |name: &str, more: &str| write(name, &format!("{BOOTSTRAP}{more}\n"));
    more("loud.yml", "log: {level: loud}");
    more("keys.yml", "jwks: {trustBundle: nowhere.pem}");
    more("traces.yml", "tracing: {endpoint: 'https://127.0.0.1:4318', trustBundle: nowhere.pem}");
    write("away.yml", &BOOTSTRAP.replace("/frontend", "/away"));
    write("web.yaml", BOOTSTRAP);
    fs::create_dir(dir.path().join("locked")).unwrap();
    let root = fs::read_to_string(dir.path().join("ca/ca.pem")).unwrap();
    write("cut.pem", &root[..root.len() - 40]);
    write("locked/ca.pem", &root);
    write("locked/ca-key.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    fs::write(dir.path().join("plain.der"), [0x30, 0x82, 1, 0]).unwrap();
    write("plain.yaml", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n");
    dir
}

/// A command line, and what must be in what it says.
const MISTAKES: &[(&str, &[&str])] = &[
    ("run --bootstrap nowhere.yml", &["error: nowhere.yml: cannot be read", "hint: relative paths are looked for in"]),
    ("run --bootstrap empty", &["error: empty: is a folder, and a file is wanted"]),
    ("run --bootstrap bad.yml", &["error: bad.yml:2: "]),
    ("run --bootstrap unknown.yml", &["error: unknown.yml:1: wokload: unknown field", "did you mean `workload`?"]),
    ("run --bootstrap stranger.yml", &["is not trusted by", "hint: `meshgate ca verify"]),
    ("run --bootstrap somebody.yml", &["this workload is", "hint: `meshgate ca show"]),
    ("run --bootstrap no-key.yml", &["no-key.pem: cannot be read", "hint: its name in the bootstrap starts at"]),
    ("check --bootstrap no-key.yml", &["no-key.yml: error: identity: ", "no-key.pem: cannot be read", "1 error"]),
    ("check --bootstrap no-root.yml", &["no-root.yml: error: identity: ", "no-root.pem: cannot be read", "1 error"]),
    ("check --bootstrap loud.yml", &["loud.yml: error: log.level: `loud` is no level", "1 error"]),
    ("check --bootstrap keys.yml", &["keys.yml: error: jwks.trustBundle: ", "nowhere.pem", "1 error"]),
    ("check --bootstrap traces.yml", &["traces.yml: error: tracing.trustBundle: ", "nowhere.pem", "1 error"]),
    ("check --bootstrap stranger.yml", &["stranger.yml: error: identity: ", "is not trusted by", "1 error"]),
    ("check web.yaml", &["missing field `apiVersion`", "hint: web.yaml looks like a bootstrap"]),
    ("check", &["--resources DIR", "--bootstrap FILE"]),
    ("check nowhere", &["nowhere: error: the folder cannot be read", "1 error"]),
    ("explain --resources nowhere", &["error: nowhere: the folder cannot be read", "hint: "]),
    ("explain --resources empty --request nowhere.yml", &["error: nowhere.yml: cannot be read", "hint: "]),
    ("explain --resources empty --workload a/b", &["error: --workload: there is no Pod or WorkloadEntry a/b"]),
    ("explain --admin 127.0.0.1:1", &["error: cannot ask the proxy at 127.0.0.1:1", "hint: nothing listens there"]),
    ("explain --admin no.host.invalid:15000", &["error: --admin: `no.host.invalid:15000` cannot be looked up"]),
    ("explain --admin 15000", &["error: --admin: `15000` is no address: expected such as 127.0.0.1:15000"]),
    ("wait --admin 127.0.0.1:1 --timeout 1ms", &["is not ready after 1ms", "hint: nothing listens there"]),
    ("wait --timeout 5", &["expected a number and a unit"]),
    ("test nowhere", &["error: nowhere: cannot be read", "hint: "]),
    ("test empty", &["there is no PolicyTest (test.meshgate.io/v1)"]),
    ("test plain.yaml", &["there is no PolicyTest (test.meshgate.io/v1)"]),
    ("inject nowhere.yaml", &["error: nowhere.yaml: cannot be read", "hint: "]),
    ("inject bad.yml", &["error: bad.yml:2: ", "nothing is printed, because a document is refused"]),
    ("inject empty", &["there is no *.yaml, *.yml or *.json in this folder"]),
    ("inject plain.yaml", &["note: there is no workload in it"]),
    ("import", &["nothing to import from: give --cluster"]),
    ("import --resources empty", &["--cluster-key, --gateway-host and --gateway-port"]),
    ("import --cluster a/b/c/d=nowhere,1.2.3.4:1", &["error: nowhere is no folder"]),
    ("ca init", &["ca/ca-key.pem: it exists, and is not overwritten", "hint: use the authority that is there"]),
    ("ca init --dir /proc/nowhere", &["error: /proc/nowhere: cannot be written"]),
    ("ca init --dir third --validity 0s", &["cannot be valid for", "hint: expected at least a second"]),
    ("ca issue frontend", &["names no workload", "default/frontend"]),
    (
        "ca issue default/frontend --dir none",
        &["none/ca.pem: cannot be read", "hint: --dir says where the authority is"],
    ),
    ("ca issue spiffe://a.b/ns/c/sa/d", &["not of this authority's trust domain", "hint: this authority signs for"]),
    ("ca show ca/frontend-key.pem", &["there is no certificate in it", "hint: it is a private key"]),
    ("ca bundle ca/ca.pem --out ca/ca.pem", &["which is not overwritten", "hint: --out puts it"]),
    ("ca serve --dns x --max-ttl 1m", &["error: --max-ttl", "--min-ttl"]),
    ("ca issue default/ca --force", &["which is not overwritten", "hint: --out puts it"]),
    ("ca revoke ca/ca.pem", &["it is the authority itself", "hint: a root is taken back by"]),
    ("ca show ca", &["ca: cannot be read: Is a directory", "hint: it is a folder, and a file is wanted"]),
    ("ca show cut.pem", &["the line -----END CERTIFICATE----- is missing"]),
    ("ca show plain.der", &["there is no certificate in it", "hint: it looks like DER"]),
    ("ca issue default/x --dir locked", &["hint: it is encrypted, and no password is asked for"]),
    ("ca init --dir plain.yaml", &["cannot be written", "hint: a folder is wanted there"]),
    ("ca serve --dns x --dir nowhere", &["nowhere/ca.pem: cannot be read", "hint: --dir says where the authority is"]),
    ("ca serve --dns x --log-level loud", &["--log-level: `loud` is no level: expected error, warn"]),
    ("man --dir /proc/nowhere", &["error: /proc/nowhere: cannot be written"]),
    ("ca show bad.yml", &["there is no certificate in it", "hint: expected a PEM file"]),
    ("ca show nowhere.pem", &["nowhere.pem: cannot be read", "hint: relative paths"]),
    ("ca revoke nowhere.pem", &["nowhere.pem: cannot be read", "hint: relative paths"]),
    ("ca verify ca/frontend.pem --roots nowhere.pem", &["nowhere.pem: cannot be read", "hint: "]),
    ("man no such", &["error: there is no command `no such`", "meshgate help"]),
    ("completions tcsh", &["bash", "fish", "zsh"]),
    ("iptables print -p 0", &["--outbound-port", "1..=65535"]),
];

#[test]
fn every_mistake_says_where_it_is_and_what_to_do() {
    let dir = prepared();
    let mut poor = Vec::new();
    for (arguments, words) in MISTAKES {
        let words_of: Vec<_> = arguments.split(' ').collect();
        let (status, text, errors) = meshgate(dir.path(), &words_of);
        let said = format!("{text}{errors}");
        // Nothing is said twice.
        let twice = |line: &str| {
            let parts: Vec<_> = line.split(": ").collect();
            parts.windows(2).any(|parts| parts[0].ends_with(parts[1]))
        };
        assert!(!said.lines().any(twice), "{said}");
        let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
        if !missing.is_empty() || (status == 0) != (*arguments == "inject plain.yaml") {
            poor.push(format!("$ meshgate {arguments}\n{said}=> {status}, without {missing:?}"));
        }
    }
    assert!(poor.is_empty(), "{}", poor.join("\n\n"));
}

#[test]
fn where_the_identity_is_elsewhere_that_is_said_and_no_mistake() {
    let dir = prepared();
    let (status, text, errors) = meshgate(dir.path(), &["check", "--bootstrap", "away.yml"]);
    assert_eq!(status, 0, "{text}{errors}");
    assert!(
        errors.contains("note: ") && errors.contains("away.pem is not here, so the identity was not looked at"),
        "{errors}"
    );
    let (status, _, errors) = meshgate(dir.path(), &["check", "--bootstrap", "web.yaml"]);
    assert_eq!((status, errors.contains("identity")), (0, false), "{errors}");
}

#[test]
fn a_key_for_another_user_is_told_and_no_mistake() {
    const NOBODY: u32 = 65534;
    let dir = prepared();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path().join("ca/frontend-key.pem"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut process = std::process::Command::new(crate::binary());
    process.current_dir(dir.path()).args(["check", "--bootstrap", "web.yaml"]);
    // Root reads everything.
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        process.uid(NOBODY).gid(NOBODY);
    }
    let output = process.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert!(
        errors.contains("frontend-key.pem is not for this user to read, so the identity was not looked at"),
        "{errors}"
    );
}

#[test]
fn who_reads_no_further_is_told_nothing_and_a_full_disk_is_an_error() {
    let dir = prepared();
    for (command, status) in [
        (&["version"][..], 0),
        (&["completions", "bash"], 0),
        (&["man", "--markdown"], 0),
        (&["check", "--list"], 0),
        (&["ca", "show", "ca/ca.pem"], 0),
        (&["ca", "verify", "ca/ca.pem"], 1),
        (&["iptables", "print"], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = |out: std::process::Stdio| {
            let mut process = std::process::Command::new(crate::binary());
            let output = process.current_dir(dir.path()).args(command).stdout(out).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, errors) = run(writer.into());
        assert!(code == Some(status) && !errors.contains("pipe"), "{command:?}: {code:?} {errors}");
        let (code, errors) = run(fs::File::options().write(true).open("/dev/full").unwrap().into());
        assert!(code == Some(2) && errors.contains("No space left on device"), "{command:?}: {code:?} {errors}");
    }
}

#[test]
fn a_port_in_use_says_who_to_look_for() {
    let dir = prepared();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let bootstrap = format!("{BOOTSTRAP}admin: {{address: '{address}'}}\n");
    fs::write(dir.path().join("taken.yml"), bootstrap).unwrap();
    let (status, _, errors) = meshgate(dir.path(), &["run", "--bootstrap", "taken.yml"]);
    assert_eq!(status, 2);
    assert!(
        errors.contains(&format!("cannot listen on {address}")) && errors.contains("hint: another process"),
        "{errors}"
    );
}

#[test]
fn a_mistake_is_said_on_standard_error_with_json_as_well() {
    let dir = prepared();
    for arguments in [
        &["ca", "issue", "default/frontend", "-o", "json"][..],
        &["ca", "show", "nowhere.pem", "-o", "json"],
        &["explain", "--resources", "nowhere", "-o", "json"],
        &["test", "empty", "-o", "json"],
        &["import", "-o", "json"],
        &["ca", "issue", "--id", FRONTEND, "--dir", "none", "-o", "json"],
    ] {
        let (status, text, errors) = meshgate(dir.path(), arguments);
        assert_eq!((status, text.as_str()), (2, ""), "{arguments:?}");
        assert!(errors.starts_with("error: "), "{arguments:?}: {errors}");
    }
}
