//! The name of a network interface, which goes into rules as it is.

use std::fmt;
use std::str::FromStr;

use super::ListError;

/// The kernel's `IFNAMSIZ`, without the closing zero.
const MAX_BYTES: usize = 15;

/// A name that means one interface and nothing else: the kernel takes more characters, but those have a meaning to a
/// shell or a firewall tool (`+` and `*` are its patterns, `@` is what `ip link` puts before a peer).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(String);

impl Interface {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.0 == "lo"
    }
}

impl FromStr for Interface {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let impossible = text.is_empty() || text.len() > MAX_BYTES || matches!(text, "." | "..");
        if impossible || text.starts_with('-') || !text.bytes().all(plain) {
            return Err(ListError::Interface { item: text.to_owned() });
        }
        Ok(Interface(text.to_owned()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
