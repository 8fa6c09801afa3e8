//! Keys that are fetched: over http and https, when they change, and when they cannot be had.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::support::pki::{Authority, Credentials, provider, uri};

/// What a server of keys says now.
type Answer = Rc<RefCell<String>>;

async fn server(answer: &Answer) -> App {
    let answer = Rc::clone(answer);
    App::http1(move |_| answer.borrow().clone()).await
}

async fn tls_server(answer: &Answer, credentials: &Credentials) -> App {
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(credentials.resolver());
    let (acceptor, answer) = (TlsAcceptor::from(Arc::new(config)), Rc::clone(answer));
    App::tcp(async move |stream| {
        // A client that does not trust this server ends the handshake.
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let answer = answer.borrow().clone();
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    })
    .await
}

/// A mesh whose backend fetches keys as these bootstrap lines say.
async fn fetching(app: &App, bootstrap: &str, rule: &Value) -> Mesh {
    let mesh = Mesh::start(Spec { backend: bootstrap.to_owned(), ..Spec::of(&[app.address()]) }).await;
    mesh.policies(&(authentication(rule) + &token_required())).await;
    mesh
}

/// Asks again until the answer is the one that is wanted.
async fn until_status(mesh: &Mesh, token: &str, status: u16) {
    let mut wire = mesh.wire().await;
    let asked =
        until("another status", async || (with_token(&mut wire, "/", token).await.status() == status).then_some(()));
    asked.await.unwrap();
}

async fn until_fetched(mesh: &Mesh, result: &str, times: f64) {
    let series = format!("mesh_jwks_fetches_total{{result=\"{result}\"}}");
    mesh.backend().until_metric(&series, |now| now >= times).await.unwrap();
}

#[test]
fn a_key_set_is_fetched_and_a_new_key_is_found_by_its_id() {
    run(async {
        let (app, first, second) = (App::ok().await, Issuer::new("1"), Issuer::new("2"));
        let answer = Answer::new(ok(&first.jwks()).into());
        let idp = server(&answer).await;
        let uri = format!("http://{}/keys?a=b", idp.address());
        let mesh = fetching(&app, "", &json!({"issuer": ISSUER, "jwksUri": uri})).await;
        let (old, new) = (first.token("ES256", &claims(json!({}))), second.token("ES256", &claims(json!({}))));
        until_status(&mesh, &old, 200).await;
        let asked = &idp.take_seen().remove(0);
        assert_eq!((asked.target(), asked.field("host")), ("/keys?a=b", Some(idp.address().to_string().as_str())));
        *answer.borrow_mut() = ok(&second.jwks());
        assert_eq!(
            with_token(&mut mesh.wire().await, "/", &old).await.status(),
            200,
            "the set has not been fetched again"
        );
        until_status(&mesh, &new, 200).await;
        let answer = with_token(&mut mesh.wire().await, "/", &old).await;
        assert_eq!(told(&answer), (401, "Jwks doesn't have key to match kid or alg from Jwt".into()));
        assert_eq!(idp.take_seen().len(), 1, "made-up key ids do not set the pace");
    });
}

#[test]
fn a_set_is_fetched_again_in_time_and_kept_when_that_fails() {
    run(async {
        let (app, issuer, next) = (App::ok().await, Issuer::new("1"), Issuer::new("1"));
        let answer = Answer::new(ok(&issuer.jwks()).into());
        let idp = server(&answer).await;
        let rule = json!({"issuer": ISSUER, "jwksUri": format!("http://{}/", idp.address())});
        let mesh = fetching(&app, "jwks: {refresh: 100ms}\n", &rule).await;
        until_status(&mesh, &issuer.token("ES256", &claims(json!({}))), 200).await;
        *answer.borrow_mut() = ok(&next.jwks());
        let token = next.token("ES256", &claims(json!({})));
        until_status(&mesh, &token, 200).await;
        *answer.borrow_mut() = "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n".into();
        until_fetched(&mesh, "error", 1.0).await;
        assert_eq!(with_token(&mut mesh.wire().await, "/", &token).await.status(), 200, "the last good set is kept");
    });
}

#[test]
fn without_keys_no_token_passes_and_everything_else_goes_on() {
    run(async {
        let (app, issuer) = (App::ok().await, Issuer::new("1"));
        let elsewhere = format!("HTTP/1.1 302 x\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", app.address());
        let large = ok(&" ".repeat(2 * 1024 * 1024));
        for answer in [elsewhere, large, ok("{}"), ok(r#"{"keys":[{"kty":"RSA"}]}"#), "nonsense".to_owned()] {
            let idp = server(&Answer::new(answer.clone().into())).await;
            let mesh = Mesh::of(app.address()).await;
            let uri = format!("http://{}/", idp.address());
            mesh.policies(&authentication(&json!({"issuer": ISSUER, "jwksUri": uri, "timeout": "2s"}))).await;
            until_fetched(&mesh, "error", 1.0).await;
            let mut wire = mesh.wire().await;
            let refused = with_token(&mut wire, "/", &issuer.token("ES256", &claims(json!({})))).await;
            assert_eq!(told(&refused), (401, "Jwks remote fetch is failed".into()), "{answer:.40}");
            assert_eq!(wire.ask(get("/", &[])).await.status(), 200);
            assert_eq!(mesh.backend().admin_page("/ready").await.as_deref(), Some("ready\n"));
        }
        assert!(
            app.take_seen().iter().all(|request| request.field("user-agent").is_none()),
            "no redirect was followed"
        );
    });
}

#[test]
fn a_sidecar_becomes_ready_although_its_first_fetch_hangs() {
    run(async {
        let app = App::ok().await;
        let silent = App::tcp(async |_stream| std::future::pending::<()>().await).await;
        let rule = json!({"issuer": ISSUER, "jwksUri": format!("http://{}/", silent.address())});
        let policies: &'static str = authentication(&rule).leak();
        let spec = Spec { backend: "jwks: {timeout: 1s}\n".into(), policies, ..Spec::of(&[app.address()]) };
        let mesh = Mesh::start(spec).await;
        until_fetched(&mesh, "error", 1.0).await;
    });
}

#[test]
fn over_https_the_server_must_be_the_one_that_the_roots_vouch_for() {
    run(async {
        let (app, issuer, authority) = (App::ok().await, Issuer::new("1"), Authority::new("idp.example"));
        let credentials = authority.issue_with("spiffe://idp.example/x", |params| {
            params.subject_alt_names =
                vec![uri("https://idp.example/"), rcgen::SanType::IpAddress([127, 0, 0, 1].into())];
        });
        let idp = tls_server(&Answer::new(ok(&issuer.jwks()).into()), &credentials).await;
        let rule = json!({"issuer": ISSUER, "jwksUri": format!("https://{}/", idp.address())});
        let folder = tempfile::tempdir().unwrap();
        let token = issuer.token("ES256", &claims(json!({})));
        for (pem, result) in [(&authority.pem, "ok"), (&Authority::new("idp.example").pem, "error")] {
            let file = folder.path().join(format!("{result}.pem"));
            std::fs::write(&file, pem).unwrap();
            let mesh = fetching(&app, &format!("jwks: {{trustBundle: {}}}\n", file.display()), &rule).await;
            until_fetched(&mesh, result, 1.0).await;
            let status = with_token(&mut mesh.wire().await, "/", &token).await.status();
            assert_eq!(status, if result == "ok" { 200 } else { 401 }, "{result}");
        }
    });
}

#[test]
fn an_issuer_says_itself_where_its_keys_are() {
    run(async {
        let (app, issuer) = (App::ok().await, Issuer::new("1"));
        let (jwks, address) = (issuer.jwks(), Rc::new(RefCell::new(String::new())));
        let own = Rc::clone(&address);
        let idp = App::http1(move |request| match request.target() {
            "/realm/.well-known/openid-configuration" => {
                ok(&json!({"issuer": format!("{}/realm", own.borrow()), "jwks_uri": format!("{}/keys", own.borrow())})
                    .to_string())
            }
            "/other/.well-known/openid-configuration" => {
                ok(&json!({"issuer": format!("{}/realm", own.borrow()), "jwks_uri": format!("{}/keys", own.borrow())})
                    .to_string())
            }
            "/keys" => ok(&jwks),
            _ => "HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n".to_owned(),
        })
        .await;
        *address.borrow_mut() = format!("http://{}", idp.address());
        for (realm, result) in [("realm", "ok"), ("other", "error")] {
            let name = format!("{}/{realm}", address.borrow());
            let mesh = fetching(&app, "", &json!({"issuer": name})).await;
            until_fetched(&mesh, result, 1.0).await;
            let token = issuer.token("ES256", &claims(json!({"iss": name})));
            let status = with_token(&mut mesh.wire().await, "/", &token).await.status();
            assert_eq!(status, if result == "ok" { 200 } else { 401 }, "{realm}");
        }
    });
}
