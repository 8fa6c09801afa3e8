use std::fs;

use meshgate_config::{Bootstrap, ConfigStore, EndpointIdentity};

use super::*;
use crate::http::pool::Security;

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: backend}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: shop}
spec: {clusterIP: 10.96.0.11, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: shop}
spec: {clusterIP: 10.96.0.12, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: backend-1, namespace: shop, labels: {app: backend}}
spec: {serviceAccountName: backend}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: backend-2, namespace: shop, labels: {app: backend, security.istio.io/tlsMode: disabled}}
spec: {serviceAccountName: backend}
status: {podIP: 10.0.0.2}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-1, namespace: shop, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.0.0.1]}
- {addresses: [10.0.0.2]}
- {addresses: [10.0.0.3]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: legacy-1, namespace: shop, labels: {kubernetes.io/service-name: legacy}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.9]}]
"#;

const BOOTSTRAP: &str = "
workload: {name: web-1, namespace: web, serviceAccount: web}
identity: {certificate: web.pem, key: web-key.pem, trustBundle: ca.pem}
resources: {directory: resources}
";

fn snapshot() -> Arc<Snapshot> {
    snapshot_with("")
}

pub(in crate::outbound) fn snapshot_with(more: &str) -> Arc<Snapshot> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("resources")).unwrap();
    fs::write(dir.path().join("resources/mesh.yaml"), MESH).unwrap();
    fs::write(dir.path().join("resources/more.yaml"), more).unwrap();
    let bootstrap = dir.path().join("bootstrap.yaml");
    fs::write(&bootstrap, BOOTSTRAP).unwrap();
    ConfigStore::open(&Bootstrap::load(&bootstrap, []).unwrap()).unwrap().current()
}

/// A plan in a few words, for tables.
pub(in crate::outbound) fn words(plan: &Plan) -> String {
    let hop = |hop: &Hop| match &hop.security {
        Security::Plaintext => format!("{} plaintext", hop.address),
        Security::Mtls { expected, .. } => {
            format!("{} {}", hop.address, expected.to_string().trim_start_matches("spiffe://"))
        }
    };
    let reach = |endpoints: &[Arc<Endpoint>]| match endpoints {
        [] => String::new(),
        _ => format!(" out of reach {}", listed(endpoints)),
    };
    match plan {
        Plan::Service { service, endpoints, left_out, out_of_reach, .. } => {
            let hops: Vec<_> = endpoints.iter().map(hop).collect();
            format!("{}: {} without [{}]{}", service.service, hops.join(", "), listed(left_out), reach(out_of_reach))
        }
        Plan::Split(fork) => {
            let branch = |branch: &Vec<(u32, Plan)>| {
                let all: Vec<_> = branch.iter().map(|(weight, plan)| format!("{weight} {}", words(plan))).collect();
                all.join(" | ")
            };
            let branches: Vec<_> = fork.branches.iter().map(branch).collect();
            format!("split {}: {} or {}", fork.service.service, branches.join(" or "), words(&fork.rest))
        }
        Plan::Endpoint { hop: only, .. } => format!("only {}", hop(only)),
        Plan::Passthrough(address) => format!("through to {address}"),
        Plan::Refuse { kind, .. } => format!("{kind:?}"),
    }
}

#[test]
fn finds_the_service_and_leaves_out_whom_it_cannot_check() {
    const BACKEND: &str = "shop/backend: 10.0.0.1:8080 cluster.local/ns/shop/sa/backend, 10.0.0.2:8080 plaintext \
                           without [10.0.0.3:8080]";
    let snapshot = snapshot();
    for (destination, host, unknown, expected) in [
        (Some("10.96.0.10:80"), None, TrafficPolicy::AllowAny, BACKEND),
        (None, Some("backend.shop"), TrafficPolicy::AllowAny, BACKEND),
        (None, Some("backend.shop.svc.cluster.local:80"), TrafficPolicy::AllowAny, BACKEND),
        (None, Some("backend"), TrafficPolicy::AllowAny, "NoRoute"),
        (None, Some("backend.shop:81"), TrafficPolicy::AllowAny, "NoRoute"),
        (None, None, TrafficPolicy::AllowAny, "NoRoute"),
        // The application connected to an address; that it also sends another Host does not lead elsewhere.
        (Some("10.96.0.10:80"), Some("legacy.shop"), TrafficPolicy::AllowAny, BACKEND),
        (Some("10.96.0.11:80"), None, TrafficPolicy::AllowAny, "NoEndpoint"),
        (Some("10.96.0.12:80"), None, TrafficPolicy::AllowAny, "NoEndpoint"),
        (Some("10.0.0.1:8080"), None, TrafficPolicy::AllowAny, "only 10.0.0.1:8080 cluster.local/ns/shop/sa/backend"),
        (Some("10.0.0.3:8080"), None, TrafficPolicy::AllowAny, "NoEndpoint"),
        (Some("192.0.2.1:443"), None, TrafficPolicy::AllowAny, "through to 192.0.2.1:443"),
        (Some("192.0.2.1:443"), Some("example.org"), TrafficPolicy::RegistryOnly, "NoRoute"),
    ] {
        let destination = destination.map(|address| address.parse().unwrap());
        let plan = plan(&snapshot, "web", unknown, Wanted { destination, host });
        assert_eq!(words(&plan), expected, "{destination:?} {host:?}");
    }
}

const TRAFFIC_POLICY: &str = r#"
apiVersion: config.flomesh.io/v1alpha3
kind: MeshConfig
metadata: {name: fsm-mesh-config, namespace: fsm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: false}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: all, namespace: shop}
spec: {}
---
apiVersion: v1
kind: Pod
metadata: {name: backend-3, namespace: shop, labels: {app: backend}}
spec: {serviceAccountName: canary}
status: {podIP: 10.0.0.3}
"#;

fn target(destination: &str) -> String {
    format!(
        "---\napiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\n\
         metadata: {{name: {destination}, namespace: shop}}\nspec:\n  \
         destination: {{kind: ServiceAccount, name: {destination}, namespace: shop}}\n  \
         sources: [{{kind: ServiceAccount, name: web, namespace: web}}]\n  rules: [{{kind: TCPRoute, name: all}}]\n"
    )
}

#[test]
fn in_traffic_policy_mode_only_endpoints_in_reach_are_used() {
    let nobody = TRAFFIC_POLICY.to_owned();
    let backend = format!("{TRAFFIC_POLICY}{}", target("backend"));
    let canary = format!("{TRAFFIC_POLICY}{}", target("canary"));
    let both = format!("{backend}{}", target("canary"));
    let (b1, b2) = ("10.0.0.1:8080 cluster.local/ns/shop/sa/backend", "10.0.0.2:8080 plaintext");
    let c = "10.0.0.3:8080 cluster.local/ns/shop/sa/canary";
    for (yaml, service, pod_of_backend, pod_of_canary) in [
        (&nobody, "OutOfReach".to_owned(), "OutOfReach".to_owned(), "OutOfReach".to_owned()),
        (
            &backend,
            format!("shop/backend: {b1}, {b2} without [] out of reach 10.0.0.3:8080"),
            format!("only {b1}"),
            "OutOfReach".to_owned(),
        ),
        (
            &canary,
            format!("shop/backend: {c} without [] out of reach 10.0.0.1:8080, 10.0.0.2:8080"),
            "OutOfReach".to_owned(),
            format!("only {c}"),
        ),
        (&both, format!("shop/backend: {b1}, {b2}, {c} without []"), format!("only {b1}"), format!("only {c}")),
    ] {
        let snapshot = snapshot_with(yaml);
        for (destination, host, expected) in [
            (Some("10.96.0.10:80"), None, service.as_str()),
            (None, Some("backend.shop"), &service),
            (Some("10.0.0.1:8080"), None, &pod_of_backend),
            (Some("10.0.0.3:8080"), None, &pod_of_canary),
            // Nobody vouches for who is there, whoever may call whom.
            (Some("10.96.0.11:80"), None, "NoEndpoint"),
            // Never past the mesh to an address in it.
            (Some("10.96.0.10:81"), None, "OutOfReach"),
            (Some("10.0.0.1:9999"), Some("example.com"), "OutOfReach"),
            (Some("192.0.2.1:443"), None, "through to 192.0.2.1:443"),
        ] {
            let destination = destination.map(|address| address.parse().unwrap());
            let plan = plan(&snapshot, "web", TrafficPolicy::AllowAny, Wanted { destination, host });
            assert_eq!(words(&plan), expected, "{destination:?} {host:?}");
        }
        let virtual_address = "10.96.0.10:80".parse().unwrap();
        assert_eq!(split::is_closed(&snapshot, virtual_address), *yaml == nobody);
    }
    let address = "10.96.0.10:81".parse().unwrap();
    let permissive =
        plan(&snapshot(), "web", TrafficPolicy::AllowAny, Wanted { destination: Some(address), host: None });
    assert_eq!(words(&permissive), "through to 10.96.0.10:81");
}

#[test]
fn a_log_line_lists_few_addresses() {
    let addresses: Vec<SocketAddr> = (1..=10).map(|last| SocketAddr::from(([10, 0, 0, last], 80))).collect();
    assert_eq!(listed(&addresses[..2]), "10.0.0.1:80, 10.0.0.2:80");
    assert!(listed(&addresses[..8]).ends_with("10.0.0.8:80"));
    assert!(listed(&addresses).ends_with("10.0.0.8:80 and 2 more"));
}

#[test]
fn of_a_workload_with_two_addresses_one_is_used() {
    let endpoint = |address: &str, workload: Option<&str>| {
        let name = |name: &str| meshgate_policy::ObjectName { namespace: "a".into(), name: name.into() };
        let (address, workload) = (address.parse().unwrap(), workload.map(name));
        Arc::new(Endpoint {
            address,
            workload,
            identity: EndpointIdentity::Unknown,
            in_reach: true,
            tunnels: false,
            remote: None,
        })
    };
    let dual = [
        endpoint("10.0.0.1:80", Some("one")),
        endpoint("10.0.0.2:80", Some("two")),
        endpoint("10.0.0.3:80", None),
        endpoint("[fd00::1]:80", Some("one")),
        endpoint("[fd00::2]:80", Some("two")),
    ];
    let found = |all: &[Arc<Endpoint>], family| {
        let addresses = eligible(all, family).into_iter().map(|endpoint| endpoint.address.to_string());
        addresses.collect::<Vec<_>>()
    };
    assert_eq!(found(&dual, Family::V4), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!(found(&dual, Family::V6), ["[fd00::1]:80", "[fd00::2]:80"]);
    assert_eq!(found(&dual, Family::Any), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
    // None of the family that was called: what there is, rather than nothing.
    assert_eq!(found(&dual[..2], Family::V6), ["10.0.0.1:80", "10.0.0.2:80"]);
}

#[test]
fn a_host_may_have_a_port() {
    for (host, expected) in [
        ("backend", ("backend", None)),
        ("backend.default:8080", ("backend.default", Some(8080))),
        ("backend:", ("backend", None)),
        ("[::1]:80", ("[::1]", Some(80))),
        ("::1", ("::1", None)),
        ("", ("", None)),
    ] {
        assert_eq!(split_host(host), expected, "{host}");
    }
}

#[test]
fn of_ports_that_nobody_configured_the_metric_says_nothing() {
    let snapshot = snapshot();
    let fixed: SocketAddr = "192.0.2.1:4000".parse().unwrap();
    for (destination, original_destination, declared, opaque) in [
        ("10.96.0.10:80", OriginalDestination::Kernel, true, false),
        ("10.0.0.1:8080", OriginalDestination::Kernel, true, false),
        ("10.96.0.10:81", OriginalDestination::Kernel, false, false),
        ("192.0.2.1:4000", OriginalDestination::Kernel, false, false),
        ("192.0.2.1:4000", OriginalDestination::Fixed(fixed), true, false),
        // Known by its number alone.
        ("192.0.2.1:3306", OriginalDestination::Kernel, false, true),
    ] {
        let address: SocketAddr = destination.parse().unwrap();
        let listener = OutboundListener { address: fixed, original_destination };
        let known = beforehand(&snapshot, Some(address), &listener);
        assert_eq!((known.is_declared, known.port), (declared, Some(address.port())), "{destination}");
        assert_eq!(known.said, opaque.then_some(Detected::Opaque), "{destination}");
    }
}
