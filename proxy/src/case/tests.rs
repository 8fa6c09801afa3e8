use meshgate_config::source::{OneOrMany, Source};

use super::*;

fn read(text: &str) -> Result<Case, String> {
    let source = Source::read("case.yaml", text.as_bytes()).unwrap();
    match source.documents()[0].parse().map_err(|problem| problem.to_string())? {
        OneOrMany::One(case) => Ok(case),
        OneOrMany::Many(mut cases) => Ok(cases.remove(0)),
    }
}

#[test]
fn reads_every_field() {
    let case = read(
        "{name: n, workload: a/b, peer: cluster.local/ns/a/sa/b, sourceIp: 10.0.0.1, remoteIp: '::1', destination: '10.0.0.2:80', \
         port: http, servicePort: 81, sni: s, protocol: http, method: PURGE, path: /a, host: 'h:80', scheme: https, \
         headers: {X-One: a, x-many: [b, c]}, token: {iss: i, aud: [a, b]}, provider: deny, to: b}",
    )
    .unwrap();
    assert_eq!(case.id().unwrap().as_str(), "spiffe://cluster.local/ns/a/sa/b");
    assert_eq!((&case.port, case.provider), (&Some(Port::Name("http".to_owned())), Some(ProviderAnswer::Deny)));
    let again = read(&serde_json::to_string(&case).unwrap()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&case).unwrap());
    let headers = case.headers.unwrap().0;
    assert_eq!((&headers["x-one"], headers.get_all("X-MANY").iter().count()), (&"a".parse().unwrap(), 2));
    assert_eq!(case.to.as_deref(), Some("b"));
    assert_eq!(case.token.unwrap()["aud"], serde_json::json!(["a", "b"]));
}

#[test]
fn says_where_a_mistake_is_and_what_was_expected() {
    for (text, expected) in [
        ("path: /a\nmetod: GET\n", "case.yaml:2: metod: unknown field `metod`, expected one of"),
        (
            "path: /\npeer: frontend\n",
            "case.yaml:2: peer: `frontend`: no workload's identity: it has no path; expected such as",
        ),
        ("peer: spiffe://Cluster/ns/a", "no workload's identity: "),
        ("\n- port: 70000\n", "case.yaml:2: [0].port: 70000 is no port"),
        ("port: '70000'", "case.yaml:1: port: expected a number up to 65535 or the name of a port"),
        ("headers:\n  x y: z\n", "`x y` is no header name"),
        ("headers:\n  x: {}\n", "expected a string or a list of strings"),
        ("headers: {x: \"a\\nb\"}", "\"a\\nb\" is no value of a header (x)"),
        ("protocol: udp", "unknown variant `udp`, expected `http` or `tcp`"),
        ("method: 'G T'", "case.yaml:1: method: `G T`: invalid HTTP method"),
        ("sourceIp: here", "sourceIp"),
        ("destination: 10.0.0.1", "destination"),
    ] {
        let found = read(text).unwrap_err();
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn lays_a_case_over_defaults() {
    let defaults =
        read("{peer: a/ns/a/sa/a, port: 80, method: GET, path: /d, headers: {a: [d, d], b: d}, token: {iss: d}}")
            .unwrap();
    let case = read("{peer: plaintext, path: /own, headers: {A: own}}").unwrap().over(&defaults);
    assert_eq!((case.id(), case.path.as_deref(), &case.port), (None, Some("/own"), &Some(Port::Number(80))));
    let headers = case.headers.unwrap().0;
    assert_eq!((headers.get_all("a").iter().count(), &headers["a"], headers.len()), (1, &"own".parse().unwrap(), 2));
    let case = read("{destination: '10.0.0.1:81'}").unwrap().over(&defaults);
    assert_eq!((&case.port, case.id().is_some()), (&None, true));
    let case = read("{protocol: tcp}").unwrap().over(&defaults);
    assert!(case.check().is_ok() && case.headers.is_none() && case.token.is_none(), "{case:?}");
}

#[test]
fn tcp_has_no_requests() {
    let error = read("{protocol: tcp, path: /}").unwrap().check().unwrap_err();
    assert_eq!(error.to_string(), "path: has no meaning with `protocol: tcp`");
}

#[test]
fn what_describes_being_called_is_not_laid_under_a_call() {
    let flags = read("{workload: a/b, destination: '10.0.0.1:80', path: /a, peer: plaintext, name: n}").unwrap();
    let call = read("{to: backend}").unwrap().over(&flags);
    assert_eq!((call.check(), call.path.as_deref(), &call.peer), (Ok(()), None, &None));
    let given = (call.name.as_deref(), call.workload.as_deref(), call.destination.map(|address| address.port()));
    assert_eq!(given, (Some("n"), Some("a/b"), Some(80)));
    // Where the flags are a call, a request that is one of being called is a contradiction.
    let called = read("peer: plaintext").unwrap().over(&read("to: backend").unwrap());
    assert_eq!(called.check().unwrap_err().to_string(), "peer: has no meaning with `to`");
}
