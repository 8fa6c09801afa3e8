//! When there are no descriptors left: no core is burnt, and serving goes on as soon as there are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use meshgate::sandbox::{PodSpec, Sandbox, Sidecar, until};
use meshgate_tests::run;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::app::App;
use crate::support::mesh::{BACKEND, Mesh, Spec};

/// Processor time a process has used so far, in clock ticks of a hundredth of a second.
fn ticks(sidecar: &Sidecar) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", sidecar.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn limit_of(sidecar: &Sidecar, soft: bool) -> u64 {
    let limits = fs::read_to_string(format!("/proc/{}/limits", sidecar.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().nth(usize::from(!soft)).unwrap().parse().unwrap()
}

/// Lets a running process have so many.
fn set_limit(sidecar: &Sidecar, soft: usize) {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={soft}:")).arg(format!("--pid={}", sidecar.pid()));
    assert!(command.status().expect("prlimit, of util-linux").success());
}

#[test]
fn out_of_descriptors_costs_no_core_and_ends_as_soon_as_there_are_some() {
    run(async {
        let app = App::ok().await;
        let mut spec = Spec::of(&[app.address()]);
        spec.backend = "workers: 2\ntimeouts: {detect: 60s}\n".to_owned();
        let mesh = Mesh::start(spec).await;
        let backend = mesh.backend();
        let before = limit_of(backend, true);
        let open = fs::read_dir(format!("/proc/{}/fd", backend.pid())).unwrap().count();
        set_limit(backend, open + 10);
        let mut clients = Vec::new();
        for _ in 0..60 {
            clients.push(TcpStream::connect(backend.inbound()).await.unwrap());
        }
        // The admin endpoint has none to answer with either, so the connections tell.
        until("it to be full", async || {
            let full = fs::read_dir(format!("/proc/{}/fd", backend.pid())).unwrap().count();
            (full >= open + 10).then_some(())
        })
        .await
        .unwrap();
        const WHILE: Duration = Duration::from_secs(2);
        let used = ticks(backend);
        tokio::time::sleep(WHILE).await;
        let used = ticks(backend) - used;
        assert!(used * 10 < 100 * WHILE.as_secs(), "{used} ticks of {} while full", 100 * WHILE.as_secs());
        set_limit(backend, usize::try_from(before).unwrap());
        let started = Instant::now();
        drop(clients);
        let request = format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n");
        assert_eq!(mesh.outside().await.ask(request).await.status(), 200);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        let errors = "mesh_accept_errors_total{direction=\"inbound\",outcome=\"exhausted\"}";
        backend.until_metric(errors, |count| count > 0.0).await.unwrap();
        println!("while full: {used} ticks of {}", 100 * WHILE.as_secs());
    });
}

#[test]
fn the_limit_is_raised_at_start_and_callers_get_half_of_it() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let wrapper = folder.path().join("meshgate");
        let binary = crate::binary().display();
        fs::write(&wrapper, format!("#!/bin/sh\nulimit -Sn 100\nulimit -Hn 200\nexec {binary} \"$@\"\n")).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        let mut sandbox = Sandbox::new(&wrapper).unwrap();
        sandbox.write_resource("none.yaml", "").unwrap();
        let address = sandbox.next_address();
        let app = App::ok().await;
        let pod = PodSpec {
            name: "small".to_owned(),
            service_account: "backend".to_owned(),
            app: "backend".to_owned(),
            application: Some(app.address()),
            bootstrap: "timeouts: {detect: 60s}\n".to_owned(),
            ..PodSpec::default()
        };
        let sidecar = sandbox.start(&pod, address).await.unwrap();
        assert_eq!((limit_of(&sidecar, true), limit_of(&sidecar, false)), (200, 200));
        assert!(sidecar.output().contains("100 connections at most"), "{}", sidecar.output());
        let mut clients = Vec::new();
        for _ in 0..130 {
            clients.push(TcpStream::connect(sidecar.inbound()).await.unwrap());
        }
        let refused = "mesh_accept_errors_total{direction=\"inbound\",outcome=\"limit\"}";
        sidecar.until_metric(refused, |count| count == 30.0).await.unwrap();
    });
}
