//! A thousand services in three clusters each.

use std::fmt::Write as _;

use super::*;

const SERVICES: usize = 1000;

fn imports() -> String {
    let mut text = String::new();
    for number in 0..SERVICES {
        let import = IMPORT.replace("name: httpbin}", &format!("name: s{number}}}"));
        let second = "    - clusterKey: default/default/default/cluster-4\n      target: {host: gateway.four.example, port: 15443}\n";
        write!(text, "---\n{import}{second}").unwrap();
        let policy = policy("ActiveActive", &[]).replace("name: httpbin}", &format!("name: s{number}}}"));
        text.push_str(&policy);
    }
    text
}

#[test]
fn a_thousand_imported_services_are_soon_in_force() {
    let started = tokio::time::Instant::now();
    let mesh = Mesh::open(&[HERE, &imports()]);
    let opened = started.elapsed();
    mesh.folder.write("b.yaml", &policy("Locality", &[]));
    let started = tokio::time::Instant::now();
    mesh.store.reload();
    let reloaded = started.elapsed();
    let said = Discovered { trust_domain: "cluster.local".parse().unwrap(), exports: Vec::new() };
    let started = tokio::time::Instant::now();
    mesh.store.discovered(&key("cluster-1"), said);
    let composed = started.elapsed();
    println!("{SERVICES} services: opened in {opened:?}, reloaded in {reloaded:?}, of that composed in {composed:?}");
    let snapshot = mesh.snapshot();
    assert_eq!(seen(&snapshot.services, "s999.httpbin", 8080).len(), 4);
    let gateways: std::collections::HashSet<_> = snapshot
        .services
        .iter()
        .flat_map(|port| &port.endpoints)
        .filter_map(|endpoint| Some(Arc::as_ptr(endpoint.remote.as_ref()?.gateway.as_ref()?)))
        .collect();
    assert_eq!(gateways.len(), 3, "one value a gateway");
    assert!(reloaded < std::time::Duration::from_secs(20), "{reloaded:?}");
}
