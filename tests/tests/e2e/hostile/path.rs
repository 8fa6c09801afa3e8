//! One path: what is judged is what the application sees.

use meshgate_tests::run;

use super::{DOORS, knock};
use crate::support::app::App;
use crate::support::mesh::{BACKEND, Mesh, logged, policy};

const FORBIDDEN: u16 = 403;
const BAD: u16 = 400;

#[test]
fn what_a_path_rule_judged_is_what_the_application_sees() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("public", "ALLOW", "[{to: [{operation: {paths: [\"/public/*\"]}}]}]")).await;
        for (path, expected) in [
            ("/public/a", Ok("/public/a")),
            ("/public/a?x=/../admin", Ok("/public/a?x=/../admin")),
            ("//public//a", Ok("/public/a")),
            ("/public/./a", Ok("/public/a")),
            ("/admin/../public/a", Ok("/public/a")),
            ("/%70ublic/%61", Ok("/public/a")),
            ("\\public\\a", Err(BAD)),
            ("/public\\a", Ok("/public/a")),
            ("/public/%252e%252e/admin", Ok("/public/%252e%252e/admin")),
            ("/public/..%2fadmin", Ok("/public/..%2fadmin")),
            ("/public/a;x=1", Ok("/public/a;x=1")),
            ("/public/../admin", Err(FORBIDDEN)),
            ("/public/%2e%2e/admin", Err(FORBIDDEN)),
            ("/public/%2E./admin", Err(FORBIDDEN)),
            ("/public/..;/admin", Err(FORBIDDEN)),
            ("/public/..;x=y/admin", Err(FORBIDDEN)),
            ("/public/%2e%2e;/admin", Err(FORBIDDEN)),
            ("/public/..;\\admin", Err(FORBIDDEN)),
            ("/public\\..\\admin", Err(FORBIDDEN)),
            ("/public/a/../../admin", Err(FORBIDDEN)),
            ("/public/..", Err(FORBIDDEN)),
            ("/public/.%2e/", Err(FORBIDDEN)),
            ("/Public/a", Err(FORBIDDEN)),
            ("/public%2fa", Err(FORBIDDEN)),
            ("/public", Err(FORBIDDEN)),
            ("/public/%00", Err(BAD)),
            ("/public/%4%31", Err(BAD)),
            ("/public/a#/../admin", Err(BAD)),
            ("/public/a?b#c", Err(BAD)),
            ("/public/\u{e9}", Err(BAD)),
            ("*", Err(BAD)),
        ] {
            for door in DOORS {
                let mut client = knock(&mesh, door).await;
                let request = format!("GET {path} HTTP/1.1\r\nhost: {BACKEND}\r\nconnection: close\r\n\r\n");
                let status = client.ask(request).await.status();
                let seen: Vec<_> = app.take_seen().iter().map(|request| request.target().to_owned()).collect();
                match expected {
                    Ok(expected) => assert_eq!((status, seen), (200, vec![expected.to_owned()]), "{door}: {path}"),
                    Err(expected) => assert_eq!((status, seen), (expected, vec![]), "{door}: {path}"),
                }
            }
        }
    });
}

#[test]
fn a_denied_path_stays_denied_in_every_disguise() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("admin", "DENY", "[{to: [{operation: {paths: [\"/admin\", \"/admin/*\"]}}]}]")).await;
        let up = ["..", "%2e%2e", "%2E.", ".%2e", "..;", "..;a=b", "%2e%2e;", "."];
        let slashes = ["/", "//", "\\", "/./", "\\\\", "///"];
        let mut disguises = vec!["/%61dmin".to_owned(), "/admin/".to_owned(), "/%61%64%6d%69%6e/x".to_owned()];
        for slash in slashes {
            disguises.push(format!("{}admin", slash.replacen('\\', "/", 1)));
            for up in up {
                // What follows a `;` up to the next slash, a backslash included, is a parameter of the segment.
                if !(up.contains(';') && slash.starts_with('\\')) {
                    disguises.push(format!("{}/{up}{slash}admin", if up == "." { "" } else { "/x" }));
                }
            }
        }
        let mut client = mesh.outside().await;
        for path in &disguises {
            let answer = client.ask(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            assert_eq!(answer.status(), FORBIDDEN, "{path}");
        }
        assert_eq!(app.take_seen(), []);
        logged(mesh.backend(), |line| line["path"] == "/admin" && line["verdict"] == "deny").await;
    });
}

#[test]
fn every_escaped_byte_is_judged_as_it_is_forwarded() {
    run(async {
        let app = App::ok().await;
        let mesh = Mesh::of(app.address()).await;
        mesh.policies(&policy("admin", "DENY", "[{to: [{operation: {paths: [\"/admin*\", \"/a/admin*\"]}}]}]")).await;
        let mut passed = 0;
        for byte in 0..=255_u8 {
            for path in
                [format!("/%{byte:02x}admin"), format!("/a/%{byte:02X}/admin"), format!("/a%{byte:02x}../admin")]
            {
                let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
                let answer = mesh.outside().await.ask(request).await;
                for seen in app.take_seen() {
                    assert_eq!(answer.status(), 200, "{path}");
                    assert!(
                        !seen.target().starts_with("/admin") && !seen.target().starts_with("/a/admin"),
                        "{path}: {seen:?}"
                    );
                    assert!(!seen.target().contains("//") && !seen.target().contains("/../"), "{path}: {seen:?}");
                    let mut escapes = seen.target().split('%').skip(1);
                    // Decoding what is left once more would show nothing that a rule could have been written for.
                    assert!(escapes.all(|rest| !is_plain(&rest[..2])), "{path}: {seen:?}");
                    passed += 1;
                }
            }
        }
        // Not because nothing passes at all.
        assert!(passed > 600, "{passed}");
    });
}

/// Whether an escape stands for a byte that paths are written with, or for NUL.
fn is_plain(hex: &str) -> bool {
    let byte = u8::from_str_radix(hex, 16).unwrap();
    byte == 0 || byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}
