use std::fs;

use super::*;
use crate::Bootstrap;

/// Loads a bootstrap with these providers; they begin at line 4.
fn load(providers: &str) -> Result<Vec<ExtensionProvider>, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("resources")).unwrap();
    let path = folder.path().join("bootstrap.yaml");
    let text = format!(
        "workload: {{namespace: default, serviceAccount: backend}}\n\
         identity: {{certificate: c.pem, key: k.pem, trustBundle: r.pem}}\n\
         resources: {{directory: resources}}\n\
         extensionProviders:\n{providers}"
    );
    fs::write(&path, text).unwrap();
    let prefix = format!("{}/", folder.path().display());
    let bootstrap = Bootstrap::load(&path, []);
    bootstrap
        .map(|bootstrap| bootstrap.extension_providers)
        .map_err(|all| all.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect())
}

#[test]
fn the_least_that_can_be_written_has_the_documented_defaults() {
    let all = load(
        "- name: a\n  envoyExtAuthzHttp: {service: localhost, port: 8000}\n\
         - name: b\n  envoyExtAuthzGrpc: {service: auth/ext-authz.auth.svc.cluster.local, port: 9000}\n",
    )
    .unwrap();
    assert_eq!(all[0].service, ProviderService { namespace: None, host: "localhost".into(), port: 8000 });
    assert_eq!((all[0].timeout, all[0].fail_open, all[0].status_on_error.as_u16()), (TIMEOUT, false, 403));
    assert_eq!((&all[0].body, &all[0].transport), (&None, &Transport::Http(HttpCheck::default())));
    assert_eq!(all[1].service.namespace.as_deref(), Some("auth"));
    assert_eq!(all[1].service.host, "ext-authz.auth.svc.cluster.local");
    assert_eq!(all[1].transport, Transport::Grpc);
}

#[test]
fn everything_of_istios_can_be_written() {
    let all = load(
        r#"
- name: http
  envoyExtAuthzHttp:
    service: "[::1]"
    port: 8000
    timeout: 2s
    failOpen: true
    statusOnError: "503"
    pathPrefix: /check
    includeRequestHeadersInCheck: [Cookie, x-prefix-*, "*-id"]
    includeAdditionalHeadersInCheck: {x-ext-authz-from: meshgate}
    includeRequestBodyInCheck: {maxRequestBytes: 4096, allowPartialMessage: true}
    headersToUpstreamOnAllow: [x-user]
    headersToDownstreamOnDeny: [set-cookie]
    headersToDownstreamOnAllow: [x-seen]
- name: grpc
  envoyExtAuthzGrpc:
    service: ext-authz.default
    port: 9000
    timeout: 100ms
    failOpen: true
    statusOnError: "500"
    clearRouteCache: true
    includeRequestBodyInCheck: {maxRequestBytes: 1, packAsBytes: true}
"#,
    )
    .unwrap();
    assert_eq!((all[0].service.host.as_str(), all[0].timeout, all[0].fail_open), ("::1", Duration::from_secs(2), true));
    assert_eq!(all[0].body, Some(BodyInCheck { max_bytes: 4096, allow_partial: true, as_bytes: false }));
    assert_eq!(all[1].body, Some(BodyInCheck { max_bytes: 1, allow_partial: false, as_bytes: true }));
    let Transport::Http(check) = &all[0].transport else { panic!("{:?}", all[0]) };
    assert_eq!(check.additional_headers[0].0, "x-ext-authz-from");
    let shown = |name: &'static str| check.request_headers.contains(&HeaderName::from_static(name));
    for (name, expected) in
        [("cookie", true), ("x-prefix-", true), ("x-prefix-a", true), ("x-id", true), ("x-prefi", false), ("id", false)]
    {
        assert_eq!(shown(name), expected, "{name}");
    }
}

#[test]
fn what_cannot_be_meant_is_said_with_its_line() {
    let http = |fields: &str| format!("- {{name: a, envoyExtAuthzHttp: {{service: a, port: 1{fields}}}}}\n");
    let at = "bootstrap.yaml:5: extensionProviders[0]";
    for (written, said) in [
        ("- {name: a}\n".to_owned(), ": must have one of `envoyExtAuthzHttp` and `envoyExtAuthzGrpc`"),
        ("- {name: \"\", envoyExtAuthzGrpc: {service: a, port: 1}}\n".to_owned(), ".name: is required and is empty"),
        ("- {name: a, envoyExtAuthzGrpc: {port: 1}}\n".to_owned(), ".envoyExtAuthzGrpc.service: is required"),
        (
            "- {name: a, envoyExtAuthzGrpc: {service: a}}\n".to_owned(),
            ".envoyExtAuthzGrpc.port: is required, 1 to 65535",
        ),
        (
            "- {name: a, envoyExtAuthzGrpc: {service: a/b/c, port: 1}}\n".to_owned(),
            ".envoyExtAuthzGrpc.service: `a/b/c` is not of the form [namespace/]host, \
             such as auth/ext-authz.auth.svc.cluster.local",
        ),
        (http(", timeout: 0s"), ".envoyExtAuthzHttp.timeout: must be greater than zero"),
        (
            http(", statusOnError: \"200\""),
            ".envoyExtAuthzHttp.statusOnError: `200` is not an HTTP status of 400 to 599",
        ),
        (http(", pathPrefix: check"), ".envoyExtAuthzHttp.pathPrefix: `check` is not a path that begins with /"),
        (
            http(", headersToUpstreamOnAllow: [a, \"*\"]"),
            ".envoyExtAuthzHttp.headersToUpstreamOnAllow[1]: `*` alone, for every header, is not allowed",
        ),
        (
            http(", includeRequestHeadersInCheck: [\"a*b\"]"),
            ".envoyExtAuthzHttp.includeRequestHeadersInCheck[0]: `a*b` is no header name, nor the beginning (x-*) or \
             end (*-id) of one",
        ),
        (
            http(", includeRequestBodyInCheck: {}"),
            ".envoyExtAuthzHttp.includeRequestBodyInCheck.maxRequestBytes: is required, 1 to 16777216",
        ),
    ] {
        assert_eq!(load(&written).unwrap_err(), [format!("{at}{said}")], "{written}");
    }
    let twice = "- {name: a, envoyExtAuthzGrpc: {service: a, port: 1}}\n".repeat(2);
    let said = "bootstrap.yaml:6: extensionProviders[1].name: `a` is the name of an earlier provider";
    assert_eq!(load(&twice).unwrap_err(), [said]);
    let unknown = load("- {name: a, envoyExtAuthzGrpc: {service: a, port: 1, pathPrefix: /x}}\n").unwrap_err();
    assert!(unknown[0].contains("unknown field `pathPrefix`"), "{unknown:?}");
}
