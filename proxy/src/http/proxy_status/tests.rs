use std::time::Duration;

use meshgate_identity::{Expected, Who};

use super::*;
use crate::http::pool::{HttpVersion, Pool, Upstream, Via};
use std::rc::Rc;
use std::sync::Arc;

fn mtls() -> Security {
    let who = Who::Exactly("spiffe://cluster.local/ns/default/sa/backend".parse().unwrap());
    Security::Mtls { expected: Expected { who, cluster: None }, server_name: Arc::from("backend") }
}

fn slot(security: Security, via: Option<Via>) -> Rc<Slot> {
    let address = "127.0.0.1:80".parse().unwrap();
    let connect_timeout = Duration::from_secs(1);
    Pool::default().slot(&Upstream {
        address,
        version: HttpVersion::Http1,
        security,
        source: None,
        connect_timeout,
        via,
    })
}

fn answer(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let response = fields
        .iter()
        .fold(Response::builder().status(status), |response, (name, value)| response.header(*name, *value));
    response.body(()).unwrap()
}

#[test]
fn it_is_believed_in_its_very_words_of_a_503_and_over_mutual_tls_alone() {
    let slot = slot(mtls(), None);
    let plain = self::slot(Security::Plaintext, None);
    for (value, told) in [(UNREACHED, Unserved::Unreached), (LOST, Unserved::Lost)] {
        let grpc = [("content-type", "application/grpc"), ("grpc-status", "14"), ("proxy-status", value)];
        for answer in [answer(503, &[("proxy-status", value)]), answer(200, &grpc)] {
            assert_eq!(Unserved::told(&slot, &answer), Some(told), "{answer:?}");
            assert_eq!(Unserved::told(&plain, &answer), None, "{answer:?}");
        }
        for status in [200, 403, 500, 502, 504] {
            assert_eq!(Unserved::told(&slot, &answer(status, &[("proxy-status", value)])), None, "{status}");
        }
        let other = [("content-type", "application/grpc"), ("grpc-status", "7"), ("proxy-status", value)];
        assert_eq!(Unserved::told(&slot, &answer(200, &other)), None);
        let twice = [("proxy-status", value), ("proxy-status", value)];
        assert_eq!(Unserved::told(&slot, &answer(503, &twice)), None);
    }
    for other in [
        "meshgate",
        "meshgate; error=http_request_error",
        "Meshgate; error=destination_unavailable",
        "meshgate;error=destination_unavailable",
        "meshgate; error=destination_unavailable, other",
        "other; error=destination_unavailable",
        "",
    ] {
        assert_eq!(Unserved::told(&slot, &answer(503, &[("proxy-status", other)])), None, "{other}");
    }
    assert_eq!(Unserved::told(&slot, &answer(503, &[])), None);
}

#[test]
fn inside_a_tunnel_only_what_is_encrypted_to_the_workload_is_believed() {
    let answer = answer(503, &[("proxy-status", UNREACHED)]);
    let expected =
        Expected { who: Who::Exactly("spiffe://cluster.local/ns/default/sa/a".parse().unwrap()), cluster: None };
    let via = || Some(Via::to_workload("127.0.0.1:80".parse().unwrap(), expected.clone()));
    assert_eq!(Unserved::told(&slot(mtls(), via()), &answer), Some(Unserved::Unreached));
    assert_eq!(Unserved::told(&slot(Security::Plaintext, via()), &answer), None);
}

#[test]
fn what_an_application_says_in_our_name_is_removed_and_what_it_says_of_others_stays() {
    for (lines, left) in [
        (vec![UNREACHED], 0),
        (vec!["cdn; error=connection_refused", LOST], 0),
        (vec!["cdn, meshgate; error=destination_unavailable"], 0),
        (vec!["\"meshgate\"; error=destination_unavailable"], 0),
        (vec!["cdn; error=connection_refused", "other"], 2),
        (vec![], 0),
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("proxy-status", *line)).collect();
        let mut response = answer(503, &fields);
        headers::sanitise_response(&mut response);
        assert_eq!(response.headers().get_all(&PROXY_STATUS).iter().count(), left, "{lines:?}");
    }
}

#[test]
fn a_grpc_server_that_is_not_available_counts_as_one_that_answers_503() {
    let told = |content_type: &str, status: &str| {
        let response = Response::builder().header("content-type", content_type).header(GRPC_STATUS, status);
        super::status(&response.body(()).unwrap()).as_u16()
    };
    for (content_type, status, expected) in [
        ("application/grpc", "14", 503),
        ("application/grpc+proto", "14", 503),
        ("application/grpc", "13", 200),
        ("application/grpc", "0", 200),
        ("text/html", "14", 200),
    ] {
        assert_eq!(told(content_type, status), expected, "{content_type} {status}");
    }
}
