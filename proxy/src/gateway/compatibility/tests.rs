use meshgate_config::{AppProtocol, Balancer, PathRewrite, Spread};
use meshgate_policy::ObjectName;

use super::*;

fn export(name: &str, path: &str, exact: bool) -> Export {
    let service = ObjectName { namespace: "httpbin".into(), name: name.into() };
    let port = ServicePort {
        service: service.clone(),
        host: format!("{name}.httpbin.svc.cluster.local"),
        port: 8080,
        name: None,
        app_protocol: AppProtocol::Auto,
        endpoints: Vec::new(),
        not_ready: 0,
        spread: Spread::default(),
        balancer: Balancer::RoundRobin,
    };
    Export {
        service,
        service_account: "*".into(),
        target_clusters: Vec::new(),
        ports: vec![ExportedPort { port: Arc::new(port), path: path.into(), exact }],
        session_sticky: false,
        balancer: Balancer::RoundRobin,
        path_rewrite: None,
    }
}

fn exports() -> Exports {
    let mut rewritten = export("rewritten", "/short", false);
    rewritten.path_rewrite = Some(PathRewrite { from: regex::Regex::new("^/short/?").unwrap(), to: "/".into() });
    let mut targeted = export("targeted", "/targeted", false);
    targeted.target_clusters = vec!["default/default/default/two".parse().unwrap()];
    let all = [
        export("httpbin", "/cluster-1/httpbin-mesh", false),
        export("other", "/cluster-1/httpbin-mesh-cluster-1", false),
        export("deeper", "/cluster-1/httpbin-mesh/deeper/", false),
        export("exact", "/cluster-1/httpbin-mesh/exact", true),
        rewritten,
        targeted,
    ];
    Exports::new(all.map(Arc::new).into())
}

#[test]
fn the_longest_path_of_whole_elements_wins() {
    for (path, expected) in [
        ("/cluster-1/httpbin-mesh", Some("httpbin")),
        ("/cluster-1/httpbin-mesh/", Some("httpbin")),
        ("/cluster-1/httpbin-mesh/get", Some("httpbin")),
        ("/cluster-1/httpbin-mesh-cluster-1", Some("other")),
        ("/cluster-1/httpbin-mesh-cluster-1/get", Some("other")),
        ("/cluster-1/httpbin-mesh-cluster-12", None),
        ("/cluster-1/httpbin-meshes", None),
        ("/cluster-1/httpbin-mesh/deeper", Some("deeper")),
        ("/cluster-1/httpbin-mesh/deeper/still", Some("deeper")),
        ("/cluster-1/httpbin-mesh/exact", Some("exact")),
        ("/cluster-1/httpbin-mesh/exact/", Some("httpbin")),
        ("/cluster-1", None),
        ("/", None),
        ("*", None),
        ("/targeted", None),
    ] {
        let found = find(&exports(), path).map(|found| found.port.service.name.clone());
        assert_eq!(found.as_deref(), expected, "{path}");
    }
}

#[test]
fn an_export_of_the_root_takes_what_no_other_does() {
    let all = Exports::new(vec![Arc::new(export("root", "/", false)), Arc::new(export("one", "/one", false))]);
    for (path, expected) in [("/", "root"), ("/one", "one"), ("/ones", "root")] {
        assert_eq!(find(&all, path).unwrap().port.service.name, expected, "{path}");
    }
}

#[test]
fn a_path_changes_only_where_the_export_says_so() {
    for (path, expected) in [
        ("/short/get", Some("/get")),
        ("/short", Some("/")),
        ("/short/short/get", Some("/short/get")),
        ("/cluster-1/httpbin-mesh/get", None),
    ] {
        assert_eq!(find(&exports(), path).unwrap().rewritten.as_deref(), expected, "{path}");
    }
}
