//! `meshgate inject` and `meshgate wait`, and what deploy/ holds.

use std::fs;
use std::path::{Path, PathBuf};

use meshgate_config::manifest::{Sheet, documents};
use meshgate_config::{Bootstrap, Role};
use tempfile::TempDir;

use super::{meshgate, meshgate_reading};
use crate::support::backend::Backend;

const POD: &str = "# mine\nkind: Pod\napiVersion: v1\nmetadata: {name: p}\nspec:\n  serviceAccountName: p\n  \
    containers:\n  - name: app\n    image: app\n";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

/// The documents of a file in deploy/.
fn sheets(file: &str) -> Vec<Sheet> {
    let path = deploy().join(file);
    let text = fs::read_to_string(&path).unwrap();
    let sheet = |(place, line)| Sheet::new(&text[place], line, &path).unwrap();
    documents(&text).into_iter().map(sheet).collect()
}

#[test]
fn a_quantity_that_is_none_is_refused_by_its_option() {
    let dir = TempDir::new().unwrap();
    for option in ["--cpu-request", "--memory-request", "--cpu-limit", "--memory-limit"] {
        let (status, printed, errors) = meshgate_reading(dir.path(), &["inject", option, "lots"], POD);
        assert_eq!((status, printed.as_str()), (2, ""), "{errors}");
        let expected = format!("invalid value 'lots' for '{option} <QUANTITY>': is not a quantity such as 100m");
        assert!(errors.contains(&expected), "{errors}");
    }
    let (status, printed, errors) = meshgate_reading(dir.path(), &["inject", "--cpu-limit", ""], POD);
    assert!(status == 0 && printed.contains("memory: \"1Gi\"") && !printed.contains("cpu: \"2\""), "{printed}{errors}");
}

#[test]
fn files_folders_and_standard_input_are_read() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("all")).unwrap();
    fs::write(dir.path().join("all/b.yaml"), POD).unwrap();
    fs::write(dir.path().join("all/a.yml"), "kind: Service\napiVersion: v1\nspec: {}\n").unwrap();
    fs::write(dir.path().join("all/notes.txt"), "not: read").unwrap();
    let (status, of_folder, errors) = meshgate(dir.path(), &["inject", "all"]);
    assert_eq!((status, errors.as_str()), (0, "Pod p: injected (sidecar, service account p, apply -d 15021)\n"));
    let (_, of_files, _) = meshgate(dir.path(), &["inject", "all/a.yml", "all/b.yaml"]);
    let (_, of_input, _) = meshgate_reading(dir.path(), &["inject"], POD);
    assert_eq!(of_folder, of_files);
    assert_eq!(of_folder, format!("kind: Service\napiVersion: v1\nspec: {{}}\n---\n{of_input}"));
    let (status, again, errors) = meshgate_reading(dir.path(), &["inject", "-"], &of_input);
    assert_eq!((status, errors.as_str()), (0, "Pod p: unchanged, it is injected already\n"));
    assert_eq!(again, of_input);
    let (status, back, _) = meshgate_reading(dir.path(), &["inject", "--uninject"], &of_input);
    assert_eq!((status, back.as_str()), (0, POD));
}

#[test]
fn a_refused_document_prints_nothing_of_any() {
    let dir = TempDir::new().unwrap();
    let text = [POD, "---\n", POD, "  hostNetwork: true\n"].concat();
    let (status, text, errors) = meshgate_reading(dir.path(), &["inject"], &text);
    assert_eq!((status, text.as_str()), (1, ""));
    assert!(errors.starts_with("error: <stdin>:20: Pod p: spec.hostNetwork: "), "{errors}");
    assert!(errors.ends_with("nothing is printed, because a document is refused\n"), "{errors}");
    let (status, _, errors) = meshgate(dir.path(), &["inject", "missing.yaml"]);
    assert!(status == 2 && errors.starts_with("error: missing.yaml: cannot be read: "), "{errors}");
}

#[test]
fn the_example_is_what_the_command_makes_of_its_workloads() {
    let (status, text, errors) = meshgate(&deploy().join("example"), &["inject", "workloads.yaml"]);
    assert_eq!(status, 0, "{errors}");
    assert_eq!(text, fs::read_to_string(deploy().join("example/injected.yaml")).unwrap());
}

/// Writes out what a ConfigMap holds.
fn unpack(config_map: &Sheet, dir: &Path) {
    for (name, text) in config_map.scalars("data") {
        fs::write(dir.join(name), text).unwrap();
    }
}

#[test]
fn the_manifests_hold_bootstraps_and_resources_that_are_good() {
    for (file, role) in [("namespace/bootstrap.yaml", Role::Sidecar), ("gateway/bootstrap.yaml", Role::Gateway)] {
        let dir = TempDir::new().unwrap();
        unpack(&sheets(file)[0], dir.path());
        // A mount that is not on this machine; a variable overrides the file, as in the pod.
        let here = ("MESHGATE_RESOURCES_DIRECTORY".to_owned(), dir.path().to_str().unwrap().to_owned());
        let variables = environment(role).into_iter().chain([here]);
        let bootstrap = Bootstrap::load(&dir.path().join("bootstrap.yaml"), variables).unwrap();
        assert_eq!(bootstrap.role, role);
        assert_eq!(bootstrap.identity.certificate, Path::new("/var/lib/meshgate/identity/tls.crt"));
        let drain = bootstrap.timeouts.drain_delay + bootstrap.timeouts.drain;
        assert!(drain.as_secs() < 30, "{drain:?}: more than Kubernetes gives a pod");
        if role == Role::Sidecar {
            assert_eq!(bootstrap.workload.labels["app"], "backend");
            assert_eq!(bootstrap.spiffe_id().unwrap().as_str(), "spiffe://cluster.local/ns/default/sa/backend");
        }
    }
    for file in ["namespace/resources.yaml", "gateway/resources.yaml"] {
        let dir = TempDir::new().unwrap();
        unpack(&sheets(file)[0], dir.path());
        let (status, _, errors) = meshgate(dir.path(), &["check", "--resources", ".", "--strict"]);
        assert_eq!((status, errors.as_str()), (0, ""), "{file}");
    }
}

/// What the injected container of the example's first workload has in its environment; a gateway's bootstrap says it all.
fn environment(role: Role) -> Vec<(String, String)> {
    if role == Role::Gateway {
        return Vec::new();
    }
    let dir = deploy().join("example");
    let (_, text, _) = meshgate(&dir, &["inject", "--labels", "literal", "workloads.yaml"]);
    let (place, line) = documents(&text).swap_remove(2);
    let sheet = Sheet::new(&text[place], line, &dir).unwrap();
    let list = "spec.template.spec.containers[0].env";
    let variable = |index| {
        let field = |name: &str| sheet.scalar(&format!("{list}[{index}].{name}")).map(str::to_owned);
        Some((field("name")?, field("value")?))
    };
    (0..sheet.length(list)).filter_map(variable).collect()
}

#[test]
fn the_manifests_name_only_what_is_there() {
    let mut listed = 0;
    for folder in ["namespace", "gateway", "authority", "example"] {
        let kustomization = &sheets(&format!("{folder}/kustomization.yaml"))[0];
        for index in 0..kustomization.length("resources") {
            let file = kustomization.scalar(&format!("resources[{index}]")).unwrap();
            for sheet in sheets(&format!("{folder}/{file}")) {
                assert!(sheet.has("kind") && sheet.has("apiVersion") && sheet.has("metadata.name"), "{folder}/{file}");
                listed += 1;
            }
        }
    }
    assert!(listed >= 18, "{listed}");
}

#[test]
fn containers_of_the_manifests_have_no_right_that_they_do_not_need() {
    let gateway = &sheets("gateway/gateway.yaml")[2];
    let authority = &sheets("authority/authority.yaml")[3];
    let example = &sheets("example/injected.yaml")[2];
    for sheet in [gateway, authority, example] {
        let context = "spec.template.spec.containers[0].securityContext";
        for (field, expected) in [
            ("allowPrivilegeEscalation", "false"),
            ("readOnlyRootFilesystem", "true"),
            ("runAsNonRoot", "true"),
            ("runAsUser", "1337"),
            ("capabilities.drop[0]", "ALL"),
            ("seccompProfile.type", "RuntimeDefault"),
        ] {
            assert_eq!(sheet.scalar(&format!("{context}.{field}")), Some(expected), "{field}");
        }
        assert!(!sheet.has(&format!("{context}.capabilities.add")));
    }
    let init = "spec.template.spec.initContainers[0].securityContext.capabilities";
    assert_eq!(example.length(&format!("{init}.add")), 2);
    assert_eq!(example.scalar(&format!("{init}.drop[0]")), Some("ALL"));
}

#[test]
fn wait_returns_when_the_proxy_is_ready() {
    meshgate_tests::run(async {
        let backend = Backend::start("").await;
        let admin = backend.sidecar.admin().to_string();
        let run = move || meshgate(Path::new("/"), &["wait", "--admin", &admin]);
        assert_eq!(tokio::task::spawn_blocking(run).await.unwrap(), (0, String::new(), String::new()));
    });
}

#[test]
fn wait_says_what_is_in_the_way() {
    // Nobody listens there: it was free a moment ago, and is ours no more.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (status, text, errors) = meshgate(Path::new("/"), &["wait", "--admin", &free, "--timeout", "300ms"]);
    assert_eq!((status, text.as_str()), (1, ""));
    assert!(errors.contains("is not ready after 300ms: Connection refused"), "{errors}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let body = "is not ready after 100ms: listeners\n";
        let head = format!("HTTP/1.1 503 Service Unavailable\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        std::io::Read::read(&mut stream, &mut [0; 1024]).unwrap();
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    });
    let (status, _, errors) = meshgate(Path::new("/"), &["wait", "--admin", &address, "--timeout", "100ms"]);
    answers.join().unwrap();
    assert!(status == 1 && errors.contains("is not ready after 100ms: listeners"), "{errors}");
    let (status, _, errors) = meshgate(Path::new("/"), &["wait", "--admin", "nowhere"]);
    assert!(status == 2 && errors.starts_with("error: --admin: `nowhere` is no address"), "{errors}");
}
