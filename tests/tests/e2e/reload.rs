//! What is written takes effect on what is running; what is written wrongly does not.

mod anchors;
mod certificates;
mod delivered;
mod revoked;
mod rotation;
pub(crate) mod sessions;
mod withdrawn;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use meshgate::sandbox::{Sandbox, Sidecar, request, until};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::app::{App, full};
use crate::support::backend::{
    Backend, FRONTEND, GENERATION, HOST, OTHER, counting, deny_path, mtls, pod, policy, status,
};
use crate::support::client::{Client, MESH_HTTP2, MESH_TCP, handshake, tls};
use crate::support::mesh::logged;
use crate::support::soon;

/// Problems in the last reading of the resources.
const PROBLEMS: &str = "mesh_config_problems";

fn deny_peer(id: &str) -> String {
    let principal = id.trim_start_matches("spiffe://");
    policy("deny", &format!("{{action: DENY, rules: [{{from: [{{source: {{principals: [\"{principal}\"]}}}}]}}]}}"))
}

/// How `path` and `/` are answered, in the clear and on a connection each.
async fn statuses(backend: &Backend, path: &str) -> (u16, u16) {
    (status(&backend.get(path).await), status(&backend.get("/").await))
}

#[test]
fn policy_takes_effect_when_written_changed_and_removed() {
    meshgate_tests::run(async {
        let backend = Backend::start("").await;
        assert_eq!(statuses(&backend, "/a").await, (200, 200));
        backend.put("deny.yaml", &deny_path("/a")).await;
        assert_eq!(statuses(&backend, "/a").await, (403, 200));
        backend.put("deny.yaml", &deny_path("/b")).await;
        assert_eq!((statuses(&backend, "/a").await, statuses(&backend, "/b").await), ((200, 200), (403, 200)));
        backend.remove("deny.yaml").await;
        assert_eq!(statuses(&backend, "/b").await, (200, 200));
    });
}

/// One policy, as it comes and goes, for requests on connections that are open all the while.
async fn is_asked_for_each_request(backend: &Backend, mut clients: Vec<Client>) {
    for expected in [200, 403, 200] {
        for client in &mut clients {
            assert_eq!(client.get("/a").await.unwrap().0, expected);
        }
        match expected {
            200 => backend.put("deny.yaml", &deny_path("/a")).await,
            _ => backend.remove("deny.yaml").await,
        }
    }
}

#[test]
fn policy_takes_effect_on_open_connections_at_their_next_request() {
    meshgate_tests::run(async {
        let backend = Backend::start("").await;
        let plain = Client::plain(backend.sidecar.inbound()).await;
        let mesh = Client::mesh(backend.sidecar.inbound(), &backend.issue(FRONTEND)).await;
        is_asked_for_each_request(&backend, vec![plain, mesh]).await;
    });
}

#[test]
fn policy_takes_effect_on_open_http2_connection_at_its_next_request() {
    meshgate_tests::run(async {
        let application = App::http2(async |_| http::Response::new(full("h2"))).await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let config = Arc::new(tls(Some(&backend.issue(FRONTEND)), MESH_HTTP2));
        let client = Client::http2(handshake(backend.sidecar.inbound(), &config).await.unwrap()).await;
        is_asked_for_each_request(&backend, vec![client]).await;
    });
}

/// An application that says back what it hears.
async fn echo() -> App {
    App::tcp(async |mut stream| {
        let (mut reader, mut writer) = stream.split();
        // How a client's connection ends is the client's affair.
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await
}

/// Sends bytes that are no HTTP, and gets them back.
async fn echoes<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> std::io::Result<()> {
    let (sent, mut heard) = ([1, 2, 3, b'\n'], [0; 4]);
    stream.write_all(&sent).await?;
    soon("the echo", stream.read_exact(&mut heard)).await?;
    assert_eq!(heard, sent);
    Ok(())
}

#[test]
fn open_tcp_connection_ends_when_a_policy_forbids_it() {
    meshgate_tests::run(async {
        let application = echo().await;
        let backend = Backend::start_with(|_, pod| pod.application = Some(application.address())).await;
        let inbound = backend.sidecar.inbound();
        let mesh = async |id| {
            let config = Arc::new(tls(Some(&backend.issue(id)), MESH_TCP));
            handshake(inbound, &config).await.unwrap()
        };
        let (mut forbidden, mut allowed) = (mesh(FRONTEND).await, mesh(OTHER).await);
        let mut plain = TcpStream::connect(inbound).await.unwrap();
        echoes(&mut forbidden).await.unwrap();
        echoes(&mut allowed).await.unwrap();
        echoes(&mut plain).await.unwrap();

        backend.put("deny.yaml", &deny_peer(FRONTEND)).await;
        // Without a byte of its own: it is closed, not refused at its next move.
        let end = soon("the end of the forbidden connection", forbidden.read(&mut [0])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        let line = logged(&backend.sidecar, |line| line["response_flags"] == "RBAC").await;
        assert_eq!((&line["peer"], &line["bytes_received"]), (&FRONTEND.into(), &4.into()), "{line}");
        echoes(&mut allowed).await.unwrap();
        echoes(&mut plain).await.unwrap();
        let mut again = mesh(FRONTEND).await;
        echoes(&mut again).await.unwrap_err();

        backend.put("strict.yaml", &mtls("STRICT")).await;
        let end = soon("the end of the plaintext connection", plain.read(&mut [0])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        echoes(&mut allowed).await.unwrap();
    });
}

#[test]
fn bad_yaml_over_a_good_policy_keeps_the_last_good_one() {
    meshgate_tests::run(async {
        let backend = Backend::start(&deny_path("/a")).await;
        let good = deny_path("/b");
        let (first, _) = good.rsplit_once('\n').unwrap().0.rsplit_once('\n').unwrap();
        for bad in [format!("{first}\nspec: {{action: DENY, rules: [}}\n"), format!("{first}\nspec: {{acton: DENY}}\n")]
        {
            backend.put("policy.yaml", &bad).await;
            backend.sidecar.until_metric(PROBLEMS, |problems| problems == 1.0).await.unwrap();
            let log = backend.sidecar.output();
            assert!(log.contains("resources/policy.yaml:4: "), "{log}");
            assert_eq!(statuses(&backend, "/a").await, (403, 200));
            backend.put("policy.yaml", &deny_path("/a")).await;
        }
        backend.put("policy.yaml", &good).await;
        backend.sidecar.until_metric(PROBLEMS, |problems| problems == 0.0).await.unwrap();
        assert_eq!((statuses(&backend, "/a").await, statuses(&backend, "/b").await), ((200, 200), (403, 200)));
    });
}

#[test]
fn bomb_over_a_good_policy_keeps_the_last_good_one_and_costs_no_memory() {
    meshgate_tests::run(async {
        let backend = Backend::start(&deny_path("/a")).await;
        let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let alias = format!("*a{}", level - 1);
            aliases += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(", "));
        }
        let deep = format!("a: {}{}\n", "[".repeat(50_000), "]".repeat(50_000));
        let large = format!("# {}\n{}", "x".repeat(5 * 1024 * 1024), deny_path("/b"));
        for (what, bomb) in [("aliases", &aliases), ("depth", &deep), ("size", &large)] {
            let before = backend.sidecar.output().len();
            backend.sandbox.write_resource("policy.yaml", bomb).unwrap();
            backend.sidecar.until_metric(PROBLEMS, |problems| problems == 1.0).await.unwrap();
            let told = async || backend.sidecar.output()[before..].contains("policy.yaml").then_some(());
            until(what, told).await.unwrap();
            assert_eq!(statuses(&backend, "/a").await, (403, 200), "{what}");
            backend.sandbox.write_resource("policy.yaml", &deny_path("/a")).unwrap();
            backend.sidecar.until_metric(PROBLEMS, |problems| problems == 0.0).await.unwrap();
        }
        let status = fs::read_to_string(format!("/proc/{}/status", backend.sidecar.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 256 * 1024, "{kib} KiB at the peak");
    });
}

#[test]
fn new_policy_with_unknown_field_denies_what_it_selects_and_nothing_else() {
    meshgate_tests::run(async {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let (application, _) = counting().await;
        let mut sidecars = Vec::new();
        for name in ["backend", "other"] {
            let mut spec = pod(name);
            spec.application = Some(application.address());
            let address = sandbox.next_address();
            sidecars.push(sandbox.start(&spec, address).await.unwrap());
        }
        let get = async |sidecar: &Sidecar| status(&request(sidecar.inbound(), HOST, Method::GET, "/").await);
        let put = async |yaml: &str| {
            sandbox.write_resource("policy.yaml", yaml).unwrap();
            let problems = if yaml.contains("actoin") { 1.0 } else { 0.0 };
            for sidecar in &sidecars {
                sidecar.until_metric(PROBLEMS, |found| found == problems).await.unwrap();
            }
        };
        let selector = "selector: {matchLabels: {app: backend}}";
        put(&policy("new", &format!("{{{selector}, actoin: ALLOW, rules: [{{}}]}}"))).await;
        assert_eq!((get(&sidecars[0]).await, get(&sidecars[1]).await), (403, 200));
        let refused = sidecars[0].next_access(0).await.unwrap();
        assert!(refused["policy"].as_str().unwrap().contains("default/new"), "{refused}");
        put(&policy("new", &format!("{{{selector}, action: ALLOW, rules: [{{}}]}}"))).await;
        let both = async || (get(&sidecars[0]).await, get(&sidecars[1]).await);
        until("the mended policy", async || (both().await == (200, 200)).then_some(())).await.unwrap();
    });
}

#[test]
fn swap_of_a_mounted_configmap_takes_effect() {
    meshgate_tests::run(async {
        // As the kubelet lays it out: visible names lead through `..data`, which is swapped in one step.
        let version = |sandbox: &Sandbox, name: &str, yaml: &str| {
            fs::create_dir(sandbox.path("resources").join(name)).unwrap();
            fs::write(sandbox.path("resources").join(name).join("policy.yaml"), yaml).unwrap();
        };
        let backend = Backend::start_with(|sandbox, _| {
            version(sandbox, "..2026_01", &deny_path("/a"));
            symlink("..2026_01", sandbox.path("resources/..data")).unwrap();
            symlink("..data/policy.yaml", sandbox.path("resources/policy.yaml")).unwrap();
        });
        let backend = backend.await;
        assert_eq!((statuses(&backend, "/a").await, statuses(&backend, "/b").await), ((403, 200), (200, 200)));
        for (name, path, other) in [("..2026_02", "/b", "/a"), ("..2026_03", "/a", "/b")] {
            version(&backend.sandbox, name, &deny_path(path));
            let before = backend.sidecar.metric(GENERATION).await.unwrap();
            symlink(name, backend.sandbox.path("resources/..data_tmp")).unwrap();
            fs::rename(backend.sandbox.path("resources/..data_tmp"), backend.sandbox.path("resources/..data")).unwrap();
            backend.sidecar.until_metric(GENERATION, |now| now > before).await.unwrap();
            assert_eq!((statuses(&backend, path).await, statuses(&backend, other).await), ((403, 200), (200, 200)));
        }
    });
}

#[test]
fn rewriting_a_file_in_place_never_opens_the_door() {
    // Long enough for the empty file to be read, too short for it to be believed: it is read after 50 ms without a
    // change, and believed when it is still empty 100 ms later.
    let (read, believed) = (Duration::from_millis(80), Duration::from_millis(140));
    meshgate_tests::run(async {
        let backend = Backend::start(&deny_path("/a")).await;
        let path = backend.sandbox.path("resources/policy.yaml");
        let mut client = Client::plain(backend.sidecar.inbound()).await;
        let (mut round, mut fair) = (0, 0);
        while fair < 3 {
            round += 1;
            assert!(round < 100, "this machine is too busy to write a file in time");
            let before = backend.sidecar.metric(GENERATION).await.unwrap();
            let (start, mut statuses) = (Instant::now(), BTreeSet::new());
            fs::write(&path, "").unwrap();
            while start.elapsed() < read {
                statuses.insert(client.get("/a").await.unwrap().0);
            }
            fs::write(&path, format!("# {round}\n{}", deny_path("/a"))).unwrap();
            let in_time = start.elapsed() < believed;
            backend.sidecar.until_metric(GENERATION, |now| now > before).await.unwrap();
            statuses.insert(client.get("/a").await.unwrap().0);
            if in_time {
                assert_eq!(statuses, BTreeSet::from([403]));
                fair += 1;
            }
            let back = async || (client.get("/a").await.unwrap().0 == 403).then_some(());
            until("the policy", back).await.unwrap();
        }
    });
}

#[test]
fn half_written_policy_never_opens_the_door() {
    meshgate_tests::run(async {
        let whole = deny_path("/a");
        let backend = Backend::start(&whole).await;
        let path = backend.sandbox.path("resources/policy.yaml");
        let readings = async || {
            let page = backend.sidecar.admin_page("/metrics").await?;
            let counts = page.lines().filter(|line| line.starts_with("mesh_config_reloads_total"));
            counts.map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<Option<f64>>()
        };
        let marks = ["Version", "v1", "kin", "Author", "metadata", "default}", "action", "rules: [", "\"/a"];
        for mark in marks {
            let before = readings().await.unwrap_or_default();
            fs::write(&path, &whole[..whole.find(mark).unwrap() + mark.len()]).unwrap();
            let looked_at = async || readings().await.filter(|count| *count > before);
            until("a look at the half-written policy", looked_at).await.unwrap();
            assert_eq!(status(&backend.get("/a").await), 403, "cut behind {mark}");
        }
    });
}

#[test]
fn resource_folder_that_goes_away_leaves_policies_in_force_and_is_followed_when_it_comes_back() {
    meshgate_tests::run(async {
        let backend = Backend::start(&deny_path("/a")).await;
        let (folder, aside) = (backend.sandbox.path("resources"), backend.sandbox.path("aside"));
        fs::rename(&folder, &aside).unwrap();
        backend.sidecar.until_metric(PROBLEMS, |problems| problems == 1.0).await.unwrap();
        assert_eq!(statuses(&backend, "/a").await, (403, 200));
        fs::rename(&aside, &folder).unwrap();
        backend.sidecar.until_metric(PROBLEMS, |problems| problems == 0.0).await.unwrap();
        backend.put("policy.yaml", &deny_path("/b")).await;
        assert_eq!((statuses(&backend, "/a").await, statuses(&backend, "/b").await), ((200, 200), (403, 200)));
    });
}
