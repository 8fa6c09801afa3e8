//! Connections that are no HTTP: a gRPC provider is asked once, before the application is connected to.

use meshgate_tests::run;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::grpc::{Provider, Says, no};
use super::{custom, grpc_provider, http_provider};
use crate::support::app::{App, nobody};
use crate::support::mesh::{Mesh, Spec, logged};

/// Greets, and then waits for the client's end.
async fn greeter() -> App {
    App::tcp(async |mut stream| {
        let _ = stream.write_all(b"hello\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await
}

async fn mesh(app: &App, providers: &str) -> Mesh {
    let mut spec = Spec::of(&[app.address()]).with_virtual();
    spec.port_name = "tcp-any";
    spec.backend = format!("extensionProviders:\n{providers}");
    Mesh::start(spec).await
}

/// Whether a new connection reaches the application.
async fn greeted(mesh: &Mesh) -> bool {
    let mut client = mesh.virtual_wire().await;
    match client.exactly(5).await {
        Some(greeting) => {
            assert_eq!(greeting, b"hello");
            true
        }
        None => false,
    }
}

#[test]
fn a_grpc_provider_decides_before_the_application_is_connected_to() {
    run(async {
        let app = greeter().await;
        let yes = Provider::saying(|_| Says::Message(Vec::new())).await;
        let denies = Provider::saying(|_| Says::Message(no("unheard"))).await;
        let (_held, nowhere) = nobody();
        let http = App::ok().await;
        let providers = grpc_provider("yes", yes.port(), "")
            + &grpc_provider("no", denies.port(), "")
            + &grpc_provider("down", nowhere.port(), "")
            + &grpc_provider("open", nowhere.port(), ", failOpen: true")
            + &http_provider("http", &http, "");
        let mesh = mesh(&app, &providers).await;
        // Fields that need HTTP are left out, which asks about more.
        let methods = "[{to: [{operation: {methods: [PUT], ports: [\"8080\"]}}]}]";
        let elsewhere = "[{to: [{operation: {ports: [\"9\"]}}]}]";
        let mut reached = 0;
        for (provider, rules, expected, reason) in [
            ("yes", "[{}]", true, "no_policy"),
            ("no", "[{}]", false, "custom_denied"),
            ("no", methods, false, "custom_denied"),
            ("no", elsewhere, true, "no_policy"),
            ("down", "[{}]", false, "custom_failed"),
            ("open", "[{}]", true, "no_policy"),
            ("nobody", "[{}]", false, "custom_failed"),
            ("http", "[{}]", true, "no_policy"),
        ] {
            let before = mesh.backend().access_log().len();
            mesh.policies(&custom(&format!("ask-{provider}"), provider, rules)).await;
            assert_eq!(greeted(&mesh).await, expected, "{provider} {rules}");
            let line = mesh.backend().next_access(before).await.unwrap();
            assert_eq!(line["reason"], reason, "{provider}: {line:#}");
            reached += usize::from(expected);
            assert_eq!(app.connections(), reached, "{provider} {rules}");
        }
        assert_eq!((yes.seen.borrow().len(), denies.seen.borrow().len(), http.connections()), (1, 2, 0));
        let (_, message) = yes.seen.borrow()[0].clone();
        let principal = b"spiffe://cluster.local/ns/default/sa/frontend";
        assert!(message.windows(principal.len()).any(|part| part == principal), "{message:?}");
        logged(mesh.backend(), |line| line["policy"] == "default/ask-no rule 0" && line["response_flags"] == "RBAC")
            .await;
    });
}

#[test]
fn an_open_connection_ends_when_a_provider_must_be_asked_that_was_not() {
    run(async {
        let app = greeter().await;
        let provider = Provider::saying(|_| Says::Message(Vec::new())).await;
        let providers = grpc_provider("one", provider.port(), "") + &grpc_provider("two", provider.port(), "");
        let mesh = mesh(&app, &providers).await;
        mesh.policies(&custom("custom", "one", "[{}]")).await;
        let mut open = mesh.virtual_wire().await;
        assert_eq!(open.exactly(5).await.unwrap(), b"hello");
        mesh.policies(&custom("another", "one", "[{}]")).await;
        assert!(greeted(&mesh).await);
        assert_eq!(provider.seen.borrow().len(), 2, "the open one is not asked about again");
        mesh.policies(&custom("another", "two", "[{}]")).await;
        assert_eq!(open.rest().await, b"\n\r\n");
        assert!(greeted(&mesh).await);
    });
}
