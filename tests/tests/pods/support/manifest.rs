//! YAML: what a user writes of a pod, and what becomes of it with a sidecar.

use std::net::IpAddr;
use std::path::Path;

use super::cluster::Workload;
use super::{APPLICATION, INIT, PROXY, THE_APPLICATION};

/// What a sidecar takes: whatever is redirected to it.
pub(crate) const REDIRECTED: &str = "\
inbound: {listeners: [{address: \"0.0.0.0:15006\", originalDestination: kernel}]}
outbound: {listeners: [{address: \"127.0.0.1:15001\", originalDestination: kernel}]}
";

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

/// It with a sidecar that reads `folder`, and an init container that redirects.
pub(crate) fn injected(yaml: &str, folder: &Path, name: &str) -> String {
    let folder = folder.display();
    yaml.to_owned()
        + &format!(
            "  - name: meshgate
    image: {PROXY}
    args: [run, --bootstrap, /etc/meshgate/{name}.yaml]
    securityContext:
      runAsUser: 1337
      runAsGroup: 1337
      runAsNonRoot: true
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {{drop: [ALL]}}
    volumeMounts:
    - {{name: meshgate, mountPath: /etc/meshgate, readOnly: true}}
  initContainers:
  - name: meshgate-init
    image: {INIT}
    command: [/usr/sbin/nft, -f, /etc/meshgate/rules.nft]
    securityContext:
      runAsUser: 0
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {{drop: [ALL], add: [NET_ADMIN, NET_RAW]}}
    volumeMounts:
    - {{name: meshgate, mountPath: /etc/meshgate, readOnly: true}}
  volumes:
  - name: meshgate
    hostPath: {{path: {folder}}}
"
        )
}
