use std::fs;

use super::*;

const MINIMAL: &str = "\
workload: {namespace: default, serviceAccount: backend}
identity: {certificate: c.pem, key: k.pem, trustBundle: r.pem}
resources: {directory: resources}
";

/// Loads `text` as `bootstrap.yaml` of a folder that has `resources/` and `labels`.
fn load(text: &str, env: &[(&str, &str)]) -> Result<Bootstrap, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("resources")).unwrap();
    fs::write(folder.path().join("labels"), "app=\"backend\"\nversion=\"v1\"\n").unwrap();
    let path = folder.path().join("bootstrap.yaml");
    fs::write(&path, text).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Bootstrap::load(&path, env).map_err(|problems| {
        let prefix = format!("{}/", folder.path().display());
        problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    })
}

fn problems(text: &str) -> Vec<String> {
    load(text, &[]).unwrap_err()
}

#[test]
fn probes_of_the_application_are_of_ports_that_are_not_the_proxys() {
    let text = |port| format!("{MINIMAL}appProbes:\n  /app-health/app/livez: {{tcpSocket: {{port: {port}}}}}\n");
    assert_eq!(load(&text(8080), &[]).unwrap().app_probes["/app-health/app/livez"].port, 8080);
    for port in [15000, 15001, 15006] {
        let expected = format!("bootstrap.yaml:4: appProbes: /app-health/app/livez: port {port} is the proxy's own");
        assert_eq!(problems(&text(port)), [expected]);
    }
    assert_eq!(problems(&text(0)), ["bootstrap.yaml:5: appProbes[/app-health/app/livez]: port 0 is none"]);
    let variable = |json| load(&text(8080), &[("MESHGATE_APP_PROBES", json)]);
    let probes = variable(r#"{"/app-health/app/readyz":{"httpGet":{"port":81}}}"#).unwrap().app_probes;
    assert!(probes.keys().eq(["/app-health/app/readyz"]), "{probes:?}");
    let said = variable(r#"{"/app-health/app/readyz":{"httpGet":{"port":81,"host":"10.0.0.1"}}}"#).unwrap_err();
    assert!(said[0].starts_with("bootstrap.yaml: MESHGATE_APP_PROBES: "), "{said:?}");
    let gateway = text(8080) + "role: gateway\n";
    assert!(problems(&gateway)[0].contains("a gateway stands beside no application"));
}

#[test]
fn defaults_are_as_documented() {
    let bootstrap = load(MINIMAL, &[]).unwrap();
    assert_eq!(bootstrap.role, Role::Sidecar);
    assert_eq!(bootstrap.cluster_key.as_str(), "default/default/default/local");
    assert_eq!(bootstrap.trust_domain.as_str(), "cluster.local");
    assert_eq!(bootstrap.cluster_domain, "cluster.local");
    assert_eq!(bootstrap.root_namespace, "istio-system");
    assert_eq!(bootstrap.workload.name, "backend");
    assert_eq!(bootstrap.spiffe_id().unwrap().as_str(), "spiffe://cluster.local/ns/default/sa/backend");
    assert_eq!(bootstrap.inbound.listeners[0].address.to_string(), "0.0.0.0:15006");
    assert_eq!(bootstrap.outbound.listeners[0].address.to_string(), "127.0.0.1:15001");
    assert_eq!(bootstrap.outbound.listeners[0].original_destination, OriginalDestination::Kernel);
    assert_eq!(bootstrap.outbound.traffic_policy, TrafficPolicy::AllowAny);
    assert_eq!(bootstrap.admin.address.to_string(), "127.0.0.1:15000");
    assert_eq!((bootstrap.admin.event_listeners, bootstrap.admin.connections), (8, 64));
    assert_eq!((bootstrap.admin.idle.as_secs(), bootstrap.admin.request.as_secs()), (10, 60));
    assert!(!bootstrap.admin.quit, "nobody ends a process over the network unless that is wanted");
    assert_eq!(bootstrap.timeouts.expired_peer, Duration::from_secs(30));
    assert_eq!(bootstrap.timeouts.drain_delay, Duration::ZERO);
    let limits = TunnelLimits { connections_per_caller: 256, tunnels_per_connection: 100, tunnels_per_caller: 10_000 };
    assert_eq!(bootstrap.hbone, HboneSettings { listeners: Vec::new(), limits });
    assert!(matches!(bootstrap.authorization.catch_all_deny, CatchAllDeny::Istio));
    assert!(matches!(bootstrap.authorization.path_normalization, Level::MergeSlashes));
    let path = Some("/dev/stdout".into());
    let log = AccessLog { path, format: LogFormat::Json, filter: LogFilter::All, sample: 1.0 };
    assert_eq!(bootstrap.access_log, log);
    assert_eq!(bootstrap.tracing, None);
    assert_eq!(bootstrap.metrics, MetricsSettings { enabled: true, max_series: 500, idle: Duration::from_secs(600) });
    assert_eq!(bootstrap.log, LogSettings { level: "info".into(), format: LogFormat::Text });
    assert_eq!(bootstrap.workers, 0);
    assert_eq!(bootstrap.hand_over, HandOver { socket: None });
    assert_eq!(bootstrap.timeouts.idle, Duration::from_secs(3600));
    assert_eq!(bootstrap.limits.request_header_bytes, 61440);
    let http2 = Http2Limits { control_frames: 1000, resets: 150, header_block_bytes: 65536 };
    assert_eq!(bootstrap.limits.http2, http2);
    assert_eq!((bootstrap.http.upgrades, bootstrap.http.expect_continue.as_secs()), (vec!["websocket".to_owned()], 1));
    assert_eq!((bootstrap.timeouts.stream, bootstrap.timeouts.request), (Some(Duration::from_secs(300)), None));
    assert_eq!(bootstrap.limits.connections_per_peer, 16384);
    let (timeout, refresh) = (Duration::from_secs(5), Duration::from_secs(1200));
    assert_eq!(bootstrap.jwks, Jwks { trust_bundle: None, timeout, refresh });
}

/// Every field that can be written beside others.
const EVERYTHING: &str = r#"
role: sidecar
clusterKey: r/z/g/cluster-1
trustDomain: example.org
trustDomainAliases: [old.example.org]
clusterDomain: k8s.example
rootNamespace: mesh
workload: {name: backend-1, namespace: default, serviceAccount: backend, labels: {version: v2}, labelsFile: labels}
identity: {certificate: backend.pem, key: /abs/backend-key.pem, trustBundle: root.pem, federated: {other.example: other.pem}, crl: [a.pem, /abs/b.pem], requireCrl: true}
resources: {directory: resources}
inbound:
  listeners:
  - {address: "0.0.0.0:15006", originalDestination: kernel}
  - {address: "127.0.1.2:8080", originalDestination: "127.0.1.2:8080", application: "127.0.0.1:9080"}
outbound:
  listeners:
  - {address: "127.0.0.1:0", originalDestination: none}
  - {address: "127.0.0.1:0", originalDestination: "10.96.0.10:80"}
  trafficPolicy: REGISTRY_ONLY
admin: {address: "[::1]:15000", quit: true, eventListeners: 2, connections: 3, idle: 5s, request: 2m}
authorization: {catchAllDeny: baseline, pathNormalization: DECODE_AND_MERGE_SLASHES, numTrustedProxies: 1}
jwks: {trustBundle: idp.pem, timeout: 2s, refresh: 5m}
accessLog: {path: "off", format: text, filter: errors, sample: 0.25}
metrics: {enabled: false, maxSeries: 9, idle: 1m}
log: {level: "meshgate=debug", format: json}
workers: 2
timeouts: {detect: 300ms, tlsHandshake: 1m30s, idle: 1h, expiredPeer: 5m, drainDelay: 0s, stream: "off", request: 30s, upstreamAge: 10m}
limits: {connections: 10, connectionsPerListener: 9, connectionsPerPeer: 8, requestsInFlight: 7, requestHeaderBytes: 8192,
  requestHeaders: 5, concurrentStreams: 1, endpointConnections: 6, endpointRequests: 5, endpointPending: 4,
  http2: {controlFrames: 200, resets: 10, headerBlockBytes: 9000}}
http: {upgrades: [WebSocket, spdy/3.1], expectContinue: 2s}
"#;

#[test]
fn everything_can_be_written() {
    let bootstrap = load(EVERYTHING, &[]).unwrap();
    assert_eq!(bootstrap.workload.labels["app"], "backend");
    assert_eq!(bootstrap.workload.labels["version"], "v2", "labels in place override the file's");
    assert_eq!(bootstrap.identity.key, PathBuf::from("/abs/backend-key.pem"));
    assert!(bootstrap.identity.certificate.is_absolute() && bootstrap.identity.certificate.ends_with("backend.pem"));
    assert_eq!(bootstrap.identity_sources().unwrap().federated.len(), 1);
    assert_eq!(bootstrap.inbound.listeners[1].application.unwrap().port(), 9080);
    assert_eq!(
        bootstrap.outbound.listeners[1].original_destination,
        OriginalDestination::Fixed("10.96.0.10:80".parse().unwrap())
    );
    assert!(bootstrap.jwks.trust_bundle.as_ref().is_some_and(|path| path.is_absolute() && path.ends_with("idp.pem")));
    assert_eq!((bootstrap.jwks.timeout.as_secs(), bootstrap.jwks.refresh.as_secs()), (2, 300));
    let AccessLog { path, format, filter, sample } = bootstrap.access_log.clone();
    assert_eq!((path, format, filter, sample), (None, LogFormat::Text, LogFilter::Errors, 0.25));
    assert_eq!(bootstrap.metrics, MetricsSettings { enabled: false, max_series: 9, idle: Duration::from_secs(60) });
    assert_eq!(bootstrap.limits.http2, Http2Limits { control_frames: 200, resets: 10, header_block_bytes: 9000 });
    assert_eq!(bootstrap.http.upgrades, ["websocket", "spdy/3.1"]);
    assert_eq!(bootstrap.timeouts.expired_peer.as_secs(), 300);
    let Admin { quit, event_listeners, connections, idle, request, .. } = bootstrap.admin;
    assert_eq!((quit, event_listeners, connections), (true, 2, 3));
    assert_eq!((idle.as_secs(), request.as_secs()), (5, 120));
    let (timeouts, limits) = (bootstrap.timeouts, bootstrap.limits);
    assert_eq!((timeouts.tls_handshake.as_secs(), timeouts.upstream_age), (90, Some(Duration::from_secs(600))));
    assert_eq!((timeouts.stream, timeouts.request), (None, Some(Duration::from_secs(30))));
    assert!(timeouts.drain_delay.is_zero());
    assert_eq!((limits.connections_per_listener, limits.connections_per_peer, limits.requests_in_flight), (9, 8, 7));
    assert_eq!(limits.endpoint, EndpointLimits { connections: 6, requests: 5, pending: 4 });
    assert_eq!(bootstrap.workload().labels, bootstrap.workload.labels);
    assert!(matches!(bootstrap.policy_settings().catch_all_deny, CatchAllDeny::Baseline));
}

/// What `tracing` says, given as a line of its own behind the minimal bootstrap's three.
fn tracing(fields: &str) -> Result<TracingSettings, Vec<String>> {
    load(&format!("{MINIMAL}tracing: {fields}\n"), &[]).map(|bootstrap| bootstrap.tracing.unwrap())
}

#[test]
fn traces_need_no_more_than_an_endpoint() {
    let settings = tracing("{endpoint: 'http://collector.monitoring'}").unwrap();
    assert_eq!(settings.endpoint, "http://collector.monitoring:4318/v1/traces");
    assert_eq!((settings.sample, settings.service_name, settings.trust_bundle), (0.01, None, None));
    assert_eq!(
        (settings.queue, settings.batch, settings.timeout.as_secs(), settings.interval.as_secs()),
        (2048, 512, 10, 5)
    );
    assert!(settings.headers.is_empty());
    let grpc = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    for (endpoint, protocol, expected) in [
        ("http://[::1]:9999/", "http/protobuf", "http://[::1]:9999/v1/traces".to_owned()),
        ("https://otlp.example", "http/protobuf", "https://otlp.example:443/v1/traces".to_owned()),
        (
            "https://otlp.example/tenant/spans?x=1",
            "http/protobuf",
            "https://otlp.example:443/tenant/spans?x=1".to_owned(),
        ),
        ("http://127.0.0.1", "grpc", format!("http://127.0.0.1:4317{grpc}")),
        ("https://otlp.example:4317", "grpc", format!("https://otlp.example:4317{grpc}")),
    ] {
        let settings = tracing(&format!("{{endpoint: '{endpoint}', protocol: {protocol}}}")).unwrap();
        assert_eq!(settings.endpoint.to_string(), expected);
    }
    let settings = tracing(
        "{endpoint: 'https://a', sample: 1, serviceName: shop, headers: {Api-Key: geheim}, trustBundle: ca.pem, timeout: 1s, \
         interval: 100ms, queue: 9, batch: 9}",
    )
    .unwrap();
    assert_eq!(settings.headers["api-key"], "geheim");
    assert!(!format!("{settings:?}").contains("geheim"));
    assert_eq!((settings.queue, settings.batch, settings.service_name.as_deref()), (9, 9, Some("shop")));
    assert!(settings.trust_bundle.is_some_and(|path| path.is_absolute()));
}

#[test]
fn what_is_wrong_with_traces_is_said_with_its_line() {
    for (fields, field, expected) in [
        ("{}", "tracing.endpoint", "is required"),
        ("{sample: 1}", "tracing.endpoint", "is required"),
        ("{endpoint: collector:4318}", "tracing.endpoint", "begins with http:// or https://"),
        ("{endpoint: 'http://127.0.0.1:99999'}", "tracing.endpoint", "has no host and port that could be dialled"),
        ("{endpoint: 'http://collector:4318x'}", "tracing.endpoint", "has no host and port that could be dialled"),
        ("{endpoint: 'http://collector:'}", "tracing.endpoint", "has no host and port that could be dialled"),
        ("{endpoint: 'https://[::1]:65536'}", "tracing.endpoint", "has no host and port that could be dialled"),
        ("{endpoint: 'ftp://collector'}", "tracing.endpoint", "begins with http:// or https://"),
        ("{endpoint: 'grpc://collector:4317'}", "tracing.endpoint", "begins with http:// or https://"),
        ("{endpoint: 'http://user:secret@collector'}", "tracing.endpoint", "no host and port"),
        ("{endpoint: 'http://collector:0'}", "tracing.endpoint", "no host and port"),
        ("{endpoint: 'http://a b'}", "tracing.endpoint", "is no address"),
        ("{endpoint: 'http://a/x', protocol: grpc}", "tracing.endpoint", "gRPC has one of its own"),
        ("{endpoint: 'http://a', sample: 1.5}", "tracing.sample", "from 0 to 1"),
        ("{endpoint: 'http://a', sample: -1}", "tracing.sample", "from 0 to 1"),
        ("{endpoint: 'http://a', sample: .nan}", "tracing.sample", "from 0 to 1"),
        ("{endpoint: 'http://a', serviceName: ' '}", "tracing.serviceName", "is empty"),
        ("{endpoint: 'http://a', trustBundle: ca.pem}", "tracing.trustBundle", "https://"),
        ("{endpoint: 'http://a', headers: {a b: c}}", "tracing.headers.a b", "not the name of a header"),
        ("{endpoint: 'http://a', headers: {Content-Type: c}}", "tracing.headers.Content-Type", "the protocol itself"),
        ("{endpoint: 'http://a', headers: {a: \"x\\ny\"}}", "tracing.headers.a", "cannot stand in a header"),
        ("{endpoint: 'http://a', timeout: 0s}", "tracing.timeout", "greater than zero"),
        ("{endpoint: 'http://a', interval: 5}", "tracing.interval", ""),
        ("{endpoint: 'http://a', batch: 0}", "tracing.batch", "the least is 1"),
        ("{endpoint: 'http://a', batch: 600, queue: 599}", "tracing.queue", "the least is 600"),
        ("{endpoint: 'http://a', queue: 65537}", "tracing.queue", "the most is 65536"),
    ] {
        let said = tracing(fields).unwrap_err();
        let [said] = said.as_slice() else { panic!("{fields}: {said:?}") };
        assert!(
            said.starts_with(&format!("bootstrap.yaml:4: {field}: ")) && said.contains(expected),
            "{fields}: {said}"
        );
    }
    for fields in ["{endpoint: 'http://a', protocol: http/json}", "{endpoint: 'http://a', sampling: 1}", "5"] {
        assert!(tracing(fields).unwrap_err()[0].starts_with("bootstrap.yaml:4: "), "{fields}");
    }
}

#[test]
fn other_clusters_bring_their_roots() {
    let load_with = |clusters: &str| {
        let text = format!(
            "clusterKey: a/b/c/own\nworkload: {{namespace: default, serviceAccount: backend}}\n\
             identity: {{certificate: c.pem, key: k.pem, trustBundle: r.pem, federated: {{east.example: east.pem}}}}\n\
             resources: {{directory: resources}}\nmulticluster: {{clusters: [{clusters}]}}\n"
        );
        load(&text, &[])
    };
    let two = "{clusterKey: a/b/c/two, trustBundle: two.pem}";
    let west = "{clusterKey: a/b/c/west, trustDomain: west.example, trustBundle: west.pem}";
    let east = "{clusterKey: a/b/c/east, trustDomain: east.example}";
    let loaded = load_with(&[two, west, east].join(", ")).unwrap();
    let sources = loaded.identity_sources().unwrap();
    let roots = sources.clusters.iter().map(|(key, roots)| {
        (key.as_str(), roots.trust_domain.as_str(), roots.file.file_name().and_then(|name| name.to_str()).unwrap())
    });
    let expected = [("a/b/c/two", "cluster.local", "two.pem"), ("a/b/c/west", "west.example", "west.pem")];
    assert_eq!(roots.collect::<Vec<_>>(), expected);
    assert_eq!(sources.cluster.as_deref(), Some("a/b/c/own"));
    let known: Vec<_> = loaded.known_domains().map(TrustDomain::as_str).collect();
    assert_eq!(known, ["east.example", "cluster.local", "west.example", "east.example"]);

    // Who shares our roots cannot be told from us; and of whom nothing is said may share them.
    for sharing in ["{clusterKey: a/b/c/three}", ""] {
        let clusters = if sharing.is_empty() { String::new() } else { format!("{two}, {sharing}") };
        assert_eq!(load_with(&clusters).unwrap().identity_sources().unwrap().cluster, None, "{clusters}");
    }
    let problems = load_with("{clusterKey: a/b/c/far, trustDomain: far.example}").unwrap_err();
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    let expected = "bootstrap.yaml:5: multicluster.clusters[0].trustDomain: far.example: there are no roots of it";
    assert!(problem.starts_with(expected), "{problem}");
}

#[test]
fn a_misspelt_field_is_named_with_its_line_and_the_likely_word() {
    assert_eq!(
        problems("workload:\n  namespace: default\n  servicAccount: backend\n"),
        [
            "bootstrap.yaml:3: workload.servicAccount: unknown field `servicAccount`, expected one of `name`, `namespace`, \
          `serviceAccount`, `labels`, `labelsFile` (did you mean `serviceAccount`?)"
        ]
    );
    assert_eq!(
        problems("authorization: {catchAllDeny: Istio}\n"),
        [
            "bootstrap.yaml:1: authorization.catchAllDeny: unknown variant `Istio`, expected `istio` or `baseline` (did you mean `istio`?)"
        ]
    );
    assert_eq!(problems("workers: 1\nworkers: 2\n"), ["bootstrap.yaml:2: the key `workers` is given twice"]);
}

#[test]
fn tunnels_are_taken_where_something_is_behind_them() {
    let with = |more: &str| load(&format!("{MINIMAL}{more}\n"), &[]);
    let on = "hbone: {listeners: ['0.0.0.0:15008', '[::]:15008'], tunnelsPerCaller: 7}";
    let hbone = with(on).unwrap().hbone;
    assert_eq!(hbone.listeners, ["0.0.0.0:15008".parse().unwrap(), "[::]:15008".parse().unwrap()]);
    assert_eq!(hbone.limits.tunnels_per_caller, 7);
    for (more, part) in [
        (format!("{on}\nrole: gateway"), "hbone.listeners: is for `role: sidecar`"),
        (format!("{on}\ninbound: {{listeners: []}}"), "hbone.listeners: what comes out of a tunnel"),
        ("hbone: {listeners: [15008]}".to_owned(), "hbone.listeners[0]: "),
        ("hbone: {tunnelsPerConnection: 0}".to_owned(), "hbone.tunnelsPerConnection: 0 is too little"),
        ("hbone: {port: 15008}".to_owned(), "unknown field `port`"),
    ] {
        let problems = with(&more).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(part)), "{more}: {problems:?}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = r#"gateway: {listeners: []}
clusterKey: one/two
trustDomain: Not A Domain
clusterDomain: .cluster.local
workload: {serviceAccount: backend, labelsFile: none}
identity: {certificate: c.pem, trustBundle: r.pem}
resources: {directory: nowhere}
timeouts:
  detect: 5
  idle: 0s
limits: {requestHeaderBytes: 100}
jwks: {refresh: 0s}
"#;
    let found = problems(text);
    for (start, part) in [
        ("bootstrap.yaml:1: gateway: ", "is for `role: gateway`"),
        ("bootstrap.yaml:2: clusterKey: ", "region/zone/group/cluster"),
        ("bootstrap.yaml:3: trustDomain: ", "is not a trust domain"),
        ("bootstrap.yaml:4: clusterDomain: ", "DNS name"),
        ("bootstrap.yaml:5: workload.namespace: ", "is required"),
        ("bootstrap.yaml:5: workload.labelsFile: ", "labels"),
        ("bootstrap.yaml:6: identity.key: ", "is required"),
        ("bootstrap.yaml:7: resources.directory: ", "is not a directory"),
        ("bootstrap.yaml:9: timeouts.detect: ", "`5` is not a duration"),
        ("bootstrap.yaml:10: timeouts.idle: ", "greater than zero"),
        ("bootstrap.yaml:11: limits.requestHeaderBytes: ", "least is 8192"),
        ("bootstrap.yaml:12: jwks.refresh: ", "greater than zero"),
    ] {
        if part == "labels" {
            assert!(found.iter().any(|p| p.starts_with(start) && p.contains("cannot be read")), "{found:#?}");
        } else {
            assert!(found.iter().any(|p| p.starts_with(start) && p.contains(part)), "{start} {found:#?}");
        }
    }
    assert_eq!(found.len(), 12, "{found:#?}");
}

#[test]
fn listeners_that_collide_or_loop_are_refused() {
    for (listeners, expected) in [
        (
            "inbound: {listeners: [{address: \"0.0.0.0:15001\", originalDestination: kernel}]}",
            "bootstrap.yaml:1: outbound.listeners[0].address: 127.0.0.1:15001 collides with inbound.listeners[0].address (0.0.0.0:15001)",
        ),
        (
            "inbound: {listeners: [{address: \"127.0.0.1:15000\", originalDestination: kernel}]}",
            "bootstrap.yaml:4: inbound.listeners[0].address: 127.0.0.1:15000 collides with admin.address (127.0.0.1:15000)",
        ),
        (
            "inbound: {listeners: [{address: \"127.0.1.2:80\", originalDestination: \"127.0.1.2:80\"}]}",
            "bootstrap.yaml:4: inbound.listeners[0].originalDestination: 127.0.1.2:80 is this proxy itself \
             (inbound.listeners[0].address), which would connect to itself; set `application` to where the application listens",
        ),
        (
            "inbound: {listeners: [{address: \"127.0.1.2:80\", originalDestination: none}]}",
            "bootstrap.yaml:4: inbound.listeners[0].originalDestination: `none` is for outbound listeners: inbound traffic has no Host to go by",
        ),
        (
            "inbound: {listeners: [{address: \"127.0.1.2:80\", originalDestination: \"10.0.0.1:80\", application: \"127.0.0.1:80\", \
             transparent: true}]}",
            "bootstrap.yaml:4: inbound.listeners[0].transparent: goes with originalDestination `kernel`: what is sent to a fixed \
             address is no transparent proxy's",
        ),
        (
            "inbound: {listeners: [{address: \"127.0.1.2:80\", originalDestination: kernel, application: \"127.0.0.1:80\"}]}",
            "bootstrap.yaml:4: inbound.listeners[0].application: goes with a fixed originalDestination: with `kernel` the application is \
             where the connection was going",
        ),
        (
            "outbound: {listeners: [{address: \"127.0.1.2:80\", originalDestination: kernal}]}",
            "bootstrap.yaml:4: outbound.listeners[0].originalDestination: `kernal` is none of `kernel`, `none` (outbound only) and an \
             address such as 10.0.0.1:80",
        ),
        (
            "inbound: {listeners: []}\noutbound: {listeners: []}",
            "bootstrap.yaml:4: inbound.listeners: there is no listener on either side: this proxy would do nothing",
        ),
    ] {
        assert_eq!(problems(&format!("{MINIMAL}{listeners}\n")), [expected]);
    }
    let any_port = "inbound: {listeners: [{address: \"127.0.0.1:0\", originalDestination: kernel}, {address: \"127.0.0.1:0\", originalDestination: kernel}]}";
    assert!(load(&format!("{MINIMAL}{any_port}\n"), &[]).is_ok(), "port 0 never collides");
}

#[test]
fn a_listener_that_is_no_good_is_no_lack_of_one() {
    let text = format!(
        "{MINIMAL}inbound: {{listeners: [{{address: 'localhost:8080', originalDestination: kernel}}]}}\noutbound: {{listeners: []}}\n"
    );
    let found = load(&text, &[]).unwrap_err();
    assert!(
        found.len() == 1 && found[0].contains("inbound.listeners[0].address: `localhost:8080` is not"),
        "{found:?}"
    );
}

#[test]
fn the_environment_overrides_the_file() {
    let env = [
        ("MESHGATE_WORKLOAD_NAME", "backend-7"),
        ("MESHGATE_WORKLOAD_NAMESPACE", "prod"),
        ("MESHGATE_WORKLOAD_SERVICE_ACCOUNT", "other"),
        ("MESHGATE_CLUSTER_KEY", "a/b/c/d"),
        ("MESHGATE_TRUST_DOMAIN", "example.org"),
        ("MESHGATE_ADMIN_ADDRESS", "127.0.0.1:0"),
        ("MESHGATE_LOG_LEVEL", "debug"),
        ("MESHGATE_WORKERS", "3"),
        ("MESHGATE_BOOTSTRAP", "/etc/meshgate/bootstrap.yaml"),
        ("MESHGATE_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("HOME", "/root"),
    ];
    let bootstrap = load(MINIMAL, &env).unwrap();
    assert_eq!(bootstrap.workload.name, "backend-7");
    assert_eq!(bootstrap.spiffe_id().unwrap().as_str(), "spiffe://example.org/ns/prod/sa/other");
    assert_eq!(bootstrap.cluster_key.as_str(), "a/b/c/d");
    assert_eq!(bootstrap.admin.address.port(), 0);
    assert_eq!((bootstrap.log.level.as_str(), bootstrap.workers), ("debug", 3));
}

#[test]
fn a_wrong_variable_is_named() {
    let env = [("MESHGATE_CLUSTER_KEY", "x"), ("MESHGATE_WORKERS", "two"), ("MESHGATE_LOGLEVEL", "debug")];
    let found = load(MINIMAL, &env).unwrap_err();
    assert_eq!(found[0], "bootstrap.yaml: MESHGATE_WORKERS: `two` is not a number of worker threads");
    assert!(
        found[1].starts_with(
            "bootstrap.yaml: MESHGATE_LOGLEVEL: unknown variable, known ones are MESHGATE_WORKLOAD_NAME, "
        )
    );
    assert!(found[1].ends_with(" (did you mean MESHGATE_LOG_LEVEL?)"));
    assert_eq!(
        found[2],
        "bootstrap.yaml: MESHGATE_CLUSTER_KEY: `x` is not a cluster key: expected region/zone/group/cluster, each of letters, digits, -, _ and ."
    );
}

#[test]
fn what_is_no_single_document_is_refused() {
    assert_eq!(problems(""), ["bootstrap.yaml: the file is empty"]);
    let two = format!("{MINIMAL}---\nrole: sidecar\n");
    assert_eq!(problems(&two), ["bootstrap.yaml:5: a bootstrap file holds one document, this one holds more"]);
    let missing = Bootstrap::load(Path::new("/nowhere/b.yaml"), []).unwrap_err();
    assert_eq!(missing[0].to_string(), "/nowhere/b.yaml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn headers_are_about_trusted_peers() {
    let id = |text: &str| text.parse::<SpiffeId>().unwrap();
    let of = |headers: &str| load(&format!("{MINIMAL}headers: {headers}\n"), &[]).unwrap().headers;
    let default = load(MINIMAL, &[]).unwrap().headers;
    assert_eq!((default.forward_client_cert, default.forwarded_for), Default::default());
    assert!(default.request_id && !default.forward_whole_cert && default.trusted_peers.is_empty());

    let (gateway, other) = (id("spiffe://a.b/ns/x/sa/gateway"), id("spiffe://a.b/ns/x/sa/other"));
    let peers = of("{trustedPeers: [a.b/ns/x/sa/gateway, 'spiffe://a.b/ns/y/sa/g'], forwardClientCert: SANITIZE_SET}");
    assert!(peers.trusted_peers.contains(Some(&gateway)));
    assert!(!peers.trusted_peers.contains(Some(&other)) && !peers.trusted_peers.contains(None));
    assert_eq!(peers.forward_client_cert, ForwardClientCert::SanitizeSet);
    let anybody = of("{trustedPeers: ['*'], forwardedFor: APPEND, requestId: false}");
    assert!(anybody.trusted_peers.contains(Some(&other)) && !anybody.trusted_peers.contains(None));
    assert!(!anybody.request_id && !anybody.trusted_peers.is_empty());

    let wrong = problems(&format!("{MINIMAL}headers: {{trustedPeers: [a.b/ns/x/sa/y, 'A.b/x', a.b]}}\n"));
    assert!(wrong[0].starts_with("bootstrap.yaml:4: headers.trustedPeers[1]: `A.b/x` is neither"), "{wrong:?}");
    assert!(wrong[1].ends_with("names no workload"), "{wrong:?}");
    let wrong = problems(&format!("{MINIMAL}headers: {{forwardClientCert: sanitize}}\n"));
    assert!(wrong[0].contains("did you mean `SANITIZE`?"), "{wrong:?}");
}

#[test]
fn what_is_wrong_with_ports_of_detection_is_told_at_its_place() {
    let ports = "detection:\n  opaquePorts: [3306]\n  portTimeouts: {\"9000\": 200ms}\n";
    let Detection { opaque_ports, port_timeouts } = load(&format!("{MINIMAL}{ports}"), &[]).unwrap().detection;
    assert_eq!(opaque_ports, crate::app_protocol::OpaquePorts::from_iter([3306]));
    assert_eq!(port_timeouts, BTreeMap::from([(9000, Duration::from_millis(200))]));
    assert_eq!(load(MINIMAL, &[]).unwrap().detection, Detection::default());
    for (written, field) in [
        ("opaquePorts: [0]", "detection"),
        ("opaquePorts: [70000]", "detection"),
        ("portTimeouts: {\"http\": 1s}", "detection.portTimeouts.http"),
        ("portTimeouts: {\"0\": 1s}", "detection.portTimeouts.0"),
        ("portTimeouts: {\"80\": 0s}", "detection.portTimeouts.80"),
        ("opaquePort: [80]", "detection"),
    ] {
        let found = problems(&format!("{MINIMAL}detection:\n  {written}\n"));
        assert!(found.len() == 1 && found[0].starts_with("bootstrap.yaml:5:") && found[0].contains(field), "{found:?}");
    }
    let many: Vec<_> = (1..=1025).map(|port: u16| port.to_string()).collect();
    let found = problems(&format!("{MINIMAL}detection: {{opaquePorts: [{}]}}\n", many.join(", ")));
    assert!(found[0].contains("the most is 1024"), "{found:?}");
}

#[test]
fn no_upgrade_leads_to_requests_that_nobody_judges() {
    let with = |upgrades: &str| load(&format!("{MINIMAL}http: {{upgrades: {upgrades}}}\n"), &[]);
    assert_eq!(with("[]").unwrap().http.upgrades, [""; 0]);
    for bad in ["h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.2", "\"\"", "\"a b\""] {
        let problems = with(&format!("[websocket, {bad}]")).unwrap_err();
        assert!(problems[0].contains("http.upgrades[1]"), "{bad}: {problems:?}");
    }
}

#[test]
fn listeners_are_handed_over_at_a_path_beside_the_bootstrap_that_a_socket_can_have() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("resources")).unwrap();
    let path = folder.path().join("bootstrap.yaml");
    fs::write(&path, format!("{MINIMAL}handOver: {{socket: run/hand-over.sock}}\n")).unwrap();
    let bootstrap = Bootstrap::load(&path, []).unwrap();
    assert_eq!(bootstrap.hand_over.socket, Some(folder.path().join("run/hand-over.sock")));
    let empty = problems(&format!("{MINIMAL}handOver: {{socket: \"\"}}\n"));
    assert_eq!(empty, ["bootstrap.yaml:4: handOver.socket: is required and is empty"]);
    let long = problems(&format!("{MINIMAL}handOver: {{socket: /{}}}\n", "x".repeat(96)));
    assert!(long[0].contains(" has 97 bytes, and a unix socket's path at most 96 here"), "{long:?}");
}

#[test]
fn what_is_told_of_the_traffic_has_its_bounds() {
    for (more, part) in [
        ("metrics: {maxSeries: 0}", "metrics.maxSeries: 0 is too little"),
        ("metrics: {maxSeries: 100001}", "metrics.maxSeries: 100001 is too much"),
        ("metrics: {idle: 0s}", "metrics.idle: must be greater than zero"),
        ("accessLog: {sample: 1.5}", "accessLog.sample: 1.5 is no part of a whole"),
        ("accessLog: {sample: .nan}", "accessLog.sample: "),
        ("accessLog: {filter: some}", "unknown variant `some`"),
    ] {
        let problems = load(&format!("{MINIMAL}{more}\n"), &[]).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(part)), "{more}: {problems:?}");
    }
}

#[test]
fn a_workload_api_stands_in_for_files_and_does_not_go_with_them() {
    const SOCKET: (&str, &str) = ("SPIFFE_ENDPOINT_SOCKET", "unix:///run/agent.sock");
    let load = |identity: &str, env: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("resources")).unwrap();
        let path = dir.path().join("bootstrap.yaml");
        let text = format!(
            "workload: {{namespace: default, serviceAccount: web}}\nresources: {{directory: resources}}\nidentity: {identity}\n"
        );
        fs::write(&path, text).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Bootstrap::load(&path, env.collect::<Vec<_>>())
            .map(|bootstrap| bootstrap.identity.workload_api)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<String>())
    };
    let agent = Some(PathBuf::from("/run/agent.sock"));
    assert_eq!(load("{workloadApi: \"unix:///run/agent.sock\"}", &[]), Ok(agent.clone()));
    assert_eq!(load("{workloadApi: \"unix:/run/agent.sock\"}", &[]), Ok(agent.clone()));
    assert_eq!(load("{workloadApi: $SPIFFE_ENDPOINT_SOCKET}", &[SOCKET]), Ok(agent));
    assert!(load("{workloadApi: $SPIFFE_ENDPOINT_SOCKET}", &[]).unwrap_err().contains("is not set"));
    // The variable alone means nothing: who has files has said so.
    assert_eq!(load("{certificate: a, key: b, trustBundle: c}", &[SOCKET]), Ok(None));
    for wrong in ["tcp://127.0.0.1:8081", "unix://agent.sock", "unix:///", "/run/agent.sock"] {
        let error = load(&format!("{{workloadApi: \"{wrong}\"}}"), &[]).unwrap_err();
        assert!(error.contains("is not a unix socket with an absolute path"), "{error}");
    }
    let error = load("{workloadApi: \"unix:///a\", key: k.pem, federated: {b.example: b.pem}}", &[]).unwrap_err();
    assert!(error.contains("identity.key") && error.contains("identity.federated"), "{error}");
}

#[test]
fn an_authority_that_is_asked_stands_in_for_certificate_and_key() {
    const FILES: &str = "certificate: c.pem, key: k.pem, trustBundle: r.pem";
    let load = |fields: &str| load(&MINIMAL.replace(FILES, fields), &[]);
    let bootstrap = load("trustBundle: r.pem, ca: {address: \"istiod.istio-system.svc:15012\"}").unwrap();
    let ca = bootstrap.identity.ca.clone().unwrap();
    assert_eq!((ca.host.as_str(), ca.port), ("istiod.istio-system.svc", 15012));
    assert_eq!((ca.server_name.as_str(), ca.cluster_id.as_str()), ("istiod.istio-system.svc", "Kubernetes"));
    assert_eq!(ca.token_file, Path::new("/var/run/secrets/tokens/istio-token"));
    assert_eq!((ca.lifetime.as_secs(), ca.timeout.as_secs(), ca.mutual_tls), (86_400, 10, false));
    let sources = bootstrap.identity_sources().unwrap();
    assert_eq!(sources.trust_bundle, ca.trust_bundle);
    assert_eq!(sources.certificate, Path::new("istiod.istio-system.svc:15012"));
    let other = "trustBundle: r.pem, ca: {address: \"[::1]:1\", trustBundle: c.pem, serverName: ca.example, key: P384}";
    let ca = load(other).unwrap().identity.ca.unwrap();
    assert!(ca.trust_bundle.ends_with("c.pem") && ca.host == "::1" && ca.key == meshgate_identity::RequestKey::P384);
    for (fields, part) in [
        ("ca: {address: \"a:1\"}", "identity.trustBundle"),
        ("trustBundle: r.pem, ca: {}", "identity.ca.address"),
        ("trustBundle: r.pem, ca: {address: a}", "such as istiod.istio-system.svc:15012"),
        ("trustBundle: r.pem, ca: {address: \"a:1\", clusterId: \"a b\"}", "cannot stand in a header"),
        ("trustBundle: r.pem, ca: {address: \"a:1\", serverName: \"a/b\"}", "neither a DNS name nor an address"),
        ("trustBundle: r.pem, ca: {address: \"a:1\", lifetime: 0s}", "identity.ca.lifetime"),
        ("trustBundle: r.pem, ca: {address: \"a:1\"}, key: k.pem", "identity.key"),
        ("workloadApi: \"unix:///a\", ca: {address: \"a:1\"}", "identity.ca: does not go with"),
        ("trustBundle: r.pem, ca: {address: \"a:1\", key: RSA}", "unknown variant `RSA`"),
    ] {
        let problems = load(fields).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(part)), "{fields}: {problems:?}");
    }
}

#[test]
fn revocation_lists_are_files_beside_the_bootstrap() {
    let lists = "trustBundle: r.pem, crl: [a.pem, /abs/b.pem], requireCrl: true}";
    let bootstrap = load(&MINIMAL.replace("trustBundle: r.pem}", lists), &[]).unwrap();
    let sources = bootstrap.identity_sources().unwrap();
    let [beside, absolute] = sources.crl.as_slice() else { panic!("{sources:?}") };
    assert!(beside.is_absolute() && beside.ends_with("a.pem") && absolute == Path::new("/abs/b.pem"));
    assert!(sources.require_crl);
    assert!(!load(MINIMAL, &[]).unwrap().identity_sources().unwrap().require_crl);
}
