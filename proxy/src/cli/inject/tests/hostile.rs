//! What is refused, and what is warned about: with the place.

use super::*;

#[track_caller]
fn refused(text: &str, expected: &str) {
    let (output, report) = inject(&[], text);
    assert_eq!(output, None, "{text}");
    let errors: Vec<_> = report.problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect();
    assert!(errors.iter().any(|error| error.starts_with(expected)), "{errors:#?}\n{expected}");
}

#[track_caller]
fn warned(arguments: &[&str], text: &str, expected: &str) {
    let (output, report) = inject(arguments, text);
    assert!(output.is_some(), "{report:?}");
    let warnings: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|warning| warning.contains(expected)), "{warnings:#?}\n{expected}");
}

#[test]
fn pods_in_which_the_mesh_would_not_hold_are_refused() {
    for (spec, expected) in [
        ("  hostNetwork: yes\n", "in.yaml:6: Pod p: spec.hostNetwork: a pod in the host's network"),
        ("  os: {name: windows}\n", "in.yaml:6: Pod p: spec.os.name: only Linux"),
        ("  securityContext:\n    runAsUser: 1337\n", "in.yaml:7: Pod p: spec.securityContext.runAsUser: user 1337"),
        ("  securityContext: {runAsUser: 0x539}\n", "in.yaml:6: Pod p: spec.securityContext.runAsUser: user 1337"),
        ("  volumes: [{name: meshgate-pod}]\n", "in.yaml:6: Pod p: spec.volumes[0]: there is a volume `meshgate-pod`"),
        (
            "  initContainers:\n  - {name: meshgate-proxy}\n",
            "in.yaml:7: Pod p: spec.initContainers[0]: there is a container `meshgate-proxy` that is not ours",
        ),
        (
            "  initContainers: [{name: istio-init}]\n",
            "in.yaml:6: Pod p: spec.initContainers[0]: container `istio-init`",
        ),
    ] {
        refused(&pod("", &[spec, APP].concat()), expected);
    }
    let container = "  containers:\n  - name: app\n";
    for (fields, expected) in [
        ("    securityContext: {runAsUser: 1337}\n", "in.yaml:8: Pod p: spec.containers[0].securityContext.runAsUser"),
        (
            "    ports:\n    - containerPort: 15006\n",
            "in.yaml:9: Pod p: spec.containers[0].ports[0].containerPort: port 15006",
        ),
        (
            "    ports: [{containerPort: 15021}]\n",
            "in.yaml:8: Pod p: spec.containers[0].ports[0].containerPort: port 15021",
        ),
    ] {
        refused(&pod("", &[container, fields].concat()), expected);
    }
    refused(&pod("", "  containers: []\n"), "in.yaml:6: Pod p: spec.containers: there is no container");
}

#[test]
fn bad_annotations_are_refused_by_name() {
    for (annotation, expected) in [
        ("traffic.sidecar.istio.io/excludeInboundPorts: http", "\"http\" is not a port"),
        ("traffic.sidecar.istio.io/excludeOutboundPorts: \"90-80\"", "90-80"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges: 10.0.0.0/33", "10.0.0.0/33"),
        ("config.linkerd.io/skip-inbound-ports: \"0\"", "\"0\" is not a port"),
        ("sidecar.istio.io/inject: maybe", "`maybe` is neither"),
        ("linkerd.io/inject: perhaps", "`perhaps` is none of"),
        ("sidecar.istio.io/logLevel: loud", "`loud` is no level: expected error, warn"),
        ("sidecar.istio.io/proxyCPU: much", "`much` is not a quantity"),
        ("proxy.istio.io/config: \"holdApplicationUntilProxyStarts: 3\"", "holdApplicationUntilProxyStarts: `3`"),
    ] {
        let text = pod(&format!(", annotations: {{{annotation}}}"), APP);
        let (_, report) = inject(&[], &text);
        let key = annotation.split_once(": ").unwrap().0;
        let said = report.problems.first().unwrap().to_string();
        assert!(said.starts_with(&format!("in.yaml:3: Pod p: metadata.annotations[{key}]: ")), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    let both = ", annotations: {traffic.sidecar.istio.io/includeInboundPorts: \"80\", config.linkerd.io/skip-inbound-ports: \"80\"}";
    refused(&pod(both, APP), "in.yaml:3: Pod p: metadata.annotations: port 80 is in ");
}

#[test]
fn one_bad_document_of_many_refuses_all() {
    let bad = pod("", "  hostNetwork: true\n  containers: [{name: app}]\n");
    let text = [pod("", APP), bad, "a: [\n".to_owned()].join("---\n");
    let (output, report) = inject(&[], &text);
    assert_eq!(output, None);
    let lines: Vec<_> = report.problems.iter().filter_map(|problem| problem.line).collect();
    assert_eq!(lines, [15, 19], "{report:?}");
}

#[test]
fn documents_that_cannot_be_read_are_refused() {
    for text in ["kind: Pod\nkind: Pod\n", "a: {{ .Values.b }}\n", "\tkind: Pod\n", "a: *b\n"] {
        let (output, report) = inject(&[], text);
        assert!(output.is_none() && report.problems.len() == 1, "{text}: {report:?}");
    }
}

#[test]
fn an_alias_is_never_changed_at_its_other_end() {
    let shared = "apiVersion: v1\nkind: Pod\nmetadata: &m\n  name: p\nspec:\n  serviceAccountName: p\n  \
        containers:\n  - name: app\n    env: &e\n    - {name: a, value: b}\n  - name: second\n    env: *e\nstatus: *m\n";
    refused(shared, "in.yaml:1: Pod p: the change would reach more of the document");
    let harmless = shared.replace("status: *m\n", "");
    assert!(injected(&[], &harmless).contains("    env: *e\n"));
    let alias = "x-volumes: &v\n- name: data\napiVersion: v1\nkind: Pod\nspec:\n  serviceAccountName: p\n  volumes: *v\n  \
        containers:\n  - name: app\n";
    refused(alias, "in.yaml:7: Pod : spec.volumes: it is an alias of another value");
}

#[test]
fn what_its_owner_should_know_is_said() {
    for (spec, expected) in [
        ("  shareProcessNamespace: true\n", "spec.shareProcessNamespace: the containers see"),
        ("  restartPolicy: Never\n", "spec: the pod is to end, and does not"),
        ("  terminationGracePeriodSeconds: 10\n", "spec.terminationGracePeriodSeconds: the proxy may need 25 s"),
        ("  initContainers: [{name: first}]\n", "spec.initContainers[0]: init container `first` runs before the proxy"),
        (
            "  initContainers: [{name: a, securityContext: {capabilities: {add: [CHOWN, NET_ADMIN]}}}]\n",
            "spec.initContainers[0].securityContext.capabilities.add[1]: with NET_ADMIN",
        ),
    ] {
        warned(&[], &pod("", &[spec, APP].concat()), expected);
    }
    warned(&[], &pod("", APP).replace("  serviceAccountName: p\n", ""), "spec: no service account is stated");
    for (fields, expected) in [
        ("    livenessProbe: {grpc: {port: 80}}\n", "spec.containers[0].livenessProbe.grpc: comes from the kubelet"),
        ("    securityContext: {privileged: true}\n", "spec.containers[0].securityContext.privileged: a privileged"),
    ] {
        warned(&[], &pod("", &[APP, fields].concat()), expected);
    }
    for (annotation, expected) in [
        ("traffic.sidecar.istio.io/excludeOutboundPort: \"1\"", "excludeOutboundPort]: is not known"),
        ("config.linkerd.io/opaque-ports: \"1\"", "opaque-ports]: has no effect: give the Service's port"),
    ] {
        warned(&[], &pod(&format!(", annotations: {{{annotation}}}"), APP), expected);
    }
}

#[test]
fn a_native_sidecar_ends_with_its_job_and_starts_before_init_containers() {
    let text = pod("", &["  restartPolicy: Never\n  initContainers: [{name: first}]\n", APP].concat());
    assert!(inject(&["--native-sidecar"], &text).1.problems.is_empty());
}
