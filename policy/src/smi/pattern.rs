//! Regular expressions of routes: matched in time linear in the text, and small enough that this means something.
//!
//! Paths and header values are bytes, so a pattern is read without Unicode: `.` is any byte, `\w` is ASCII, as in RE2.
//! Look-around and back-references do not exist.

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

/// Characters of a pattern.
const LENGTH_MAX: usize = 1024;
/// Bytes of a compiled pattern. `/api/v[0-9]+/.*` takes some 3 KiB; the time for a path grows with both.
const COMPILED_MAX: usize = 64 * 1024;
/// Bytes that matching may cache, for each pattern and thread.
const CACHE_MAX: usize = 256 * 1024;
/// Groups in groups.
const NEST_MAX: u32 = 32;

/// How much of a path a `pathRegex` must cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// A beginning of it, as SMI says.
    #[default]
    Prefix,
    /// All of it, as Envoy-based meshes do.
    Full,
    /// Any part of it, as FSM does.
    Search,
}

/// A pattern, ready to use.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// In one line: it is no pattern, or too large a one.
    pub(crate) fn parse(text: &str, part: PathMatch) -> Result<Pattern, String> {
        if text.chars().count() > LENGTH_MAX {
            return Err(format!("a regular expression has at most {LENGTH_MAX} characters"));
        }
        // By itself first: what is only one between the parentheses added below is none, such as `a)|(?:b`.
        let regex = build(text)?;
        match part {
            PathMatch::Prefix => build(&format!(r"\A(?:{text})")),
            PathMatch::Full => build(&format!(r"\A(?:{text})\z")),
            PathMatch::Search => Ok(regex),
        }
        .map(Pattern)
    }

    /// Whether it matches.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }
}

fn build(text: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(text);
    builder.unicode(false).size_limit(COMPILED_MAX).dfa_size_limit(CACHE_MAX).nest_limit(NEST_MAX);
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("is too large: it compiles to more than {COMPILED_MAX} bytes"),
        // The crate's message is a drawing over several lines, of which the last one says what is wrong.
        error => {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("is not a regular expression that is supported: {}", last.trim_start_matches("error: "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_as_asked_for() {
        for (pattern, text, prefix, full, search) in [
            ("/metrics", "/metrics", true, true, true),
            ("/metrics", "/metrics-x", true, false, true),
            ("/metrics", "/a/metrics", false, false, true),
            ("a|ab", "ab", true, true, true),
            ("^/a$", "/a", true, true, true),
            ("(?m)^/a", "x\n/a", false, false, true),
            (".*", "", true, true, true),
            ("", "/a", true, false, true),
            ("/(?i)a", "/A", true, true, true),
            (r"/\w", "/\u{e9}", false, false, false),
            ("/\u{e9}", "/\u{e9}", true, true, true),
        ] {
            for (part, expected) in [(PathMatch::Prefix, prefix), (PathMatch::Full, full), (PathMatch::Search, search)]
            {
                let found = Pattern::parse(pattern, part).unwrap().matches(text.as_bytes());
                assert_eq!(found, expected, "{pattern} on {text} as {part:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_matched_in_linear_time_or_little_space_is_no_pattern() {
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        let long = "a".repeat(LENGTH_MAX + 1);
        for (pattern, message) in [
            ("(?=a)", "look-around"),
            ("(?!a)b", "look-around"),
            ("(?<!a)b", "look-around"),
            (r"(a)\1", "backreferences"),
            ("(a{1000}){1000}", "too large"),
            ("((a{100}){100}){100}", "too large"),
            ("a{60000}", "too large"),
            (r"\pL", "Unicode"),
            ("*", "repetition"),
            ("a)(b", "unopened"),
            ("a)|(?:b", "unopened"),
            ("(?x)a # ", "unclosed"),
            (&deep, "nest"),
            (&long, "at most 1024"),
        ] {
            let error = Pattern::parse(pattern, PathMatch::Prefix).unwrap_err();
            assert!(error.contains(message) && !error.contains('\n'), "{pattern}: {error}");
        }
    }

    #[test]
    fn patterns_that_are_slow_elsewhere_are_not_here() {
        let text = "a".repeat(60_000) + "!";
        for pattern in ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*a){12}$", "(x+x+)+y", "([a-z]+)*[0-9]"] {
            let pattern = Pattern::parse(pattern, PathMatch::Prefix).unwrap();
            // An engine that backtracks does not come back from this.
            assert!(!pattern.matches(text.as_bytes()));
        }
    }
}
