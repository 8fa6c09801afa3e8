use std::net::IpAddr;

use super::*;
use crate::clusters::wire::{Port, Service};

fn port(number: u16, path: &str) -> Port {
    Port { port: number, name: None, app_protocol: None, path: path.to_owned(), ready: 1 }
}

fn service(name: &str, account: &str, ports: Vec<Port>) -> Service {
    Service { namespace: "httpbin".to_owned(), name: name.to_owned(), service_account_name: account.to_owned(), ports }
}

fn offer(cluster: &str, gateway: &str, exports: Vec<Service>) -> Offer {
    let key = format!("default/default/default/{cluster}");
    Offer {
        cluster: key.parse().unwrap(),
        exported: Exported { cluster_key: key, trust_domain: "cluster.local".to_owned(), exports },
        gateway: gateway.parse().unwrap(),
    }
}

/// All documents, and what was left out.
fn imported(offers: &[Offer], resolved: &[(String, IpAddr)]) -> (String, Vec<String>) {
    let mut complaints = Complaints::default();
    let all: Vec<_> = merge::merge(offers, &mut complaints).iter().map(|import| text::yaml(import, resolved)).collect();
    (all.join("---\n"), complaints.left_out)
}

#[test]
fn the_guides_exports_make_the_guides_import() {
    let of = |cluster: &str| {
        let path = format!("/{cluster}/httpbin-mesh");
        offer(
            cluster,
            if cluster == "cluster-1" { "192.168.1.110:81" } else { "192.168.1.110:83" },
            vec![
                service("httpbin", "httpbin", vec![port(8080, &path)]),
                service(&format!("httpbin-{cluster}"), "httpbin", vec![port(8080, &format!("{path}-{cluster}"))]),
            ],
        )
    };
    let (text, left_out) = imported(&[of("cluster-1"), of("cluster-3")], &[]);
    let expected = concat!(
        include_str!("guide.yaml"),
        "---
apiVersion: flomesh.io/v1alpha1
kind: ServiceImport
metadata:
  namespace: httpbin
  name: httpbin-cluster-1
"
    );
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("path: /cluster-3/httpbin-mesh-cluster-3\n") && left_out.is_empty(), "{text}");
}

#[test]
fn accounts_that_differ_stand_at_each_endpoint_and_texts_are_read_back_as_they_were() {
    let several = vec![
        Port { name: Some("http-web".into()), app_protocol: Some("http".into()), ..port(80, "/a") },
        port(9090, "/a b"),
    ];
    let offers = [
        offer("a", "gateway.example:15443", vec![service("web", "one", several)]),
        offer("b", "[fd00::1]:15443", vec![service("web", "*", vec![port(9090, "/b")])]),
        offer("c", "192.0.2.1:15443", vec![service("web", "", vec![port(9090, "/c")])]),
    ];
    let resolved = [("gateway.example".to_owned(), "192.0.2.7".parse().unwrap())];
    let (text, left_out) = imported(&offers, &resolved);
    let expected = r#"  - port: 80
    name: http-web
    appProtocol: http
    protocol: TCP
    endpoints:
    - clusterKey: default/default/default/a
      serviceAccountName: one
      target:
        host: gateway.example
        ip: 192.0.2.7
        port: 15443
        path: /a
  - port: 9090
    protocol: TCP
    endpoints:
    - clusterKey: default/default/default/a
      serviceAccountName: one
      target:
        host: gateway.example
        ip: 192.0.2.7
        port: 15443
        path: "/a b"
    - clusterKey: default/default/default/b
      serviceAccountName: "*"
      target:
        host: "fd00::1"
        ip: "fd00::1"
        port: 15443
        path: /b
    - clusterKey: default/default/default/c
      target:
        host: 192.0.2.1
"#;
    assert!(text.contains(expected) && !text.contains("  serviceAccountName: one\n  ports"), "{text}");
    assert!(left_out.is_empty());
    // Unresolved, the name stays alone.
    assert!(!imported(&offers, &[]).0.contains("192.0.2.7"));
}

#[test]
fn what_does_not_fit_is_left_out_and_said() {
    let named = |name: &str| Port { name: Some(name.to_owned()), ..port(80, "/a") };
    let offers = [
        offer("a", "192.0.2.1:1", vec![service("web", "x", vec![named("http")])]),
        offer("b", "192.0.2.2:1", vec![service("web", "x", vec![named("tcp"), port(90, "/b")])]),
        offer(
            "c",
            "192.0.2.3:1",
            vec![
                service("Web: {", "x", vec![port(80, "/a")]),
                service("paths", "x", vec![port(80, "no")]),
                service("lines", "x\n  evil: true", vec![port(80, "/a")]),
            ],
        ),
    ];
    let (text, left_out) = imported(&offers, &[]);
    assert_eq!(text.matches("clusterKey").count(), 2, "{text}");
    assert_eq!(
        left_out,
        [
            "\"httpbin\"/\"Web: {\" of default/default/default/c: it has a name that no service can have",
            "\"httpbin\"/\"paths\" of default/default/default/c: it has a port without a path",
            "\"httpbin\"/\"lines\" of default/default/default/c: it has a service account that cannot be one",
            "httpbin/web port 80 of default/default/default/b: name tcp, appProtocol -; another cluster has name http, appProtocol -",
        ]
    );
}

#[test]
fn whatever_a_gateway_says_becomes_a_document_of_one_import_or_nothing() {
    let named = |name: &str| Port { name: Some(name.to_owned()), ..port(80, "/a") };
    let protocol = |word: &str| Port { app_protocol: Some(word.to_owned()), ..port(80, "/a") };
    let of = |port: Port| service("web", "x", vec![port]);
    let good = service("good", "x", vec![named("yes"), port(81, "/a: {b}, [c] #d 'e' \"f\" &g *h !i %j @k `l`")]);
    for bad in [
        service("web", "a\u{2028}spec: {}", vec![port(80, "/a")]),
        service("web", "- evil", vec![port(80, "/a")]),
        service("web", "A", vec![port(80, "/a")]),
        of(port(80, "/a\nmetadata: {}")),
        of(port(80, "/a\u{2028}metadata: {}")),
        of(port(80, "/a\u{85}metadata: {}")),
        of(port(80, "/a\u{feff}")),
        of(port(0, "/a")),
        of(named("http\n    evil: true")),
        of(named("\u{202e}ptth")),
        of(protocol("http\u{2029}")),
        service("web", "x", vec![port(80, "/a"), port(80, "/b")]),
        service("good", "y", vec![port(80, "/b")]),
    ] {
        let (text, left_out) = imported(&[offer("a", "192.0.2.1:1", vec![good.clone(), bad.clone()])], &[]);
        assert_eq!(left_out.len(), 1, "{bad:?}");
        assert!(left_out[0].is_ascii() && !left_out[0].contains(char::is_control), "{left_out:?}");
        assert!(text.is_ascii() && text.matches("clusterKey").count() == 2 && !text.contains("---"), "{text}");
        assert!(text.contains("\n    name: \"yes\"\n") && text.contains("kind: ServiceImport"), "{text}");
    }
}

#[test]
fn the_command_line_says_where_gateways_are() {
    let parsed =
        |text: &str| text.parse::<FromFiles>().map(|from| (from.directory, from.gateway.host, from.gateway.port));
    assert_eq!(parsed("a/b/c/d=x,y/,gw.example:81"), Ok(("x,y/".into(), "gw.example".to_owned(), 81)));
    assert_eq!(parsed("a/b/c/d=x,[fd00::1]:81"), Ok(("x".into(), "fd00::1".to_owned(), 81)));
    for wrong in [
        "x,gw:81",
        "a/b/c=x,gw:81",
        "a/b/c/d=gw:81",
        "a/b/c/d=x,gw",
        "a/b/c/d=x,gw:0",
        "a/b/c/d=x,fd00::1:81",
        "a/b/c/d=,gw:1",
        "a/b/c/d=x,:1",
    ] {
        assert!(parsed(wrong).is_err(), "{wrong}");
    }
    let from = |text: &str| text.parse::<FromGateway>().map(|from| from.key.map(|key| key.to_string()));
    assert_eq!(from("gw.example:81"), Ok(None));
    assert_eq!(from("a/b/c/d=gw.example:81"), Ok(Some("a/b/c/d".to_owned())));
    assert!(from("cluster-1=gw.example:81").is_err());
}

/// What a gateway that writes these pieces is understood to say.
async fn told(pieces: &'static [&'static str]) -> Result<Exported, String> {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let gateway = async move {
        let mut connection = h2::server::handshake(theirs).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().path(), crate::clusters::wire::PATH);
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            for (index, piece) in pieces.iter().enumerate() {
                stream.send_data(bytes::Bytes::from(*piece), index + 1 == pieces.len()).unwrap();
            }
        }
    };
    tokio::select! {
        exported = live::list(ours) => exported.map_err(|error| error.to_string()),
        () = gateway => panic!("the gateway has ended first"),
    }
}

#[test]
fn a_gateways_first_list_is_what_it_exports() {
    const LIST: &str = r#"{"clusterKey":"default/default/default/a","trustDomain":"cluster.local","exports":[{"namespace":"httpbin",
"name":"web","serviceAccountName":"x","ports":[{"port":80,"path":"/a","ready":2}]}]}"#;
    runtime::local().unwrap().block_on(async {
        let expected = offer(
            "a",
            "gw:1",
            vec![Service { ports: vec![Port { ready: 2, ..port(80, "/a") }], ..service("web", "x", vec![]) }],
        );
        let (begin, end) = LIST.split_once('\n').unwrap();
        // Heartbeats before it, and in pieces.
        let pieces: &'static [&'static str] = Vec::leak(vec!["\n", "\n\n{", &begin[1..], end, "\n\n"]);
        assert_eq!(told(pieces).await, Ok(expected.exported));
        assert_eq!(told(&["\n", "{\"clusterKey\":"]).await, Err("it has ended its answer".to_owned()));
        assert_eq!(told(&["[]\n"]).await, Err("what it says is no list of exports".to_owned()));
    });
}
