//! The files of a mesh: what a cluster's API server would know of its pods, and the sidecars' bootstrap files.

use meshgate::sandbox::ADMIN_PORT;

use super::mesh::Workload;
use super::network::Family;
use super::pod::{HTTP_PORT, TCP_PORT};

/// A Service with cluster addresses of both families for each workload, and its Pod.
pub(super) fn workloads(workloads: &[Workload]) -> String {
    let in_mesh = workloads.iter().enumerate().filter(|(_, workload)| workload.in_mesh);
    let documents = in_mesh.map(|(index, Workload { name, settings, .. })| {
        let tunnel = if settings.contains("hbone:") { ", networking.istio.io/tunnel: http" } else { "" };
        let [service, service_v6] = Family::BOTH.map(|family| family.service(index));
        let [pod, pod_v6] = Family::BOTH.map(|family| family.pod(index));
        format!(
            "apiVersion: v1\n\
             kind: Service\n\
             metadata: {{name: {name}, namespace: default}}\n\
             spec:\n  \
               clusterIP: {service}\n  \
               clusterIPs: [{service}, \"{service_v6}\"]\n  \
               selector: {{app: {name}}}\n  \
               ports:\n  \
               - {{name: http, port: 80, targetPort: {HTTP_PORT}}}\n  \
               - {{name: tcp, port: {TCP_PORT}}}\n\
             ---\n\
             apiVersion: v1\n\
             kind: Pod\n\
             metadata: {{name: {name}-1, namespace: default, labels: {{app: {name}{tunnel}}}}}\n\
             spec: {{serviceAccountName: {name}}}\n\
             status: {{podIP: {pod}, podIPs: [{{ip: {pod}}}, {{ip: \"{pod_v6}\"}}]}}\n"
        )
    });
    documents.collect::<Vec<_>>().join("---\n")
}

/// The names of the workloads' services.
pub(super) fn hosts(workloads: &[Workload]) -> String {
    let mut lines = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for (index, Workload { name, .. }) in workloads.iter().enumerate() {
        for family in Family::BOTH {
            lines += &format!("{} {name} {name}.default.svc.cluster.local\n", family.service(index));
        }
    }
    lines
}

/// A bootstrap file with the usual listeners, once for each family.
pub(super) fn bootstrap(workload: &Workload) -> String {
    let Workload { name, traffic_policy, settings, .. } = workload;
    let pod = format!("{name}-1");
    let admin = match workload.admin {
        ADMIN_PORT => String::new(),
        port => format!("admin: {{address: \"0.0.0.0:{port}\", quit: true}}\n"),
    };
    workload_of(name, &pod, "default", name) + &listeners(traffic_policy, workload.inbound) + &admin + settings
}

/// The lines of a bootstrap file that say whose proxy it is; its files and its label `app` have the name `name`.
pub(super) fn workload_of(name: &str, pod: &str, namespace: &str, account: &str) -> String {
    format!(
        "workload: {{name: {pod}, namespace: {namespace}, serviceAccount: {account}, labels: {{app: {name}}}}}\n\
         identity: {{certificate: identities/{name}.pem, key: identities/{name}-key.pem, trustBundle: ca/ca.pem}}\n\
         resources: {{directory: resources}}\n\
         accessLog: {{path: logs/{name}.access.log}}\n"
    )
}

/// The lines for listeners of both families; `inbound` goes with each of that side.
pub(super) fn listeners(traffic_policy: &str, inbound: &str) -> String {
    format!(
        "inbound:\n  \
           listeners:\n  \
           - {{address: \"0.0.0.0:15006\", originalDestination: kernel{inbound}}}\n  \
           - {{address: \"[::]:15006\", originalDestination: kernel{inbound}}}\n\
         outbound:\n  \
           trafficPolicy: {traffic_policy}\n  \
           listeners:\n  \
           - {{address: \"127.0.0.1:15001\", originalDestination: kernel}}\n  \
           - {{address: \"[::1]:15001\", originalDestination: kernel}}\n"
    )
}

/// A Pod of one address, as the cluster's API server would have it.
pub(super) fn pod(name: &str, namespace: &str, account: &str, address: std::net::IpAddr) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}\n\
         spec: {{serviceAccountName: {account}}}\n\
         status: {{podIP: {address}}}\n"
    )
}
