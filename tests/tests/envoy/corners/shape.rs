//! Empty things, unions, scopes, actions.

use serde_json::{Value, json};

use super::{Corner, check};
use crate::call::Call;
use crate::people::{ELSEWHERE, FRONTEND, NOBODY, OTHER};

fn get() -> Call {
    Call::get(NOBODY, "/")
}

fn post() -> Call {
    Call::http1(NOBODY, "POST / HTTP/1.1\r\nhost: backend\r\ncontent-length: 0")
}

fn allow_get() -> Value {
    json!({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]})
}

fn deny_post() -> Value {
    json!({"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["POST"]}}]}]})
}

#[test]
fn empty_things_mean_all_or_nothing() {
    let nothing = || json!({});
    let everything = || json!({"rules": [{}]});
    let deny_everything = || json!({"action": "DENY", "rules": [{}]});
    check(vec![
        Corner::new([], [(get(), "allowed /"), (Call::tcp(NOBODY), "allowed")]),
        Corner::new([nothing()], [(get(), "403"), (Call::tcp(NOBODY), "closed"), (Call::get(FRONTEND, "/"), "403")]),
        Corner::new([json!({"rules": []})], [(get(), "403"), (Call::tcp(FRONTEND), "closed")]),
        Corner::new([json!({"action": "ALLOW"})], [(get(), "403")]),
        Corner::new([everything()], [(get(), "allowed /"), (Call::tcp(NOBODY), "allowed")]),
        Corner::new([deny_everything()], [(get(), "403"), (Call::tcp(NOBODY), "closed")]),
        Corner::new([deny_everything(), everything()], [(get(), "403"), (Call::tcp(NOBODY), "closed")]),
        Corner::new([everything(), nothing()], [(get(), "allowed /")]),
        Corner::new([nothing(), allow_get()], [(get(), "allowed /"), (post(), "403"), (Call::tcp(NOBODY), "closed")]),
        Corner::new([deny_everything(), allow_get()], [(get(), "403"), (post(), "403")]),
        Corner::new([deny_post()], [(get(), "allowed /"), (post(), "403"), (Call::tcp(NOBODY), "closed")]),
        Corner::new([deny_post(), everything()], [(get(), "allowed /"), (post(), "403")]),
        // A field with an empty list is no field.
        Corner::new(
            [json!({"rules": [{"to": [{"operation": {"methods": ["GET"], "paths": []}}]}]})],
            [(get(), "allowed /"), (post(), "403")],
        ),
        Corner::new([json!({"rules": [{"when": []}]})], [(post(), "allowed /")]),
    ]);
}

#[test]
fn rules_and_their_parts_add_up() {
    let source = |account: &str| json!({"source": {"serviceAccounts": [account]}});
    check(vec![
        // Any source with any operation.
        Corner::new(
            [json!({"rules": [{
                "from": [source("frontend"), source("other")],
                "to": [{"operation": {"methods": ["GET"], "paths": ["/a"]}}, {"operation": {"paths": ["/b"]}}],
            }]})],
            [
                (Call::get(FRONTEND, "/a"), "allowed /a"),
                (Call::get(OTHER, "/b"), "allowed /b"),
                (Call::get(OTHER, "/c"), "403"),
                (Call::get(ELSEWHERE, "/a"), "403"),
                (Call::get(NOBODY, "/a"), "403"),
                (Call::http1(OTHER, "PUT /b HTTP/1.1\r\nhost: h"), "allowed /b"),
                (Call::http1(OTHER, "PUT /a HTTP/1.1\r\nhost: h"), "403"),
                (Call::tcp(OTHER), "closed"),
            ],
        ),
        // Of all conditions one fails.
        Corner::new(
            [json!({"rules": [{"when": [
                {"key": "request.headers[x-a]", "values": ["1"]},
                {"key": "request.headers[x-b]", "values": ["1", "2"], "notValues": ["2"]},
            ]}]})],
            [
                (Call::http1(NOBODY, "GET / HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-b: 1"), "allowed /"),
                (Call::http1(NOBODY, "GET / HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-b: 2"), "403"),
                (Call::http1(NOBODY, "GET / HTTP/1.1\r\nhost: h\r\nx-b: 1"), "403"),
            ],
        ),
        Corner::new(
            [json!({"rules": [{"to": [{"operation": {"paths": ["/a*"], "notPaths": ["/admin"]}}]}]})],
            [
                (Call::get(NOBODY, "/a"), "allowed /a"),
                (Call::get(NOBODY, "/admin"), "403"),
                (Call::get(NOBODY, "/admin/"), "allowed /admin/"),
                (Call::get(NOBODY, "/b"), "403"),
            ],
        ),
    ]);
}

#[test]
fn policies_apply_by_namespace_and_label() {
    let deny = || json!({"action": "DENY", "rules": [{}]});
    let labelled = |app: &str| json!({"selector": {"matchLabels": {"app": app}}, "action": "DENY", "rules": [{}]});
    let gateway = json!({
        "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}],
        "action": "DENY",
        "rules": [{}],
    });
    check(vec![
        Corner::new([deny()], [(get(), "403")]).in_namespaces(["istio-system"]),
        Corner::new([deny()], [(get(), "allowed /")]).in_namespaces(["other"]),
        Corner::new([labelled("backend")], [(get(), "403")]),
        Corner::new([labelled("backend")], [(get(), "403")]).in_namespaces(["istio-system"]),
        Corner::new([labelled("Backend")], [(get(), "allowed /")]),
        Corner::new([labelled("other")], [(get(), "allowed /")]),
        Corner::new([json!({"selector": {}, "action": "DENY", "rules": [{}]})], [(get(), "403")]),
        Corner::new([gateway], [(get(), "allowed /")]),
        // An account without a namespace is of the policy's own.
        Corner::new(
            [json!({"rules": [{"from": [{"source": {"serviceAccounts": ["frontend"]}}]}]})],
            [(Call::get(FRONTEND, "/"), "403")],
        )
        .in_namespaces(["istio-system"]),
        // The root's allow-nothing takes nothing away.
        Corner::new([json!({}), allow_get()], [(get(), "allowed /"), (post(), "403")])
            .in_namespaces(["istio-system", "default"]),
    ]);
}

#[test]
fn trial_and_audit_decide_nothing() {
    let everything = |action: &str| json!({"action": action, "rules": [{}]});
    check(vec![
        Corner::new([everything("DENY")], [(get(), "allowed /"), (Call::tcp(NOBODY), "allowed")]).dry_run(),
        Corner::new([json!({})], [(get(), "allowed /"), (Call::tcp(NOBODY), "allowed")]).dry_run(),
        Corner::new([allow_get(), json!({})], [(get(), "403")]).dry_run(),
        Corner::new([everything("DENY"), allow_get()], [(get(), "allowed /"), (post(), "403")]).dry_run(),
        Corner::new([everything("AUDIT")], [(get(), "allowed /"), (Call::tcp(NOBODY), "allowed")]),
        Corner::new([everything("AUDIT"), deny_post()], [(get(), "allowed /"), (post(), "403")]),
    ]);
}
