use std::fs;

use clap::Parser;

use super::*;

mod hostile;
mod preserve;
mod probes;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn args(arguments: &[&str]) -> Args {
    Command::parse_from(["inject"].iter().chain(arguments)).args
}

/// One file through the command: the text, if none of its documents is refused, and what was said about it.
fn inject(arguments: &[&str], text: &str) -> (Option<String>, Report) {
    let mut report = Report::default();
    let source = sources::Source { name: PathBuf::from("in.yaml"), text: text.to_owned() };
    let output = file(&source, &args(arguments), &mut report);
    (report.problems.iter().all(|problem| !problem.is_error()).then_some(output), report)
}

/// As [`inject`], of what is not refused.
fn injected(arguments: &[&str], text: &str) -> String {
    let (output, report) = inject(arguments, text);
    output.unwrap_or_else(|| panic!("{arguments:?}: {report:?}\n{text}"))
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/inject/testdata").join(name)
}

/// Inputs, and how each is injected.
const GOLDENS: [(&str, &[&str]); 9] = [
    ("deployment.yaml", &[]),
    ("statefulset.yaml", &["--image-pull-policy", "IfNotPresent"]),
    ("daemonset.yaml", &["--identity-secret", "{serviceAccount}-tls"]),
    ("replicaset.json", &["--cpu-limit", "", "--admin-port", "16021"]),
    ("job.yaml", &["--native-sidecar"]),
    ("cronjob.yaml", &["--native-sidecar"]),
    ("probes.yaml", &[]),
    ("pod.yaml", &["--labels", "literal"]),
    ("list.yaml", &["--proxy-image", "registry.example/meshgate@sha256:00"]),
];

#[test]
fn every_kind_comes_out_as_its_golden_says() {
    for (name, arguments) in GOLDENS {
        let text = injected(arguments, &fs::read_to_string(data(name)).unwrap());
        let path = data(&format!("{name}.golden"));
        if std::env::var_os("UPDATE_GOLDENS").is_some_and(|value| value == "1") {
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(text, golden, "{name} differs; after a look at the difference, UPDATE_GOLDENS=1 accepts it");
    }
}

#[test]
fn what_is_not_injected_keeps_every_byte() {
    let text = "%YAML 1.1\n---\n# nothing of ours\nkind: ConfigMap\napiVersion: v1\ndata: {a: 0644, b: yes}\n...\n\n\
        ---\nkind: Deployment\napiVersion: example.com/v1\nspec: {}\n---\n# only a comment\n";
    let (output, report) = inject(&[], text);
    assert_eq!(output.as_deref(), Some(text));
    assert!(report.lines.is_empty(), "{report:?}");
}

#[test]
fn files_are_put_one_after_another() {
    let mut output = String::new();
    for text in ["a: 1", "", "---\nb: 1\n", "c: 1\n"] {
        join(&mut output, text);
    }
    assert_eq!(output, "a: 1\n---\nb: 1\n---\nc: 1\n");
}

fn pod(metadata: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p{metadata}}}\nspec:\n  serviceAccountName: p\n{spec}")
}

const APP: &str = "  containers:\n  - name: app\n    image: app\n";

#[test]
fn annotations_become_the_flags_of_the_init_container() {
    for (annotations, flags) in [
        ("", "apply,\"-d\",\"15021\""),
        ("traffic.sidecar.istio.io/includeInboundPorts: \"\"", "apply,\"-b\",\"\",\"-d\",\"15021\""),
        ("traffic.sidecar.istio.io/includeInboundPorts: \"80,81\"", "apply,\"-b\",\"80,81\",\"-d\",\"15021\""),
        ("traffic.sidecar.istio.io/includeInboundPorts: \"*\"", "apply,\"-b\",\"*\",\"-d\",\"15021\""),
        (
            "traffic.sidecar.istio.io/excludeInboundPorts: 9000, config.linkerd.io/skip-inbound-ports: 9001-9003",
            "apply,\"-d\",\"15021,9000,9001-9003\"",
        ),
        (
            "traffic.sidecar.istio.io/includeOutboundIPRanges: 10.0.0.0/8, traffic.sidecar.istio.io/excludeOutboundIPRanges: 10.1.0.0/16",
            "apply,\"-d\",\"15021\",\"-i\",\"10.0.0.0/8\",\"-x\",\"10.1.0.0/16\"",
        ),
        (
            "traffic.sidecar.istio.io/includeOutboundPorts: 80, config.linkerd.io/skip-outbound-ports: 81",
            "apply,\"-d\",\"15021\",\"-o\",\"81\",\"-q\",\"80\"",
        ),
    ] {
        let text = injected(&[], &pod(&format!(", annotations: {{{annotations}}}"), APP));
        let after = text.split_once("    args:\n    - ").unwrap().1;
        let arguments = after.split_once("    env:").unwrap().0.trim().replace("\n    - ", ",");
        assert_eq!(arguments, flags, "{annotations}");
    }
}

#[test]
fn annotations_set_what_the_proxy_is_like() {
    let annotations = ", annotations: {sidecar.istio.io/proxyImage: \"other:1\", config.linkerd.io/proxy-cpu-request: 1500m, \
        proxy.istio.io/config: \"holdApplicationUntilProxyStarts: false\", sidecar.istio.io/logLevel: warning}";
    let text = injected(&["--memory-limit", "", "--cpu-limit", "", "--memory-request", ""], &pod(annotations, APP));
    assert!(text.contains("    image: other:1\n"), "{text}");
    assert!(text.contains("    resources:\n      requests:\n        cpu: \"1500m\"\n    security"), "{text}");
    assert!(!text.contains("postStart"), "{text}");
    assert!(text.contains("    - name: MESHGATE_LOG_LEVEL\n      value: warn\n"), "{text}");
}

#[test]
fn a_native_sidecar_stands_between_the_redirection_and_the_other_init_containers() {
    let first = "  initContainers:\n  - name: first\n    image: first\n";
    let text = injected(&["--native-sidecar"], &pod("", &[first, APP].concat()));
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("  - name: ")).collect();
    let ours = ["meshgate-bootstrap", "meshgate-resources", "meshgate-identity", "meshgate-pod"];
    let mut named = names.iter().filter(|name| !ours.contains(name));
    assert!(named.by_ref().eq(&["meshgate-init", "meshgate-proxy", "first", "app"]), "{names:?}");
    assert!(text.contains("    restartPolicy: Always\n") && !text.contains("postStart"), "{text}");
}

#[test]
fn other_flags_take_the_place_of_the_earlier_ones() {
    let source = pod("", APP);
    let once = injected(&[], &source);
    let other = injected(&["--native-sidecar", "--labels", "literal"], &once);
    assert_eq!(other, injected(&["--native-sidecar", "--labels", "literal"], &source));
    assert_eq!(injected(&[], &other), once);
}

#[test]
fn a_workload_that_asks_an_authority_gets_a_token_and_the_roots_and_no_secret() {
    let source = pod("", APP);
    let text = injected(&["--roots-config-map", "meshgate-root"], &source);
    let at = |mount: &str| {
        text.contains(&format!("    - name: meshgate-identity\n      mountPath: {mount}\n      readOnly: true\n"))
    };
    assert!(at("/var/lib/meshgate/identity") && at("/var/run/secrets/tokens"), "{text}");
    let volume = "  - name: meshgate-identity\n    projected:\n      sources:\n      - serviceAccountToken:\n          path: istio-token\n\
        \u{20}         audience: istio-ca\n          expirationSeconds: 43200\n      - configMap:\n          name: meshgate-root\n\
        \u{20}         optional: false\n";
    assert!(text.contains(volume), "{text}");
    assert!(!text.contains("secretName"), "{text}");
    assert_eq!(injected(&["--uninject"], &text), source);
    assert!(Command::try_parse_from(["inject", "--roots-config-map", "a", "--identity-secret", "b"]).is_err());
}
