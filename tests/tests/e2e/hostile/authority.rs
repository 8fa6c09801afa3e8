//! Whom is it for? One authority, the same for policies, routing and the application.

use meshgate_tests::run;

use super::{DOORS, is_refused, knock};
use crate::support::app::App;
use crate::support::mesh::{BACKEND, Mesh, policy};

#[test]
fn a_request_without_exactly_one_valid_host_is_refused() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for fields in [
            "",
            "host: backend\r\nhost: backend\r\n",
            "host: backend\r\nHost: other\r\n",
            "host: a b\r\n",
            "host: a/b\r\n",
            "host: user@backend\r\n",
            "host: a,b\r\nhost: c\r\n",
            "host: a\tb\r\n",
            "host: a\\b\r\n",
            "host: a?b\r\n",
            "host: a#b\r\n",
            "host: \u{e9}\r\n",
        ] {
            is_refused(&mesh, &app, 400, &format!("GET / HTTP/1.1\r\nconnection: close\r\n{fields}\r\n")).await;
        }
    });
}

#[test]
fn the_target_of_an_absolute_form_replaces_host_for_policies_and_application() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("host", "ALLOW", &format!("[{{to: [{{operation: {{hosts: [\"{BACKEND}\"]}}}}]}}]")))
            .await;
        for door in DOORS {
            let mut client = knock(&mesh, door).await;
            let answer =
                client.ask(format!("GET http://{BACKEND}/absolute?q HTTP/1.1\r\nhost: decoy.example\r\n\r\n")).await;
            assert_eq!(answer.status(), 200, "{door}");
            let seen = app.take_seen();
            assert_eq!((seen[0].target(), seen[0].field("host")), ("/absolute?q", Some(BACKEND)), "{door}");
        }
        // With nothing behind the authority the path is /, and not nothing at all.
        let answer = mesh.outside().await.ask(format!("GET http://{BACKEND} HTTP/1.1\r\nhost: decoy\r\n\r\n")).await;
        assert_eq!((answer.status(), app.take_seen()[0].start.as_str()), (200, "GET / HTTP/1.1"));
        for request in [
            format!("GET http://{BACKEND}#x HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n"),
            format!("GET http://{BACKEND}/ HTTP/1.1\r\n\r\n"),
            format!("GET http://{BACKEND}/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ] {
            assert_eq!(mesh.outside().await.ask(&request).await.status(), 400, "{request}");
        }
        // The other way round: what Host says must not open what the target's authority may not have.
        let mut client = mesh.outside().await;
        let answer = client.ask(format!("GET http://decoy.example/ HTTP/1.1\r\nhost: {BACKEND}\r\n\r\n")).await;
        assert_eq!((answer.status(), app.take_seen().len()), (403, 0));
        for target in ["http://", "http:///x", "http://user@backend/", "http://a b/", "backend:80", "x://y/../z#f"] {
            let answer = mesh
                .outside()
                .await
                .ask(format!("GET {target} HTTP/1.1\r\nhost: decoy\r\nconnection: close\r\n\r\n"))
                .await;
            assert!([400, 403].contains(&answer.status()), "{target}: {answer:?}");
            assert_eq!(app.take_seen(), [], "{target}");
        }
    });
}

#[test]
fn host_is_judged_without_regard_to_case_and_x_forwarded_host_never() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("host", "DENY", "[{to: [{operation: {hosts: [\"secret.example\"]}}]}]")).await;
        for (fields, status) in [
            ("host: secret.example", 403),
            ("host: SECRET.example", 403),
            ("host: open.example\r\nx-forwarded-host: secret.example", 200),
            ("host: open.example\r\nforwarded: host=secret.example", 200),
        ] {
            let answer = mesh.outside().await.ask(format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n")).await;
            assert_eq!(answer.status(), status, "{fields}");
        }
    });
}

#[test]
fn connect_is_not_served_and_opens_no_tunnel() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for target in ["backend:80", &app.address().to_string(), "/"] {
            for door in DOORS {
                let mut client = knock(&mesh, door).await;
                let answer = client.ask(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n")).await;
                assert!([400, 405].contains(&answer.status()), "{door} {target}: {answer:?}");
                assert!(target == "/" || answer.status() == 405, "{door} {target}: {answer:?}");
                client.try_send("GET /tunnelled HTTP/1.1\r\nhost: decoy\r\nconnection: close\r\n\r\n").await;
                client.rest().await;
                let seen = app.take_seen();
                // Behind the refusal there is plain HTTP at most, to be judged and sanitised like any other.
                assert!(seen.iter().all(|request| request.field("connection").is_none()), "{door} {target}: {seen:?}");
            }
        }
    });
}
