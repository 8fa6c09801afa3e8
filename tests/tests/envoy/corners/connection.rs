//! Who is connected, from where, to what; and connections that are not HTTP.

use serde_json::{Value, json};

use super::{Corner, check};
use crate::call::Call;
use crate::people::{ELSEWHERE, FRONTEND, NAMELESS, NOBODY, OLD, OTHER, PARTNER, STRANGER};
use crate::profile::{DEFAULT, Profile};

fn source(field: &str, values: &[&str]) -> Value {
    json!({"rules": [{"from": [{"source": {field: values}}]}]})
}

fn deny_source(field: &str, values: &[&str]) -> Value {
    json!({"action": "DENY", "rules": [{"from": [{"source": {field: values}}]}]})
}

fn when(key: &str, values: &[&str]) -> Value {
    json!({"rules": [{"when": [{"key": key, "values": values}]}]})
}

fn get(who: &'static str) -> Call {
    Call::get(who, "/")
}

/// One policy on its own each: everybody that it lets in, by HTTP and by bytes.
fn lets_in(specs: &[(Value, &[&str])]) -> Vec<Corner> {
    let corner = |(spec, allowed): &(Value, &[&str])| {
        let mut corner = Corner::new([spec.clone()], []);
        for who in [NOBODY, FRONTEND, OTHER, ELSEWHERE, OLD, PARTNER] {
            let (http, tcp) = if allowed.contains(&who) { ("allowed /", "allowed") } else { ("403", "closed") };
            corner.calls.extend([(get(who), http), (Call::tcp(who), tcp)]);
        }
        corner
    };
    specs.iter().map(corner).collect()
}

const ALL: &[&str] = &[FRONTEND, OTHER, ELSEWHERE, OLD, PARTNER];

#[test]
fn identities_are_told_by_their_parts() {
    let not_other: &[&str] = &[NOBODY, FRONTEND, OTHER, OLD, PARTNER];
    check(lets_in(&[
        (source("principals", &["*"]), ALL),
        (source("principals", &["cluster.local/ns/default/sa/frontend"]), &[FRONTEND]),
        (source("principals", &["spiffe://cluster.local/ns/default/sa/frontend"]), &[]),
        (source("principals", &["Cluster.local/ns/default/sa/frontend"]), &[]),
        (source("principals", &["cluster.local/ns/default/sa/Frontend"]), &[]),
        (source("principals", &["cluster.local/ns/*"]), &[FRONTEND, OTHER, ELSEWHERE]),
        (source("principals", &["cluster.local/*/sa/frontend"]), &[]),
        (source("principals", &["*/sa/frontend"]), &[FRONTEND, ELSEWHERE, OLD, PARTNER]),
        (source("principals", &["*td/ns/default/sa/frontend"]), &[OLD]),
        (source("principals", &["*frontend", "*other"]), ALL),
        (source("principals", &["clusterxlocal/ns/default/sa/frontend", "*.a/frontend"]), &[]),
        (source("notPrincipals", &["*"]), &[NOBODY]),
        (source("notPrincipals", &["*/sa/frontend"]), &[NOBODY, OTHER]),
        (source("namespaces", &["default"]), &[FRONTEND, OTHER, OLD, PARTNER]),
        (source("namespaces", &["*"]), ALL),
        (source("namespaces", &["d*t"]), &[FRONTEND, OTHER, OLD, PARTNER]),
        (source("namespaces", &["o*e*"]), &[ELSEWHERE]),
        (source("namespaces", &["defaul.", "Default", "efault", "ot"]), &[]),
        (source("notNamespaces", &["other"]), not_other),
        (source("notNamespaces", &["*"]), &[NOBODY]),
        (source("serviceAccounts", &["frontend"]), &[FRONTEND, OLD, PARTNER]),
        (source("serviceAccounts", &["default/other", "other/frontend"]), &[OTHER, ELSEWHERE]),
        (source("serviceAccounts", &["front.nd", "default/f.", "front"]), &[]),
        (source("notServiceAccounts", &["frontend"]), &[NOBODY, OTHER, ELSEWHERE]),
        (source("trustDomains", &["cluster.local"]), &[FRONTEND, OTHER, ELSEWHERE]),
        (source("trustDomains", &["*"]), ALL),
        (source("trustDomains", &["part*", "*-td"]), &[OLD, PARTNER]),
        (source("trustDomains", &["part", "td", "cluster"]), &[]),
        (source("trustDomains", &["clusterxlocal"]), &[]),
        (source("notTrustDomains", &["partner", "old-td"]), &[NOBODY, FRONTEND, OTHER, ELSEWHERE]),
        (when("source.principal", &["*/sa/other"]), &[OTHER]),
        (when("source.namespace", &["o*"]), &[ELSEWHERE]),
        (when("source.serviceAccount", &["other/frontend"]), &[ELSEWHERE]),
        (when("source.trustDomain", &["partner"]), &[PARTNER]),
        (deny_source("principals", &["*"]), &[NOBODY]),
        (deny_source("notPrincipals", &["*"]), ALL),
        (deny_source("notNamespaces", &["default"]), &[FRONTEND, OTHER, OLD, PARTNER]),
    ]));
}

#[test]
fn one_trust_domain_may_have_several_names() {
    let profile = Profile { trust_domains: &["cluster.local", "old-td"], ..DEFAULT };
    let both: &[&str] = &[FRONTEND, OLD];
    let corners = lets_in(&[
        (source("principals", &["cluster.local/ns/default/sa/frontend"]), both),
        (source("principals", &["old-td/ns/default/sa/frontend"]), both),
        (source("principals", &["old*/ns/default/sa/frontend"]), both),
        (source("principals", &["*-td/ns/default/sa/frontend"]), both),
        (source("principals", &["*/ns/default/sa/frontend"]), &[FRONTEND, OLD, PARTNER]),
        (source("principals", &["old-td/ns/*"]), &[OLD]),
        (source("principals", &["old-td/ns/default/sa/f*"]), both),
        (source("principals", &["partner/ns/default/sa/frontend"]), &[PARTNER]),
        (source("notPrincipals", &["old-td/ns/default/sa/frontend"]), &[NOBODY, OTHER, ELSEWHERE, PARTNER]),
        (source("trustDomains", &["old-td"]), &[FRONTEND, OTHER, ELSEWHERE, OLD]),
        (source("trustDomains", &["old*"]), &[OLD]),
        (when("source.principal", &["old-td/ns/default/sa/other"]), &[OTHER]),
    ]);
    check(corners.into_iter().map(|corner| corner.with(profile)).collect());
}

#[test]
fn some_get_no_connection() {
    let everything = || json!({"rules": [{}]});
    check(vec![Corner::new(
        [everything()],
        [
            (get(STRANGER), "closed"),
            (Call::tcp(STRANGER), "closed"),
            (get(NAMELESS), "closed"),
            (get(PARTNER), "allowed /"),
        ],
    )]);
}

#[test]
fn addresses_are_compared_as_blocks() {
    let from = |source: u8, call: Call| Call { source, ..call };
    let corner = |spec: Value, expected: [&'static str; 2]| {
        let tcp = expected.map(|expected| if expected == "403" { "closed" } else { "allowed" });
        let calls = [1, 2].map(|source| from(source, get(NOBODY)));
        let bytes = [1, 2].map(|source| from(source, Call::tcp(NOBODY)));
        let [one, two] = calls;
        let [three, four] = bytes;
        Corner::new([spec], [(one, expected[0]), (two, expected[1]), (three, tcp[0]), (four, tcp[1])])
    };
    let (none, both, first, second) =
        (["403", "403"], ["allowed /", "allowed /"], ["allowed /", "403"], ["403", "allowed /"]);
    let mut corners = vec![corner(source("notIpBlocks", &["127.0.0.1"]), second)];
    for (blocks, expected) in [
        (&["127.0.0.2"][..], second),
        (&["127.0.0.2/32", "10.0.0.1"], second),
        (&["127.0.0.3/31"], second),
        (&["127.0.0.0/31"], first),
        (&["127.0.0.3/30"], both),
        (&["0.0.0.0/0"], both),
        (&["::/0"], none),
        (&["10.0.0.0/8", "127.1.0.0/16"], none),
    ] {
        corners.extend(["ipBlocks", "remoteIpBlocks"].map(|field| corner(source(field, blocks), expected)));
        corners.extend(["source.ip", "remote.ip"].map(|key| corner(when(key, blocks), expected)));
    }
    for (key, values, expected) in [
        ("destination.ip", &["127.0.0.0/8"][..], both),
        ("destination.ip", &["127.0.0.0/10", "10.0.0.0/8"], none),
        ("destination.ip", &["127.64.0.0/10"], both),
        ("destination.port", &["8080"], both),
        ("destination.port", &["80", "0"], none),
        ("destination.port", &["08080"], both),
    ] {
        corners.push(corner(when(key, values), expected));
    }
    check(corners);
}

#[test]
fn forwarded_addresses_count_as_far_as_proxies_are_trusted() {
    let call = |lines: &str| Call::http1(NOBODY, &format!("GET / HTTP/1.1\r\nhost: h\r\n{lines}x-end: 1"));
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "127.0.0.1"];
    let rows = [
        // What is sent, and what `remote.ip` is with no, one and two trusted proxies.
        ("", ["127.0.0.1", "127.0.0.1", "127.0.0.1"]),
        ("x-forwarded-for: 192.0.2.1\r\n", ["127.0.0.1", "192.0.2.1", "127.0.0.1"]),
        ("x-forwarded-for: 192.0.2.2, 192.0.2.1\r\n", ["127.0.0.1", "192.0.2.1", "192.0.2.2"]),
        ("X-Forwarded-For: 192.0.2.3,192.0.2.2,192.0.2.1\r\n", ["127.0.0.1", "192.0.2.1", "192.0.2.2"]),
        ("x-forwarded-for: 192.0.2.2\r\nx-forwarded-for: 192.0.2.1\r\n", ["127.0.0.1", "192.0.2.1", "192.0.2.2"]),
        ("x-forwarded-for: 192.0.2.2, x\r\n", ["127.0.0.1", "127.0.0.1", "192.0.2.2"]),
        ("x-forwarded-for: 192.0.2.2, 192.0.2.1:80\r\n", ["127.0.0.1", "127.0.0.1", "192.0.2.2"]),
        ("x-real-ip: 192.0.2.1\r\nforwarded: for=192.0.2.2\r\n", ["127.0.0.1", "127.0.0.1", "127.0.0.1"]),
    ];
    let mut corners = Vec::new();
    for trusted_proxies in 0..3 {
        let profile = Profile { trusted_proxies, ..DEFAULT };
        for address in addresses {
            let spec = if address == addresses[0] {
                when("remote.ip", &[address])
            } else {
                source("remoteIpBlocks", &[address])
            };
            let mut corner = Corner::new([spec], []).with(profile);
            for (lines, seen) in rows {
                let is = seen[usize::try_from(trusted_proxies).unwrap()] == address;
                corner.calls.push((call(lines), if is { "allowed /" } else { "403" }));
            }
            // Never the peer's address, and never for bytes.
            let tcp = if address == "127.0.0.1" { "allowed" } else { "closed" };
            corner.calls.push((Call::tcp(NOBODY), tcp));
            corners.push(corner);
        }
        let physical = Corner::new([source("ipBlocks", &["192.0.2.0/24"])], [(call(rows[1].0), "403")]);
        corners.push(physical.with(profile));
    }
    check(corners);
}

#[test]
fn server_names_are_compared_in_small_letters() {
    let call = |sni| Call { sni, ..get(FRONTEND) };
    let corner = |values: &[&str], calls: [&'static str; 3]| {
        let [exact, other, none] = calls;
        Corner::new(
            [when("connection.sni", values)],
            [
                (call(Some("a.example")), exact),
                (call(Some("b.example")), other),
                (call(None), none),
                (get(NOBODY), "403"),
                (
                    Call { sni: Some("a.example"), ..Call::tcp(FRONTEND) },
                    if exact == "403" { "closed" } else { "allowed" },
                ),
            ],
        )
    };
    check(vec![
        corner(&["a.example"], ["allowed /", "403", "403"]),
        corner(&["A.example"], ["403", "403", "403"]),
        corner(&["*.example"], ["allowed /", "allowed /", "403"]),
        corner(&["b*"], ["403", "allowed /", "403"]),
        corner(&["*"], ["allowed /", "allowed /", "403"]),
        corner(&["a?example", "axexample"], ["403", "403", "403"]),
    ]);
}

#[test]
fn bytes_have_no_request() {
    let rule = |action: &str, rule: Value| json!({"action": action, "rules": [rule]});
    let to = |operation: Value| json!({"to": [{"operation": operation}]});
    let tcp =
        |spec: Value, expected| Corner::new([spec], [(Call::tcp(NOBODY), expected), (Call::tcp(FRONTEND), expected)]);
    let mut corners = Vec::new();
    for operation in [
        json!({"methods": ["GET"]}),
        json!({"notMethods": ["GET"]}),
        json!({"paths": ["/a"]}),
        json!({"notPaths": ["/a"]}),
        json!({"paths": ["/a/{*}"]}),
        json!({"hosts": ["h"]}),
        json!({"notHosts": ["h"]}),
        json!({"methods": ["GET"], "ports": ["8080"]}),
    ] {
        corners.push(tcp(rule("ALLOW", to(operation.clone())), "closed"));
        corners.push(tcp(rule("DENY", to(operation.clone())), "closed"));
        corners.push(tcp(rule("AUDIT", to(operation)), "allowed"));
    }
    for (action, rest, expected) in [
        ("DENY", to(json!({"methods": ["GET"], "ports": ["80"]})), "allowed"),
        ("DENY", to(json!({"methods": ["GET"], "notPorts": ["8080"]})), "allowed"),
        ("ALLOW", to(json!({"ports": ["8080"]})), "allowed"),
        ("ALLOW", to(json!({"ports": ["80"]})), "closed"),
        // One entry with a field that needs HTTP makes the whole rule void.
        ("ALLOW", json!({"to": [{"operation": {"ports": ["8080"]}}, {"operation": {"methods": ["GET"]}}]}), "closed"),
        ("DENY", json!({"to": [{"operation": {"ports": ["80"]}}, {"operation": {"methods": ["GET"]}}]}), "closed"),
        (
            "ALLOW",
            json!({"from": [{"source": {"requestPrincipals": ["*"]}}, {"source": {"ipBlocks": ["127.0.0.1"]}}]}),
            "closed",
        ),
        ("ALLOW", json!({"from": [{"source": {"notRequestPrincipals": ["*"]}}]}), "closed"),
        ("DENY", json!({"from": [{"source": {"requestPrincipals": ["*"], "ipBlocks": ["10.0.0.1"]}}]}), "allowed"),
        ("DENY", json!({"when": [{"key": "request.headers[x]", "values": ["1"]}]}), "closed"),
        ("ALLOW", json!({"when": [{"key": "request.headers[x]", "notValues": ["1"]}]}), "closed"),
        (
            "DENY",
            json!({"when": [{"key": "request.auth.claims[x]", "values": ["1"]}, {"key": "destination.port", "values": ["80"]}]}),
            "allowed",
        ),
        ("ALLOW", json!({"from": [{"source": {"remoteIpBlocks": ["127.0.0.1"]}}]}), "allowed"),
        ("ALLOW", json!({"when": [{"key": "experimental.envoy.filters.x[y]", "values": ["*"]}]}), "closed"),
        ("ALLOW", json!({"when": [{"key": "experimental.envoy.filters.x[y]", "notValues": ["*"]}]}), "allowed"),
    ] {
        corners.push(tcp(rule(action, rest), expected));
    }
    let rules = json!({"rules": [to(json!({"methods": ["GET"]})), to(json!({"ports": ["8080"]}))]});
    corners.push(tcp(rules, "allowed"));
    check(corners);
}
