//! Google's gRPC and OpenSSL at the other end: a workload that is not ours asks our authority, and ours asks an authority that is not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use meshgate::sandbox::{PodSpec, Sandbox};
use meshgate_tests::run;
use serde_json::{Value, json};

use super::served::{CaServer, NAME, ca};
use crate::support::backend::{BACKEND, FRONTEND, HELLO, counting, pod};
use crate::support::client::Client;
use crate::support::pki::Authority;

/// `None`, said loudly, on a machine where it was not prepared: `.ci/run tools` does that.
fn python() -> Option<Command> {
    let python = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("ci-tools/bin/python");
    if !python.exists() {
        let line = format!("\n*** SKIPPED: gRPC that is not ours: there is no {} ***\n", python.display());
        // Straight to the descriptor: the harness keeps what eprintln! writes in a test that passes.
        let _ = std::io::stderr().write_all(line.as_bytes());
        return None;
    }
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/ca_serve/foreign.py"));
    Some(command)
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn googles_grpc_gets_a_certificate_of_ours_for_a_key_of_openssl() {
    run(async {
        let Some(_) = python() else { return };
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let server = CaServer::start(&mut sandbox, &[]).await;
        let path = |name: &str| sandbox.path(name).display().to_string();
        let san = format!("subjectAltName=URI:{FRONTEND}");
        for (kind, option) in [("ec", "ec_paramgen_curve:P-256"), ("rsa", "rsa_keygen_bits:2048"), ("ed25519", "")] {
            let (key, csr, leaf) = (path("key.pem"), path("csr.pem"), path("leaf.pem"));
            let mut arguments = vec!["req", "-new", "-newkey", kind];
            if !option.is_empty() {
                arguments.extend(["-pkeyopt", option]);
            }
            arguments.extend(["-nodes", "-subj", "/O=meshgate", "-keyout", &key, "-out", &csr, "-addext", &san]);
            openssl(&arguments);
            let ask = async |token: String| -> Value {
                fs::write(path("token"), token).unwrap();
                let mut command = python().unwrap();
                let address = server.address().to_string();
                command.args(["ask", &address, NAME, &path("ca/ca.pem"), &path("token"), &csr, "3600"]);
                let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
                let text = String::from_utf8_lossy(&output.stdout);
                serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
            };
            let answer = ask(server.token("frontend", json!({}))).await;
            assert_eq!(answer["chain"].as_array().unwrap_or_else(|| panic!("{answer}")).len(), 2, "{answer}");
            fs::write(&leaf, answer["chain"][0].as_str().unwrap()).unwrap();
            for purpose in ["sslclient", "sslserver"] {
                openssl(&["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &path("ca/ca.pem"), &leaf]);
            }
            assert_eq!(
                openssl(&["pkey", "-in", &key, "-pubout"]),
                openssl(&["x509", "-in", &leaf, "-noout", "-pubkey"])
            );
            assert!(openssl(&["x509", "-in", &leaf, "-noout", "-text"]).contains(&format!("URI:{FRONTEND}")));
            let refused = ask(server.token("backend", json!({}))).await;
            assert_eq!(refused, json!({"code": "PERMISSION_DENIED", "details": "permission denied"}));
            let refused = ask("nonsense".to_owned()).await;
            assert_eq!(refused["code"], "UNAUTHENTICATED", "{refused}");
        }
    });
}

/// An authority that is not ours; it ends when it is dropped.
struct Foreign {
    child: Child,
    port: u16,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // One that has already ended can't be killed, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Foreign {
    fn start(sandbox: &Sandbox, token: &str) -> Option<Self> {
        let folder: PathBuf = sandbox.path(".");
        let dir = sandbox.path("ca");
        let id = "spiffe://cluster.local/ns/istio-system/sa/istiod";
        let out = folder.display().to_string();
        ca(&["issue", "--id", id, "--dns", NAME, "--out", &out, "--name", "istiod", "--dir"], &[&dir]);
        let file = |name: &str| folder.join(name).display().to_string();
        let mut command = python()?;
        command.args(["serve", &file("istiod.pem"), &file("istiod-key.pem"), &file("ca"), token, BACKEND]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { child, port: port.trim().parse().expect("it did not start") })
    }
}

#[test]
fn an_authority_by_googles_grpc_and_openssl_gives_us_an_identity() {
    run(async {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let Some(foreign) = Foreign::start(&sandbox, "open sesame") else { return };
        let token = sandbox.path("token");
        fs::write(&token, "open sesame\n").unwrap();
        let (application, _) = counting().await;
        let address = sandbox.next_address();
        let fields =
            |port: u16| format!("address: \"127.0.0.1:{port}\", serverName: {NAME}, tokenFile: {}", token.display());
        let backend =
            PodSpec { application: Some(application.address()), ca: Some(fields(foreign.port)), ..pod("backend") };
        let sidecar = sandbox.start(&backend, address).await.unwrap();
        let mut client = Client::mesh(sidecar.inbound(), &Authority::of(&sandbox).issue(FRONTEND)).await;
        assert_eq!(client.get("/").await.unwrap(), (200, HELLO.to_owned()));
        let certificates = sidecar.admin_page("/certs").await.unwrap();
        assert!(certificates.contains("7a01"), "{certificates}");
    });
}
