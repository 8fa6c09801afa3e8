//! The downward API's label file: one `key="value"` a line, the value quoted as Go's `%q` does.

use std::collections::BTreeMap;

/// Reads the whole file.
///
/// # Errors
/// The number of the first line (from 1) that is not of that form, and what is wrong with it.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, (usize, String)> {
    let mut labels = BTreeMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (key, value) = pair(line).ok_or_else(|| {
            (index + 1, format!("`{line}` is not of the form key=\"value\", as the downward API writes it"))
        })?;
        labels.insert(key.to_owned(), value);
    }
    Ok(labels)
}

fn pair(line: &str) -> Option<(&str, String)> {
    let (key, quoted) = line.trim().split_once('=')?;
    let quoted = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if key.is_empty() {
        return None;
    }
    let mut value = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            // Label values hold letters, digits, `-`, `_` and `.`: of Go's escapes none but these could occur.
            '\\' => value.push(chars.next().filter(|c| matches!(c, '\\' | '"'))?),
            '"' => return None,
            c => value.push(c),
        }
    }
    Some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kubelet_writes() {
        let labels = parse("app=\"backend\"\napp.kubernetes.io/part-of=\"a=b\"\n\nempty=\"\"\n").unwrap();
        assert_eq!(labels["app"], "backend");
        assert_eq!(labels["app.kubernetes.io/part-of"], "a=b");
        assert_eq!(labels["empty"], "");
    }

    #[test]
    fn says_which_line_is_wrong() {
        for text in [
            "app=\"x\"\nbackend\n",
            "app=\"x\"\napp=backend\n",
            "a=\"\"\n=\"x\"",
            "a=\"\"\nb=\"\"\"",
            "a=\"\"\nb=\"\\n\"",
        ] {
            assert_eq!(parse(text).unwrap_err().0, 2, "{text}");
        }
    }
}
