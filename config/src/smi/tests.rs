use meshgate_policy::{Action, Family};

use super::*;
use crate::ConfigStore;
use crate::check::check;
use crate::kept::{Reading, Standing};
use crate::services::EndpointIdentity;
use crate::snapshot::Snapshot;
use crate::snapshot::rules;
use crate::testing::{Folder, backend, settings};

const TARGET: &str = "\
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: default}
spec:
  destination: {kind: ServiceAccount, name: backend, namespace: default}
  sources:
  - {kind: ServiceAccount, name: frontend, namespace: default}
  rules:
  - {kind: HTTPRouteGroup, name: routes, matches: [metrics]}
";
const ROUTES: &str = "\
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: routes, namespace: default}
spec:
  matches:
  - {name: metrics, pathRegex: /metrics$, methods: [GET], headers: {x-a: '1'}}
";
const OLD_ROUTES: &str = "\
apiVersion: specs.smi-spec.io/v1alpha2
kind: HTTPRouteGroup
metadata: {name: routes, namespace: default}
matches:
- name: metrics
  pathRegex: /metrics$
  headers:
  - x-a: '1'
";
const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: both, namespace: default}
spec: {clusterIP: 10.96.0.10, selector: {app: both}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: default, labels: {app: both}}
spec: {serviceAccountName: one}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: default, labels: {app: both, security.istio.io/tlsMode: disabled}}
spec: {serviceAccountName: two}
status: {podIP: 10.1.0.2}
";

fn mesh_config(version: &str, permissive: &str) -> String {
    mesh_config_named("fsm-mesh-config", version, permissive)
}

fn mesh_config_named(name: &str, version: &str, permissive: &str) -> String {
    format!(
        "apiVersion: config.flomesh.io/{version}\nkind: MeshConfig\nmetadata: {{name: {name}, namespace: fsm-system}}\n\
         spec:\n  sidecar: {{logLevel: error}}\n  traffic: {{enableEgress: true, {permissive}}}\n"
    )
}

fn opened(folder: &Folder) -> Arc<Snapshot> {
    ConfigStore::open(&folder.bootstrap()).unwrap_or_else(|problems| panic!("{problems:?}")).current()
}

fn errors(files: &[(&str, &str)]) -> Vec<String> {
    let folder = Folder::new(files);
    folder.shown(&ConfigStore::open(&folder.bootstrap()).unwrap_err())
}

#[test]
fn a_target_and_its_routes_become_a_policy_whatever_version_and_file_they_are_in() {
    let old_target = TARGET.replace("v1alpha3", "v1alpha2");
    for files in [[("a.yaml", TARGET), ("b.yaml", ROUTES)], [("z.yaml", &old_target), ("b.yaml", OLD_ROUTES)]] {
        let folder = Folder::new(&files);
        let snapshot = opened(&folder);
        let found: Vec<_> =
            snapshot.policies.iter().map(|one| (one.name().to_string(), one.family(), one.action())).collect();
        assert_eq!(found, [("default/t".to_owned(), Family::Smi, Action::Allow)]);
        assert_eq!(folder.shown(&snapshot.problems), [""; 0]);
    }
}

#[test]
fn the_other_routes_are_read() {
    for yaml in [
        "apiVersion: specs.smi-spec.io/v1alpha4\nkind: TCPRoute\nmetadata: {name: a}\nspec: {matches: {ports: [80]}}\n",
        "apiVersion: specs.smi-spec.io/v1alpha3\nkind: TCPRoute\nmetadata: {name: a}\nspec: {}\n",
        "apiVersion: specs.smi-spec.io/v1alpha2\nkind: TCPRoute\nmetadata: {name: a}\n",
        "apiVersion: specs.smi-spec.io/v1alpha4\nkind: UDPRoute\nmetadata: {name: a}\nspec: {matches: {ports: [53]}}\n",
    ] {
        assert_eq!(opened(&Folder::new(&[("a.yaml", yaml)])).problems, []);
    }
}

#[test]
fn what_is_wrong_is_told_with_file_line_and_field() {
    for (yaml, expected) in [
        (
            TARGET.replace("v1alpha3", "v1alpha1"),
            "a.yaml:1: TrafficTarget default/t: apiVersion: `access.smi-spec.io/v1alpha1` is not a version of TrafficTarget",
        ),
        (TARGET.replace("sources", "sauces"), "a.yaml:6: TrafficTarget default/t: spec.sauces: unknown field `sauces`"),
        (
            TARGET.replace("matches: [metrics]", "matches: []"),
            "a.yaml:9: TrafficTarget default/t: spec.rules[0].matches: must not be empty",
        ),
        (
            TARGET.replace("matches: [metrics]", "matches: "),
            "a.yaml:9: TrafficTarget default/t: spec.rules[0].matches: has no",
        ),
        (
            TARGET.replace("kind: HTTPRouteGroup", "kind: HttpRouteGroup"),
            "a.yaml:9: TrafficTarget default/t: spec.rules[0].kind: unknown variant `HttpRouteGroup`",
        ),
        (
            ROUTES.replace("/metrics$", "'/(?!x)'"),
            "a.yaml:6: HTTPRouteGroup default/routes: spec.matches[0].pathRegex: is not a regular expression that is \
             supported: look-around",
        ),
        (
            OLD_ROUTES.replace("/metrics$", "'*'"),
            "a.yaml:6: HTTPRouteGroup default/routes: matches[0].pathRegex: is not a regular expression",
        ),
        (
            ROUTES.replace("spec:", "specs: {}\nspec:"),
            "a.yaml:4: HTTPRouteGroup default/routes: specs: unknown field `specs`",
        ),
        (format!("{ROUTES}matches: []\n"), "a.yaml:7: HTTPRouteGroup default/routes: matches: belongs into `spec`"),
    ] {
        let found = errors(&[("a.yaml", &yaml)]);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?} is not {expected}");
    }
}

#[test]
fn a_broken_target_or_group_keeps_its_last_good_version() {
    let folder = Folder::new(&[("t.yaml", TARGET), ("r.yaml", ROUTES)]);
    let store = ConfigStore::open(&folder.bootstrap()).unwrap();
    folder.write("t.yaml", &TARGET.replace("sources", "sauces"));
    folder.write("r.yaml", &ROUTES.replace("/metrics$", "'*'"));
    let report = store.reload();
    assert_eq!(report.problems.iter().filter(|problem| problem.is_error()).count(), 2);
    assert_eq!(store.current().policies.len(), 1);
    assert_eq!(report.problems.len(), 2, "and the group is still there: {report:?}");
}

#[test]
fn a_target_that_was_never_good_lets_nobody_in() {
    let folder = Folder::new(&[("t.yaml", TARGET), ("r.yaml", ROUTES)]);
    let store = ConfigStore::open(&folder.bootstrap()).unwrap();
    folder.write("u.yaml", &TARGET.replace("name: t,", "name: u,").replace("sources", "sauces"));
    store.reload();
    let names: Vec<_> = store.current().policies.iter().map(|policy| policy.name().name.clone()).collect();
    assert_eq!(names, ["t"]);
}

#[test]
fn the_mode_is_the_mesh_configs_or_else_the_bootstraps() {
    let permissive = "enablePermissiveTrafficPolicyMode: true";
    for (yaml, mode) in [
        (String::new(), SmiMode::Permissive),
        (mesh_config("v1alpha3", "enablePermissiveTrafficPolicyMode: false"), SmiMode::TrafficPolicy),
        (mesh_config("v1alpha2", permissive), SmiMode::Permissive),
        (mesh_config("v1alpha1", ""), SmiMode::TrafficPolicy),
    ] {
        let folder = Folder::new(&[("m.yaml", &yaml)]);
        assert_eq!(opened(&folder).smi, mode, "{yaml}");
        let settings = in_force(&folder, &settings());
        assert_eq!(settings.smi, mode, "as `explain` sees it: {yaml}");
    }
    let mut strict = settings();
    strict.smi = SmiMode::TrafficPolicy;
    let folder = Folder::new(&[("m.yaml", "")]);
    assert_eq!(in_force(&folder, &strict).smi, SmiMode::TrafficPolicy);
    folder.write("m.yaml", &mesh_config("v1alpha3", permissive));
    assert_eq!(in_force(&folder, &strict).smi, SmiMode::Permissive);
}

#[test]
fn of_two_mesh_configs_the_stricter_counts_and_both_are_told() {
    let permissive = mesh_config_named("a", "v1alpha3", "enablePermissiveTrafficPolicyMode: true");
    let strict = mesh_config_named("b", "v1alpha3", "enablePermissiveTrafficPolicyMode: false");
    let folder = Folder::new(&[("m.yaml", &format!("{permissive}---\n{strict}"))]);
    let snapshot = opened(&folder);
    assert_eq!(snapshot.smi, SmiMode::TrafficPolicy);
    assert_eq!(
        folder.shown(&snapshot.problems),
        [
            "m.yaml:8: MeshConfig fsm-system/b: there is another one, MeshConfig fsm-system/a: traffic policy mode holds if \
             one of them asks for it"
        ]
    );
}

#[test]
fn a_mesh_config_that_was_never_readable_asks_for_the_strict_mode() {
    let folder = Folder::new(&[("r.yaml", ROUTES)]);
    let store = ConfigStore::open(&folder.bootstrap()).unwrap();
    assert_eq!(store.current().smi, SmiMode::Permissive);
    let broken = mesh_config("v1alpha3", "enablePermissiveTrafficPolicyMode: perhaps");
    folder.write("m.yaml", &broken);
    assert!(store.reload().problems.iter().any(Problem::is_error));
    assert_eq!(store.current().smi, SmiMode::TrafficPolicy);
    folder.write("m.yaml", &mesh_config("v1alpha3", "enablePermissiveTrafficPolicyMode: true"));
    store.reload();
    assert_eq!(store.current().smi, SmiMode::Permissive);
    folder.write("m.yaml", &broken);
    store.reload();
    assert_eq!(store.current().smi, SmiMode::Permissive, "the last good one stays");
}

#[test]
fn endpoints_out_of_reach_are_marked() {
    let mode = mesh_config("v1alpha3", "");
    let of = |account: &str| {
        TARGET.replace("name: backend, ", &format!("name: {account}, ")).replace("name: frontend", "name: backend")
    };
    for (target, expected) in [(String::new(), [false; 2]), (of("one"), [true, false]), (of("two"), [false, true])] {
        let folder = Folder::new(&[("mesh.yaml", MESH), ("r.yaml", ROUTES), ("t.yaml", &target), ("m.yaml", &mode)]);
        let snapshot = opened(&folder);
        let service = snapshot.services.by_host("both", 80, "default").unwrap();
        let marks: Vec<_> = service.endpoints.iter().map(|endpoint| endpoint.in_reach).collect();
        assert_eq!(marks, expected);
        assert_eq!(
            service.endpoints[1].identity,
            EndpointIdentity::Plaintext,
            "reach counts without a sidecar as well"
        );
        folder.remove("m.yaml");
        let service = opened(&folder).services.by_host("both", 80, "default").unwrap();
        assert!(service.endpoints.iter().all(|endpoint| endpoint.in_reach), "in permissive mode");
    }
    let services = &opened(&Folder::new(&[("mesh.yaml", MESH)])).services;
    for (ip, known) in [("10.96.0.10", true), ("10.1.0.2", true), ("10.1.0.3", false)] {
        assert_eq!(services.knows(ip.parse().unwrap()), known, "{ip}");
    }
}

#[test]
fn check_says_what_is_missing_and_what_is_not_meant() {
    let folder = Folder::new(&[
        ("a.yaml", &TARGET.replace("[metrics]", "[metrics, missing]")),
        ("b.yaml", &TARGET.replace("name: t, namespace: default", "name: t, namespace: other")),
        ("r.yaml", &ROUTES.replace("/metrics$", "/metrics")),
    ]);
    let found = folder.shown(&check(&folder.resources(), &settings(), Some(&own(backend()))));
    let starts = [
        "a.yaml:1: TrafficTarget default/t: MG022: rules[0]: HTTPRouteGroup default/routes has no match \"missing\"",
        "a.yaml:1: TrafficTarget default/t: MG024: has no effect in permissive mode",
        "b.yaml:1: TrafficTarget other/t: MG025: is ignored: its destination is in namespace default",
        "b.yaml:1: TrafficTarget other/t: MG024: has no effect",
        "r.yaml:1: HTTPRouteGroup default/routes: MG020: matches[0].pathRegex: \"/metrics\" is a beginning",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found} is not {start}");
    }
    // What costs a target something is told by the running proxy, too.
    let told = folder.shown(&opened(&folder).problems);
    assert_eq!(told.len(), 2, "{told:?}");
}

fn own(workload: meshgate_policy::Workload) -> crate::check::Own {
    crate::check::Own { workload, ..Default::default() }
}

fn in_force(folder: &Folder, settings: &Settings) -> Settings {
    let reading = Reading::new(&crate::folder::Folder::read(&folder.resources()), &settings.root_namespace);
    let (standing, _) = Standing::default().after(reading, &settings.root_namespace);
    rules(&standing, settings).1
}
