//! Where tokens are found, and what is left there when they are not forwarded.

use super::*;

#[test]
fn without_a_place_in_the_rule_it_is_bearer_or_access_token() {
    let rules = rules(&[rule(json!({}))]);
    let (token, who) = (good(json!({})), "https://idp.example/alice");
    let header = |value: String| Sent::new().header("authorization", &value).outcome(&rules);
    assert_eq!(header(format!("Bearer {token}")), who);
    assert_eq!(header(format!("Bearer   {token}")), who);
    assert_eq!(header(format!("x Bearer {token}")), who);
    assert_eq!(header(format!("bearer {token}")), "anonymous");
    assert_eq!(header(format!("Bearer\t{token}")), "anonymous");
    assert_eq!(header(format!("Basic {token}")), "anonymous");
    assert_eq!(header("Bearer".into()), "anonymous");
    assert_eq!(header(token.clone()), "anonymous");
    let query = |query: String| Sent::new().query(&query).outcome(&rules);
    assert_eq!(query(format!("a=b&access_token={token}")), who);
    assert_eq!(query(format!("access%5Ftoken={}", token.replace('.', "%2e"))), who);
    assert_eq!(query(format!("Access_Token={token}")), "anonymous");
    assert_ne!(query("access_token".into()), "anonymous");
    assert_eq!(Sent::new().header("cookie", &format!("access_token={token}")).outcome(&rules), "anonymous");
}

#[test]
fn places_in_the_rule_replace_the_usual_ones() {
    let places = json!({
        "fromHeaders": [{"name": "X-Token"}, {"name": "x-prefixed", "prefix": "JWT:"}],
        "fromParams": ["t"],
        "fromCookies": ["c"],
    });
    let rules = rules(&[rule(places)]);
    let (token, who) = (good(json!({})), "https://idp.example/alice");
    assert_eq!(Sent::bearer(&token).outcome(&rules), "anonymous");
    assert_eq!(Sent::new().query(&format!("access_token={token}")).outcome(&rules), "anonymous");
    for sent in [
        Sent::new().header("x-token", &token),
        Sent::new().header("x-prefixed", &format!("some JWT:{token}")),
        Sent::new().query(&format!("t={token}")),
        Sent::new().header("cookie", &format!("a=b; c={token}; d=e")),
        Sent::new().header("cookie", "a=b").header("cookie", &format!("c=\"{token}\"")),
    ] {
        assert_eq!(sent.outcome(&rules), who, "{sent:?}");
    }
    for sent in [
        Sent::new().header("x-prefixed", &format!("jwt:{token}")),
        Sent::new().query(&format!("T={token}")),
        Sent::new().header("cookie", &format!("C={token}")),
        Sent::new().header("cookie", &format!("cc={token}")),
    ] {
        assert_eq!(sent.outcome(&rules), "anonymous", "{sent:?}");
    }
}

#[test]
fn a_token_in_each_of_two_lines_fails() {
    let rules = rules(&[rule(json!({}))]);
    let token = good(json!({}));
    let two = Sent::bearer(&token).header("authorization", &format!("Bearer {token}"));
    assert_eq!(two.outcome(&rules), "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections");
}

#[test]
fn a_token_goes_no_further_unless_the_rule_says_so() {
    let token = good(json!({}));
    let places = json!({"fromHeaders": [{"name": "x-token"}], "fromParams": ["t"], "fromCookies": ["c"]});
    let mut forwarding = places.clone();
    forwarding["forwardOriginalToken"] = json!(true);
    let (kept, taken) = (rules(&[rule(forwarding)]), rules(&[rule(places)]));
    let sent = Sent::new()
        .header("x-token", &token)
        .header("cookie", &format!("c={token}"))
        .header("other", "1")
        .query(&format!("a=1&t={token}&b=%2F&t={token}"));
    let (all, query) = sent.clone().forwarded(&kept);
    assert_eq!(all, [format!("cookie: c={token}"), "other: 1".into(), format!("x-token: {token}")]);
    assert_eq!(query, sent.query);
    let (left, query) = sent.forwarded(&taken);
    assert_eq!(left, [format!("cookie: c={token}"), "other: 1".into()]);
    assert_eq!(query.as_deref(), Some("a=1&b=%2F"));
    assert_eq!(Sent::new().query(&format!("t={token}")).forwarded(&taken).1, None);
    assert_eq!(Sent::new().query("a=1").forwarded(&taken).1.as_deref(), Some("a=1"));
}
