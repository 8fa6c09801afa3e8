//! Names as an API server accepts them (RFC 1123, with Kubernetes' limits).
//!
//! A name that no server would accept is a mistake that shows nowhere else: a policy in the namespace `Default` is valid,
//! and selects nothing.

const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// The name of an object: labels with dots between them.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > NAME_MAX {
        Err(format!("a name has at most {NAME_MAX} characters"))
    } else if name.split('.').all(is_label) {
        Ok(())
    } else {
        Err(format!("{name:?} is not a name: small letters, digits, - and . between them"))
    }
}

/// The name of a namespace: one label. Empty for what has no namespace.
pub(crate) fn check_namespace(namespace: &str) -> Result<(), String> {
    if namespace.len() > LABEL_MAX {
        Err(format!("a namespace has at most {LABEL_MAX} characters"))
    } else if namespace.is_empty() || is_label(namespace) {
        Ok(())
    } else {
        Err(format!("{namespace:?} is not a namespace: small letters, digits and - between them"))
    }
}

/// One label.
pub(crate) fn is_label(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}
