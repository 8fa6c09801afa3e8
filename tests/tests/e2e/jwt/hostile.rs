//! Tokens that nobody honest would send.

use super::*;
use issuer::encode;

#[test]
fn hostile_tokens_are_refused_and_the_sidecar_goes_on() {
    run(async {
        let (app, issuer, other) = (App::ok().await, Issuer::new("1"), Issuer::new("1"));
        let mesh = mesh(&app, &rule(&issuer, json!({}))).await;
        let good = issuer.token("ES256", &claims(json!({})));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let (header, payload) = signed.split_once('.').unwrap();
        let text = claims(json!({})).to_string();
        let deep = format!("{{\"iss\":\"{ISSUER}\",\"a\":{}1{}}}", "[".repeat(8000), "]".repeat(8000));
        let twice = format!("{{\"sub\":\"root\",{}", &text[1..]);
        let with_header = |header: &str| issuer.raw(header, text.as_bytes(), "ES256");
        let tokens = [
            ("huge", "x".repeat(30_000)),
            ("huge payload", format!("{header}.{}.{signature}", "e30".repeat(10_000))),
            ("dots", ".".repeat(100)),
            ("no signature", format!("{signed}.")),
            ("alg none", format!("{}.{payload}.{}", encode(r#"{"alg":"none"}"#), encode("x"))),
            ("alg of another key", with_header(r#"{"alg":"RS256","kid":"1"}"#)),
            ("shared secret", with_header(r#"{"alg":"HS256","kid":"1"}"#)),
            ("crit", with_header(r#"{"alg":"ES256","kid":"1","crit":["exp"]}"#)),
            (
                "own key",
                other.raw(
                    &format!("{{\"alg\":\"ES256\",\"jku\":\"http://127.0.0.1/\",\"jwk\":{}}}", other.jwks()),
                    text.as_bytes(),
                    "ES256",
                ),
            ),
            ("deep", issuer.raw(r#"{"alg":"ES256"}"#, deep.as_bytes(), "ES256")),
            ("a claim twice", issuer.raw(r#"{"alg":"ES256"}"#, twice.as_bytes(), "ES256")),
            ("no UTF-8 inside", issuer.raw(r#"{"alg":"ES256"}"#, b"{\"iss\":\"\xff\"}", "ES256")),
            ("another's payload", format!("{header}.{}.{signature}", encode(text.replace("alice", "admin")))),
            ("with a comma", format!("{good},{good}")),
            ("padded", format!("{good}==")),
        ];
        for (name, token) in tokens {
            let answer = with_token(&mut mesh.wire().await, "/", &token).await;
            assert_eq!(answer.status(), 401, "{name}: {}", answer.text());
        }
        let mut wire = mesh.wire().await;
        let mut request = format!("GET / HTTP/1.1\r\nhost: {BACKEND}\r\nauthorization: Bearer ").into_bytes();
        request.extend_from_slice(b"\xff\xfe.\xff.\xff\r\n\r\n");
        assert_eq!(wire.ask(request).await.status(), 401);
        let bearer = format!("Bearer {good}");
        assert_eq!(wire.ask(get("/", &[("authorization", &bearer), ("authorization", &bearer)])).await.status(), 401);
        let many = vec![format!("access_token={good}"); 40].join("&");
        assert_eq!(wire.ask(get(&format!("/?{many}"), &[])).await.status(), 401);
        assert_eq!(app.connections(), 0);
        assert_eq!(with_token(&mut mesh.wire().await, "/", &good).await.status(), 200);
        assert_eq!(mesh.backend().metric("mesh_panics_total").await, Some(0.0));
    });
}
