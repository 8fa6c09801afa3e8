use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::read;
use super::*;
use crate::problem::Problem;
use crate::store::{ConfigStore, Outcome};
use crate::testing::Folder;

fn account(name: &str) -> String {
    format!("apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n")
}

fn policy(name: &str, action: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {name}\nspec:\n  action: {action}\n  \
         rules: [{{}}]\n"
    )
}

fn list(names: &[&str]) -> String {
    let item = |name: &&str| format!("- {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}}}}}\n");
    format!("apiVersion: v1\nkind: List\nitems:\n{}", names.iter().map(item).collect::<String>())
}

/// All that a reading says of an object.
type Said = (Key, PathBuf, usize, String, Option<Box<str>>, Result<String, Vec<Problem>>);

/// All that is read of files.
type Reads = (Vec<Said>, Vec<Problem>, Vec<bool>);

fn reads(files: &[(&str, String)], mut documents: impl FnMut(&str, &str) -> FileReading) -> Reads {
    let mut reads = Reads::default();
    for (file, text) in files {
        let FileReading { found, problems, unnamed } = documents(file, text);
        reads.0.extend(found.into_iter().map(|found| {
            let outcome = found.outcome.map(|object| format!("{object:?}")).map_err(|broken| broken.problems);
            (found.key, found.place.file, found.place.line, found.text.to_string(), found.allow, outcome)
        }));
        reads.1.extend(problems);
        reads.2.push(unnamed);
    }
    reads
}

/// Reads folder after folder, each as if it were the first and with what is known from those before: that must be the same.
fn assert_reads_alike(folders: &[Vec<(&str, String)>]) {
    let mut documents = Documents::new("istio-system");
    for files in folders {
        documents.begin();
        let again = reads(files, |file, text| read(Path::new(file), text, &mut documents));
        documents.forget_others();
        let afresh = reads(files, |file, text| read(Path::new(file), text, &mut Documents::new("istio-system")));
        assert_eq!(again, afresh);
    }
}

#[test]
fn what_is_known_is_read_as_if_it_were_new() {
    let (a, b) = (policy("a", "ALLOW"), policy("b", "DENY"));
    let bad = policy("a", "ALOW");
    let unread = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\n";
    let one = |text: String| vec![("a.yaml", text)];
    let allowed = a.replace("  name: a\n", "  name: a\n  annotations: {meshgate.io/allow: MG001}\n");
    assert_reads_alike(&[
        one(format!("{a}---\n{b}")),
        // Further down, further up, the other way round, and in another file.
        one(format!("# a\n# b\n{a}---\n{b}")),
        one(format!("---\n{b}---\n{a}")),
        vec![("a.yaml", b.clone()), ("b.yaml", format!("---\n{a}"))],
        // Twice in one file, and in two.
        one(format!("{a}---\n{a}---\n{a}")),
        vec![("a.yaml", a.clone()), ("b.yaml", a.clone())],
        // Broken, still broken on another line, mended.
        one(format!("{bad}---\n{b}")),
        one(format!("\n\n{b}---\n{bad}---\n{unread}")),
        one(format!("{a}---\n{b}---\n\n{unread}---\n{{[\n---\n{allowed}")),
        one(format!("{allowed}---\n{{[\n---\n{b}---\nname: [\n")),
        // Other ends of lines, and byte order marks where one may stand and where none may.
        one(format!("{a}---\n{b}").replace('\n', "\r\n")),
        one(format!("\u{feff}{a}---\n{b}")),
        one(format!("{a}---\n\u{feff}{b}")),
        one(format!("\u{feff}\u{feff}{a}")),
        one(format!("{a}...\n{b}...\n# nothing\n---\n")),
        // A list, by its items; a list in a list; an item that is broken, and mended again.
        one(format!("{}---\n{a}", list(&["x", "y"]))),
        one(format!("{a}---\n{}---\n{}", list(&["x", "y"]), list(&["y", "x", "z"]))),
        one(format!("\n{}", list(&["x", "y", "not_a_name"]))),
        one(format!("\n\n{}", list(&["x", "y"]).replace("- {", "- {apiVersion: v1, kind: List, items: []}\n- {"))),
        one(format!("\n\n\n{}", list(&["x", "y"]))),
        one(String::new()),
        one(a),
    ]);
}

proptest! {
    #[test]
    fn whatever_the_edits_it_is_read_as_if_it_were_new(
        folders in proptest::collection::vec(proptest::collection::vec((0usize..2, 0usize..9, 0usize..3), 0..8), 2..6)
    ) {
        let kinds = [
            account("x"), account("y"), policy("a", "DENY"), policy("a", "DNY"), list(&["x", "z"]), list(&["-"]),
            "kind: [\n".to_owned(), "apiVersion: apps/v1\nkind: Deployment\n".to_owned(), "# nothing\n".to_owned(),
        ];
        let folders = folders.iter().map(|parts| {
            let mut files = vec![("a.yaml", String::new()), ("b.yaml", String::new())];
            for (file, kind, blank) in parts {
                files[*file].1 += &format!("---\n{}{}", "\n".repeat(*blank), kinds[*kind]);
            }
            files
        });
        assert_reads_alike(&folders.collect::<Vec<_>>());
    }
}

#[test]
fn only_the_documents_of_the_last_reading_are_held() {
    let mut documents = Documents::new("istio-system");
    let names = |documents: &mut Documents, names: &[&str], forget: bool| {
        documents.begin();
        let text: Vec<_> = names.iter().map(|name| account(name)).collect();
        let found = read(Path::new("a.yaml"), &text.join("---\n"), documents).found;
        if forget {
            documents.forget_others();
        }
        let objects: Vec<_> = found.into_iter().map(|found| (found.text, found.outcome.unwrap())).collect();
        (objects, documents.known.len())
    };
    let (first, held) = names(&mut documents, &["a", "b", "c"], true);
    assert_eq!(held, 3);
    // A file that is written anew is empty for an instant: not everything has to be read again for that.
    assert_eq!(names(&mut documents, &[], false).1, 3);
    let (second, held) = names(&mut documents, &["d", "b", "c"], true);
    assert_eq!(held, 3, "a is let go, d is new");
    for (before, now) in first.iter().zip(&second).skip(1) {
        assert!(Arc::ptr_eq(&before.0, &now.0) && Arc::ptr_eq(&before.1, &now.1), "neither copied nor read again");
    }
    assert_eq!(names(&mut documents, &[], true).1, 0);
}

#[test]
fn a_reload_after_lines_have_moved_names_the_lines_of_now() {
    let (good, bad) = (policy("good", "DENY"), policy("bad", "DENY"));
    let text = |before: &str, last: &str| format!("{before}{}---\n{good}---\n{last}", account("x"));
    let folder = Folder::new(&[("a.yaml", &text("", &bad))]);
    let store = ConfigStore::open(&folder.bootstrap()).unwrap();
    assert_eq!(store.reload().outcome, Outcome::Unchanged);
    let shown = |text: &str| {
        folder.write("a.yaml", text);
        let report = store.reload();
        (report.generation, folder.shown(&report.problems).concat())
    };
    let broken = bad.replace("DENY", "DNY");
    let (generation, problem) = shown(&text("", &broken));
    assert!(
        problem.starts_with("a.yaml:19: AuthorizationPolicy default/bad: spec.action: unknown variant"),
        "{problem}"
    );
    // Everything moves by two lines; the last good version stays all the same.
    let (moved, problem) = shown(&text("# one\n# two\n", &broken));
    assert!(problem.starts_with("a.yaml:21: AuthorizationPolicy default/bad: spec.action"), "{problem}");
    assert_eq!((moved, store.current().policies.len()), (generation + 1, 2));
    // Mended, with a copy of one that has not changed: where the first stands now is said.
    folder.write("b.yaml", &format!("---\n{good}"));
    for (before, line) in [("# one\n# two\n", 8), ("# one\n", 7), ("", 6)] {
        let (_, problem) = shown(&text(before, &bad));
        assert!(problem.starts_with("b.yaml:2: AuthorizationPolicy default/good: is already defined at "), "{problem}");
        assert!(problem.ends_with(&format!("a.yaml:{line}, which is kept")), "{problem}");
    }
}
