use super::*;

fn sheet(text: &str) -> Sheet {
    Sheet::new(text, 1, Path::new("test.yaml")).unwrap()
}

fn changed(text: &str, change: impl FnOnce(&mut Sheet) -> Result<(), CannotEdit>) -> String {
    let mut sheet = sheet(text);
    change(&mut sheet).unwrap_or_else(|error| panic!("{error}: {text}"));
    sheet.text().to_owned()
}

#[test]
fn values_are_found_with_their_lines() {
    let text = "# one\na:\n- b: {c: x}\n  d.e/f: \"0644\"\n-\n  b: ~\n'8': &x [1, yes]\n";
    let sheet = sheet(text);
    assert_eq!(sheet.scalar("a[0].b.c"), Some("x"));
    assert_eq!(sheet.scalar("a[0][d.e/f]"), Some("0644"));
    assert_eq!((sheet.scalar("a[1].b"), sheet.has("a[1].b"), sheet.is_empty("a[1].b")), (None, false, true));
    assert_eq!((sheet.length("a"), sheet.length("[8]"), sheet.length("b")), (2, 2, 0));
    assert!(sheet.is_true("[8][1]") && !sheet.is_true("[8][0]"));
    assert_eq!(sheet.scalars("a[0]"), [("d.e/f", "0644")]);
    for (path, line) in
        [("", 2), ("a", 2), ("a[0]", 3), ("a[0][d.e/f]", 4), ("a[1].b", 6), ("a[1].c", 6), ("[8][1]", 7)]
    {
        assert_eq!(sheet.line(path), line, "{path}");
    }
}

#[test]
fn integers_are_read_in_every_spelling() {
    for (text, expected) in [
        ("1337", Some(1337)),
        ("\"1337\"", Some(1337)),
        ("0x539", Some(1337)),
        ("0o2471", Some(1337)),
        ("02471", Some(1337)),
        ("1_337", Some(1337)),
        ("0b1", Some(1)),
        ("0", Some(0)),
        ("-1", None),
        ("1337x", None),
        ("", None),
    ] {
        assert_eq!(sheet(&format!("a: {text}\n")).integer("a"), expected, "{text}");
    }
}

#[test]
fn strings_are_quoted_where_they_would_be_read_as_something_else() {
    for text in [
        "yes",
        "No",
        "on",
        "y",
        "null",
        "~",
        "",
        "1",
        "0644",
        "1e3",
        ".5",
        "-d",
        "a: b",
        "a #b",
        "*",
        "a:",
        "é",
        "\u{2028}\n\"\\\t\u{7}",
    ] {
        let written = changed("a: 1\n", |sheet| sheet.set("", "b", &text.into(), ""));
        assert!(written.starts_with("b: \""), "{written}");
        assert_eq!(sheet(&written).scalar("b"), Some(text), "{written}");
    }
    for text in ["app", "registry.example:5000/a/b@sha256:00", "/etc/x", "a-b_c"] {
        assert_eq!(changed("a: 1\n", |sheet| sheet.set("", "b", &text.into(), "")), format!("b: {text}\na: 1\n"));
    }
}

#[test]
fn entries_go_where_they_are_wanted() {
    let value = Value::map([("x", vec!["z"].into())]);
    for (text, expected) in [
        ("a: 1\nb: 2\n", "a: 1\nnew:\n  x:\n  - z\nb: 2\n"),
        ("a: 1\n# of b\nb: 2\n", "a: 1\nnew:\n  x:\n  - z\n# of b\nb: 2\n"),
        ("c: 1\n", "new:\n  x:\n  - z\nc: 1\n"),
        ("{a: 1}\n", "{\"new\": {\"x\": [\"z\"]}, a: 1}\n"),
        ("{\n  \"a\": 1\n}\n", "{\n  \"new\": {\n    \"x\": [\n      \"z\"\n    ]\n  },\n  \"a\": 1\n}\n"),
        ("new: # none\nb: 1\n", "new:\n  x:\n  - z # none\nb: 1\n"),
        ("new: {}\n", "new:\n  x:\n  - z\n"),
        ("{new: [], a: 1}\n", "{new: {\"x\": [\"z\"]}, a: 1}\n"),
    ] {
        assert_eq!(changed(text, |sheet| sheet.set("", "new", &value, "b")), expected, "{text}");
    }
}

#[test]
fn items_go_before_all_others() {
    for (text, expected) in [
        ("a:\n- 1\n", "a:\n- x\n- 1\n"),
        ("a: # c\n    # d\n    - 1\n", "a: # c\n    - x\n    # d\n    - 1\n"),
        ("a: &b\n  - &c\n    d: 1\n", "a: &b\n  - x\n  - &c\n    d: 1\n"),
        ("a: [1]\n", "a: [\"x\", 1]\n"),
        ("{a: [\n  1]}\n", "{a: [\n  \"x\",\n  1]}\n"),
    ] {
        assert_eq!(changed(text, |sheet| sheet.push_front("a", &"x".into())), expected, "{text}");
    }
}

#[test]
fn what_is_taken_out_leaves_what_is_beside_it() {
    for (text, path, expected) in [
        ("a: 1\nb:\n  c: 2\n", "a", "b:\n  c: 2\n"),
        ("a: 1\nb:\n  c: 2\n", "b.c", "a: 1\n"),
        ("a:\n- b: 1\n  c: |\n    x\n\n# of the next\n- d\n", "a[0]", "a:\n\n# of the next\n- d\n"),
        ("a:\n- 1\n- 2", "a[1]", "a:\n- 1\n"),
        ("x: 0\na:\n- 1\n", "a[0]", "x: 0\n"),
        ("a: [1, 2, 3]\n", "a[0]", "a: [2, 3]\n"),
        ("a: [1, 2, 3]\n", "a[2]", "a: [1, 2]\n"),
        ("{a: 1, b: {c: 2}}\n", "b.c", "{a: 1}\n"),
        ("a.b/c: 1\nd: 2\n", "[a.b/c]", "d: 2\n"),
    ] {
        assert_eq!(changed(text, |sheet| sheet.remove(path)), expected, "{text}");
    }
}

#[test]
fn an_entry_that_was_exchanged_goes_back_as_it_was_written() {
    let value = Value::map([("x", 1u32.into())]);
    for (text, changed, was, column) in [
        (
            "p:\n  a: # c\n    b: 1\n\n    # d\n    c: 2 # e\n  z: 3\n",
            "p:\n  new:\n    x: 1 # e\n  z: 3\n",
            "a: # c\n    b: 1\n\n    # d\n    c: 2",
            2,
        ),
        ("p: {z: 1, 'a': {b: 1}}\n", "p: {z: 1, \"new\": {\"x\": 1}}\n", "'a': {b: 1}", 10),
        ("p:\r\n  a:\r\n    b: 1\r\n", "p:\r\n  new:\r\n    x: 1\r\n", "a:\n    b: 1", 2),
        (
            "p:\n  a: [{b: 1}, # d\n    ] # e\n  z: 3\n",
            "p:\n  new:\n    x: 1 # e\n  z: 3\n",
            "a: [{b: 1}, # d\n    ]",
            2,
        ),
        ("p: {a: {b: 1, }, z: 1}\n", "p: {\"new\": {\"x\": 1}, z: 1}\n", "a: {b: 1, }", 4),
        ("p:\n  a: &n\n    b: 1\n", "p:\n  new:\n    x: 1\n", "a: &n\n    b: 1", 2),
    ] {
        let mut sheet = sheet(text);
        assert_eq!(sheet.exchange("p", "a", "new", &value).unwrap(), (was.to_owned(), column), "{text}");
        assert_eq!(sheet.text(), changed);
        sheet.exchange_text("p", "new", was, column).unwrap();
        assert_eq!(sheet.text(), text);
    }
    let mut deeper = sheet("q:\n  p:\n    new: 1\n");
    deeper.exchange_text("q.p", "new", "a: # c\n    b: 1\n\n  # d", 2).unwrap();
    assert_eq!(deeper.text(), "q:\n  p:\n    a: # c\n      b: 1\n\n    # d\n");
}

#[test]
fn what_cannot_be_cut_in_lines_is_refused() {
    let refused = |text: &str, change: &dyn Fn(&mut Sheet) -> Result<(), CannotEdit>| {
        let mut sheet = sheet(text);
        assert!(change(&mut sheet).is_err(), "{}", sheet.text());
        assert_eq!(sheet.text(), text);
    };
    refused("a: &x {b: 1}\nc: *x\n", &|sheet| sheet.set("c", "d", &"e".into(), ""));
    refused("a: 1\n", &|sheet| sheet.set("a", "b", &"c".into(), ""));
    refused("a: &x # why\n  []\n", &|sheet| sheet.set("", "a", &"b".into(), ""));
    refused("a: 1\n", &|sheet| sheet.push_front("b", &"c".into()));
    refused("a: 1\n", &|sheet| sheet.remove("b"));
    refused("a: &x {b: 1}\nc: *x\n", &|sheet| sheet.exchange("c", "b", "d", &"e".into()).map(drop));
    refused("a: {b: &x 1}\nc: *x\n", &|sheet| sheet.exchange("a", "b", "d", &"e".into()).map(drop));
    refused("a: {b: 1}\n", &|sheet| sheet.exchange("a", "c", "d", &"e".into()).map(drop));
    refused("a: {b: 1}\n", &|sheet| sheet.exchange_text("a", "b", "c:\n- d", 0));
}

#[test]
fn documents_are_where_they_stand() {
    let text = "\u{feff}# c\na: 1\n...\n\n---\nb: 2\n---\n# nothing\n";
    let found = documents(text);
    let texts: Vec<_> = found.iter().map(|(place, line)| (&text[place.clone()], *line)).collect();
    assert_eq!(texts, [("# c\na: 1\n", 1), ("\n---\nb: 2\n", 4)]);
}
