//! `meshgate` commands that the guide names, in its text and in blocks that are not run, have the subcommands and options that they are given.

use std::collections::BTreeMap;

use crate::commands::SHELLS;
use crate::markdown::pages;
use crate::{meshgate, none_wrong, pattern, root};

/// What `--help` of a command says.
#[derive(Default)]
struct Help {
    known: BTreeMap<Vec<String>, Option<String>>,
}

impl Help {
    /// The help of a command; none if there is no such command.
    fn of(&mut self, command: &[String]) -> Option<&str> {
        let ask = || {
            let arguments: Vec<_> = command.iter().map(String::as_str).chain(["--help"]).collect();
            let (status, text, _) = meshgate(&root(), &arguments);
            (status == 0).then_some(text)
        };
        self.known.entry(command.to_vec()).or_insert_with(ask).as_deref()
    }

    fn has_subcommands(&mut self, command: &[String]) -> bool {
        self.of(command).is_some_and(|text| text.contains("\nCommands:\n"))
    }

    /// What is wrong with a command line behind `meshgate`.
    fn problem(&mut self, line: &str) -> Option<String> {
        let words: Vec<&str> =
            line.split_whitespace().take_while(|word| !["|", "&&", "||", ";", "&", ">", "#"].contains(word)).collect();
        let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-');
        let mut command = Vec::new();
        let mut rest = words.iter().peekable();
        while self.has_subcommands(&command) {
            let Some(word) = rest.next_if(is_name) else { break };
            command.push((*word).to_owned());
            if self.of(&command).is_none() {
                return Some(format!("there is no `meshgate {}`", command.join(" ")));
            }
        }
        let help = self.of(&command)?;
        let option = pattern(r"^(--[a-z][a-z0-9-]*)");
        let named =
            rest.filter_map(|word| Some(option.captures(word.trim_start_matches(['(', '[', '`']))?[1].to_owned()));
        // Aliases are not in the help of what they are aliases of.
        let is_known = |option: &String| option == "--help" || pattern(&format!(r"{option}\b")).is_match(help);
        let unknown: Vec<_> = named.filter(|option| !is_known(option)).collect();
        (!unknown.is_empty()).then(|| format!("`meshgate {}` has no {}", command.join(" "), unknown.join(", ")))
    }
}

/// The command lines of `meshgate` within a text, without the name.
fn lines(text: &str) -> Vec<String> {
    let command = pattern(r"(?m)(?:^|[\s(|;&])meshgate ([a-z].*)$");
    let joined = text.replace("\\\n", " ");
    command.captures_iter(&joined).map(|found| found[1].to_owned()).collect()
}

#[test]
fn commands_that_the_guide_names_exist_and_take_its_options() {
    let (mut help, mut wrong, mut count) = (Help::default(), Vec::new(), 0);
    for page in pages().iter().filter(|page| page.path.starts_with("docs/") || page.path == "README.md") {
        let blocks = page.blocks().into_iter().filter(|block| SHELLS.contains(&block.language.as_str()));
        let of_blocks =
            blocks.flat_map(|block| lines(&block.text).into_iter().map(move |line| (block.place.clone(), line)));
        let of_text = page
            .spans()
            .into_iter()
            .filter_map(|(place, span)| Some((place, span.strip_prefix("meshgate ")?.to_owned())));
        for (place, line) in of_blocks.chain(of_text) {
            count += 1;
            wrong.extend(help.problem(&line).map(|problem| format!("{place}: {problem}")));
        }
    }
    none_wrong(&wrong);
    assert!(count > 60, "{count}");
}

#[test]
fn what_is_no_command_is_seen() {
    let mut help = Help::default();
    for (line, is_good) in [
        ("run --bootstrap x", true),
        ("iptables print --format nft", true),
        ("explain --to http://x/ | head", true),
        ("mend", false),
        ("ca forge", false),
        ("run --bootstrp x", false),
        ("check | x --no-option", true),
    ] {
        assert_eq!(help.problem(line).is_none(), is_good, "{line}");
    }
}

#[test]
fn commands_are_found_within_lines() {
    let text =
        "$ echo x | meshgate inject a.yaml | kubectl apply -f -\nmeshgate ca init \\\n  --dir x\nthe meshgate Proxy\n";
    assert_eq!(lines(text), ["inject a.yaml | kubectl apply -f -", "ca init    --dir x"]);
}
