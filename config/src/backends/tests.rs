use super::*;
use crate::folder::Folder;
use crate::kept::Reading;
use crate::services::Services;
use crate::testing::settings;
use meshgate_policy::smi::Reach;

/// Services of one file, and the warnings.
fn composed(text: &str) -> (Services, Vec<String>) {
    let folder = Folder { files: vec![("a.yaml".into(), text.into())], ..Folder::default() };
    let (standing, problems) = Standing::default().after(Reading::new(&folder, "istio-system"), "istio-system");
    assert_eq!(problems, []);
    let objects = standing.good().map(|(key, _, object)| (key, object));
    let workloads = Workloads::new(objects, &settings().trust_domain);
    let mut problems = Vec::new();
    let (reach, own) = (Reach::default(), ClusterKey::default());
    let view = View {
        workloads: &workloads,
        reach: &reach,
        cluster_domain: "cluster.local",
        own: &own,
        opaque_ports: &OpaquePorts::default(),
    };
    let local = services(&standing, view, &mut problems);
    let services =
        crate::snapshot::indexed("cluster.local", &OpaquePorts::default(), local.entries, Vec::new(), &mut problems);
    (services, problems.iter().map(ToString::to_string).collect())
}

/// `address workload identity` of the ready endpoints, and how many are not ready.
fn endpoints(services: &Services, host: &str, port: u16) -> (Vec<String>, usize) {
    let port = services.by_host(host, port, "default").unwrap();
    let shown = port.endpoints.iter().map(|endpoint| {
        let workload = endpoint.workload.as_ref().map_or("-".to_owned(), ToString::to_string);
        let identity = match &endpoint.identity {
            EndpointIdentity::Mesh(id) => id.principal().to_owned(),
            EndpointIdentity::Namespace { trust_domain, namespace } => format!("{trust_domain}/ns/{namespace}/sa/*"),
            EndpointIdentity::Plaintext => "plaintext".to_owned(),
            EndpointIdentity::Unknown => "unknown".to_owned(),
        };
        format!("{} {workload} {identity}", endpoint.address)
    });
    (shown.collect(), port.not_ready)
}

const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {serviceAccountName: web, containers: [{ports: [{name: api, containerPort: 9000}]}]}
status: {podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: \"fd00::1\"}], conditions: [{type: Ready, status: \"True\"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: web, security.istio.io/tlsMode: disabled}}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: web-3, labels: {app: web}}
spec: {serviceAccountName: web}
status: {podIP: 10.1.0.3, conditions: [{type: Ready, status: \"False\"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-4, labels: {app: web}}
status: {podIP: 10.1.0.1, phase: Succeeded}
---
";

#[test]
fn a_service_and_its_pods_are_enough() {
    let service = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, \"fd00:96::1\"], selector: {app: web}, ports: [{port: 80, targetPort: 8080}, {name: api, port: 81, targetPort: api}, {name: dns, port: 53, protocol: UDP}]}
";
    let (services, problems) = composed(&format!("{PODS}{service}"));
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        endpoints(&services, "web", 80),
        (
            vec![
                "10.1.0.1:8080 default/web-1 cluster.local/ns/default/sa/web".to_owned(),
                "10.1.0.2:8080 default/web-2 plaintext".to_owned(),
                "[fd00::1]:8080 default/web-1 cluster.local/ns/default/sa/web".to_owned(),
            ],
            1
        )
    );
    // Only web-1 has a port of that name.
    assert_eq!(endpoints(&services, "web", 81).0.len(), 2);
    assert!(services.by_host("web", 53, "default").is_none(), "UDP");
    assert_eq!(services.by_address("[fd00:96::1]:80".parse().unwrap()).unwrap().host, "web.default.svc.cluster.local");
    let (_, not_ready) = services.endpoint("10.1.0.3:8080".parse().unwrap()).unwrap();
    assert_eq!(not_ready.workload.as_ref().unwrap().name, "web-3");
}

const SLICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80}, {name: admin, port: 90}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets: [{addresses: [{ip: 10.1.0.9}], ports: [{name: http, port: 1}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [10.1.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: web-1}}
- {addresses: [10.1.0.2], conditions: {}}
- {addresses: [10.1.0.3], conditions: {ready: false}}
- {addresses: [10.1.0.7]}
ports: [{name: http, port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-b, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.3], conditions: {ready: true}}]
ports: [{name: http, port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-c, labels: {kubernetes.io/service-name: web}}
addressType: FQDN
endpoints: null
ports: null
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: stray, labels: {kubernetes.io/service-name: nobody}}
addressType: IPv6
";

#[test]
fn slices_win_over_endpoints_and_ports_match_by_name() {
    let (services, problems) = composed(&format!("{PODS}{SLICES}"));
    assert_eq!(
        endpoints(&services, "web", 80).0,
        [
            "10.1.0.1:8080 default/web-1 cluster.local/ns/default/sa/web",
            "10.1.0.2:8080 default/web-2 plaintext",
            "10.1.0.3:8080 default/web-3 cluster.local/ns/default/sa/web",
            "10.1.0.7:8080 - unknown",
        ]
    );
    assert_eq!(
        problems,
        [
            "a.yaml:24: Service default/web: port 90 has no endpoints, while others of this Service have: endpoints are matched to ports by \
             the port's name",
            "a.yaml:24: Service default/web: 1 endpoint(s) belong to no Pod or WorkloadEntry with one known service account, so that traffic \
             to them is refused; the first is 10.1.0.7:8080",
            "a.yaml:59: EndpointSlice default/stray: there is no Service default/nobody",
            "a.yaml:52: EndpointSlice default/web-c: addressType FQDN is not read by this version: its endpoints are left out",
        ]
    );
}

#[test]
fn endpoints_say_who_is_ready() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets:
- addresses: [{ip: 10.1.0.2}]
  notReadyAddresses: [{ip: 10.1.0.1, targetRef: {kind: Pod, name: web-1}}]
  ports: [{port: 8080}]
";
    let (services, problems) = composed(&format!("{PODS}{text}"));
    assert_eq!(problems, [""; 0]);
    assert_eq!(endpoints(&services, "web", 80), (vec!["10.1.0.2:8080 default/web-2 plaintext".to_owned()], 1));
}

#[test]
fn workload_entries_join_the_services_that_select_them() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: 10.96.0.2, selector: {app: db}, ports: [{name: sql, port: 5432}, {name: web, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db-1}
spec: {address: 192.0.2.1, labels: {app: db}, serviceAccount: db, ports: {sql: 15432}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db-2}
spec: {address: 192.0.2.2, labels: {app: db}}
";
    let (services, problems) = composed(text);
    assert_eq!(
        endpoints(&services, "db", 5432).0,
        ["192.0.2.1:15432 default/db-1 cluster.local/ns/default/sa/db", "192.0.2.2:5432 default/db-2 unknown"]
    );
    assert_eq!(endpoints(&services, "db", 80).0[0], "192.0.2.1:8080 default/db-1 cluster.local/ns/default/sa/db");
    assert_eq!(problems.len(), 1);
}

#[test]
fn an_address_claimed_under_two_identities_has_none() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets: [{addresses: [{ip: 10.1.0.5}, {ip: 10.1.0.6}], ports: [{port: 8080}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {serviceAccountName: a}
status: {podIP: 10.1.0.5}
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec: {serviceAccountName: b}
status: {podIP: 10.1.0.5}
---
apiVersion: v1
kind: Pod
metadata: {name: on-host}
spec: {serviceAccountName: a, hostNetwork: true}
status: {podIP: 10.1.0.6}
";
    let (services, problems) = composed(text);
    assert_eq!(endpoints(&services, "web", 80).0, ["10.1.0.5:8080 - unknown", "10.1.0.6:8080 - unknown"]);
    assert_eq!(problems.len(), 1);
}

#[test]
fn external_names_and_shared_addresses_are_doubtful() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Service
metadata: {name: one}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: two}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
";
    let (services, problems) = composed(text);
    assert!(!services.host_known("alias", "default"));
    assert_eq!(
        problems,
        [
            "a.yaml:2: Service default/alias: a Service of type ExternalName is an alias in DNS: it is not balanced",
            "a.yaml:12: Service default/two: 10.96.0.1:80 is already the address of Service default/one",
        ]
    );
}

#[test]
fn who_takes_tunnels_says_so_by_a_label_or_its_nodes_proxy_by_an_annotation() {
    let pod = |last: u8, metadata: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web-{last}, {metadata}}}\n\
             spec: {{serviceAccountName: web}}\nstatus: {{podIP: 10.1.0.{last}}}\n---\n"
        )
    };
    let entry = |last: u8, labels: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: vm-{last}}}\n\
             spec: {{address: 10.1.0.{last}, serviceAccount: web, labels: {{app: web{labels}}}}}\n---\n"
        )
    };
    let all = [
        pod(1, "labels: {app: web}"),
        pod(2, "labels: {app: web, networking.istio.io/tunnel: http}"),
        pod(3, "labels: {app: web}, annotations: {ambient.istio.io/redirection: enabled}"),
        pod(4, "labels: {app: web, networking.istio.io/tunnel: none}"),
        pod(5, "labels: {app: web}, annotations: {ambient.istio.io/redirection: disabled}"),
        entry(6, ", networking.istio.io/tunnel: http"),
        entry(7, ""),
    ];
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n\
                   spec: {clusterIP: 10.96.0.1, selector: {app: web}, ports: [{port: 80}]}\n";
    let (services, _) = composed(&(all.concat() + service));
    let port = services.by_host("web", 80, "default").unwrap();
    let tunnels = port.endpoints.iter().filter(|endpoint| endpoint.tunnels);
    let tunnels: Vec<_> = tunnels.map(|endpoint| endpoint.address.ip().to_string()).collect();
    assert_eq!(tunnels, ["10.1.0.2", "10.1.0.3", "10.1.0.6"]);
}
