//! Field paths as messages spell them: `spec.rules[0].to[0].operation.ports[1]`.

/// One step from a value to a value inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment<'a> {
    Key(&'a str),
    Index(usize),
}

/// Takes a path apart. What stands in brackets is one step, whatever is in it, and a number there may be a key just as well
/// as an index. A key that itself holds a dot and stands in no brackets is read as two; whoever looks the path up falls back
/// to the nearest parent, so that this costs precision, not correctness.
pub(crate) fn segments(path: &str) -> Vec<Segment<'_>> {
    let mut found = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some((inside, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            found.push(inside.parse().map_or(Segment::Key(inside), Segment::Index));
            rest = after;
            continue;
        }
        let inner = rest.strip_prefix(['.', '[']).unwrap_or(rest);
        let (key, after) = inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len()));
        if !key.is_empty() {
            found.push(Segment::Key(key));
        }
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_paths_apart() {
        use Segment::{Index, Key};
        for (path, expected) in [
            ("", vec![]),
            ("spec", vec![Key("spec")]),
            ("spec.rules[0].to[12]", vec![Key("spec"), Key("rules"), Index(0), Key("to"), Index(12)]),
            ("items[3][4].x", vec![Key("items"), Index(3), Index(4), Key("x")]),
            ("labels[a]", vec![Key("labels"), Key("a")]),
            ("labels[a.b/c].x", vec![Key("labels"), Key("a.b/c"), Key("x")]),
            ("a[b.c", vec![Key("a"), Key("b"), Key("c")]),
        ] {
            assert_eq!(segments(path), expected, "{path}");
        }
    }
}
