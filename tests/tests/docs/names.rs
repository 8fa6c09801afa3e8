//! Metrics, response flags and reasons: the guide names none that there is not, and docs/troubleshooting.md says of each refusal what to do.
//!
//! That docs/metrics.md has just the metrics of a running proxy is tested with one (`telemetry`); the rest of the guide is compared with that
//! page. Flags and reasons are what the sources have where they are given out.

use std::collections::BTreeSet;
use std::fs;

use meshgate_policy::Reason;

use crate::markdown::{Page, pages};
use crate::{none_wrong, pattern, root};

/// The metrics that there are: those of a proxy, and what the sources of other commands have as a name (`meshgate ca serve`).
pub(crate) fn metrics() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let name = pattern(r#""(mesh_[a-z0-9_]+)""#);
    let sources = sources("proxy/src").concat();
    let named = name.captures_iter(&sources).map(|found| found[1].to_owned());
    let of_commands = named.flat_map(|name| [format!("{name}_total"), name]).collect::<Vec<_>>();
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let names = cells.flat_map(|cell| cell.split('`').map(str::to_owned).collect::<Vec<_>>());
    names.filter(|name| is_metric(name)).chain(of_commands).collect()
}

/// The texts of the Rust files below a folder.
fn sources(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap());
    let of_entry = |entry: fs::DirEntry| {
        let below = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => sources(&below),
            false => vec![fs::read_to_string(entry.path()).unwrap()],
        }
    };
    entries.flat_map(of_entry).collect()
}

fn is_metric(name: &str) -> bool {
    ["istio_", "mesh_", "process_"].iter().any(|family| name.starts_with(family))
}

/// The metrics within a text that are none of these.
pub(crate) fn unknown_metrics(text: &str, known: &BTreeSet<String>) -> BTreeSet<String> {
    let name = pattern(r"\b(?:istio|mesh|process)_[a-z0-9_]*[a-z0-9]\b");
    let is_known = |name: &str| {
        let mut parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| name.strip_suffix(part));
        known.contains(name) || parts.any(|name| known.contains(name))
    };
    name.find_iter(text).map(|found| found.as_str().to_owned()).filter(|name| !is_known(name)).collect()
}

#[test]
fn metrics_that_the_guide_names_exist() {
    let known = metrics();
    assert!(known.len() > 50, "{known:?}");
    let mut wrong = Vec::new();
    for page in pages().iter().filter(|page| page.path.starts_with("docs/")) {
        for (place, span) in page.spans() {
            // `mesh_x{label="value"}` is one; what is part of a file's name or a path is not.
            let name = span.split('{').next().unwrap();
            if is_metric(name) && !name.contains(['/', '.']) {
                wrong.extend(
                    unknown_metrics(name, &known)
                        .into_iter()
                        .map(|name| format!("{place}: docs/metrics.md has no {name}")),
                );
            }
        }
    }
    none_wrong(&wrong);
}

/// The response flags of the product: of errors, and of what is refused by a decision.
fn flags() -> BTreeSet<String> {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let errors = read("proxy/src/error.rs");
    let of_kinds =
        errors.split_once("pub fn flag(self)").unwrap().1.split_once("pub fn flag_of_last_try").unwrap().0.to_owned();
    let refusals = read("proxy/src/http/refusal.rs");
    let literal = pattern(r#"(?:=> |answered_by_us\([^"]*)"([A-Z_]+)""#);
    let texts = [of_kinds, refusals];
    let mut flags: BTreeSet<String> =
        texts.iter().flat_map(|text| literal.captures_iter(text)).map(|found| found[1].to_owned()).collect();
    flags.extend(["RBAC".to_owned(), "URX".to_owned()]);
    flags
}

/// Why a handshake fails, as the counter has it.
fn handshake_failures() -> BTreeSet<String> {
    let labels = fs::read_to_string(root().join("proxy/src/metrics/labels.rs")).unwrap();
    let listed = labels.split_once("/// Why not: ").unwrap().1.split_once(';').unwrap().0.to_owned();
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

const REFUSALS: [Reason; 8] = [
    Reason::DenyRule,
    Reason::NoAllowMatched,
    Reason::CatchAllDeny,
    Reason::Unreadable,
    Reason::NoTargetMatched,
    Reason::CustomDenied,
    Reason::CustomFailed,
    Reason::BadToken,
];

/// Compiles as long as the list above is whole.
fn is_refusal(reason: Reason) -> bool {
    match reason {
        Reason::NoPolicy | Reason::AllowRule | Reason::NotDenied | Reason::TargetRule => false,
        Reason::DenyRule
        | Reason::NoAllowMatched
        | Reason::CatchAllDeny
        | Reason::Unreadable
        | Reason::NoTargetMatched
        | Reason::CustomDenied
        | Reason::CustomFailed
        | Reason::BadToken => true,
    }
}

/// What `/ready` says is missing.
fn blockers() -> BTreeSet<String> {
    let sources = ["proxy/src/app.rs", "proxy/src/reload.rs", "proxy/src/jwks.rs"];
    let text = sources.map(|file| fs::read_to_string(root().join(file)).unwrap()).concat();
    let line = pattern(r#"(?m)^.*(?:Readiness::new\(|\.block\(|for \(blocker, |const FIRST_FETCH).*$"#);
    let literal = pattern(r#""([a-z ]+)""#);
    let lines = line.find_iter(&text).map(|found| found.as_str()).collect::<Vec<_>>().join("\n");
    literal.captures_iter(&lines).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_refusal_is_in_the_page_on_trouble() {
    assert!(REFUSALS.into_iter().all(is_refusal));
    let pages = pages();
    let page = pages.iter().find(|page| page.path == "docs/troubleshooting.md").unwrap();
    let spans: BTreeSet<_> = page.spans().into_iter().map(|(_, span)| span.to_owned()).collect();
    let (flags, failures) = (flags(), handshake_failures());
    assert!(flags.len() >= 20 && failures.len() >= 9, "{flags:?} {failures:?}");
    let reasons = REFUSALS.into_iter().map(|reason| reason.as_str().to_owned());
    let blockers = blockers();
    assert!(blockers.len() >= 5, "{blockers:?}");
    let missing = flags.into_iter().chain(failures).chain(reasons).chain(blockers).filter(|name| !spans.contains(name));
    none_wrong(
        &missing
            .map(|name| format!("docs/troubleshooting.md does not say what to do about `{name}`"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn response_flags_that_the_guide_names_exist() {
    let (flags, shape) = (flags(), pattern(r"^[A-Z][A-Z_]*$"));
    let mut wrong = Vec::new();
    // Where a table has a column of flags, and nowhere else: capitals are many things.
    for page in
        pages().iter().filter(|page| ["docs/operations.md", "docs/troubleshooting.md"].contains(&page.path.as_str()))
    {
        for (number, line) in in_tables_of(page, "flag") {
            let first = line.split('|').nth(1).unwrap_or_default();
            let named = first
                .split('`')
                .skip(1)
                .step_by(2)
                .flat_map(|span| span.split([',', ' ']))
                .filter(|word| shape.is_match(word));
            let unknown = named.filter(|flag| !flags.contains(*flag));
            wrong.extend(unknown.map(|flag| format!("{}:{number}: there is no response flag {flag}", page.path)));
        }
    }
    none_wrong(&wrong);
}

/// The rows of tables whose first column has that title.
fn in_tables_of<'a>(page: &'a Page, title: &str) -> Vec<(usize, &'a str)> {
    let (mut rows, mut is_in) = (Vec::new(), false);
    for (number, line) in page.prose() {
        if !line.starts_with('|') {
            is_in = false;
        } else if line.starts_with(&format!("| {title} |")) {
            is_in = true;
        } else if is_in {
            rows.push((number, line));
        }
    }
    rows
}

/// The paths that the admin endpoint's sources know.
fn admin_paths() -> BTreeSet<String> {
    let text =
        [sources("proxy/src/admin").concat(), fs::read_to_string(root().join("proxy/src/admin.rs")).unwrap()].concat();
    // A word: the page's script has patterns of a letter.
    let literal = pattern(r#""(/[a-z_]{3,}(?:/[a-z_]+)*)""#);
    literal.captures_iter(&text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn pages_of_the_admin_endpoint_that_the_guide_names_exist() {
    let known = admin_paths();
    assert!(known.len() > 15, "{known:?}");
    let asked = pattern(r"(?:localhost|127\.0\.0\.1):150(?:00|10|21)(/[a-z_]+(?:/[a-z_]+)*)");
    let mut wrong = Vec::new();
    for page in pages() {
        for (number, line) in (1..).zip(page.text.lines()) {
            let unknown =
                asked.captures_iter(line).map(|found| found[1].to_owned()).filter(|path| !known.contains(path));
            wrong.extend(unknown.map(|path| format!("{}:{number}: the admin endpoint has no {path}", page.path)));
        }
    }
    none_wrong(&wrong);
    let text = pages().into_iter().find(|page| page.path == "docs/admin.md").unwrap().text;
    let missing = known.into_iter().filter(|path| !text.contains(&format!("{path}`")));
    none_wrong(&missing.map(|path| format!("docs/admin.md has no {path}")).collect::<Vec<_>>());
}
