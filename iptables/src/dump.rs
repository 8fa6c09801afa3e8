//! Reads what `iptables-save` prints and `iptables-restore` takes: one form, so one reader for what is loaded and for what
//! is to be.
//!
//! The one idea: only what is ours is kept: chains named `MESHGATE_…`, and rules elsewhere that lead into them or carry
//! our comment. Rules of others are counted and otherwise not looked at.

use std::collections::{BTreeMap, BTreeSet};

/// Our part of the tables of one address family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dump {
    /// By the table's name.
    pub(crate) tables: BTreeMap<String, Table>,
    /// Rules of others, in all tables.
    pub(crate) foreign_rules: usize,
    /// Chains of others that are not the kernel's.
    pub(crate) foreign_chains: BTreeSet<String>,
}

/// Our part of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// Our chains, sorted.
    pub(crate) chains: BTreeSet<String>,
    /// Our rules, in their order.
    pub(crate) rules: Vec<Line>,
}

/// A rule as it is written: `-A CHAIN …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The chain it is in.
    pub(crate) chain: String,
    /// What follows the chain's name.
    pub(crate) rest: String,
}

impl Dump {
    /// Reads a text; lines of no meaning here, such as counters and comments, are left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut dump = Self::default();
        let mut table = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('*') {
                name.clone_into(&mut table);
            } else if let Some(chain) = line.strip_prefix(':') {
                dump.chain(&table, chain);
            } else if let Some(rule) = line.strip_prefix("-A ") {
                dump.rule(&table, rule);
            }
        }
        dump.tables.retain(|_, table| !table.is_empty());
        dump
    }

    /// Whether nothing of ours is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    fn chain(&mut self, table: &str, declaration: &str) {
        let mut words = declaration.split_whitespace();
        let (Some(name), policy) = (words.next(), words.next()) else { return };
        if is_own_chain(name) {
            self.tables.entry(table.to_owned()).or_default().chains.insert(name.to_owned());
        } else if policy == Some("-") {
            self.foreign_chains.insert(name.to_owned());
        }
    }

    fn rule(&mut self, table: &str, rule: &str) {
        let (chain, rest) = rule.split_once(' ').unwrap_or((rule, ""));
        let line = Line { chain: chain.to_owned(), rest: rest.to_owned() };
        if line.is_own() {
            self.tables.entry(table.to_owned()).or_default().rules.push(line);
        } else {
            self.foreign_rules += 1;
        }
    }
}

impl Table {
    /// Whether nothing of ours is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.rules.is_empty()
    }
}

impl Line {
    /// Whether the rule is in a chain of ours.
    pub(crate) fn is_in_own_chain(&self) -> bool {
        is_own_chain(&self.chain)
    }

    fn is_own(&self) -> bool {
        let mut words = words(&self.rest).into_iter().skip_while(|word| !matches!(word.as_str(), "-j" | "-g"));
        let target = words.nth(1);
        self.is_in_own_chain()
            || target.is_some_and(|target| is_own_chain(&target))
            || comment(&self.rest).is_some_and(|comment| comment.starts_with(OWN_COMMENT))
    }

    /// The rule in a form that is the same for everything that means the same: the order of conditions carries no meaning
    /// and tools print it in their own, with defaults that nobody asked for.
    pub(crate) fn canonical(&self) -> String {
        let mut groups: Vec<String> = Vec::new();
        let mut negated = false;
        for word in words(&self.rest) {
            match word.as_str() {
                "!" => negated = true,
                option if option.starts_with('-') && option.len() > 1 && !is_number(option) => {
                    groups.push(format!("{}{}", if negated { "! " } else { "" }, same_option(option)));
                    negated = false;
                }
                value => {
                    if let Some(group) = groups.last_mut() {
                        group.push_str(&format!(" {}", same_value(group, value)));
                    }
                }
            }
        }
        groups.retain(|group| !is_implied(group));
        groups.sort();
        groups.join(" ")
    }
}

/// Whether a chain's name says that it is ours.
pub(crate) fn is_own_chain(name: &str) -> bool {
    name.starts_with(OWN_CHAIN)
}

fn comment(rest: &str) -> Option<String> {
    words(rest).into_iter().skip_while(|word| word != "--comment").nth(1)
}

/// The words of a rule; quotes hold together what has spaces in it.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let (mut quoted, mut escaped) = (false, false);
    for character in text.chars() {
        match character {
            _ if escaped => {
                word.get_or_insert_default().push(character);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => {
                word.get_or_insert_default();
                quoted = !quoted;
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

fn is_number(word: &str) -> bool {
    word.parse::<i64>().is_ok()
}

/// Spellings of one option.
fn same_option(option: &str) -> &str {
    match option {
        "--to-port" => "--to-ports",
        "--destination-port" => "--dport",
        "--source-port" => "--sport",
        "--set-mark" => "--set-xmark",
        other => other,
    }
}

/// Spellings of one value.
fn same_value(option: &str, value: &str) -> String {
    if option.ends_with("mark") {
        return mark(value);
    }
    if option.ends_with("--ctstate") {
        let mut states: Vec<_> = value.split(',').collect();
        states.sort_unstable();
        return states.join(",");
    }
    value.to_owned()
}

/// A mark as a decimal number; the mask of all bits is what there is without one.
fn mark(value: &str) -> String {
    let (mark, mask) = value.split_once('/').unwrap_or((value, ALL_BITS));
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse::<u32>().ok(),
    };
    match (number(mark), number(mask)) {
        (Some(mark), Some(u32::MAX)) => mark.to_string(),
        (Some(mark), Some(mask)) => format!("{mark}/{mask}"),
        _ => value.to_owned(),
    }
}

/// What a tool writes without being asked: the module of an option that names it anyway, and defaults.
fn is_implied(group: &str) -> bool {
    group.starts_with("-m ")
        || [
            "--on-ip 0.0.0.0",
            "--on-ip ::",
            "--nfmask 0xffffffff",
            "--ctmask 0xffffffff",
            "--nfmask 4294967295",
            "--ctmask 4294967295",
        ]
        .contains(&group)
}

const OWN_CHAIN: &str = "MESHGATE_";
const OWN_COMMENT: &str = "meshgate/";
const ALL_BITS: &str = "0xffffffff";

#[cfg(test)]
mod tests;
