use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<SpiffeId, SpiffeIdError> {
    text.parse()
}

#[test]
fn splits_a_service_account_id_into_its_parts() {
    let id = parse("spiffe://cluster.local/ns/default/sa/frontend").unwrap();
    assert_eq!(id.as_str(), "spiffe://cluster.local/ns/default/sa/frontend");
    assert_eq!(id.principal(), "cluster.local/ns/default/sa/frontend");
    assert_eq!(id.trust_domain_str(), "cluster.local");
    assert_eq!(id.trust_domain().as_str(), "cluster.local");
    assert_eq!(id.path(), "/ns/default/sa/frontend");
    assert_eq!(id.namespace(), Some("default"));
    assert_eq!(id.service_account(), Some("frontend"));
    assert_eq!(format!("{id:?}"), "\"spiffe://cluster.local/ns/default/sa/frontend\"");
}

#[test]
fn an_id_without_a_path_is_the_trust_domains_own() {
    let id = parse("spiffe://cluster.local").unwrap();
    assert_eq!((id.trust_domain_str(), id.path()), ("cluster.local", ""));
    assert_eq!((id.namespace(), id.service_account()), (None, None));
}

#[test]
fn only_the_exact_kubernetes_path_has_a_namespace() {
    for path in [
        "/ns/default",
        "/ns/default/sa",
        "/ns/default/sa/frontend/x",
        "/x/ns/default/sa/frontend",
        "/NS/default/sa/frontend",
        "/ns/default/SA/frontend",
        "/ns/default/pod/frontend",
        "/frontend",
    ] {
        let id = parse(&format!("spiffe://td{path}")).unwrap();
        assert_eq!((id.namespace(), id.service_account()), (None, None), "{path}");
    }
}

#[test]
fn accepts_every_allowed_character_and_the_longest_texts() {
    for good in [
        "spiffe://a",
        "spiffe://1.2.3.4/workload",
        "spiffe://a_b-c.d9/A.b-C_9",
        "spiffe://td/...",
        "spiffe://td/.hidden/..x/x..",
        "spiffe://td/ns/a/sa/b.c",
    ] {
        assert_eq!(parse(good).unwrap().to_string(), good);
    }
    let longest_domain = "a".repeat(255);
    assert!(longest_domain.parse::<TrustDomain>().is_ok());
    let longest = format!("spiffe://td/{}", "p".repeat(2048 - "spiffe://td/".len()));
    assert_eq!(parse(&longest).unwrap().as_str().len(), 2048);
}

#[test]
fn refuses_what_the_standard_does_not_allow_and_says_where() {
    use SpiffeIdError::*;
    let domain = |character, offset| TrustDomainCharacter { character, offset };
    let path = |character, offset| PathCharacter { character, offset };
    let long_domain = format!("spiffe://{}/x", "a".repeat(256));
    let long = format!("spiffe://td/{}", "p".repeat(2048));
    let table = [
        ("", Scheme),
        ("spiffe:", Scheme),
        ("spiffe:/td/x", Scheme),
        ("SPIFFE://td/x", Scheme),
        ("Spiffe://td/x", Scheme),
        (" spiffe://td/x", Scheme),
        ("https://td/x", Scheme),
        ("td/ns/a/sa/b", Scheme),
        ("spiffe://", NoTrustDomain),
        ("spiffe:///x", NoTrustDomain),
        ("spiffe://Td/x", domain('T', 9)),
        ("spiffe://td:443/x", domain(':', 11)),
        ("spiffe://user@td/x", domain('@', 13)),
        ("spiffe://td?a", domain('?', 11)),
        ("spiffe://td#a", domain('#', 11)),
        ("spiffe://t%64/x", domain('%', 10)),
        ("spiffe://[::1]/x", domain('[', 9)),
        ("spiffe://td\\x", domain('\\', 11)),
        ("spiffe://t\u{e4}/x", domain('\u{e4}', 10)),
        ("spiffe://td\0/x", domain('\0', 11)),
        ("spiffe://td /x", domain(' ', 11)),
        ("spiffe://td\n", domain('\n', 11)),
        ("spiffe://td/", TrailingSlash),
        ("spiffe://td/x/", TrailingSlash),
        ("spiffe://td//", TrailingSlash),
        ("spiffe://td//x", EmptySegment { offset: 12 }),
        ("spiffe://td/x//y", EmptySegment { offset: 14 }),
        ("spiffe://td/.", RelativeSegment { segment: ".", offset: 12 }),
        ("spiffe://td/./x", RelativeSegment { segment: ".", offset: 12 }),
        ("spiffe://td/x/..", RelativeSegment { segment: "..", offset: 14 }),
        ("spiffe://td/../x", RelativeSegment { segment: "..", offset: 12 }),
        ("spiffe://td/x%2fy", path('%', 13)),
        ("spiffe://td/x?q=1", path('?', 13)),
        ("spiffe://td/x#f", path('#', 13)),
        ("spiffe://td/x y", path(' ', 13)),
        ("spiffe://td/x\0", path('\0', 13)),
        ("spiffe://td/x\0.evil", path('\0', 13)),
        ("spiffe://td/x\r\n", path('\r', 13)),
        ("spiffe://td/\u{e4}", path('\u{e4}', 12)),
        ("spiffe://td/a*", path('*', 13)),
        ("spiffe://td/a:b", path(':', 13)),
        ("spiffe://td/a\\b", path('\\', 13)),
        (&long_domain, TrustDomainTooLong { length: 256 }),
        (&long, TooLong { length: 2060 }),
    ];
    for (text, error) in table {
        assert_eq!(parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn every_byte_is_judged_alone() {
    for byte in 0_u8..128 {
        let c = char::from(byte);
        let in_domain = c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        let in_path = c.is_ascii_alphanumeric() || ".-_".contains(c);
        assert_eq!(format!("a{c}b").parse::<TrustDomain>().is_ok(), in_domain, "{c:?}");
        assert_eq!(parse(&format!("spiffe://td/a{c}b")).is_ok(), in_path || c == '/', "{c:?}");
    }
}

#[test]
fn a_trust_domain_is_a_bare_name() {
    for bad in ["", "spiffe://td", "td/", "TD", "td:1"] {
        assert!(bad.parse::<TrustDomain>().is_err(), "{bad:?}");
    }
    assert_eq!("td".parse::<TrustDomain>().unwrap().to_string(), "td");
}

#[test]
fn a_service_account_name_cannot_smuggle_a_segment() {
    let td = "td".parse().unwrap();
    assert_eq!(SpiffeId::from_service_account(&td, "a", "b").unwrap().as_str(), "spiffe://td/ns/a/sa/b");
    assert_eq!(
        SpiffeId::from_service_account(&td, "a/sa/b", "c"),
        Err(SpiffeIdError::PathCharacter { character: '/', offset: 1 })
    );
    assert_eq!(SpiffeId::from_service_account(&td, "", "c"), Err(SpiffeIdError::EmptySegment { offset: 0 }));
    assert_eq!(
        SpiffeId::from_service_account(&td, "a", ".."),
        Err(SpiffeIdError::RelativeSegment { segment: "..", offset: 0 })
    );
    assert!(SpiffeId::from_service_account(&td, "a", &"b".repeat(2048)).is_err());
}

#[test]
fn orders_and_compares_as_text() {
    let mut ids = ["spiffe://b/x", "spiffe://a/y", "spiffe://a/Y", "spiffe://a"].map(|s| parse(s).unwrap());
    ids.sort();
    assert_eq!(ids.each_ref().map(SpiffeId::as_str), ["spiffe://a", "spiffe://a/Y", "spiffe://a/y", "spiffe://b/x"]);
    assert_ne!(parse("spiffe://a/x").unwrap(), parse("spiffe://a/X").unwrap());
}

proptest! {
    #[test]
    fn parse_and_display_are_inverse(
        domain in "[a-z0-9._-]{1,40}",
        path in prop::collection::vec("[A-Za-z0-9._-]{1,12}".prop_filter("relative", |s| s != "." && s != ".."), 0..6),
    ) {
        let mut text = format!("spiffe://{domain}");
        for segment in &path {
            text.push('/');
            text.push_str(segment);
        }
        let id = parse(&text).unwrap();
        prop_assert_eq!(id.to_string(), text.as_str());
        prop_assert_eq!(id.trust_domain_str(), domain.as_str());
        prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        prop_assert_eq!(parse(id.as_str()), Ok(id.clone()));
    }

    #[test]
    fn what_parses_is_displayed_unchanged(text in "(spiffe://)?[a-zA-Z0-9._/%:@?# -]{0,30}") {
        if let Ok(id) = parse(&text) {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn any_text_is_answered_without_a_panic(text in "\\PC{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!("spiffe://{text}"));
        let _ = text.parse::<TrustDomain>();
    }
}
