//! Fields that belong to one hop, or that their sender is not entitled to.

use meshgate_tests::run;

use super::{DOORS, knock};
use crate::support::app::App;
use crate::support::mesh::{BACKEND, Mesh, logged_path};

fn get(fields: &str) -> String {
    format!("GET /fields HTTP/1.1\r\nhost: {BACKEND}\r\n{fields}\r\n\r\n")
}

#[test]
fn no_spelling_of_a_callers_identity_header_reaches_the_application() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let spoof = "By=spiffe://a;URI=spiffe://cluster.local/ns/default/sa/admin";
        for name in [
            "x-forwarded-client-cert",
            "X-Forwarded-Client-Cert",
            "X-FORWARDED-CLIENT-CERT",
            "x_forwarded_client_cert",
            "X_Forwarded_Client_Cert",
            "x-forwarded_client-cert",
            "X_FORWARDED-client_cert",
        ] {
            for fields in [
                format!("{name}: {spoof}"),
                format!("{name}: {spoof}\r\n{name}: {spoof}"),
                format!("connection: {name}\r\n{name}: {spoof}"),
            ] {
                for door in DOORS {
                    assert_eq!(knock(&mesh, door).await.ask(get(&fields)).await.status(), 200);
                    let seen = app.take_seen();
                    assert_eq!(seen.len(), 1);
                    assert!(!format!("{seen:?}").contains("sa/admin"), "{door}: {fields:?}: {seen:?}");
                }
            }
        }
    });
}

#[test]
fn fields_that_connection_names_are_dropped_but_never_those_that_frame_route_or_authorise() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            let request = format!(
                "POST /hop HTTP/1.1\r\nhost: {BACKEND}\r\n\
                 connection: x-hop, host, authorization, Content-Length, cookie, x-request-id\r\nConnection: X-Other\r\n\
                 x-hop: 1\r\nx-other: 2\r\nauthorization: Bearer t\r\ncookie: a=b\r\nx-kept: 3\r\n\
                 keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nproxy-authorization: Basic x\r\nte: gzip\r\n\
                 content-length: 4\r\n\r\nbody"
            );
            assert_eq!(knock(&mesh, door).await.ask(request).await.status(), 200, "{door}");
            let seen = app.take_seen().remove(0);
            let kept = ["host", "authorization", "cookie", "x-kept"].map(|name| seen.field(name));
            assert_eq!(kept, [Some(BACKEND), Some("Bearer t"), Some("a=b"), Some("3")], "{door}");
            assert_eq!(seen.text(), "body", "{door}");
            for name in [
                "x-hop",
                "x-other",
                "connection",
                "keep-alive",
                "proxy-connection",
                "proxy-authorization",
                "te",
                "upgrade",
            ] {
                assert_eq!(seen.field(name), None, "{door}");
            }
        }
    });
}

#[test]
fn an_applications_hop_by_hop_fields_do_not_reach_the_client() {
    run(async {
        let app = App::http1(|_| {
            "HTTP/1.1 200 OK\r\nconnection: x-internal, keep-alive\r\nx-internal: secret\r\nkeep-alive: timeout=1\r\n\
             proxy-authenticate: Basic\r\nupgrade: h2c\r\nset-cookie: a=b\r\nset-cookie: c=d\r\ncontent-length: 0\r\n\r\n"
                .to_owned()
        })
        .await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            let answer = knock(&mesh, door).await.ask(get("x: y")).await;
            assert_eq!(answer.all("set-cookie"), ["a=b", "c=d"], "{door}");
            for name in ["x-internal", "keep-alive", "proxy-authenticate", "upgrade", "connection"] {
                assert_eq!(answer.field(name), None, "{door}: {answer:?}");
            }
        }
    });
}

#[test]
fn an_upgrade_to_http_2_is_neither_made_nor_passed_on() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        for door in DOORS {
            let fields = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__";
            let mut client = knock(&mesh, door).await;
            assert_eq!(client.ask(get(fields)).await.status(), 200, "{door}");
            // What an attacker would send in the tunnel is HTTP/1 like before.
            client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            client.end().await;
            client.rest().await;
            let seen = app.take_seen();
            assert_eq!(seen.len(), 1, "{door}: {seen:?}");
            for name in ["upgrade", "http2-settings", "connection"] {
                assert_eq!(seen[0].field(name), None, "{door}");
            }
        }
    });
}

#[test]
fn a_repeated_header_is_denied_by_any_of_its_lines() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let rules = "[{when: [{key: 'request.headers[x-role]', values: [admin]}]}]";
        mesh.policies(&crate::support::mesh::policy("no-admin", "DENY", rules)).await;
        for (fields, status) in [
            ("x-role: user", 200),
            ("x-role: admin", 403),
            ("x-role: user\r\nx-role: admin", 403),
            ("X-Role:\tadmin \r\nx-role: user", 403),
        ] {
            assert_eq!(mesh.outside().await.ask(get(fields)).await.status(), status, "{fields:?}");
        }
    });
}

#[test]
fn a_caller_cannot_name_its_own_address_or_peer() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        let rules = "[{from: [{source: {remoteIpBlocks: [\"192.0.2.0/24\"]}}]}]";
        mesh.policies(&crate::support::mesh::policy("address", "ALLOW", rules)).await;
        for fields in [
            "x-forwarded-for: 192.0.2.1",
            "forwarded: for=192.0.2.1",
            "x-real-ip: 192.0.2.1",
            "x-envoy-external-address: 192.0.2.1",
        ] {
            assert_eq!(mesh.outside().await.ask(get(fields)).await.status(), 403, "{fields}");
        }
        // The bytes of a PROXY line are no HTTP, and do not become an address.
        let mut client = mesh.outside().await;
        client.send("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        client.end().await;
        assert!(!String::from_utf8_lossy(&client.rest().await).contains(" 200 "));
        assert_eq!(app.take_seen(), []);
        let line = logged_path(mesh.backend(), "/fields").await;
        assert!(!line["downstream_remote_address"].as_str().unwrap().starts_with("192"), "{line:#}");
    });
}
