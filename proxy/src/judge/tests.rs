use meshgate_policy::{Custom, ObjectName, RuleRef};

use super::*;

fn answered(provider: ProviderAnswer, path: bool) -> Answer {
    let mut answer = Answer::new(&Case::default(), SocketAddr::new(SOMEWHERE, 80), MtlsMode::Permissive);
    answer.path = path.then(|| PathSeen::new("/", "/"));
    let snapshot = meshgate_policy::PolicySet::default();
    let facts = ConnectionFacts {
        peer: None,
        source_ip: SOMEWHERE,
        remote_ip: RemoteIp::PerRequest,
        destination: SocketAddr::new(SOMEWHERE, 80),
        service_port: None,
        opaque_port: false,
        sni: None,
        protocol: meshgate_policy::Protocol::Tcp,
    };
    answer.explained(snapshot.explain(&facts, None));
    let policy = ObjectName { namespace: "default".to_owned(), name: "ask".to_owned() };
    answer.assumed(&Custom { provider: "opa", rule: RuleRef { policy: &policy, rule: 1 }, fault: None }, provider);
    answer
}

#[test]
fn a_provider_that_says_no_has_the_last_word() {
    let answer = answered(ProviderAnswer::Deny, true);
    assert_eq!((answer.verdict, answer.reason, answer.status), (Outcome::Deny, "custom_denied", Some(403)));
    assert_eq!(answer.rule.as_ref().map(ToString::to_string).as_deref(), Some("default/ask rule 1"));
    assert!(answer.text(false).contains("provider: opa, asked by default/ask rule 1, is taken to deny\n"));
    assert_eq!(answered(ProviderAnswer::Deny, false).status, None, "there are no statuses on TCP");
}

#[test]
fn a_provider_that_says_yes_leaves_it_to_the_policies() {
    let answer = answered(ProviderAnswer::Allow, true);
    assert_eq!(
        (answer.verdict, answer.reason, answer.status, answer.rule.is_none()),
        (Outcome::Allow, "no_policy", None, true)
    );
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(
        json["custom"],
        serde_json::json!({"provider": "opa", "rule": {"policy": "default/ask", "rule": 1}, "assumed": "allow"})
    );
}

#[test]
fn colours_stand_only_where_they_are_asked_for() {
    let answer = answered(ProviderAnswer::Deny, true);
    assert!(!answer.text(false).contains('\u{1b}'));
    let coloured = answer.text(true);
    assert!(coloured.starts_with("\u{1b}[31mdeny\u{1b}[0m: "), "{coloured:?}");
}
