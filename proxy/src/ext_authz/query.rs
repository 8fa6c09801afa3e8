//! Changes to a query, parameter by parameter.
//!
//! Names are compared as servers read them, decoded: otherwise `%64ebug=1` would keep a parameter that the provider took
//! out. What is not changed stays as it was written.

use meshgate_policy::percent;

/// The query with parameters set and removed. A parameter that is set stands there once, at the end.
pub(super) fn changed(query: &str, set: &[(String, String)], remove: &[String]) -> String {
    let goes = |pair: &&str| {
        let name = decoded(pair.split_once('=').map_or(*pair, |(name, _)| name));
        remove.iter().chain(set.iter().map(|(name, _)| name)).any(|other| decoded(other) == name)
    };
    let mut pairs: Vec<String> =
        query.split('&').filter(|pair| !pair.is_empty() && !goes(pair)).map(str::to_owned).collect();
    for (index, (name, value)) in set.iter().enumerate() {
        let again = set.iter().skip(index + 1).any(|(other, _)| other == name);
        if !again {
            pairs.push(format!("{}={}", encoded(name, ""), encoded(value, "=")));
        }
    }
    pairs.join("&")
}

/// As a form has it: `+` stands for a blank.
fn decoded(text: &str) -> Vec<u8> {
    percent::decoded(&text.replace('+', " ")).into_owned()
}

/// As the provider wrote it, escapes included, but nothing in it ends the parameter.
fn encoded(text: &str, also: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let character = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~%!$'()*,:@/?+".contains(character) || also.contains(character) {
            out.push(character);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_removes_by_decoded_name() {
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for (query, set, remove, expected) in [
            ("", pairs(&[("a", "1")]), vec![], "a=1"),
            ("a=1&b=2&a=3", pairs(&[("a", "x")]), vec![], "b=2&a=x"),
            ("%61=1&b&&c=%2", pairs(&[]), vec!["a"], "b&c=%2"),
            ("a+b=1&a%20b=2&a=3", pairs(&[]), vec!["a b"], "a=3"),
            ("b=2", pairs(&[("a&c=", "1&d=2\r\n"), ("b", "1"), ("b", "2=")]), vec![], "a%26c%3D=1%26d=2%0D%0A&b=2="),
        ] {
            let remove: Vec<String> = remove.into_iter().map(str::to_owned).collect();
            assert_eq!(changed(query, &set, &remove), expected, "{query}");
        }
    }
}
