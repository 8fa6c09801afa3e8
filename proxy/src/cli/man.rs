//! `meshgate man`: the manual, a page a command, made of what clap knows and of what it does not: exit statuses, files, variables.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::cli::{Cli, fail, markdown, print, print_all, status, surroundings};

/// Options of `meshgate man`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The command whose page is wanted, for example `ca issue` [default: meshgate's own page]
    #[arg(value_name = "COMMAND", conflicts_with_all = ["dir", "markdown"])]
    words: Vec<String>,
    /// Write every page into this folder, which is made if it is not there
    #[arg(long, value_name = "DIR", conflicts_with = "markdown")]
    dir: Option<PathBuf>,
    /// Print all of it as one page of Markdown instead
    #[arg(long)]
    markdown: bool,
}

const EXAMPLES: &str = "Examples:
  meshgate man ca issue | man -l -
  meshgate man --dir /usr/local/share/man/man1";

/// The section for commands that users run.
const SECTION: &str = "1";

pub(super) fn run(args: &Args) -> ExitCode {
    let root = built();
    let done = match (&args.dir, args.markdown) {
        (Some(dir), _) => {
            write_all(&root, dir).and_then(|count| print(format_args!("{count} pages in {}", dir.display())))
        }
        (None, true) => print(markdown::page(&root).trim_end()),
        (None, false) => match find(&root, &args.words) {
            Some(command) => page(command).and_then(|page| print_all(&page)),
            None => {
                return fail(format_args!(
                    "there is no command `{}`: `meshgate help` lists them",
                    args.words.join(" ")
                ));
            }
        },
    };
    done.map_or_else(fail, |()| ExitCode::SUCCESS)
}

/// The tree of commands, as clap completes it. Without its own `help`, which has nothing to say in a manual.
pub(super) fn built() -> Command {
    let mut root = <Cli as clap::CommandFactory>::command().disable_help_subcommand(true);
    root.build();
    root
}

/// The words that lead to a built command, without `meshgate`.
pub(super) fn words(command: &Command) -> &str {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    name.strip_prefix("meshgate").unwrap_or(name).trim_start()
}

/// The commands below one that are not hidden.
pub(super) fn below(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set())
}

fn find<'a>(root: &'a Command, words: &[String]) -> Option<&'a Command> {
    words.iter().try_fold(root, |command, word| below(command).find(|sub| sub.get_name() == word))
}

fn write_all(root: &Command, dir: &Path) -> io::Result<usize> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: cannot be written: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(named)?;
    let mut left = vec![root];
    let mut count = 0;
    while let Some(command) = left.pop() {
        let name = title(command);
        fs::write(dir.join(format!("{name}.{SECTION}")), page(command)?).map_err(named)?;
        count += 1;
        left.extend(below(command));
    }
    Ok(count)
}

/// `meshgate-ca-issue`
fn title(command: &Command) -> String {
    ["meshgate"].into_iter().chain(words(command).split_whitespace()).collect::<Vec<_>>().join("-")
}

/// One page, in the order of man-pages(7).
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(title(command).to_uppercase())
        .source(concat!("meshgate ", env!("CARGO_PKG_VERSION")))
        .manual("meshgate");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    if below(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    beside(command).to_writer(&mut page)?;
    Ok(ascii(&String::from_utf8_lossy(&page)))
}

/// troff reads bytes, and other characters by their names.
fn ascii(page: &str) -> Vec<u8> {
    let mut text = String::with_capacity(page.len());
    for c in page.chars() {
        if c.is_ascii() { text.push(c) } else { text.push_str(&format!("\\[u{:04X}]", u32::from(c))) }
    }
    text.into_bytes()
}

/// What clap does not know.
fn beside(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let words = words(command);
    let list = |roff: &mut Roff, heading: &str, entries: &mut dyn Iterator<Item = (String, &str)>| {
        let mut entries = entries.peekable();
        if entries.peek().is_some() {
            roff.control("SH", [heading]);
        }
        for (name, text) in entries {
            roff.control("TP", []);
            roff.text([bold(name)]);
            roff.text([roman(text)]);
        }
    };
    let statuses = if words.is_empty() { &status::IN_GENERAL[..] } else { status::of(words) };
    list(&mut roff, "EXIT STATUS", &mut statuses.iter().map(|(code, text)| (code.to_string(), *text)));
    let files = surroundings::files(words);
    list(&mut roff, "FILES", &mut files.iter().map(|(name, text)| ((*name).to_owned(), *text)));
    let variables = surroundings::variables(words);
    list(&mut roff, "ENVIRONMENT", &mut variables.iter().map(|(name, text)| ((*name).to_owned(), text.as_str())));
    if let Some(text) = command.get_after_help() {
        roff.control("SH", ["NOTES"]);
        roff.control("nf", []);
        for line in text.to_string().lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff.control("SH", ["SEE ALSO"]);
    for other in surroundings::see_also(words, below(command).map(title)) {
        roff.text([bold(other), roman(format!("({SECTION})"))]);
        roff.control("br", []);
    }
    roff.text([italic("docs/cli.md")]);
    roff
}
