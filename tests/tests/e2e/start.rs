//! What cannot work does not start: it says why, where, and what was expected, and ends with status 2.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use http::Method;
use meshgate::sandbox::{ADMIN_PORT, POD_PORT, PodSpec, Sandbox, request, until};
use rcgen::CertificateParams;
use tokio::net::TcpStream;

use crate::support::backend::{BACKEND, Backend, FRONTEND, OTHER, deny_path, pod};
use crate::support::client::Client;
use crate::support::pki::{Authority, Credentials, expired, uri};
use crate::support::soon;

/// A pod `backend` that would start, were nothing done to it.
struct Start {
    sandbox: Sandbox,
    address: IpAddr,
    bootstrap: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Start {
    fn new() -> Self {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let address = sandbox.next_address();
        let spec = PodSpec { application: Some("127.0.0.1:1".parse().unwrap()), ..pod("backend") };
        let bootstrap = sandbox.prepare(&spec, address).unwrap();
        Self { sandbox, address, bootstrap, environment: Vec::new() }
    }

    /// Puts something else into the bootstrap file.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.bootstrap).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        fs::write(&self.bootstrap, text.replacen(from, to, 1)).unwrap();
    }

    fn resource(&self, yaml: &str) {
        self.sandbox.write_resource("policy.yaml", yaml).unwrap();
    }

    /// Gives the pod other credentials.
    fn identity(&self, credentials: impl FnOnce(&Authority) -> Credentials) {
        credentials(&Authority::of(&self.sandbox)).install(&self.sandbox, "backend");
    }

    fn certificate(&self, id: &str, change: impl FnOnce(&mut CertificateParams)) {
        self.identity(|authority| authority.issue_with(id, change));
    }

    /// Its start fails, and each of `said` is in what it says, in this order.
    fn fails(&self, said: &[&str]) -> String {
        self.fails_with(&["run", "--bootstrap", self.bootstrap.to_str().unwrap()], said)
    }

    fn fails_with(&self, arguments: &[&str], said: &[&str]) -> String {
        let (status, text) = meshgate_tests::run(self.run(arguments));
        assert_eq!(status, Some(2), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        let mut rest = text.as_str();
        for expected in said {
            let at = rest.find(expected).unwrap_or_else(|| panic!("no {expected:?} in {text}"));
            rest = &rest[at + expected.len()..];
        }
        text
    }

    /// The exit status and all that was printed; a process that does start is killed.
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.sandbox.path("output");
        let file = fs::File::create(&output).unwrap();
        let mut command = Command::new(crate::binary());
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut process = Killed(command.spawn().unwrap());
        let started = || fs::read_to_string(&output).unwrap().contains("ready workers=");
        let ended = async || match process.0.try_wait().unwrap() {
            None if started() => Some(None),
            None => None,
            Some(status) => Some(status.code()),
        };
        let status = until("an end or a start", ended).await.unwrap();
        drop(process);
        (status, fs::read_to_string(&output).unwrap())
    }
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended by itself can't be killed, and that is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_these_tests_break_starts_unbroken() {
    let start = Start::new();
    let arguments = ["run", "--bootstrap", start.bootstrap.to_str().unwrap()];
    let (status, text) = meshgate_tests::run(start.run(&arguments));
    assert_eq!(status, None, "{text}");
}

#[test]
fn bootstrap_that_is_no_yaml() {
    let start = Start::new();
    start.edit("resources: {directory: resources}", "resources: {directory: resources");
    start.fails(&["backend.yaml:", "flow mapping"]);
}

#[test]
fn misspelt_bootstrap_field() {
    let start = Start::new();
    start.edit("accessLog:", "acessLog:");
    start.fails(&["backend.yaml:", "unknown field `acessLog`", "accessLog"]);
}

#[test]
fn missing_bootstrap_file() {
    let start = Start::new();
    fs::remove_file(&start.bootstrap).unwrap();
    start.fails(&["backend.yaml", "No such file or directory"]);
}

#[test]
fn gateway_without_a_listener() {
    let start = Start::new();
    start.edit("role: sidecar", "role: gateway\ngateway: {listeners: []}");
    start.fails(&["backend.yaml:2: gateway.listeners: ", "there is none"]);
}

#[test]
fn role_that_does_not_exist() {
    let start = Start::new();
    start.edit("role: sidecar", "role: gatewy");
    start.fails(&["backend.yaml:1: role: ", "`gatewy`", "did you mean `gateway`?"]);
}

#[test]
fn gateway_settings_of_a_sidecar() {
    let start = Start::new();
    start.edit("role: sidecar", "role: sidecar\ngateway: {listeners: [\"127.0.0.1:15443\"]}");
    start.fails(&["backend.yaml:2: gateway: ", "role: gateway"]);
}

#[test]
fn unknown_variable() {
    let mut start = Start::new();
    start.environment = vec![("MESHGATE_WORKER", "2".to_owned())];
    start.fails(&["MESHGATE_WORKER: unknown variable", "MESHGATE_TRUST_DOMAIN", "did you mean MESHGATE_WORKERS?"]);
}

#[test]
fn bad_value_in_a_variable() {
    let mut start = Start::new();
    start.environment =
        vec![("MESHGATE_WORKERS", "two".to_owned()), ("MESHGATE_ADMIN_ADDRESS", "localhost".to_owned())];
    let text = start.fails(&[]);
    assert!(text.contains("MESHGATE_WORKERS: `two` is not a number"), "{text}");
    assert!(text.contains("MESHGATE_ADMIN_ADDRESS: `localhost` is not an IP address and port"), "{text}");
}

#[test]
fn variables_of_a_kubernetes_service_are_nobodys_fault() {
    let mut start = Start::new();
    start.environment = vec![
        ("MESHGATE_SERVICE_HOST", "10.0.0.1".to_owned()),
        ("MESHGATE_ADMIN_PORT", "tcp://10.0.0.1:15000".to_owned()),
        ("MESHGATE_ADMIN_PORT_15000_TCP_ADDR", "10.0.0.1".to_owned()),
    ];
    let (status, text) = meshgate_tests::run(start.run(&["run", "--bootstrap", start.bootstrap.to_str().unwrap()]));
    assert_eq!(status, None, "{text}");
}

#[test]
fn bootstrap_file_named_by_its_variable_is_read() {
    let mut start = Start::new();
    start.environment = vec![("MESHGATE_BOOTSTRAP", start.bootstrap.display().to_string())];
    let (status, text) = meshgate_tests::run(start.run(&["run"]));
    assert_eq!(status, None, "{text}");
}

#[test]
fn all_that_is_wrong_with_the_bootstrap_is_said_at_once() {
    let start = Start::new();
    start.edit(
        "role: sidecar",
        "role: gateway\ngateway: {listeners: []}\nclusterKey: here\ntimeouts: {drain: soon}\nlimits: {connections: 0}",
    );
    start.edit("namespace: default, ", "");
    let text = start.fails(&[]);
    for field in ["gateway.listeners", "clusterKey", "timeouts.drain", "limits.connections", "workload.namespace"] {
        let line = text.lines().find(|line| line.contains(&format!(": {field}: ")));
        let line = line.unwrap_or_else(|| panic!("nothing about {field} in {text}"));
        assert!(line.contains("backend.yaml:"), "{line}");
    }
    assert_eq!(text.lines().count(), 5, "{text}");
}

#[test]
fn bad_log_level() {
    let mut start = Start::new();
    start.edit("role: sidecar", "role: sidecar\nlog: {level: \"meshgate=loud\"}");
    start.fails(&["backend.yaml: log.level: `loud` is no level"]);
    start.environment.push(("MESHGATE_LOG_LEVEL", "warning".to_owned()));
    start.fails(&["backend.yaml: MESHGATE_LOG_LEVEL: `warning` is no level"]);
}

#[test]
fn missing_resource_folder() {
    let start = Start::new();
    fs::remove_dir(start.sandbox.path("resources")).unwrap();
    start.fails(&["backend.yaml:14: resources.directory: ", "/resources is not a directory"]);
}

#[test]
fn resource_that_is_no_yaml() {
    let start = Start::new();
    start.resource("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}}\n");
    start.fails(&["resources/policy.yaml:4: "]);
}

#[test]
fn unknown_field_in_a_policy() {
    let start = Start::new();
    start.resource(&deny_path("/a").replace("action", "actoin"));
    start.fails(&[
        "resources/policy.yaml:4: AuthorizationPolicy default/deny-path: spec",
        "unknown field `actoin`",
        "`action`",
    ]);
}

#[test]
fn wrong_word_in_a_policy() {
    let start = Start::new();
    start.resource(&deny_path("/a").replace("DENY", "DENIED"));
    start.fails(&["resources/policy.yaml:4: AuthorizationPolicy default/deny-path: spec.action", "`DENIED`", "`DENY`"]);
}

#[test]
fn all_that_is_wrong_with_the_resources_is_said_at_once() {
    let start = Start::new();
    start.resource(&deny_path("/a").replace("DENY", "DENIED"));
    start
        .sandbox
        .write_resource("second.yaml", &deny_path("/a").replace("deny-path", "b").replace("to:", "too:"))
        .unwrap();
    start.fails(&[
        "policy.yaml:4: AuthorizationPolicy default/deny-path: ",
        "second.yaml:4: AuthorizationPolicy default/b: ",
    ]);
}

#[test]
fn missing_key_file() {
    let start = Start::new();
    fs::remove_file(start.sandbox.path("identities/backend-key.pem")).unwrap();
    start.fails(&["identities/backend-key.pem: ", "No such file or directory"]);
}

#[test]
fn key_of_another_certificate() {
    let start = Start::new();
    let certificate = fs::read_to_string(start.sandbox.path("identities/backend.pem")).unwrap();
    start.identity(|authority| Credentials { certificate_pem: certificate, ..authority.issue(BACKEND) });
    start.fails(&["backend-key.pem: it is not the key of the certificate in ", "backend.pem"]);
}

#[test]
fn key_file_without_a_key() {
    let start = Start::new();
    fs::write(start.sandbox.path("identities/backend-key.pem"), "none\n").unwrap();
    start.fails(&["backend-key.pem: 0 unencrypted private keys are in it, exactly one is wanted"]);
}

#[test]
fn expired_certificate() {
    let start = Start::new();
    start.certificate(BACKEND, expired);
    start.fails(&["backend.pem: the certificate expired at 2020-01-02"]);
}

#[test]
fn certificate_with_two_uris() {
    let start = Start::new();
    start.certificate(BACKEND, |params| params.subject_alt_names.push(uri(FRONTEND)));
    start.fails(&["backend.pem: ", "it has 2 URI names, exactly one is wanted"]);
}

#[test]
fn certificate_of_another_workload() {
    let start = Start::new();
    start.certificate(OTHER, |_| {});
    start.fails(&["backend.pem: ", OTHER, BACKEND]);
}

#[test]
fn certificate_of_another_trust_domain() {
    let start = Start::new();
    start.identity(|_| Authority::new("partner.example").issue("spiffe://partner.example/ns/default/sa/backend"));
    start.fails(&["backend.pem: ", "spiffe://partner.example/ns/default/sa/backend", BACKEND]);
}

#[test]
fn certificate_that_the_own_trust_bundle_does_not_vouch_for() {
    let start = Start::new();
    start.identity(|_| Authority::new("cluster.local").issue(BACKEND));
    start.fails(&["backend.pem: the certificate is not trusted by ", "ca.pem"]);
}

#[test]
fn trust_bundle_that_is_no_authority() {
    let start = Start::new();
    let leaf = fs::read_to_string(start.sandbox.path("identities/backend.pem")).unwrap();
    fs::write(start.sandbox.path("ca/ca.pem"), leaf).unwrap();
    start.fails(&["ca.pem: the certificate of ", "cannot be a root"]);
}

#[test]
fn port_in_use() {
    let start = Start::new();
    for (port, field) in [(POD_PORT, "inbound.listeners[0].address"), (ADMIN_PORT, "admin.address")] {
        let _taken = TcpListener::bind((start.address, port)).unwrap();
        start.fails(&[&format!("{field}: cannot listen on {}:{port}: ", start.address), "in use"]);
    }
}

#[test]
fn access_log_that_cannot_be_written() {
    let start = Start::new();
    start.edit("logs/backend.access.log", "nowhere/backend.access.log");
    start.fails(&["accessLog.path: cannot open ", "nowhere/backend.access.log: No such file or directory"]);
    // A plain open would wait for a reader.
    assert!(Command::new("mkfifo").arg(start.sandbox.path("pipe")).status().unwrap().success());
    start.edit("nowhere/backend.access.log", "pipe");
    start.fails(&["accessLog.path: cannot open ", "pipe: nobody reads this FIFO: "]);
}

#[test]
fn listener_that_leads_back_to_the_proxy() {
    let start = Start::new();
    start.edit("application: \"127.0.0.1:1\"", &format!("application: \"{}:{POD_PORT}\"", start.address));
    start.fails(&["backend.yaml:", "inbound.listeners[0].application", "is this proxy itself"]);
}

#[test]
fn is_ready_only_when_every_listener_takes_connections() {
    let start = Start::new();
    let last = 20_500;
    let more: String = (20_000..=last)
        .map(|port| format!("  - {{address: \"{}:{port}\", originalDestination: none}}\n", start.address))
        .collect();
    start.edit("  listeners:\n  - {address", &format!("  listeners:\n{more}  - {{address"));
    start.edit("role: sidecar", "role: sidecar\nworkers: 1");
    let mut command = Command::new(crate::binary());
    command.args(["run", "--bootstrap"]).arg(&start.bootstrap).stdout(Stdio::null()).stderr(Stdio::null());
    meshgate_tests::run(async {
        let _process = Killed(command.spawn().unwrap());
        let ready = async {
            while request((start.address, ADMIN_PORT).into(), "admin", Method::GET, "/ready").await.to_string() != "200"
            {
            }
        };
        soon("ready", ready).await;
        TcpStream::connect((start.address, last)).await.expect("a listener that takes connections");
    });
}

#[test]
fn killed_with_connections_open_it_starts_again_at_the_same_address_and_serves() {
    meshgate_tests::run(async {
        let mut backend = Backend::start(&deny_path("/a")).await;
        let mut open = Client::plain(backend.sidecar.inbound()).await;
        assert_eq!(open.get("/").await.unwrap().0, 200);
        let begun = tokio::time::Instant::now();
        backend.sidecar.restart().await.unwrap();
        println!("ready {:?} after SIGKILL", begun.elapsed());
        assert!(open.get("/").await.is_err(), "it is another process");
        assert_eq!(backend.get("/").await.to_string(), "200");
        assert!(backend.get("/a").await.to_string().starts_with("403"), "what was in force is in force again");
    });
}

#[test]
fn disk_full_for_logs_stops_no_request_and_is_counted() {
    meshgate_tests::run(async {
        let backend = Backend::start_with(|sandbox, _| {
            fs::create_dir_all(sandbox.path("logs")).unwrap();
            std::os::unix::fs::symlink("/dev/full", sandbox.path("logs/backend.access.log")).unwrap();
        });
        let backend = backend.await;
        for _ in 0..100 {
            assert_eq!(backend.get("/").await.to_string(), "200");
        }
        backend.sidecar.until_metric("mesh_access_log_dropped_total", |lines| lines >= 100.0).await.unwrap();
        let log = backend.sidecar.output();
        assert!(log.contains("cannot write the access log"), "{log}");
    });
}

#[test]
fn a_process_whose_workers_cannot_run_ends_with_a_status_of_its_own() {
    let start = Start::new();
    // Enough descriptors for the listeners of all workers, and not for what each needs besides.
    start.edit("role: sidecar", "role: sidecar\nworkers: 32");
    let output = start.sandbox.path("output");
    let file = fs::File::create(&output).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 110 && exec \"$@\"", "sh"]).arg(crate::binary());
    command.args(["run", "--bootstrap"]).arg(&start.bootstrap);
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut process = Killed(command.spawn().unwrap());
    let status = meshgate_tests::run(until("the end", async || process.0.try_wait().unwrap())).unwrap();
    let text = fs::read_to_string(&output).unwrap();
    assert_eq!(status.code(), Some(3), "{text}");
    assert!(text.contains("ended by itself: Too many open files"), "{text}");
}
