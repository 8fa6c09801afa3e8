//! What a command has to do with beside its arguments, for the manual: files, variables, other pages.

use meshgate_config::Bootstrap;

/// What every command looks at.
const EVERYWHERE: [(&str, &str); 2] = [
    ("NO_COLOR", "when set to anything, no colours, on a terminal neither"),
    ("TERM", "when it is \"dumb\", no colours and no line that shows progress"),
];

/// Files that a command reads or writes by a name of its own.
const FILES: [(&str, &[(&str, &str)]); 5] = [
    ("ca init", &[AUTHORITY, AUTHORITY_KEY]),
    ("ca issue", &[AUTHORITY, AUTHORITY_KEY, ("NAME.pem, NAME-key.pem", "the certificate, and its key, mode 0600")]),
    ("ca revoke", &[AUTHORITY, AUTHORITY_KEY, LIST]),
    ("ca crl", &[AUTHORITY, AUTHORITY_KEY, LIST]),
    ("run", &[("BOOTSTRAP", "the process's settings, read once at start: docs/configuration.md"), RESOURCES]),
];
const AUTHORITY: (&str, &str) = ("ca/ca.pem", "the authority's certificate, which is also the trust bundle");
const AUTHORITY_KEY: (&str, &str) = ("ca/ca-key.pem", "its private key, mode 0600");
const LIST: (&str, &str) = ("ca/ca-crl.pem", "the revocation list, which is replaced by each next one");
const RESOURCES: (&str, &str) =
    ("resources.directory", "the folder of resources that the bootstrap names, watched while it runs");

/// Names and what is in them.
pub(super) fn files(words: &str) -> &'static [(&'static str, &'static str)] {
    FILES.iter().find(|(command, _)| *command == words).map_or(&[], |(_, files)| files)
}

/// The variables that a command reads. Those of single options stand with them.
pub(super) fn variables(words: &str) -> Vec<(&'static str, String)> {
    let mut all: Vec<_> = EVERYWHERE.into_iter().map(|(name, text)| (name, text.to_owned())).collect();
    if words == "run" {
        all.extend(Bootstrap::variables().map(|(name, field)| (name, format!("in place of the bootstrap's {field}"))));
    }
    all
}

/// The pages around a command's: the one above, and those below.
pub(super) fn see_also(words: &str, below: impl Iterator<Item = String>) -> Vec<String> {
    let mut above: Vec<_> = words.split_whitespace().collect();
    let above = above.pop().map(|_| ["meshgate"].into_iter().chain(above).collect::<Vec<_>>().join("-"));
    above.into_iter().chain(below).collect()
}
