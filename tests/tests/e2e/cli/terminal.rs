//! What depends on a terminal: colours and progress, and nothing else. A real one: `script`, of every Linux, makes it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{deny_all_and_allow, folder, meshgate};

/// What a terminal is shown by a command line, with variables set.
fn shown(dir: &Path, arguments: &str, variables: &[(&str, &str)]) -> Option<String> {
    let line = format!("{} {arguments}", crate::binary().display());
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(dir).stdin(Stdio::null());
    command.env("TERM", "xterm").env_remove("NO_COLOR").envs(variables.iter().copied());
    let Ok(output) = command.output() else {
        assert!(std::env::var_os("CI").is_none(), "script (of util-linux) is not there");
        eprintln!("*** SKIPPED: there is no `script`: nobody has looked at a terminal ***");
        return None;
    };
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let dir = folder(&deny_all_and_allow());
    for command in ["check .", "explain --resources . --path /a"] {
        let Some(text) = shown(dir.path(), command, &[]) else { return };
        assert!(text.contains("\u{1b}["), "{command}: {text}");
        for unwanted in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let text = shown(dir.path(), command, &[unwanted]).unwrap();
            assert!(!text.contains('\u{1b}') && !text.is_empty(), "{command} {unwanted:?}: {text:?}");
        }
        let empty = shown(dir.path(), command, &[("NO_COLOR", "")]).unwrap();
        assert!(empty.contains("\u{1b}["), "an empty NO_COLOR says nothing: {empty}");
        let (_, text, errors) = meshgate(dir.path(), &command.split(' ').collect::<Vec<_>>());
        assert!(!format!("{text}{errors}").contains('\u{1b}'), "{command}: {text}{errors}");
    }
}

#[test]
fn what_takes_long_says_what_it_waits_for_on_a_terminal_only() {
    let dir = folder("");
    if let Some(text) = shown(dir.path(), "inject", &[]) {
        assert!(text.contains("reading from standard input; Ctrl-D ends it"), "{text:?}");
    }
    assert!(!meshgate(dir.path(), &["inject"]).2.contains("Ctrl-D"));
    let wait = "wait --admin 127.0.0.1:1 --timeout 1500ms";
    let Some(text) = shown(dir.path(), wait, &[]) else { return };
    let line = "\r\u{1b}[Kwaiting for the proxy at 127.0.0.1:1 (1 s)\r\u{1b}[K";
    assert!(text.contains(line) && text.contains("is not ready after 1.5s"), "{text:?}");
    let text = shown(dir.path(), wait, &[("TERM", "dumb")]).unwrap();
    assert!(!text.contains("waiting"), "{text:?}");
    let (status, text, errors) = meshgate(dir.path(), &wait.split(' ').collect::<Vec<_>>());
    assert!(status == 1 && text.is_empty() && !errors.contains("waiting"), "{errors}");
}
