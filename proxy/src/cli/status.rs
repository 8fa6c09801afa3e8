//! Exit statuses: every one that a command ends with, and what it means there.
//!
//! The one idea: [`TABLE`] is the only place. `--help`, the manual pages and `docs/cli.md` are made of it, and a test holds the
//! commands to it.

use meshgate_iptables::cli as iptables;

/// Done; or the answer is yes.
pub(super) const DONE: u8 = 0;
/// The answer is no: denied, a step differed, a warning under `--strict`, not ready in time.
pub(super) const NO: u8 = 1;
/// The input is wrong, or what was asked for could not be begun.
pub(super) const BAD_INPUT: u8 = 2;
/// The proxy had started, and ended although nobody asked it to: a defect. Whoever starts it again finds the same input, which is good.
pub(super) const BROKE: u8 = 3;

/// What a status means of any command, for the head of the table.
pub(super) const IN_GENERAL: [(u8, &str); 4] = [
    (DONE, "done, or the answer is yes"),
    (NO, "the answer is no"),
    (BAD_INPUT, "the input is wrong, or it could not be begun; standard error says what and where"),
    (BROKE, "it had begun, and broke by itself"),
];

/// A command's words, without `meshgate`, and what it ends with.
pub(super) type Row = (&'static str, &'static [(u8, &'static str)]);

const WRONG: (u8, &str) = (BAD_INPUT, "the input is wrong");
const UNCHANGED: (u8, &str) = (BAD_INPUT, "the input is wrong or a file is in the way; nothing was changed");

/// All commands, in the order of `meshgate help`.
pub(super) const TABLE: &[Row] = &[
    (
        "run",
        &[
            (DONE, "it was asked to end, and has"),
            (BAD_INPUT, "it could not start"),
            (BROKE, "it ended by itself: start it again, and report it"),
        ],
    ),
    (
        "demo",
        &[
            (DONE, "every step is as expected"),
            (NO, "a step differs, or it was stopped before the last"),
            (BAD_INPUT, "the arguments are wrong, or the mesh cannot be started here"),
        ],
    ),
    (
        "check",
        &[
            (DONE, "no problems, or warnings only"),
            (NO, "warnings, where --strict counts them as a no"),
            (BAD_INPUT, "errors, or what is to be checked cannot be read"),
        ],
    ),
    (
        "explain",
        &[
            (DONE, "allowed (with --to: would be sent)"),
            (NO, "refused (with many requests: one of them is)"),
            (BAD_INPUT, "the input is wrong, or the proxy cannot be asked"),
        ],
    ),
    (
        "import",
        &[
            (DONE, "everything is imported"),
            (NO, "something was left out"),
            (BAD_INPUT, "the input is wrong, or a gateway did not answer"),
        ],
    ),
    (
        "inject",
        &[
            (DONE, "done"),
            (NO, "a document is refused, and nothing is printed"),
            (BAD_INPUT, "the arguments are wrong, or a file cannot be read"),
        ],
    ),
    ("test", &[(DONE, "every case is as expected"), (NO, "some are not"), WRONG]),
    ("top", &[(DONE, "done"), (BAD_INPUT, "the arguments are wrong, or there is no proxy to ask")]),
    ("wait", &[(DONE, "the proxy is ready"), (NO, "it was not in time"), (BAD_INPUT, "the arguments are wrong")]),
    ("ca init", &[(DONE, "made"), UNCHANGED]),
    ("ca issue", &[(DONE, "issued"), UNCHANGED]),
    ("ca revoke", &[(DONE, "the list is written"), UNCHANGED]),
    ("ca crl", &[(DONE, "the list is written"), UNCHANGED]),
    ("ca serve", &[(DONE, "it was asked to end, and has"), (BAD_INPUT, "it could not start")]),
    ("ca bundle", &[(DONE, "the bundle is written"), UNCHANGED]),
    ("ca show", &[(DONE, "shown, whatever is wrong with it"), (BAD_INPUT, "nothing to show, or nobody answers")]),
    (
        "ca verify",
        &[
            (DONE, "a peer with this trust bundle would accept it"),
            (NO, "it would not"),
            (BAD_INPUT, "a file cannot be read"),
        ],
    ),
    ("iptables print", &[(DONE, "printed"), (BAD_INPUT, "contradictory options")]),
    (
        "iptables apply",
        &[
            (DONE, "the rules are loaded; with --validate they act, and else the statuses are those of validate"),
            (BAD_INPUT, "nothing was changed, or what was is put back"),
        ],
    ),
    ("iptables clean", &[(DONE, "all of ours is removed, or there was nothing"), (BAD_INPUT, "something is left")]),
    (
        "iptables check",
        &[
            (DONE, "what is loaded is what is asked for"),
            (iptables::DIFFERENT, "it is not"),
            (BAD_INPUT, "the options are wrong, or the rules cannot be looked at"),
        ],
    ),
    (
        "iptables validate",
        &[
            (DONE, "what was probed is redirected, or the options capture nothing"),
            (BAD_INPUT, "nothing could be proved: the ports are taken, no route, no rights"),
            (iptables::NOT_REDIRECTED + iptables::OUTBOUND[0], "outbound IPv4 is not redirected"),
            (iptables::NOT_REDIRECTED + iptables::OUTBOUND[1], "outbound IPv6 is not"),
            (iptables::NOT_REDIRECTED + iptables::INBOUND[0], "inbound IPv4 is not"),
            (iptables::NOT_REDIRECTED + iptables::INBOUND[1], "inbound IPv6 is not"),
            (ALL, "none is; 16 and the sum of the 1, 2, 4 and 8 above, whichever are not"),
        ],
    ),
    ("completions", &[(DONE, "printed"), (BAD_INPUT, "the arguments are wrong")]),
    ("man", &[(DONE, "printed or written"), (BAD_INPUT, "there is no such command, or the folder cannot be written")]),
    ("version", &[(DONE, "printed"), (BAD_INPUT, "the arguments are wrong")]),
];

/// Of `iptables validate`, when nothing at all is redirected.
const ALL: u8 = iptables::NOT_REDIRECTED
    + iptables::OUTBOUND[0]
    + iptables::OUTBOUND[1]
    + iptables::INBOUND[0]
    + iptables::INBOUND[1];

/// What a command, by its words, ends with; nothing for a group of commands.
pub(super) fn of(words: &str) -> &'static [(u8, &'static str)] {
    TABLE.iter().find(|(command, _)| *command == words).map_or(&[], |(_, meanings)| meanings)
}

/// The command tree with the statuses of each command at the end of its help.
pub(super) fn in_help(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|sub| told(sub, String::new()))
}

fn told(command: clap::Command, before: String) -> clap::Command {
    let words = before + command.get_name();
    let meanings = of(&words);
    let command = command.mut_subcommands(|sub| told(sub, format!("{words} ")));
    if meanings.is_empty() {
        return command;
    }
    let lines: String = meanings.iter().map(|(status, means)| format!("\n  {status:<2} {means}")).collect();
    let before = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    command.after_help(format!("{before}Exit status:{lines}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::man;

    #[test]
    fn every_command_is_in_the_table_and_nothing_else() {
        let root = man::built();
        let mut left = vec![&root];
        let mut commands = BTreeSet::new();
        while let Some(command) = left.pop() {
            let before = left.len();
            left.extend(man::below(command));
            if left.len() == before {
                commands.insert(man::words(command).to_owned());
            }
        }
        let known: BTreeSet<_> = TABLE.iter().map(|(command, _)| (*command).to_owned()).collect();
        assert_eq!(commands, known);
        for (command, meanings) in TABLE {
            assert!(meanings.is_sorted_by_key(|(status, _)| *status), "{command}");
            let is_ours = |status: u8| status > BROKE || IN_GENERAL.iter().any(|(known, _)| *known == status);
            assert!(meanings.iter().all(|(status, _)| is_ours(*status)), "{command}");
        }
    }
}
