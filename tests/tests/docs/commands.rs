//! The commands of the guide are run.
//!
//! | a block of `sh`, `bash` or `console` | what is done with it |
//! |---|---|
//! | without a mark | run, page by page and in order, in a [session](crate::session). What ends with another status than 0 is an error |
//! | `kubernetes` | as that, with a stand-in for `kubectl` that looks whether files are there and keeps what is applied, which is then read as YAML; no output is compared |
//! | `gate` | not run: each of its commands is one that `.ci/run` or the `justfile` has |
//! | `bench` | not run: the programs of `bench/` are there, and `--help` has the options |
//! | `not-run` | not run: for other machines, or longer than a test may take |
//!
//! Of blocks that are not run, and of code within the text, [`options`](crate::options) looks up each `meshgate` command and its options.
//!
//! In `console` a command stands behind `$ ` (or `# `, as root) and what it prints below; then the output must be that, and its status may be
//! any. `...` stands for anything within a line, and for any number of lines where it is one. Commands that only look (`curl`, `tail`) are tried
//! again for a while until they give what is shown. A comment `<!-- run` ... `-->` holds shell that readers are not shown, for what a page takes
//! for granted.

use std::io::Write;
use std::thread;

use regex::Regex;

use crate::markdown::{Block, Page, pages};
use crate::session::{Session, is_possible, is_root};
use crate::{none_wrong, pattern, root};

/// The marks, and what a mistyped one is told.
const MARKS: [&str; 4] = ["kubernetes", "gate", "bench", "not-run"];

/// What shells are called behind a fence.
pub(crate) const SHELLS: [&str; 3] = ["sh", "bash", "console"];

/// Pages whose commands write where only root may, or load rules with tools that know who is root of the machine.
const OF_ROOT: [&str; 2] = ["docs/cli.md", "docs/iptables.md"];

/// Commands that only look. They are tried again: what was started or written before them may need a moment to be there.
const LOOKS: [&str; 5] = ["curl ", "tail ", "grep ", "meshgate explain ", "meshgate top "];

/// As often, with a tenth of a second between.
const TRIES: usize = 100;

/// A command, or a block of them, and what it must print.
struct Step {
    script: String,
    expected: Option<String>,
}

/// The commands of a block, each with the output that stands below it.
///
/// # Errors
/// There is output without a command.
fn steps(block: &Block) -> Result<Vec<Step>, String> {
    if block.language != "console" {
        // The first that fails ends the shell, and with it the page.
        return Ok(vec![Step {
            script: format!("set -eo pipefail\n{}\nset +eo pipefail", block.text),
            expected: None,
        }]);
    }
    let mut steps = Vec::<Step>::new();
    let mut goes_on = false;
    for line in block.text.lines() {
        let prompt = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
        match (steps.last_mut(), prompt) {
            (Some(step), _) if goes_on => step.script.push_str(&format!("\n{line}")),
            (_, Some(command)) => steps.push(Step { script: command.to_owned(), expected: None }),
            (Some(step), None) => step.expected.get_or_insert_default().push_str(&format!("{line}\n")),
            (None, None) => return Err(format!("{}: `console` begins with `$ `; output alone is `text`", block.place)),
        }
        goes_on = line.ends_with('\\') && (goes_on || prompt.is_some());
    }
    Ok(steps)
}

/// What was printed is what is shown.
fn is_as_shown(expected: &str, output: &str) -> bool {
    let line = |line: &str| match line.trim() {
        "..." => r"(?:[^\n]*\n)*?".to_owned(),
        _ => format!("{}[ \\t]*\\n", regex::escape(line.trim_end()).replace(r"\.\.\.", r"[^\n]*")),
    };
    let lines: String = expected.trim_end().lines().map(line).collect();
    Regex::new(&format!(r"\A{lines}\z")).unwrap().is_match(&format!("{}\n", output.trim_end()))
}

fn run_step(session: &mut Session, step: &Step, is_compared: bool) -> Result<(), String> {
    let tries = if LOOKS.iter().any(|look| step.script.starts_with(look)) { TRIES } else { 1 };
    let mut last = String::new();
    for again in 0..tries {
        if again > 0 {
            session.run("sleep 0.1")?;
        }
        let outcome = session.run(&step.script)?;
        last = match (&outcome.status, &step.expected) {
            (None, _) => return Err(format!("a command of these failed, and said:\n{}", outcome.output)),
            (Some(_), Some(expected)) if is_compared => {
                if is_as_shown(expected, &outcome.output) {
                    return Ok(());
                }
                format!("the page shows\n{expected}\nand it prints\n{}", outcome.output)
            }
            (Some(status), _) if status == "0" => return Ok(()),
            (Some(status), _) => format!("it ends with status {status}, and says:\n{}", outcome.output),
        };
    }
    Err(last)
}

/// What a page has for its shell: its blocks that are run, and what it does not show.
fn to_run(page: &Page) -> Vec<Block> {
    let hidden = pattern(r"(?ms)^<!-- run\n(.*?)^-->");
    // Blocks of another kind keep their contents, so that hidden shell is found where it stands.
    let text = hidden.replace_all(&page.text, "```sh\n$1```").into_owned();
    let with_hidden = Page { path: page.path.clone(), text };
    let is_run =
        |block: &Block| SHELLS.contains(&block.language.as_str()) && (block.marks.is_empty() || block.is("kubernetes"));
    with_hidden.blocks().into_iter().filter(is_run).collect()
}

/// Runs a page's commands; says which went wrong. Commands after one that ended the shell are not run.
fn run_page(page: &Page) -> (usize, Vec<String>) {
    let (mut session, mut wrong, mut count) = (Session::new(), Vec::new(), 0);
    for block in to_run(page) {
        let steps = steps(&block).unwrap_or_else(|problem| {
            wrong.push(problem);
            Vec::new()
        });
        for step in steps {
            count += 1;
            if let Err(why) = run_step(&mut session, &step, !block.is("kubernetes")) {
                wrong.push(format!(
                    "{}: {}\n{why}\n(mark the block, as ```{} not-run, if no test can run it: tests/tests/docs/commands.rs has the marks)",
                    block.place, step.script, block.language
                ));
                if session.run("true").ok().and_then(|outcome| outcome.status).is_none() {
                    return (count, wrong);
                }
            }
        }
    }
    for (file, text) in session.applied() {
        let place = format!("{}: what it applies ({})", page.path, file.display());
        wrong.extend(crate::documents::problem_of_manifest(&text).map(|problem| format!("{place}: {problem}")));
    }
    (count, wrong)
}

#[test]
fn commands_do_what_the_page_shows() {
    if !is_possible() {
        return;
    }
    if !is_root() {
        let line = format!("\n*** SKIPPED: the commands of {} (need root) ***\n", OF_ROOT.join(" and "));
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    let only = std::env::var("DOCS_PAGE").unwrap_or_default();
    let pages = pages();
    let ran = thread::scope(|scope| {
        let may_run = |page: &&Page| is_root() || !OF_ROOT.contains(&page.path.as_str());
        let to_run = pages.iter().filter(|page| page.path.contains(&only) && !to_run(page).is_empty() && may_run(page));
        let threads: Vec<_> = to_run.map(|page| scope.spawn(|| run_page(page))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    none_wrong(&ran.iter().flat_map(|(_, wrong)| wrong.clone()).collect::<Vec<_>>());
    let count: usize = ran.iter().map(|(count, _)| count).sum();
    assert!(count > 25 || !only.is_empty(), "{count}");
}

#[test]
fn marks_are_known_and_commands_say_that_they_are() {
    let mut wrong = Vec::new();
    let commands = pattern(r"(?m)^([$#] )?(meshgate|kubectl|cargo|curl|docker|podman|istioctl|helm|bench/\w+) ");
    for block in pages().iter().flat_map(Page::blocks) {
        let is_shell = SHELLS.contains(&block.language.as_str());
        let marks = block.marks.iter().filter(|mark| is_shell && !MARKS.contains(&mark.as_str()));
        wrong.extend(marks.map(|mark| format!("{}: `{mark}` is none of {MARKS:?}", block.place)));
        let is_prompted = block.text.lines().any(|line| line.starts_with("$ "));
        if block.language.is_empty() && commands.is_match(&block.text) || block.language == "text" && is_prompted {
            wrong.push(format!("{}: commands: say `sh`, or `console` where output is shown", block.place));
        }
        if is_shell && block.marks.is_empty() && block.text.contains("kubectl ") {
            wrong.push(format!("{}: kubectl: mark it, as ```{} kubernetes", block.place, block.language));
        }
    }
    none_wrong(&wrong);
}

/// A line's command, without prompt and comment.
fn command(line: &str) -> Option<&str> {
    let line = line.trim().trim_start_matches("$ ");
    let command = line.split(" #").next().unwrap_or_default().trim();
    (!command.is_empty() && !command.starts_with('#')).then_some(command)
}

fn marked(mark: &str) -> Vec<(String, String)> {
    let blocks = pages().iter().flat_map(Page::blocks).filter(|block| block.is(mark)).collect::<Vec<_>>();
    let of_block = |block: Block| {
        let commands = block.text.lines().filter_map(command).map(str::to_owned).collect::<Vec<_>>();
        commands.into_iter().map(move |command| (block.place.clone(), command))
    };
    blocks.into_iter().flat_map(of_block).collect()
}

#[test]
fn what_the_gate_is_said_to_run_it_runs() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let gate = [read(".ci/run"), read("justfile")].concat();
    let runs = |command: &str| match command.strip_prefix("cargo run --release -- ") {
        Some(arguments) => gate.contains(&format!("/release/meshgate\" {arguments} ")),
        None => gate.contains(command),
    };
    let missing = marked("gate").into_iter().filter(|(_, command)| !runs(command));
    none_wrong(
        &missing
            .map(|(place, command)| format!("{place}: neither .ci/run nor justfile has {command}"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn benchmarks_that_the_guide_names_take_its_options() {
    let mut wrong = Vec::new();
    for (place, command) in marked("bench") {
        let mut words = command.split_whitespace();
        // Building comes before.
        let Some(name) = words.next().filter(|name| *name != "cargo") else { continue };
        let program = root().join(name);
        if !program.exists() {
            wrong.push(format!("{place}: there is no {}", program.display()));
            continue;
        }
        let mut text = std::fs::read_to_string(&program).unwrap();
        for module in std::fs::read_dir(root().join("bench/side_by_side")).unwrap().map(|entry| entry.unwrap().path()) {
            text.push_str(&std::fs::read_to_string(module).unwrap_or_default());
        }
        let unknown = words.filter(|word| word.starts_with("--") && !text.contains(&format!("\"{word}\"")));
        wrong.extend(unknown.map(|option| format!("{place}: {} has no {option}", program.display())));
    }
    none_wrong(&wrong);
}

#[test]
fn dots_stand_for_anything_and_nothing_else_does() {
    for (expected, output, is_same) in [
        ("a\nb\n", "a\nb\n", true),
        ("a\n...\nd\n", "a\nb\nc\nd\n", true),
        ("a\n...\n", "a\nb\nc\n", true),
        ("a\n...\n", "a\n", true),
        ("...\nd\n", "b\nd\n", true),
        ("pid ... ok", "pid 17 ok", true),
        ("pid ... ok", "pid\nok", false),
        ("a.c", "abc", false),
        ("a\n", "a\nb\n", false),
        ("b\n", "a\nb\n", false),
    ] {
        assert_eq!(is_as_shown(expected, output), is_same, "{expected:?} {output:?}");
    }
}
