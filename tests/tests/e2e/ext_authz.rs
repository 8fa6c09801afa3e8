//! CUSTOM policies: a sidecar asks real providers, over HTTP and gRPC, and does what they say; what is no clear yes is a no.

mod failure;
mod grpc;
mod http;
mod tcp;

use ::http::Method;
use meshgate::sandbox::{Answer, request};

use crate::support::app::App;
use crate::support::mesh::{BACKEND, Mesh, Spec};
use crate::support::wire::Message;

/// A CUSTOM policy for the backend.
fn custom(name: &str, provider: &str, rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{selector: {{matchLabels: {{app: backend}}}}, action: CUSTOM, provider: {{name: {provider}}}, \
         rules: {rules}}}\n---\n"
    )
}

/// An HTTP provider for a bootstrap file's `extensionProviders`.
fn http_provider(name: &str, provider: &App, fields: &str) -> String {
    let port = provider.address().port();
    format!("- {{name: {name}, envoyExtAuthzHttp: {{service: localhost, port: {port}, timeout: 10s{fields}}}}}\n")
}

/// As [`http_provider`], for gRPC.
fn grpc_provider(name: &str, port: u16, fields: &str) -> String {
    format!("- {{name: {name}, envoyExtAuthzGrpc: {{service: 127.0.0.1, port: {port}, timeout: 10s{fields}}}}}\n")
}

/// A mesh whose backend knows these providers, and with no policy yet.
async fn mesh(application: &App, providers: &str) -> Mesh {
    let mut spec = Spec::of(&[application.address()]);
    spec.backend = format!("extensionProviders:\n{providers}");
    Mesh::start(spec).await
}

/// A request from the frontend, with headers.
fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\n{headers}\r\n")
}

fn status(answer: &Answer) -> u16 {
    match answer {
        Answer::Http { status, .. } => *status,
        other => panic!("{other}"),
    }
}

/// GET from the frontend, and the status it gets.
async fn call(mesh: &Mesh, path: &str) -> u16 {
    status(&request(mesh.frontend.outbound(), BACKEND, Method::GET, path).await)
}

/// The only request that was seen.
fn only(app: &App) -> Message {
    let mut seen = app.take_seen();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    seen.remove(0)
}
