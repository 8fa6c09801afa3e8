//! SPIFFE IDs.

use meshgate_identity::{SpiffeId, TrustDomain};

/// An ID is its own text, and its parts make it up again.
pub fn spiffe_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(domain) = text.parse::<TrustDomain>() {
        assert_eq!(domain.as_str(), text);
        assert!(format!("spiffe://{domain}").parse::<SpiffeId>().is_ok(), "a trust domain has an ID");
    }
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert_eq!(id.to_string(), text);
    assert_eq!(format!("spiffe://{}", id.principal()), text);
    assert_eq!(format!("{}{}", id.trust_domain(), id.path()), id.principal());
    assert!(!text.contains(['%', '?', '#', '@', '\\', ' ']));
    assert!(!id.path().split('/').any(|segment| segment == "." || segment == ".."));
    match (id.namespace(), id.service_account()) {
        (Some(namespace), Some(account)) => {
            assert_eq!(SpiffeId::from_service_account(&id.trust_domain(), namespace, account), Ok(id));
        }
        (None, None) => {}
        half => panic!("{half:?}"),
    }
}
