//! What a gRPC client is told when there is no application's answer for it: a status in its own terms.

use meshgate_tests::run;

use crate::support::app::{App, nobody};
use crate::support::mesh::{BACKEND, Mesh, logged_path, policy};
use crate::support::wire::Message;

fn call(content_type: &str) -> String {
    format!(
        "POST /pkg.Service/Call HTTP/1.1\r\nhost: {BACKEND}\r\ncontent-type: {content_type}\r\ncontent-length: 0\r\n\r\n"
    )
}

fn outcome(answer: &Message) -> (u16, Option<&str>, Option<&str>, Option<&str>) {
    (answer.status(), answer.field("grpc-status"), answer.field("grpc-message"), answer.field("content-type"))
}

#[test]
fn a_refused_call_is_permission_denied() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("none", "ALLOW", "[]")).await;
        let mut client = mesh.wire().await;
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let answer = client.ask(call(content_type)).await;
            let expected = (200, Some("7"), Some("RBAC: access denied"), Some("application/grpc"));
            assert_eq!((outcome(&answer), answer.text().as_str()), (expected, ""), "{content_type}");
        }
        for content_type in ["application/grpc;v=1", "application/grpc-web", "application/json"] {
            let answer = client.ask(call(content_type)).await;
            assert_eq!(outcome(&answer), (403, None, None, Some("text/plain")), "{content_type}");
        }
        assert_eq!(app.connections(), 0);
    });
}

#[test]
fn a_call_to_an_application_that_is_down_is_unavailable() {
    run(async {
        let (_held, address) = nobody();
        let mesh = Mesh::of(address).await;
        let answer = mesh.wire().await.ask(call("application/grpc")).await;
        assert_eq!((answer.status(), answer.field("grpc-status")), (200, Some("14")), "{answer:?}");
        let line = logged_path(mesh.backend(), "/pkg.Service/Call").await;
        assert_eq!(line["response_flags"], "UF");
    });
}
