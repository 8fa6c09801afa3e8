//! YAML: what a user writes of a pod, what `meshgate inject` makes of it, and the ConfigMaps and the Secret that this asks for.

use std::net::IpAddr;

use super::cluster::Workload;
use super::{APPLICATION, INIT, PROXY, THE_APPLICATION};
use crate::command::{command, stdout};

/// The name of what a pod's proxy reads: `bootstrap`, `resources`, `identity`.
pub(crate) fn of_pod(pod: &str, what: &str) -> String {
    format!("{pod}-{what}")
}

/// The Pod of a workload that listens on 8080 and has a client beside it. It says nothing of any proxy.
pub(crate) fn application(pod: &str, workload: &Workload, hosts: &[(String, IpAddr)]) -> String {
    let Workload { name, namespace, account, says } = *workload;
    let hosts: Vec<_> = hosts.iter().map(|(name, address)| format!("{{ip: {address}, hostnames: [{name}]}}")).collect();
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  serviceAccountName: {account}
  restartPolicy: Never
  hostAliases: [{hosts}]
  containers:
  - name: app
    image: {APPLICATION}
    command: [{THE_APPLICATION}, serve, {says}, \"http=0.0.0.0:8080\"]
",
        hosts = hosts.join(", ")
    )
}

/// The sidecar's ports, which are said for people to read. podman 4.3 takes each for one of the machine's own, where only the first
/// pod gets it.
const PORTS: &str = "    ports:
    - name: mesh-admin
      containerPort: 15021
    - name: mesh-inbound
      containerPort: 15006
";

/// It with a sidecar and an init container that redirects, as the product makes it.
pub(crate) fn injected(pod: &str, yaml: &str) -> String {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let mut inject = command(crate::binary());
    inject.args(["inject", "--labels", "literal", "--proxy-image", PROXY, "--init-image", INIT]);
    inject.args(["--identity-secret", &of_pod(pod, "identity"), "--bootstrap-config-map", &of_pod(pod, "bootstrap")]);
    inject.args(["--resources-config-map", &of_pod(pod, "resources")]).arg(file.path());
    let injected = stdout(&inject.output().unwrap());
    assert!(injected.contains(PORTS), "{injected}");
    injected.replace(PORTS, "")
}

/// A ConfigMap.
pub(crate) fn config_map(name: &str, entries: &[(&str, String)]) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n{}---\n", data(entries))
}

/// Entries by name, of a ConfigMap or for [`super::world::keep_secret`].
pub(crate) fn data(entries: &[(&str, String)]) -> String {
    let entries = entries.iter().map(|(name, text)| {
        let lines: String = text.lines().map(|line| format!("    {line}\n")).collect();
        format!("  {name}: |\n{lines}")
    });
    format!("data:\n{}", entries.collect::<String>())
}
