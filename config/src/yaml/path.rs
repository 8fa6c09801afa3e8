//! Field paths as messages spell them: `spec.rules[0].to[0].operation.ports[1]`.

/// One step from a value to a value inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    Key(&'a str),
    Index(usize),
}

/// Takes a path apart. A key that itself holds a dot is read as two; whoever looks the path up falls back to the
/// nearest parent, so that this costs precision, not correctness.
pub(super) fn segments(path: &str) -> Vec<Segment<'_>> {
    let mut found = Vec::new();
    for part in path.split('.') {
        let mut pieces = part.split('[');
        if let Some(key) = pieces.next().filter(|key| !key.is_empty()) {
            found.push(Segment::Key(key));
        }
        for piece in pieces {
            let piece = piece.strip_suffix(']').unwrap_or(piece);
            found.push(piece.parse().map_or(Segment::Key(piece), Segment::Index));
        }
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
        ] {
            assert_eq!(segments(path), expected, "{path}");
        }
    }
}
