//! All commands on one page of Markdown, which is `docs/cli.md`: a test holds the file to what is printed here.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::cli::{man, status};

const HEAD: &str = include_str!("markdown/head.md");

/// The page, of a built tree of commands.
pub(super) fn page(root: &Command) -> String {
    let mut text = HEAD.to_owned();
    statuses(&mut text);
    let mut left: Vec<_> = man::below(root).collect();
    left.reverse();
    while let Some(command) = left.pop() {
        section(&mut text, command);
        let mut below: Vec<_> = man::below(command).collect();
        below.reverse();
        left.extend(below);
    }
    text
}

fn statuses(text: &mut String) {
    text.push_str("\n## Exit statuses\n\n| status | of every command |\n|---|---|\n");
    for (status, means) in status::IN_GENERAL {
        let _ = writeln!(text, "| {status} | {} |", cell(means));
    }
    text.push_str("\n| command | status | means |\n|---|---|---|\n");
    for (command, meanings) in status::TABLE {
        for (status, means) in *meanings {
            let _ = writeln!(text, "| `{command}` | {status} | {} |", cell(means));
        }
    }
}

fn section(text: &mut String, command: &Command) {
    let words = man::words(command);
    let level = if words.contains(' ') { "###" } else { "##" };
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    // The usage line begins with "Usage: ", and needs a command of its own to be made.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let _ = write!(text, "\n{level} meshgate {words}\n\n{}.\n\n```text\n{usage}\n```\n", cell(&about));
    let shown = |argument: &&Arg| !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str());
    let arguments: Vec<_> = command.get_arguments().filter(shown).collect();
    if !arguments.is_empty() {
        text.push_str("\n| argument | what | default |\n|---|---|---|\n");
    }
    for argument in arguments {
        let _ = writeln!(text, "| {} | {} | {} |", name(argument), what(argument), default(argument));
    }
    if let Some(notes) = command.get_after_help() {
        let _ = write!(text, "\n```text\n{notes}\n```\n");
    }
}

/// `-o`, `--output <OUTPUT>`, with other names for the same.
fn name(argument: &Arg) -> String {
    let takes_value = argument.get_action().takes_values();
    let value =
        argument.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>")).collect::<Vec<_>>();
    let value = value.join(" ");
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let others = argument.get_visible_aliases().unwrap_or_default().into_iter().map(|alias| format!("--{alias}"));
    let flags: Vec<_> = short.into_iter().chain(long).chain(others).map(|flag| format!("`{flag}`")).collect();
    match (flags.is_empty(), takes_value) {
        (true, _) => format!("`{value}`").replace('|', "\\|"),
        (false, true) => format!("{} `{value}`", flags.join(", ")).replace('|', "\\|"),
        (false, false) => flags.join(", "),
    }
}

fn what(argument: &Arg) -> String {
    let mut text = cell(&argument.get_help().map(ToString::to_string).unwrap_or_default());
    let values: Vec<_> = argument.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect();
    if argument.get_action().takes_values() && !values.is_empty() {
        let names: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
        let _ = write!(text, ": {}", names.join(", "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(text, "; or the variable `{}`", variable.to_string_lossy());
    }
    if argument.is_required_set() {
        text.push_str("; required");
    }
    text
}

fn default(argument: &Arg) -> String {
    let values = argument.get_default_values().iter().map(|value| value.to_string_lossy());
    let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
    let is_switch = !argument.get_action().takes_values();
    if values.is_empty() || is_switch { String::new() } else { format!("`{}`", values.join(" ")).replace('|', "\\|") }
}

/// What would end a cell, or be taken for a tag, is escaped; code keeps its angles.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    let mut in_code = false;
    for c in text.chars() {
        in_code ^= c == '`';
        match c {
            '|' => cell.push_str("\\|"),
            '<' if !in_code => cell.push_str("\\<"),
            '\n' => cell.push(' '),
            c => cell.push(c),
        }
    }
    cell
}
