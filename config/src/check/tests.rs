mod documents;

use super::*;
use crate::testing::{Folder, backend, settings};

const WALK_A: &str = "\
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: default}
spec:
  clusterIP: 10.96.0.10
  selector: {app: backend}
  ports: [{name: http, port: 80, targetPort: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: backend-1, namespace: default, labels: {app: backend}}
spec: {serviceAccountName: backend}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: frontend-1, namespace: default, labels: {app: frontend}}
spec: {serviceAccountName: frontend}
status: {podIP: 10.1.0.1}
";
const DENY_ALL_BACKEND: &str = "\
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: deny-all-backend, namespace: default}
spec:
  selector: {matchLabels: {app: backend}}
  action: DENY
  rules:
  - {}
";
const ALLOW_GET_DATA: &str = "\
apiVersion: security.istio.io/v1beta1
kind: AuthorizationPolicy
metadata: {name: allow-frontend-get-data, namespace: default}
spec:
  selector: {matchLabels: {app: backend}}
  action: ALLOW
  rules:
  - from:
    - source: {principals: [\"cluster.local/ns/default/sa/frontend\"]}
    to:
    - operation: {methods: [\"GET\"], paths: [\"/api/v1/data\"]}
";
const ALLOW_NOTHING: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow-nothing, namespace: default}
spec: {}
";

fn checked(files: &[(&str, &str)]) -> Vec<String> {
    let folder = Folder::new(files);
    let own =
        Own { workload: backend(), federated: Some(Vec::new()), num_trusted_proxies: Some(0), surroundings: None };
    folder.shown(&check(&folder.resources(), &settings(), Some(&own)))
}

#[test]
fn walk_through_a_is_clean_with_allow_nothing() {
    let policies = format!("{ALLOW_NOTHING}---\n{ALLOW_GET_DATA}");
    assert_eq!(checked(&[("mesh.yaml", WALK_A), ("policies.yaml", &policies)]), [""; 0]);
}

#[test]
fn walk_through_a_warns_of_the_dead_allow() {
    let policies = format!("{DENY_ALL_BACKEND}---\n{ALLOW_GET_DATA}");
    let found = checked(&[("mesh.yaml", WALK_A), ("policies.yaml", &policies)]);
    assert_eq!(found.len(), 1, "{found:?}");
    let start = "policies.yaml:10: AuthorizationPolicy default/allow-frontend-get-data: MG001: never lets anything in: \
                 default/deny-all-backend denies every request";
    assert!(found[0].starts_with(start), "{found:?}");
}

#[test]
fn errors_are_told_with_file_line_object_and_field() {
    let file = "\
# two broken ones and a good one between
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: typo}
spec:
  rules:
  - to:
    - operation:
        methds: [GET]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: good}
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: port}
spec:
  rules:
  - to:
    - operation:
        ports: [\"80\",
                \"eighty\"]
";
    let found = checked(&[("a.yaml", file)]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!(
        found[0],
        "a.yaml:9: AuthorizationPolicy default/typo: spec.rules[0].to[0].operation.methds: unknown field `methds`, expected one of `hosts`, \
         `notHosts`, `ports`, `notPorts`, `methods`, `notMethods`, `paths`, `notPaths` (did you mean `methods`?)"
    );
    let start = "a.yaml:24: AuthorizationPolicy default/port: spec.rules[0].to[0].operation.ports[1]: ";
    assert!(found[1].starts_with(start), "{found:#?}");
}

fn policy(spec: &str) -> String {
    format!("apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p}}\n{spec}\n")
}

#[test]
fn the_messages_of_policies() {
    for (text, expected) in [
        (policy(""), "a.yaml:1: AuthorizationPolicy default/p: missing field `spec`"),
        (
            policy("spec:\n  action: deny"),
            "a.yaml:5: AuthorizationPolicy default/p: spec.action: unknown variant `deny`, expected one of `ALLOW`, `DENY`, `AUDIT`, `CUSTOM` \
             (did you mean `DENY`?)",
        ),
        (
            policy("spec:\n  rules:\n  - from:"),
            "a.yaml:6: AuthorizationPolicy default/p: spec.rules[0].from: has no value: give it one, or remove the field (an empty list is \
             written [], an empty object {})",
        ),
        (
            policy("spec: {action: DENY, action: ALLOW}"),
            "a.yaml:4: AuthorizationPolicy default/p: spec: the key `action` is given twice",
        ),
        (
            policy("spec: {}\nspce: {}"),
            "a.yaml:5: AuthorizationPolicy default/p: spce: unknown field `spce`, expected one of `apiVersion`, `kind`, `metadata`, `status`, \
             `spec` (did you mean `spec`?)",
        ),
        (
            policy("spec: {}").replace("{name: p}", "{name: p, labels: {a: [b]}}"),
            "a.yaml:3: AuthorizationPolicy default/p: metadata.labels.a: invalid type: list, expected a string",
        ),
        (
            policy("spec: {}").replace("Authorization", "Authorisation"),
            "a.yaml:2: unknown security kind default/p: kind: `AuthorisationPolicy` is not a kind of security.istio.io: expected \
             AuthorizationPolicy, PeerAuthentication, RequestAuthentication (did you mean `AuthorizationPolicy`?)",
        ),
        (
            policy("spec:\n  jwtRules:\n  - issuer: a\n    audience: [b]")
                .replace("AuthorizationPolicy", "RequestAuthentication"),
            "a.yaml:7: RequestAuthentication default/p: spec.jwtRules[0].audience: unknown field `audience`, expected one of `issuer`, \
             `audiences`, `jwksUri`, `jwks_uri`, `jwks`, `fromHeaders`, `fromParams`, `fromCookies`, `outputPayloadToHeader`, \
             `forwardOriginalToken`, `outputClaimToHeaders`, `timeout`, `spaceDelimitedClaims`, `presence` (did you mean `audiences`?)",
        ),
        (
            policy("spec:\n  jwtRules:\n  - issuer: a\n    jwks: '{\"keys\":[{\"kty\":\"RSA\"}]}'")
                .replace("AuthorizationPolicy", "RequestAuthentication"),
            "a.yaml:7: RequestAuthentication default/p: spec.jwtRules[0].jwks: keys[0]: has no n",
        ),
        (
            policy("spec: {mtls: {mode: STRIKT}}")
                .replace("Authorization", "Peer")
                .replace("PeerPolicy", "PeerAuthentication"),
            "a.yaml:4: PeerAuthentication default/p: spec.mtls.mode: unknown variant `STRIKT`, expected one of `UNSET`, `DISABLE`, \
             `PERMISSIVE`, `STRICT` (did you mean `STRICT`?)",
        ),
    ] {
        assert_eq!(checked(&[("a.yaml", &text)]).join("\n"), expected, "{text}");
    }
}

#[test]
fn the_messages_of_other_documents() {
    for (text, expected) in [
        ("hello: world\n".to_owned(), "a.yaml:1: missing field `apiVersion`"),
        ("- a list\n".to_owned(), "a.yaml:1: invalid type: list, expected an object"),
        ("apiVersion: v1\nkind: Service\n".to_owned(), "a.yaml:1: metadata.name: Service has no metadata.name"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  clusterIP: 10.96.0\n  ports: [{port: 80, targetPort: 70000}]\n".to_owned(),
            "a.yaml:5: Service default/s: spec.clusterIP: `10.96.0` is not an IP address\n\
             a.yaml:6: Service default/s: spec.ports[0].targetPort: `70000` is not a port: expected 1 to 65535, or the name of a container port",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 0}]}\n".to_owned(),
            "a.yaml:4: Service default/s: spec.ports[0].port: invalid value: integer `0`, expected a nonzero u16",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\nspec: {address: db.example, sa: x}\n".to_owned(),
            "a.yaml:4: WorkloadEntry default/w: spec.sa: unknown field `sa`, expected one of `address`, `ports`, `labels`, `serviceAccount`, \
             `network`, `locality`, `weight`",
        ),
        (
            "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: t}\n".to_owned(),
            "a.yaml:2: TrafficSplit is not read by this version: it has no effect",
        ),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: t}\n".to_owned(), ""),
    ] {
        assert_eq!(checked(&[("a.yaml", &text)]).join("\n"), expected, "{text}");
    }
}

#[test]
fn items_of_a_list_are_objects_of_their_own() {
    let list = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
- apiVersion: security.istio.io/v1
  kind: AuthorizationPolicy
  metadata: {name: one}
  spec:
    acton: DENY
- apiVersion: security.istio.io/v1
  kind: AuthorizationPolicy
  metadata: {name: two}
  spec:
    rules:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: passed-over}
- apiVersion: v1
  kind: Service
  metadata: {name: bad}
  spec: {clusterIP: nowhere, ports: [{port: 80}]}
";
    let found = checked(&[("list.yaml", list)]);
    assert_eq!(
        found,
        [
            "list.yaml:12: AuthorizationPolicy default/one: items[1].spec.acton: unknown field `acton`, expected one of `selector`, `targetRef`, \
             `targetRefs`, `action`, `rules`, `provider` (did you mean `action`?)",
            "list.yaml:17: AuthorizationPolicy default/two: items[2].spec.rules: has no value: give it one, or remove the field (an empty list \
             is written [], an empty object {})",
            "list.yaml:24: Service default/bad: items[4].spec.clusterIP: `nowhere` is not an IP address",
        ]
    );
}

#[test]
fn json_is_read_too() {
    let json = "{\n\t\"apiVersion\": \"security.istio.io/v1\",\n\t\"kind\": \"AuthorizationPolicy\",\n\t\"metadata\": {\"name\": \"p\"},\n\t\"spec\": {\n\t\t\"action\": \"NO\"\n\t}\n}\n";
    let found = checked(&[("a.json", json)]);
    assert!(
        found[0].starts_with("a.json:6: AuthorizationPolicy default/p: spec.action: unknown variant `NO`"),
        "{found:?}"
    );
}

#[test]
fn a_policy_that_selects_nobody_known_is_doubtful() {
    let policy = ALLOW_GET_DATA.replace("app: backend", "app: backnd");
    assert_eq!(
        checked(&[("mesh.yaml", WALK_A), ("policy.yaml", &policy)]),
        [
            "policy.yaml:1: AuthorizationPolicy default/allow-frontend-get-data: MG008: selects none of the 3 workload(s) known in its reach"
        ]
    );
    assert_eq!(checked(&[("policy.yaml", &policy)]), [""; 0], "nobody is known");
}

#[test]
fn policies_are_those_a_proxy_would_start_with() {
    let broken = DENY_ALL_BACKEND.replace("DENY", "DENNY");
    let folder = Folder::new(&[("a.yaml", ALLOW_NOTHING), ("b.yaml", &broken)]);
    let resources =
        crate::offline::Resources::read(&folder.resources(), &settings(), &Surroundings::alone("cluster.local"));
    let (policies, problems) = (resources.policies(), resources.problems());
    let readable: Vec<_> =
        policies.iter().map(|policy| (policy.name().to_string(), policy.unreadable_because().is_none())).collect();
    assert_eq!(readable, [("default/allow-nothing".to_owned(), true), ("default/deny-all-backend".to_owned(), false)]);
    assert_eq!(problems.len(), 1);
}

#[test]
fn what_the_folder_says_of_the_mesh_is_known_to_lints() {
    let mesh =
        WALK_A.replace("{name: http, port: 80, targetPort: 80}", "{name: tcp-db, port: 80, targetPort: 80}").replace(
            "status: {podIP: 10.1.0.2}",
            "status: {podIP: 10.1.0.2, conditions: [{type: Ready, status: \"True\"}]}",
        );
    let accounts = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: frontend, namespace: default}
---
apiVersion: v1
kind: Namespace
metadata: {name: default}
";
    let policy = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: default}
spec:
  selector: {matchLabels: {app: backend}}
  rules:
  - from:
    - source: {principals: [\"cluster.local/ns/default/sa/fronted\", \"elsewhere/ns/a/sa/b\"], namespaces: [defualt]}
    - source: {remoteIpBlocks: [10.0.0.0/8]}
    to:
    - operation: {ports: [\"80\"], methods: [GET]}
";
    let found = checked(&[("mesh.yaml", &mesh), ("accounts.yaml", accounts), ("policy.yaml", policy)]);
    let codes: Vec<_> =
        found.iter().filter_map(|line| line.split(": ").nth(2)).filter(|code| code.starts_with("MG")).collect();
    assert_eq!(codes, ["MG009", "MG011", "MG012", "MG012", "MG014"], "{found:#?}");
}

#[test]
fn custom_policies_that_ask_nobody_are_found() {
    use meshgate_policy::{Provider, ProviderKind, Providers, Settings};
    let provider = |kind| Provider { kind, fail_open: false };
    let known = [("http", provider(ProviderKind::Http)), ("grpc", provider(ProviderKind::Grpc))];
    let known = known.map(|(name, provider)| (name.to_owned(), provider)).into();
    let settings = Settings { providers: Providers::Known(known), ..settings() };
    let custom = |provider: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: default}}\n\
             spec: {{action: CUSTOM, provider: {{name: {provider}}}, rules: [{{}}]}}\n"
        )
    };
    let tcp = WALK_A.replace("name: http, port: 80", "name: tcp-x, port: 80");
    let silent = "MG043: the provider \"http\" speaks HTTP and is not asked about TCP: connections to port 80 of \
                  this workload pass";
    for (resources, provider, expected) in [
        (WALK_A, "http", None),
        (&tcp, "grpc", None),
        (&tcp, "http", Some(silent)),
        (WALK_A, "nobody", Some("MG040: names the provider \"nobody\"")),
    ] {
        let folder = Folder::new(&[("a.yaml", resources), ("p.yaml", &custom(provider))]);
        let found =
            folder.shown(&check(&folder.resources(), &settings, Some(&Own { workload: backend(), ..Own::default() })));
        let told: Vec<_> = found.iter().filter(|line| line.contains("MG04")).collect();
        assert_eq!(told.len(), usize::from(expected.is_some()), "{provider}: {found:?}");
        assert!(told.iter().all(|line| line.contains(expected.unwrap_or_default())), "{told:?}");
    }
}

#[test]
fn an_annotation_silences_findings_about_its_own_object() {
    let allow = |codes: &str| {
        let policy = ALLOW_GET_DATA.replace(
            "namespace: default}",
            &format!("namespace: default, annotations: {{meshgate.io/allow: \"{codes}\"}}}}"),
        );
        checked(&[("mesh.yaml", WALK_A), ("policies.yaml", &format!("{DENY_ALL_BACKEND}---\n{policy}"))])
    };
    assert_eq!(allow("MG005, MG001"), [""; 0]);
    assert_eq!(allow("MG005").len(), 1);
    assert_eq!(
        allow("MG001,MG999,"),
        [
            "policies.yaml:10: AuthorizationPolicy default/allow-frontend-get-data: metadata.annotations[meshgate.io/allow]: \
          `MG999` is not the code of a finding: see `meshgate check --list`"
        ]
    );
}

#[test]
fn findings_about_tokens_stand_at_their_documents() {
    let jwt = policy("spec: {jwtRules: [{issuer: a, jwksUri: 'http://idp/keys'}]}")
        .replace("AuthorizationPolicy", "RequestAuthentication");
    let asks = policy("spec: {rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}")
        .replace("{name: p}", "{name: p, namespace: other}");
    let found = checked(&[("jwt.yaml", &jwt), ("policy.yaml", &asks)]);
    let starts = [
        "jwt.yaml:1: RequestAuthentication default/p: MG030: ",
        "jwt.yaml:1: RequestAuthentication default/p: MG033: ",
        "policy.yaml:1: AuthorizationPolicy other/p: MG031: ",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}");
    }
}

#[test]
fn a_request_authentication_that_selects_nobody_is_doubtful() {
    let spec = "spec: {selector: {matchLabels: {app: bakend}}, jwtRules: [{issuer: 'https://a'}]}";
    let jwt = policy(spec).replace("AuthorizationPolicy", "RequestAuthentication");
    let found = checked(&[("mesh.yaml", WALK_A), ("jwt.yaml", &jwt)]);
    let start = "jwt.yaml:1: RequestAuthentication default/p: MG008: selects none of the ";
    assert!(found.iter().any(|line| line.starts_with(start)), "{found:#?}");
}
