use proptest::prelude::*;

use super::*;

const LEVELS: [Level; 4] = [Level::None, Level::Base, Level::MergeSlashes, Level::DecodeAndMergeSlashes];

fn at(level: Level, path: &str) -> Result<String, PathError> {
    normalize(path, level).map(Cow::into_owned)
}

#[test]
fn resolves_what_each_level_promises() {
    for (path, base, merge, decode) in [
        ("/admin", "/admin", "/admin", "/admin"),
        ("/x/../admin", "/admin", "/admin", "/admin"),
        ("/%61dmin", "/admin", "/admin", "/admin"),
        ("/./admin", "/admin", "/admin", "/admin"),
        ("\\admin", "", "", ""),
        ("/\\admin", "//admin", "/admin", "/admin"),
        ("/x/..;/admin", "/admin", "/admin", "/admin"),
        ("/x/..;a=b/admin", "/admin", "/admin", "/admin"),
        ("/x/.;a/admin", "/x/admin", "/x/admin", "/x/admin"),
        ("//admin", "//admin", "/admin", "/admin"),
        ("/admin//x", "/admin//x", "/admin/x", "/admin/x"),
        ("/x%2f..%2fadmin", "/x%2f..%2fadmin", "/x%2f..%2fadmin", "/admin"),
        ("/x%5C..%5Cadmin", "/x%5C..%5Cadmin", "/x%5C..%5Cadmin", "/admin"),
        ("/admin%2fx", "/admin%2fx", "/admin%2fx", "/admin/x"),
        ("/Admin", "/Admin", "/Admin", "/Admin"),
        ("/admin;x", "/admin;x", "/admin;x", "/admin;x"),
        ("/;/", "/;/", "/;/", "/;/"),
        ("/%252e", "/%252e", "/%252e", "/%252e"),
        ("/%252f", "/%252f", "/%252f", "/%252f"),
        ("/admin%20", "/admin%20", "/admin%20", "/admin%20"),
        ("/%zz", "/%zz", "/%zz", "/%zz"),
        ("/%3F/x", "/%3F/x", "/%3F/x", "/%3F/x"),
        ("/a\"<>^`{|}b", "/a%22%3C%3E%5E%60%7B%7C%7Db", "/a%22%3C%3E%5E%60%7B%7C%7Db", "/a%22%3C%3E%5E%60%7B%7C%7Db"),
        ("/[]*'!$&()+,;:=@~", "/[]*'!$&()+,;:=@~", "/[]*'!$&()+,;:=@~", "/[]*'!$&()+,;:=@~"),
        ("/..", "/", "/", "/"),
        ("/.", "/", "/", "/"),
        ("/a/..", "/", "/", "/"),
        ("/a/.", "/a/", "/a/", "/a/"),
        ("/a/b/..", "/a/", "/a/", "/a/"),
        ("/../../a", "/a", "/a", "/a"),
        ("/a//../b", "/a/b", "/a/b", "/a/b"),
        ("/a//..", "/a/", "/a/", "/a/"),
        ("/", "/", "/", "/"),
        ("//", "//", "//", "//"),
        ("////", "////", "//", "//"),
        ("/a//", "/a//", "/a/", "/a/"),
        ("/...", "/...", "/...", "/..."),
        ("/.a/..b", "/.a/..b", "/.a/..b", "/.a/..b"),
        ("/a?b=/../c//%41", "/a?b=/../c//%41", "/a?b=/../c//%41", "/a?b=/../c//%41"),
        ("/x/../a?b", "/a?b", "/a?b", "/a?b"),
        ("/a/..?b", "/?b", "/?b", "/?b"),
    ] {
        for (level, expected) in
            [(Level::Base, base), (Level::MergeSlashes, merge), (Level::DecodeAndMergeSlashes, decode)]
        {
            let expected = if expected.is_empty() { Err(PathError::NotAbsolute) } else { Ok(expected.to_owned()) };
            assert_eq!(at(level, path), expected, "{path} at {level:?}");
        }
        if path.starts_with('/') {
            assert_eq!(at(Level::None, path), Ok(path.to_owned()), "{path} at None");
        }
    }
}

#[test]
fn closes_the_dot_segments_that_envoy_forwards() {
    for path in ["/x/%2e%2e;/admin", "/x\\..;/admin", "/x/.%2E;a=b/admin", "/x\\..;a\\admin", "/x/%2e%2e;\\admin"] {
        assert_eq!(at(Level::MergeSlashes, path), Ok("/admin".to_owned()), "{path}");
    }
    // Cut in the raw text up to the next slash, as Envoy does: the backslash is still part of the parameters.
    assert_eq!(at(Level::Base, "/x/..;a\\b/admin"), Ok("/admin".to_owned()));
}

#[test]
fn refuses_what_has_no_single_reading() {
    for (path, expected) in [
        ("", PathError::NotAbsolute),
        ("admin", PathError::NotAbsolute),
        ("**", PathError::NotAbsolute),
        ("?a", PathError::NotAbsolute),
        ("http://h/p", PathError::NotAbsolute),
        ("/a#b", PathError::Fragment),
        ("/a?b#c", PathError::Fragment),
        ("/a b", PathError::Byte(b' ')),
        ("/a\tb", PathError::Byte(b'\t')),
        ("/a\0", PathError::Byte(0)),
        ("/a\x7f", PathError::Byte(0x7f)),
        ("/a?\r", PathError::Byte(b'\r')),
        ("/ä", PathError::Byte(0xc3)),
    ] {
        for level in LEVELS {
            assert_eq!(at(level, path), Err(expected), "{path:?} at {level:?}");
        }
    }
    for level in LEVELS {
        let nul = if level == Level::None { Ok("/a%00".to_owned()) } else { Err(PathError::EncodedNul) };
        assert_eq!(at(level, "/a%00"), nul);
        let query = "/a?%00".to_owned();
        assert_eq!(at(level, &query), Ok(query));
    }
    for path in ["/%4%31", "/%%34%31", "/%2%65", "/%%361dmin", "/%0%30"] {
        assert_eq!(at(Level::Base, path), Err(PathError::NestedEscape), "{path}");
    }
}

#[test]
fn an_asterisk_stands_for_the_server() {
    for level in LEVELS {
        assert_eq!(normalize("*", level), Ok(Cow::Borrowed("*")));
    }
}

#[test]
fn borrows_what_does_not_change() {
    for path in ["/", "/api/v1/data?x=%41", "/.well-known/x", "/%20", "/a%2Fb"] {
        assert!(matches!(normalize(path, Level::MergeSlashes), Ok(Cow::Borrowed(_))), "{path}");
    }
}

/// Paths of the pieces that matter, so that they meet.
fn paths() -> impl Strategy<Value = String> {
    let pieces = [
        "/", "//", ".", "..", ";", "\\", "%", "%2e", "%2E", "%2f", "%5c", "%25", "%00", "%3b", "%7e", "2", "e", "f",
        "5", "c", "4", "1", "%34", "%31", "a", "admin", "?", "[", "{", "|", "x=1", "~", "#", " ", "é",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..14)
        .prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn normalizing_twice_changes_nothing(path in paths()) {
        for level in LEVELS {
            if let Ok(once) = at(level, &path) {
                prop_assert_eq!(at(level, &once), Ok(once.clone()), "{} at {:?}", path, level);
            }
        }
    }

    #[test]
    fn no_dot_segment_is_left(path in paths()) {
        for level in [Level::Base, Level::MergeSlashes, Level::DecodeAndMergeSlashes] {
            let Ok(normalized) = at(level, &path) else { continue };
            let (path_only, _) = normalized.split_once('?').unwrap_or((&normalized, ""));
            prop_assert!(path_only.starts_with('/'));
            prop_assert!(!path_only.contains('\\'));
            for segment in path_only.split('/') {
                let name = segment.split(';').next().unwrap();
                prop_assert!(name != "." && name != "..", "{} at {:?} is {}", path, level, normalized);
            }
            if level >= Level::MergeSlashes {
                prop_assert!(path_only == "//" || !path_only.contains("//"));
            }
        }
    }

    /// What a server that decodes once, splits at slashes and resolves dots makes of the path is what it makes of the
    /// normalized path: nothing is judged that would not be served.
    #[test]
    fn a_decoding_server_reads_the_same_path(path in paths()) {
        let Ok(normalized) = at(Level::MergeSlashes, &path) else { return Ok(()) };
        let (path_only, query) = path.split_once('?').unwrap_or((&path, ""));
        let (normalized_path, normalized_query) = normalized.split_once('?').unwrap_or((&normalized, ""));
        prop_assert_eq!(query, normalized_query);
        let own_dots = path_only.split('/').any(|segment| segment.contains(';'));
        if !own_dots && !path_only.contains('\\') {
            prop_assert_eq!(served(path_only), served(normalized_path));
        }
    }

    #[test]
    fn never_panics(path in any::<String>()) {
        for level in LEVELS {
            let _ = normalize(&path, level);
        }
    }
}

/// A naive server: splits, decodes every escape in a segment once, resolves dots, forgets empty segments.
fn served(path: &str) -> Vec<Vec<u8>> {
    let mut kept: Vec<(bool, Vec<u8>)> = Vec::new();
    for segment in path.split('/').skip(1) {
        let mut decoded = Vec::new();
        let mut bytes = segment.as_bytes();
        while let Some((&byte, rest)) = bytes.split_first() {
            let hex = rest.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            let hex = hex.filter(|_| rest[..2].iter().all(u8::is_ascii_hexdigit));
            match hex {
                Some(value) if byte == b'%' => {
                    decoded.push(value);
                    bytes = &rest[2..];
                }
                _ => {
                    decoded.push(byte);
                    bytes = rest;
                }
            }
        }
        match decoded.as_slice() {
            b"." => {}
            b".." => {
                kept.pop();
            }
            _ => kept.push((segment.is_empty(), decoded)),
        }
    }
    kept.into_iter().filter(|(empty, _)| !empty).map(|(_, segment)| segment).collect()
}
