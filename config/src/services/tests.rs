use super::*;

fn port(namespace: &str, name: &str, port: u16, endpoints: &[&str]) -> Arc<ServicePort> {
    let endpoint = |address: &&str| {
        Arc::new(Endpoint {
            address: address.parse().unwrap(),
            workload: None,
            identity: EndpointIdentity::Unknown,
            in_reach: true,
            tunnels: false,
            remote: None,
        })
    };
    Arc::new(ServicePort {
        service: ObjectName { namespace: namespace.into(), name: name.into() },
        host: format!("{name}.{namespace}.svc.cluster.local"),
        port,
        name: None,
        app_protocol: AppProtocol::Auto,
        endpoints: endpoints.iter().map(endpoint).collect(),
        not_ready: 0,
        spread: Spread::default(),
        balancer: Balancer::default(),
        split: None,
    })
}

fn entry(cluster_ips: &[&str], ports: Vec<Arc<ServicePort>>) -> Entry<'static> {
    let cluster_ips: Vec<_> = cluster_ips.iter().map(|ip| ip.parse().unwrap()).collect();
    Entry {
        name: ports[0].service.clone(),
        headless: cluster_ips.is_empty(),
        cluster_ips,
        ports,
        aside: Vec::new(),
        declared: None,
    }
}

fn services() -> Services {
    let entries = vec![
        entry(
            &["10.96.0.10", "fd00::10"],
            vec![port("default", "backend", 80, &["10.1.0.1:8080"]), port("default", "backend", 90, &[])],
        ),
        entry(&["10.96.0.10"], vec![port("default", "copy", 80, &["10.1.0.1:8080"])]),
        entry(&[], vec![port("default", "headless", 80, &["10.1.0.1:8080", "10.1.0.2:8080"])]),
        entry(&["10.96.0.11"], vec![port("shop", "backend", 80, &[])]),
    ];
    let (services, collisions) = Services::new("cluster.local", &OpaquePorts::default(), entries, Vec::new());
    assert_eq!(collisions.len(), 1);
    assert_eq!(collisions[0].holder.name, "backend");
    services
}

#[test]
fn finds_by_host() {
    let services = services();
    let by_host =
        |host, port| services.by_host(host, port, "default").map(|found| format!("{}:{}", found.service, found.port));
    for (host, port, expected) in [
        ("backend", 80, Some("default/backend:80")),
        ("backend.", 80, Some("default/backend:80")),
        ("backend.default", 90, Some("default/backend:90")),
        ("backend.default.svc", 80, Some("default/backend:80")),
        ("backend.default.svc.cluster.local", 80, Some("default/backend:80")),
        ("Backend.DEFAULT.svc.Cluster.local.", 80, Some("default/backend:80")),
        ("backend.shop", 80, Some("shop/backend:80")),
        ("backend", 81, None),
        ("backend.shop.svc.cluster.example", 80, None),
        ("backend.shop.svc.cluster.local.evil.example", 80, None),
        ("backend.shop.pod", 80, None),
        ("pod-0.headless.default.svc.cluster.local", 80, None),
        ("backend..svc", 80, None),
        ("backend..", 80, None),
        (".default", 80, None),
        ("", 80, None),
        (".", 80, None),
        ("10.96.0.10", 80, None),
        ("::1", 80, None),
    ] {
        assert_eq!(by_host(host, port).as_deref(), expected, "{host}:{port}");
    }
    assert_eq!(services.by_host("backend", 80, "shop").unwrap().service.namespace, "shop");
    assert!(services.by_host("backend", 80, "elsewhere").is_none());
    assert!(services.host_known("BACKEND", "default") && !services.host_known("frontend", "default"));
}

#[test]
fn finds_by_address_and_the_first_service_keeps_a_shared_one() {
    let services = services();
    let by_address =
        |address: &str| services.by_address(address.parse().unwrap()).map(|found| found.service.to_string());
    for (address, expected) in [
        ("10.96.0.10:80", Some("default/backend")),
        ("[fd00::10]:90", Some("default/backend")),
        ("10.96.0.11:80", Some("shop/backend")),
        ("10.96.0.10:81", None),
        ("10.1.0.1:8080", None),
    ] {
        assert_eq!(by_address(address).as_deref(), expected, "{address}");
    }
}

#[test]
fn finds_endpoints_and_prefers_headless_services() {
    let services = services();
    let (port, endpoint) = services.endpoint("10.1.0.1:8080".parse().unwrap()).unwrap();
    assert_eq!((port.service.name.as_str(), endpoint.address.port()), ("headless", 8080));
    assert!(services.endpoint("10.1.0.9:8080".parse().unwrap()).is_none());
    assert_eq!(services.iter().count(), 5);
}
