//! One more service in walk-through B's clusters, with an application of the test's own behind it.

use std::net::IpAddr;

use meshgate::sandbox::three::ThreeClusters;
use meshgate::sandbox::three::setting::Setting;
use meshgate::sandbox::{PodSpec, Sidecar};

use super::app::App;

/// How it is called.
pub(crate) const MORE: &str = "more.httpbin:9000";

/// Starts a pod of the service `more` before each of the applications, and returns what makes it known: cluster-1 and cluster-3
/// export it, cluster-2 imports it. `port` is the name of its port, which says what is spoken.
pub(crate) async fn everywhere(
    clusters: &mut ThreeClusters,
    port: &str,
    applications: &[App; 3],
) -> (Setting, Vec<Sidecar>) {
    let (mut setting, mut pods) = (Setting::active_active(), Vec::new());
    for (index, application) in applications.iter().enumerate() {
        let sandbox = &mut clusters.members[index].sandbox;
        let spec = PodSpec {
            name: "more".to_owned(),
            namespace: "httpbin".to_owned(),
            service_account: "more".to_owned(),
            app: "more".to_owned(),
            application: Some(application.address()),
            ..PodSpec::default()
        };
        let address = sandbox.next_address();
        pods.push(sandbox.start(&spec, address).await.unwrap());
        setting = setting.with(index, resources(port, address));
        setting = if index == 1 { setting.with(index, import(port)) } else { setting.with(index, export(index)) };
    }
    (setting, pods)
}

fn resources(port: &str, address: IpAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: more, namespace: httpbin}}\n\
         spec: {{clusterIP: 10.96.0.30, selector: {{app: more}}, ports: [{{name: {port}, port: 9000, targetPort: 8080}}]}}\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: more, namespace: httpbin, labels: {{app: more}}}}\n\
         spec: {{serviceAccountName: more}}\nstatus: {{podIP: {address}}}\n"
    )
}

fn export(index: usize) -> String {
    format!(
        "apiVersion: flomesh.io/v1alpha1\nkind: ServiceExport\nmetadata: {{name: more, namespace: httpbin}}\n\
         spec: {{serviceAccountName: more, rules: [{{portNumber: 9000, path: /more-{index}, pathType: Prefix}}]}}\n"
    )
}

fn import(port: &str) -> String {
    let endpoint = |name: &str, port: u16| {
        format!(
            "    - clusterKey: default/default/default/{name}\n      target:\n        host: 192.168.1.110\n        \
             ip: 192.168.1.110\n        port: {port}\n        path: /more\n"
        )
    };
    format!(
        "apiVersion: flomesh.io/v1alpha1\nkind: ServiceImport\nmetadata: {{name: more, namespace: httpbin}}\n\
         spec:\n  serviceAccountName: more\n  ports:\n  - name: {port}\n    port: 9000\n    protocol: TCP\n    \
         endpoints:\n{}{}",
        endpoint("cluster-1", 81),
        endpoint("cluster-3", 83)
    )
}
