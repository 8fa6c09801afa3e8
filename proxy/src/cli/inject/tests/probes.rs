//! Probes of the application: what becomes of them, and that they come back.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::*;

const ALL: &str = "  containers:\n  - name: app\n    image: app\n    ports:\n    - {name: http, containerPort: 8080}\n    - name: admin\n      \
    containerPort: 0x2382\n    livenessProbe:\n      # is it there?\n      httpGet: # of its own\n        path: /live?x=1 # quick\n        # \
    the one above\n        port: http\n        httpHeaders:\n        - {name: Host, value: app.example}\n        - name: X-Probe\n          value: \
    \"1\"\n      periodSeconds: 7   # often\n      timeoutSeconds: 2\n    readinessProbe: {periodSeconds: 3, tcpSocket: {port: admin}, \
    failureThreshold: 2}\n    startupProbe:\n      failureThreshold: 9\n      httpGet:\n          port: 8080\n  - name: other\n    \
    readinessProbe:\n      tcpSocket:\n        port: \"9000\"\n    livenessProbe: {exec: {command: [\"true\"]}}\n";

fn json(text: &str) -> Json {
    Sheet::new(text, 1, Path::new("")).unwrap().parse(Path::new("")).unwrap()
}

/// A container of the pod, by its name.
fn container(document: &Json, name: &str) -> Json {
    let all = [&document["spec"]["containers"], &document["spec"]["initContainers"]];
    let mut all = all.into_iter().filter_map(Json::as_array).flatten();
    all.find(|container| container["name"] == name).unwrap().clone()
}

/// What the proxy is told to ask.
fn asked(document: &Json) -> BTreeMap<String, Json> {
    let proxy = container(document, "meshgate-proxy");
    let mut all = proxy["env"].as_array().unwrap().iter();
    let variable = all.find(|variable| variable["name"] == "MESHGATE_APP_PROBES");
    let text = variable.map_or("{}", |variable| variable["value"].as_str().unwrap());
    meshgate_config::AppProbe::read(text).unwrap();
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_kubelet_asks_the_proxy_and_the_proxy_asks_what_the_kubelet_would() {
    let (text, report) = inject(&[], &pod("", ALL));
    assert!(report.problems.is_empty(), "{report:?}");
    assert!(report.lines[0].ends_with(", 4 probes rewritten)"), "{report:?}");
    let document = json(&text.unwrap());
    let (app, other) = (container(&document, "app"), container(&document, "other"));
    let ours = |path: &str| json!({ "path": format!("/app-health/{path}"), "port": 15021 });
    assert_eq!(app["livenessProbe"], json!({"httpGet": ours("app/livez"), "periodSeconds": 7, "timeoutSeconds": 2}));
    let ready = json!({"httpGet": ours("app/readyz"), "periodSeconds": 3, "failureThreshold": 2});
    assert_eq!(app["readinessProbe"], ready);
    assert_eq!(app["startupProbe"], json!({"httpGet": ours("app/startupz"), "failureThreshold": 9}));
    assert_eq!(other["readinessProbe"], json!({"httpGet": ours("other/readyz")}));
    assert_eq!(other["livenessProbe"], json!({"exec": {"command": ["true"]}}));
    let headers = json!([{"name": "Host", "value": "app.example"}, {"name": "X-Probe", "value": "1"}]);
    let live = json!({"httpGet": {"path": "/live?x=1", "port": 8080, "httpHeaders": headers}, "timeoutSeconds": 2});
    let expected = [
        ("/app-health/app/livez", live),
        ("/app-health/app/readyz", json!({"tcpSocket": {"port": 9090}})),
        ("/app-health/app/startupz", json!({"httpGet": {"path": "/", "port": 8080}})),
        ("/app-health/other/readyz", json!({"tcpSocket": {"port": 9000}})),
    ];
    assert_eq!(asked(&document), expected.map(|(path, asks)| (path.to_owned(), asks)).into());
}

/// The same pod in other spellings.
fn spellings() -> Vec<String> {
    let block = pod("", ALL);
    let flow = serde_json::to_string(&json(&block)).unwrap();
    let pretty = serde_json::to_string_pretty(&json(&block)).unwrap() + "\n";
    let odd = "  containers:\n  - name: app\n    readinessProbe:\n      httpGet: {path: /,\n        # why\n        port: 80,\n      }\n      \
        periodSeconds: 1\n    livenessProbe:\n      tcpSocket: &socket\n        port: 80\n    startupProbe: # last\n      httpGet:\n        port: 80\n  # \
        another\n        path: |\n          /x\n\n  restartPolicy: Always\n";
    let odd = pod("", &odd.replace("path: |\n          /x\n", "path: >-\n          /x\n"));
    vec![block.replace('\n', "\r\n"), block, flow, pretty, odd]
}

#[test]
fn what_was_rewritten_comes_back_to_the_byte() {
    for source in spellings() {
        for arguments in [&[][..], &["--native-sidecar", "--admin-port", "16021"]] {
            let text = injected(arguments, &source);
            assert!(text.contains("/app-health/app/"), "{text}");
            assert_eq!(injected(arguments, &text), text, "{source}");
            let again = injected(&["--uninject"], &text);
            assert_eq!(again, source);
        }
        let other = injected(&["--admin-port", "16021"], &injected(&[], &source));
        assert_eq!(other, injected(&["--admin-port", "16021"], &source));
    }
}

#[test]
fn a_document_that_was_laid_out_anew_is_injected_already_and_means_the_same_without_us() {
    for source in spellings() {
        let document = json(&injected(&[], &source));
        let pretty = serde_json::to_string_pretty(&document).unwrap();
        let block = pod("", ALL) == source;
        for laid_out in [serde_json::to_string(&document).unwrap(), pretty] {
            let (text, report) = inject(&[], &laid_out);
            assert_eq!(text.as_deref(), Some(laid_out.as_str()), "{report:?}");
            assert_eq!(report.lines, ["Pod p: unchanged, it is injected already"]);
            assert_eq!(json(&injected(&["--uninject"], &laid_out)), json(&source), "{block}");
        }
    }
}

#[test]
fn lines_move_with_their_probe() {
    let text = injected(&[], &pod("", ALL));
    let marked = text.find("spec:\n").unwrap();
    // All of the pod's specification two columns further in.
    let moved: String = text[marked + 6..].lines().map(|line| format!("  {line}\n")).collect();
    let back = injected(&["--uninject"], &[&text[..marked + 6], &moved].concat());
    assert!(
        back.contains("        httpGet: # of its own\n          path: /live?x=1 # quick\n          # the one above\n"),
        "{back}"
    );
}

#[test]
fn a_probe_that_somebody_has_changed_since_is_theirs() {
    let text = injected(&[], &pod("", ALL)).replace("path: /app-health/app/livez", "path: /mine");
    assert!(injected(&["--uninject"], &text).contains("path: /mine\n        port: 15021"));
    let moved = text.replace("path: /mine\n        port: 15021", "path: /mine\n        port: 8080");
    let document = json(&injected(&[], &moved));
    assert_eq!(asked(&document)["/app-health/app/livez"]["httpGet"]["path"], "/mine");
}

#[test]
fn an_annotation_that_is_not_as_we_wrote_it_is_refused() {
    let text = injected(&[], &pod("", ALL));
    for (from, to, expected) in [
        (
            "meshgate.io/probes\": \"{",
            "meshgate.io/probes\": \"",
            "metadata.annotations[meshgate.io/probes]: is not as",
        ),
        ("\\\"text\\\":", "\\\"other\\\":", "metadata.annotations[meshgate.io/probes]: is not as"),
    ] {
        assert!(text.contains(from), "{text}");
        let (output, report) = inject(&["--uninject"], &text.replacen(from, to, 1));
        assert_eq!(output, None);
        assert!(report.problems[0].to_string().contains(expected), "{report:?}");
    }
}

#[test]
fn the_proof_knows_what_the_probes_were_and_nothing_else() {
    let source = pod("", ALL);
    let sheet = |text: &str| Sheet::new(text, 1, Path::new("in.yaml")).unwrap();
    let before = sheet(&source);
    let object = Object::new(&before, "", Path::new("in.yaml")).unwrap();
    let text = injected(&[], &source);
    proof::same_but_for_ours(&before, &sheet(&text), &object).unwrap();
    for (from, to) in [
        ("periodSeconds: 7", "periodSeconds: 8"),
        ("path: /app-health/app/livez", "path: /app-health/other/livez"),
        ("path: /app-health/app/livez", "path: /app-health/app/livez\n        scheme: HTTPS"),
        ("{\\\"port\\\":\\\"admin\\\"}", "{\\\"port\\\":\\\"http\\\"}"),
    ] {
        assert!(text.contains(from), "{from}: {text}");
        proof::same_but_for_ours(&before, &sheet(&text.replacen(from, to, 1)), &object).unwrap_err();
    }
}

#[test]
fn what_is_not_rewritten_stays_and_is_warned_about() {
    let off = ", annotations: {sidecar.istio.io/rewriteAppHTTPProbers: \"false\"}";
    for (arguments, metadata, spec, expected) in [
        (&[][..], off, "", "livenessProbe.httpGet: comes from the kubelet"),
        (&[], "", "    startupProbe: {grpc: {port: 80}}\n", "startupProbe.grpc: comes from the kubelet"),
        (&[], "", "    startupProbe: {httpGet: {port: 80, scheme: HTTPS}}\n", "startupProbe.httpGet: comes from"),
        (&[], "", "    startupProbe: {tcpSocket: {port: 80, host: db}}\n", "startupProbe.tcpSocket: goes to db, not"),
        (&[], "", "    lifecycle: {preStop: {httpGet: {port: 80}}}\n", "lifecycle.preStop.httpGet: comes from"),
        (
            &[],
            "",
            "  initContainers:\n  - {name: i, startupProbe: {tcpSocket: {port: 80}}}\n",
            "initContainers[0].startupProbe",
        ),
    ] {
        let source = pod(metadata, &[APP, "    livenessProbe: {httpGet: {port: 80}}\n", spec].concat());
        let (text, report) = inject(arguments, &source);
        let text = text.unwrap_or_else(|| panic!("{report:?}"));
        assert!(report.problems.iter().any(|problem| problem.to_string().contains(expected)), "{report:?} {expected}");
        let rewritten = usize::from(metadata.is_empty());
        assert_eq!(asked(&json(&text)).len(), rewritten, "{text}");
        assert!(text.contains(spec.lines().last().unwrap_or_default()), "{text}");
    }
}

#[test]
fn a_native_sidecar_carries_out_init_containers_probes_as_well() {
    let init = "  initContainers:\n  - {name: i, restartPolicy: Always, startupProbe: {tcpSocket: {port: 80}}}\n";
    let document = json(&injected(&["--native-sidecar"], &pod("", &[init, APP].concat())));
    assert_eq!(container(&document, "i")["startupProbe"]["httpGet"]["path"], "/app-health/i/startupz");
    assert!(asked(&document).contains_key("/app-health/i/startupz"));
}

#[test]
fn probes_that_cannot_be_meant_are_refused_where_they_stand() {
    let long = format!("{{httpGet: {{port: 80, path: /{}}}}}", "a".repeat(3000));
    for (probe, expected) in [
        ("{httpGet: {port: web}}", "livenessProbe.httpGet.port: `web` is neither a number nor the name"),
        ("{httpGet: {path: /}}", "livenessProbe.httpGet.port: there is no port"),
        ("{httpGet: {port: 15006}}", "livenessProbe.httpGet.port: port 15006 is the proxy's"),
        ("{tcpSocket: {port: 15021}}", "livenessProbe.tcpSocket.port: port 15021 is the proxy's"),
        ("{tcpSocket: {port: 70000}}", "livenessProbe: "),
        ("{tcpSocket: {port: 80}, httpGet: {port: 80}}", "livenessProbe: asks in more than one way"),
        ("{httpGet: {port: 80, scheme: TLS}}", "livenessProbe.httpGet.scheme: `TLS` is neither"),
        ("{httpGet: {port: 80, method: PUT}}", "livenessProbe.httpGet.method: is no field"),
        ("{httpGet: {port: 80, path: /a b}}", "livenessProbe: httpGet.path: `/a b` is not a path"),
        ("{httpGet: {port: 80}, timeoutSeconds: 0}", "livenessProbe: timeoutSeconds: 0 is not from 1"),
        (
            "{httpGet: {port: 80, httpHeaders: [{name: Connection, value: x}]}}",
            "livenessProbe: httpGet.httpHeaders: `Connection` would change",
        ),
        (long.as_str(), "livenessProbe: httpGet.path: has 3001 bytes"),
    ] {
        let (output, report) = inject(&[], &pod("", &format!("{APP}    livenessProbe: {probe}\n")));
        assert_eq!(output, None, "{probe}");
        let said = report.problems[0].to_string();
        assert!(said.starts_with(&format!("in.yaml:9: Pod p: spec.containers[0].{expected}")), "{said}");
    }
    let shared = format!("{APP}    livenessProbe: &p {{tcpSocket: {{port: 80}}}}\n    readinessProbe: *p\n");
    let (output, report) = inject(&[], &pod("", &shared));
    assert!(output.is_none() && report.problems[0].to_string().contains("alias"), "{report:?}");
    let maybe = pod(", annotations: {sidecar.istio.io/rewriteAppHTTPProbers: maybe}", APP);
    assert!(inject(&[], &maybe).1.problems[0].to_string().contains("`maybe` is neither \"true\" nor \"false\""));
    let twins = "  containers:\n  - {name: a, livenessProbe: {tcpSocket: {port: 80}}}\n  - {name: a, livenessProbe: {tcpSocket: {port: 81}}}\n";
    assert!(inject(&[], &pod("", twins)).1.problems[0].to_string().contains("there is another container `a`"));
}
