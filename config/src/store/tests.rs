use std::net::{IpAddr, Ipv4Addr};

use meshgate_policy::{ConnectionFacts, MtlsMode, Protocol, Reason, RemoteIp, Verdict};

use super::*;
use crate::testing::Folder as Files;

const ALLOW_ALL: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: gate, namespace: default}
spec: {selector: {matchLabels: {app: backend}}, rules: [{}]}
";
const BROKEN: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: gate, namespace: default}
spec:
  selector: {matchLabels: {app: backend}}
  action: ALOW
";
const DENY_ALL: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: shut, namespace: default}
spec: {action: DENY, rules: [{}]}
";

fn open(files: &Files) -> ConfigStore {
    ConfigStore::open(&files.bootstrap()).unwrap()
}

/// What an unknown caller of this proxy's workload gets.
fn verdict(store: &ConfigStore) -> (Verdict, Reason) {
    let residual = store.current().inbound_policy.reduce(&ConnectionFacts {
        peer: None,
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        remote_ip: RemoteIp::Fixed(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        destination: "10.0.0.1:80".parse().unwrap(),
        service_port: None,
        opaque_port: false,
        sni: None,
        protocol: Protocol::Tcp,
    });
    let decision = residual.decide_connection();
    (decision.verdict, decision.reason)
}

#[test]
fn a_new_generation_only_when_something_changed() {
    let files = Files::new(&[("a.yaml", ALLOW_ALL)]);
    let store = open(&files);
    let mut updates = store.subscribe();
    updates.mark_unchanged();
    assert_eq!(store.current().generation, 1);
    files.write("a.yaml", ALLOW_ALL);
    files.write("notes.txt", "nothing of ours");
    files.write(".hidden.yaml", "broken: [");
    files.write("other.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n");
    assert_eq!(store.reload().outcome, Outcome::Unchanged);
    assert!(!updates.has_changed().unwrap());
    files.write("b.yaml", DENY_ALL);
    let report = store.reload();
    assert_eq!((report.outcome, report.generation), (Outcome::Published, 2));
    assert!(updates.has_changed().unwrap());
    assert_eq!(verdict(&store).0, Verdict::Deny);
}

#[test]
fn open_refuses_and_lists_every_error() {
    let files = Files::new(&[("a.yaml", &format!("{BROKEN}---\n{DENY_ALL}")), ("b.yaml", "kind: [")]);
    let problems = ConfigStore::open(&files.bootstrap()).unwrap_err();
    assert_eq!(
        files.shown(&problems),
        [
            "a.yaml:6: AuthorizationPolicy default/gate: spec.action: unknown variant `ALOW`, expected one of `ALLOW`, `DENY`, `AUDIT`, \
             `CUSTOM` (did you mean `ALLOW`?)",
            "b.yaml:1: kind: invalid type: list, expected a string",
        ]
    );
}

#[test]
fn a_bad_object_keeps_its_last_good_version_and_the_rest_goes_on() {
    let files = Files::new(&[("a.yaml", ALLOW_ALL)]);
    let store = open(&files);
    files.write("a.yaml", BROKEN);
    files.write(
        "s.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}\n",
    );
    let report = store.reload();
    assert_eq!(report.outcome, Outcome::Published);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(verdict(&store), (Verdict::Allow, Reason::AllowRule));
    assert!(store.current().services.host_known("web", "default"));
    files.write("a.yaml", ALLOW_ALL);
    assert!(store.reload().problems.is_empty());
}

#[test]
fn a_policy_that_was_never_readable_denies_what_it_selects() {
    let elsewhere = BROKEN.replace("app: backend", "app: other").replace("gate", "other");
    for (text, expected) in [
        (BROKEN.to_owned(), Verdict::Deny),
        (elsewhere, Verdict::Allow),
        (BROKEN.replace("matchLabels", "matchLabel"), Verdict::Deny),
        (BROKEN.replace("AuthorizationPolicy", "AuthorisationPolicy"), Verdict::Deny),
        (BROKEN.replace("security.istio.io/v1", "security.istio.io/v1alpha9"), Verdict::Deny),
        (BROKEN.replace("namespace: default", "namespace: shop"), Verdict::Allow),
        (BROKEN.replace("namespace: default", "namespace: istio-system"), Verdict::Deny),
        (BROKEN.replace("AuthorizationPolicy", "RequestAuthentication"), Verdict::Deny),
        (BROKEN.replace("AuthorizationPolicy", "PeerAuthentication"), Verdict::Deny),
        // Which of the two selectors is meant nobody knows: so the whole namespace.
        (BROKEN.replace("  action", "  selector: {}\n  action").replace("app: backend", "app: other"), Verdict::Deny),
    ] {
        let files = Files::new(&[]);
        let store = open(&files);
        files.write("a.yaml", &text);
        let report = store.reload();
        assert!(report.problems.iter().all(Problem::is_error) && report.problems.len() == 1, "{:?}", report.problems);
        assert_eq!(verdict(&store).0, expected, "{text}");
        if expected == Verdict::Deny {
            assert_eq!(verdict(&store).1, Reason::Unreadable, "{text}");
        }
        let is_strict = store.current().mtls.mode(80) == MtlsMode::Strict;
        assert_eq!(is_strict, text.contains("PeerAuthentication"), "{text}");
        files.remove("a.yaml");
        assert_eq!(store.reload().outcome, Outcome::Published);
        assert_eq!(verdict(&store).0, Verdict::Allow, "a refusal goes with its document");
    }
}

#[test]
fn what_cannot_be_named_leaves_the_former_objects_of_its_file() {
    for text in
        ["kind: [", "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nspec: {}\n", "just text", "\0"]
    {
        let files = Files::new(&[("a.yaml", DENY_ALL)]);
        let store = open(&files);
        files.write("a.yaml", text);
        assert!(store.reload().problems.iter().any(Problem::is_error), "{text}");
        assert_eq!(verdict(&store), (Verdict::Deny, Reason::DenyRule), "{text}");
    }
}

#[test]
fn what_cannot_be_read_leaves_the_former_objects() {
    let files = Files::new(&[("a.yaml", DENY_ALL), ("sub/b.yaml", &DENY_ALL.replace("shut", "shut2"))]);
    let store = open(&files);
    let policies = || store.current().policies.len();
    files.write("a.yaml", &"# too large\n".repeat(400_000));
    std::fs::remove_dir_all(files.path("sub")).unwrap();
    std::os::unix::fs::symlink("nowhere", files.path("dangling.yaml")).unwrap();
    let report = store.reload();
    assert_eq!(
        files.shown(&report.problems),
        [
            "a.yaml: is larger than 4 MiB, the most that is read",
            "dangling.yaml: cannot be read: No such file or directory (os error 2)"
        ]
    );
    assert_eq!(policies(), 1, "the subfolder's has gone, the large file's stays");
    std::fs::remove_dir_all(files.resources()).unwrap();
    let report = store.reload();
    assert_eq!(report.problems[0].message, "the folder cannot be read: No such file or directory (os error 2)");
    assert_eq!((report.problems.len(), policies()), (1, 1));
    files.write("c.yaml", ALLOW_ALL);
    assert!(store.reload().problems.is_empty());
    assert_eq!(verdict(&store).0, Verdict::Allow);
}

#[test]
fn an_object_removed_for_good_is_gone() {
    let files = Files::new(&[("a.yaml", DENY_ALL)]);
    let store = open(&files);
    files.write("a.yaml", "");
    assert_eq!(store.reload().outcome, Outcome::Published);
    assert_eq!(verdict(&store).0, Verdict::Allow);
}

#[test]
fn removal_is_believed_only_when_two_readings_agree() {
    let folder = |text: &str| Folder { files: vec![("a.yaml".into(), text.into())], ..Folder::default() };
    let none = Folder::default;
    let first = Reading::new(&folder(DENY_ALL), "istio-system");
    let (standing, _) = Standing::default().after(first, "istio-system");
    let settled = |script: Vec<Folder>| {
        let mut script = script.into_iter();
        let mut documents = Documents::new("istio-system");
        let (folder, reading) = settle(script.next().unwrap(), &standing, &mut documents, || script.next().unwrap());
        let (after, _) = standing.after(reading, "istio-system");
        (folder, after.policies().len(), script.count())
    };
    // Not there, then there: nothing was removed. Not there twice: it was.
    assert_eq!(settled(vec![folder(""), folder(DENY_ALL)]), (Some(folder(DENY_ALL)), 1, 0));
    assert_eq!(settled(vec![none(), folder(""), folder("")]), (Some(folder("")), 0, 0));
    // Nothing is missing: one reading is enough.
    assert_eq!(settled(vec![folder(DENY_ALL), none()]), (Some(folder(DENY_ALL)), 1, 1));
    // It never rests.
    let restless = (0..=SETTLE_READINGS).map(|i| folder(&format!("# {i}"))).collect();
    assert_eq!(settled(restless).0, None);
}

#[test]
fn of_two_with_one_name_the_first_file_wins() {
    let files = Files::new(&[("a.yaml", ALLOW_ALL)]);
    let store = open(&files);
    files.write("b.yaml", &format!("# copy\n{}", ALLOW_ALL.replace("rules: [{}]", "action: DENY, rules: [{}]")));
    let report = store.reload();
    let shown = files.shown(&report.problems);
    assert!(shown[0].starts_with("b.yaml:2: AuthorizationPolicy default/gate: is already defined at "), "{shown:?}");
    assert!(shown[0].ends_with("a.yaml:1, which is kept"), "{shown:?}");
    assert_eq!(verdict(&store).0, Verdict::Allow);
}

#[test]
fn a_swapped_config_map_comes_into_force() {
    let files = Files::new(&[("..v1/a.yaml", ALLOW_ALL), ("..v2/a.yaml", DENY_ALL)]);
    std::os::unix::fs::symlink("..v1", files.path("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", files.path("a.yaml")).unwrap();
    let store = Arc::new(open(&files));
    assert_eq!(verdict(&store).0, Verdict::Allow);
    let (sender, reports) = mpsc::channel();
    let _watcher = crate::watch::Watcher::start(store.paths(), {
        let store = store.clone();
        move || {
            // Sent to a test that is over: nobody is left to tell.
            let _ = sender.send(store.reload());
        }
    });
    std::os::unix::fs::symlink("..v2", files.path("..data_tmp")).unwrap();
    std::fs::rename(files.path("..data_tmp"), files.path("..data")).unwrap();
    while reports.recv_timeout(Duration::from_secs(20)).unwrap().outcome != Outcome::Published {}
    assert_eq!((verdict(&store).0, store.current().policies.len()), (Verdict::Deny, 1));
}

#[test]
fn a_request_authentication_is_in_force_and_keeps_its_last_good_version() {
    let good = "apiVersion: security.istio.io/v1beta1\nkind: RequestAuthentication\nmetadata: {name: jwt, namespace: default}\n\
                spec: {selector: {matchLabels: {app: backend}}, jwtRules: [{issuer: 'https://idp'}]}\n";
    let files = Files::new(&[]);
    let store = open(&files);
    assert!(store.current().authentication.is_empty());
    files.write("jwt.yaml", &good.replace("app: backend", "app: other"));
    assert_eq!(store.reload().outcome, Outcome::Published);
    assert!(store.current().authentication.is_empty() && store.current().request_authentications.len() == 1);
    files.write("jwt.yaml", good);
    assert!(store.reload().problems.is_empty());
    assert_eq!(store.current().authentication.remote_keys().count(), 1);
    files.write("jwt.yaml", &good.replace("issuer", "isuer"));
    assert_eq!(store.reload().problems.len(), 1);
    assert!(!store.current().authentication.is_empty(), "the last good version stays");
    assert_eq!(verdict(&store).0, Verdict::Allow);
    files.remove("jwt.yaml");
    store.reload();
    assert!(store.current().authentication.is_empty());
}
