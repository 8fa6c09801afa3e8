//! RequestAuthentication beside Envoy's jwt_authn filter, configured as istiod does it, with the same tokens.

#![expect(clippy::needless_pass_by_value, reason = "values are written where they are used, with json!")]

#[path = "../e2e/jwt/issuer.rs"]
mod issuer;

use std::fmt::Write;

use serde_json::{Value, json};

use crate::binary;
use crate::call::Call;
use crate::compare::{Set, compare};
use crate::people::NOBODY;
use crate::policies::{Authentication, Document};
use crate::profile::DEFAULT;
use issuer::{ALGORITHMS, ISSUER, Issuer, claims, encode, now};

/// What both answer, and where we mean to do otherwise what we answer and why.
struct Row {
    name: String,
    rules: Value,
    policy: Value,
    call: Call,
    envoy: &'static str,
    ours: &'static str,
    why: Option<&'static str>,
}

const ALLOWED: &str = "allowed /";

struct Table {
    issuer: Issuer,
    rows: Vec<Row>,
}

fn bearer(token: &str) -> Call {
    Call::http1(NOBODY, &format!("GET / HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}"))
}

fn with(path: &str, lines: &str) -> Call {
    Call::http1(NOBODY, &format!("GET {path} HTTP/1.1\r\nhost: h\r\n{lines}x-end: 1"))
}

/// Whoever has a good token.
fn required() -> Value {
    json!({"rules": [{"from": [{"source": {"requestPrincipals": ["*"]}}]}]})
}

fn when(action: &str, key: &str, form: &str, values: &[&str]) -> Value {
    json!({"action": action, "rules": [{"when": [{"key": key, form: values}]}]})
}

impl Table {
    fn rule(&self, more: Value) -> Value {
        let mut rule = json!({"issuer": ISSUER, "jwks": self.issuer.jwks()});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    }

    fn row(&mut self, name: &str, more: Value, policy: Value, call: Call, expected: &'static str) {
        let rules = json!([self.rule(more)]);
        self.rows.push(Row { name: name.to_owned(), rules, policy, call, envoy: expected, ours: expected, why: None });
    }

    /// With one rule and a policy that wants a token.
    fn token(&mut self, name: &str, token: &str, expected: &'static str) {
        self.row(name, json!({}), required(), bearer(token), expected);
    }

    fn differs(&mut self, why: &'static str, ours: &'static str) {
        let row = self.rows.last_mut().unwrap();
        (row.ours, row.why) = (ours, Some(why));
    }

    fn good(&self) -> String {
        self.issuer.token("ES256", &claims(json!({})))
    }

    fn signed(&self, more: Value) -> String {
        self.issuer.token("ES256", &claims(more))
    }
}

/// Signatures, and what a token is made of.
fn of_form(table: &mut Table) {
    for algorithm in ALGORITHMS {
        let token = table.issuer.token(algorithm, &claims(json!({})));
        table.token(algorithm, &token, ALLOWED);
        let foreign = Issuer::new("1").token(algorithm, &claims(json!({})));
        table.token(&format!("{algorithm}, somebody else's"), &foreign, "401");
    }
    let (header, rest) = table.good().split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let (payload, signature) = rest.split_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let other = encode(claims(json!({"sub": "root"})).to_string());
    let payload_of = |payload: &[u8]| table.issuer.raw(r#"{"alg":"ES256","kid":"1"}"#, payload, "ES256");
    let header_of = |header: &str| table.issuer.raw(header, claims(json!({})).to_string().as_bytes(), "ES256");
    let tokens = [
        ("another payload", format!("{header}.{other}.{signature}"), "401"),
        ("no signature", format!("{header}.{payload}."), "401"),
        ("two parts", format!("{header}.{payload}"), "401"),
        ("four parts", format!("{header}.{payload}.{signature}.x"), "401"),
        ("no base64 in the payload", format!("{header}.!{payload}.{signature}"), "401"),
        ("no base64 in the signature", format!("{header}.{payload}.!{signature}"), "401"),
        ("a signature cut short", format!("{header}.{payload}.{}", &signature[..40]), "401"),
        ("a payload that is no object", payload_of(b"[1]"), "401"),
        ("a payload that is no JSON", payload_of(b"{"), "401"),
        ("alg none", format!("{}.{payload}.", encode(r#"{"alg":"none"}"#)), "401"),
        ("alg none with a signature", header_of(r#"{"alg":"none","kid":"1"}"#), "401"),
        ("no alg", header_of(r#"{"kid":"1"}"#), "401"),
        ("no kid", header_of(r#"{"alg":"ES256"}"#), ALLOWED),
        ("another kid", header_of(r#"{"alg":"ES256","kid":"2"}"#), "401"),
        ("a kid that is a number", header_of(r#"{"alg":"ES256","kid":1}"#), "401"),
        ("a typ", header_of(r#"{"alg":"ES256","kid":"1","typ":"at+jwt"}"#), ALLOWED),
    ];
    let mislabelled = ["HS256", "RS256"].map(|name| (name, header_of(&format!(r#"{{"alg":"{name}","kid":"1"}}"#))));
    let critical = header_of(r#"{"alg":"ES256","kid":"1","crit":["x"],"x":1}"#);
    for (name, token, expected) in tokens {
        table.token(name, &token, expected);
    }
    for (name, token) in mislabelled {
        table.token(&format!("ES256 called {name}"), &token, ALLOWED);
        table.differs("a signature is checked by the algorithm that the token names, or not at all", "401");
    }
    table.token("something before", &format!("!{header}.{payload}.{signature}"), ALLOWED);
    table.differs("what no token may have in it is not skipped to find one", "401");
    table.token("crit", &critical, ALLOWED);
    table.differs("what must be understood and is not is refused (RFC 7515, 4.1.11)", "401");
    let padded = format!("{}==", table.good());
    table.token("padded", &padded, ALLOWED);
    table.differs("base64url of a token has no padding (RFC 7515, 2)", "401");
}

/// What it says.
fn of_claims(table: &mut Table) {
    for (name, more, expected) in [
        ("expired", json!({"exp": now() - 120}), "401"),
        ("expired within the skew", json!({"exp": now() - 20}), ALLOWED),
        ("not yet", json!({"nbf": now() + 120}), "401"),
        ("not yet within the skew", json!({"nbf": now() + 20}), ALLOWED),
        ("another issuer", json!({"iss": "https://other.example"}), "401"),
        ("an issuer with a slash more", json!({"iss": format!("{ISSUER}/")}), "401"),
        ("an issuer that is a list", json!({"iss": [ISSUER]}), "401"),
        ("a subject that is a number", json!({"sub": 1}), "401"),
        ("exp as text", json!({"exp": "never"}), "401"),
        ("exp below zero", json!({"exp": -1}), "401"),
        ("an audience nobody asked for", json!({"aud": "them"}), ALLOWED),
        ("an audience that is a number", json!({"aud": 1}), "401"),
    ] {
        let token = table.signed(more);
        table.token(name, &token, expected);
    }
    let token = table.signed(json!({"exp": 0}));
    table.token("exp 0", &token, ALLOWED);
    table.differs("1970 has passed", "401");
    let mut endless = claims(json!({}));
    endless.as_object_mut().unwrap().remove("exp");
    let token = table.issuer.token("ES256", &endless);
    table.token("no exp", &token, ALLOWED);
    for (name, audience, expected) in [
        ("ours", json!("us"), ALLOWED),
        ("ours among others", json!(["them", "us"]), ALLOWED),
        ("as an address", json!("https://us/"), ALLOWED),
        ("another", json!("them"), "403, but by no policy"),
        ("longer", json!("us2"), "403, but by no policy"),
        ("empty", json!([]), "403, but by no policy"),
    ] {
        let call = bearer(&table.signed(json!({"aud": audience})));
        table.row(&format!("audience: {name}"), json!({"audiences": ["us"]}), required(), call, expected);
    }
    let call = bearer(&table.good());
    table.row("audience: none", json!({"audiences": ["us"]}), required(), call, "403, but by no policy");
}

/// Where it stands.
fn of_places(table: &mut Table) {
    let (good, bad) = (table.good(), table.signed(json!({"exp": 1})));
    let cookie = json!({"fromCookies": ["session"]});
    let header = json!({"fromHeaders": [{"name": "x-jwt", "prefix": "jwt "}, {"name": "x-plain"}]});
    let params = json!({"fromParams": ["t"], "forwardOriginalToken": true});
    let none = json!({});
    let rows: Vec<(&str, &Value, Call, &'static str)> = vec![
        ("none", &none, with("/", ""), "403"),
        ("another scheme", &none, with("/", &format!("authorization: Basic {good}\r\n")), "403"),
        ("a small bearer", &none, with("/", &format!("authorization: bearer {good}\r\n")), "403"),
        ("two spaces", &none, with("/", &format!("authorization: Bearer  {good}\r\n")), ALLOWED),
        ("not the place", &none, with("/", &format!("x-jwt: {good}\r\n")), "403"),
        ("cookie", &cookie, with("/", &format!("cookie: a=b; session={good}\r\n")), ALLOWED),
        ("another cookie", &cookie, with("/", &format!("cookie: sessions={good}\r\n")), "403"),
        ("a bad cookie", &cookie, with("/", &format!("cookie: session={bad}\r\n")), "401"),
        ("a cookie is the only place", &cookie, bearer(&good), "403"),
        ("header with a prefix", &header, with("/", &format!("x-jwt: jwt {good}\r\n")), ALLOWED),
        ("header without its prefix", &header, with("/", &format!("x-jwt: {good}\r\n")), "403"),
        ("header that needs none", &header, with("/", &format!("x-plain: {good}\r\n")), ALLOWED),
        ("two headers, both good", &header, with("/", &format!("x-jwt: jwt {good}\r\nx-plain: {good}\r\n")), ALLOWED),
        ("two headers, one bad", &header, with("/", &format!("x-jwt: jwt {good}\r\nx-plain: {bad}\r\n")), "401"),
        ("the bad one first", &header, with("/", &format!("x-jwt: jwt {bad}\r\nx-plain: {good}\r\n")), "401"),
        (
            "two lines",
            &none,
            with("/", &format!("authorization: Bearer {good}\r\nauthorization: Bearer {good}\r\n")),
            "401",
        ),
        ("parameter, bad", &params, with(&format!("/?t={bad}"), ""), "401"),
        ("another parameter", &params, with(&format!("/?T={good}"), ""), "403"),
        ("no token at all", &none, with("/", "authorization: Bearer \r\n"), "403"),
    ];
    for (name, more, call, expected) in rows {
        table.row(name, (*more).clone(), required(), call, expected);
    }
    let everything = json!({"rules": [{}]});
    table.row("no token, and none is wanted", json!({}), everything.clone(), with("/", ""), ALLOWED);
    table.row("a bad token, and none is wanted", json!({}), everything, bearer(&bad), "401");
}

/// What policies are told.
fn of_policies(table: &mut Table) {
    let call = bearer(&table.signed(json!({
        "sub": "alice", "aud": ["us", "them"], "azp": "app", "groups": ["admin", "users"], "role": "owner",
        "scope": "read write", "nested": {"deep": "yes"}, "age": 7, "flag": true,
    })));
    let principals = |values: &[&str]| json!({"rules": [{"from": [{"source": {"requestPrincipals": values}}]}]});
    let claim = |name: &str, values: &[&str]| when("ALLOW", &format!("request.auth.claims{name}"), "values", values);
    let rows = [
        ("principal", principals(&["https://idp.example/alice"]), ALLOWED),
        ("principal of another", principals(&["https://idp.example/bob"]), "403"),
        ("audiences", when("ALLOW", "request.auth.audiences", "values", &["them"]), ALLOWED),
        ("audiences, none", when("ALLOW", "request.auth.audiences", "values", &["the"]), "403"),
        ("presenter", when("ALLOW", "request.auth.presenter", "values", &["app"]), ALLOWED),
        ("presenter, another", when("ALLOW", "request.auth.presenter", "values", &["ap"]), "403"),
        ("a list's item", claim("[groups]", &["admin"]), ALLOWED),
        ("a list's item by prefix", claim("[groups]", &["adm*"]), ALLOWED),
        ("no item", claim("[groups]", &["root"]), "403"),
        ("text", claim("[role]", &["owner"]), ALLOWED),
        ("text by suffix", claim("[role]", &["*er"]), ALLOWED),
        ("text in capitals", claim("[role]", &["Owner"]), "403"),
        ("there at all", claim("[role]", &["*"]), ALLOWED),
        ("not there", claim("[roles]", &["*"]), "403"),
        ("a word of scope", claim("[scope]", &["write"]), ALLOWED),
        ("not a word of scope", claim("[scope]", &["writ"]), "403"),
        ("nested", claim("[nested][deep]", &["yes"]), ALLOWED),
        ("nested, not there", claim("[nested][flat]", &["*"]), "403"),
        ("a number is no text", claim("[age]", &["7"]), "403"),
        ("true is no text", claim("[flag]", &["true"]), "403"),
        ("deny by claim", when("DENY", "request.auth.claims[role]", "values", &["owner"]), "403"),
        ("deny by another claim", when("DENY", "request.auth.claims[role]", "values", &["guest"]), ALLOWED),
        ("deny all others", when("DENY", "request.auth.claims[role]", "notValues", &["owner"]), ALLOWED),
        ("deny all others but guests", when("DENY", "request.auth.claims[role]", "notValues", &["guest"]), "403"),
    ];
    for (name, policy, expected) in rows {
        table.row(name, json!({}), policy, call.clone(), expected);
    }
}

/// More than one.
fn of_several(table: &mut Table) {
    let (good, bad) = (table.good(), table.signed(json!({"exp": 1})));
    let params = json!({"fromParams": ["t"], "forwardOriginalToken": true});
    let path = format!("/?t={good}&t={bad}");
    let forwarded: &'static str = format!("allowed {path}").leak();
    table.row("a second parameter", params, required(), with(&path, ""), forwarded);
    table.differs("whichever of two tokens the application reads has to be good", "401");
    let other = "https://other.example";
    let rules =
        json!([table.rule(json!({})), table.rule(json!({"issuer": other, "fromHeaders": [{"name": "x-jwt"}]}))]);
    let theirs = table.signed(json!({"iss": other}));
    let third = table.signed(json!({"iss": "https://third.example"}));
    let at = |first: &str, second: &str| with("/", &format!("authorization: Bearer {first}\r\nx-jwt: {second}\r\n"));
    let second = |token: &str| with("/", &format!("x-jwt: {token}\r\n"));
    for (name, call, expected) in [
        ("the first rule's", bearer(&good), ALLOWED),
        ("the second rule's", second(&theirs), ALLOWED),
        ("both rules'", at(&good, &theirs), ALLOWED),
        ("in each other's place", at(&theirs, &good), "401"),
        ("the second rule's in the first's place", bearer(&theirs), "401"),
        ("the second one bad", at(&good, &bad), ALLOWED),
        ("the first one bad", at(&bad, &theirs), ALLOWED),
        ("both bad", at(&bad, &bad), "401"),
        ("nobody's", bearer(&third), "401"),
        ("none for two rules", with("/", ""), "403"),
    ] {
        table.row(name, json!({}), required(), call, expected);
        table.rows.last_mut().unwrap().rules = rules.clone();
    }
    let preflight = |more: &str| {
        let lines = format!("authorization: Bearer {bad}\r\norigin: https://a\r\n{more}");
        Call::http1(NOBODY, &format!("OPTIONS / HTTP/1.1\r\nhost: h\r\n{lines}x-end: 1"))
    };
    let everything = || json!({"rules": [{}]});
    let asks = "access-control-request-method: GET\r\n";
    table.row("before a browser asks", json!({}), everything(), preflight(asks), ALLOWED);
    table.row("no question of a browser's", json!({}), everything(), preflight(""), "401");
}

#[test]
fn tokens_are_good_and_bad_to_both() {
    let Some(envoy) = binary::envoy() else { return };
    let mut table = Table { issuer: Issuer::new("1"), rows: Vec::new() };
    for rows in [of_form, of_claims, of_places, of_policies, of_several] {
        rows(&mut table);
    }
    let set = |row: &Row| Set {
        profile: DEFAULT,
        documents: vec![Document::new("p0", row.policy.clone())],
        authentication: Some(Authentication(row.rules.clone())),
        provider: None,
        calls: vec![row.call.clone()],
    };
    let verdicts = meshgate_tests::run(compare(&envoy, table.rows.iter().map(set).collect()));
    let mut wrong = String::new();
    for (verdicts, Row { name, envoy, ours, why, .. }) in verdicts.iter().zip(&table.rows) {
        if verdicts.envoy.to_string() != *envoy || verdicts.ours.to_string() != *ours {
            let (a, b) = (&verdicts.envoy, &verdicts.ours);
            writeln!(wrong, "{name}: expected {envoy} and {ours}, not {a} and {b} ({why:?})").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{} tokens", table.rows.len());
}
