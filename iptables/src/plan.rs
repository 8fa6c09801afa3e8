//! The input of `iptables-restore --noflush` that turns what is loaded into what is wanted.
//!
//! The one idea: a table changes at once or not at all. Our chains are emptied and filled again, earlier jumps into them
//! are deleted by the very words that `iptables-save` showed, and chains that nobody needs any more go, all before one
//! `COMMIT`. What is of others is not named in it.

use std::fmt::Write;

use crate::dump::{Dump, Line, Table};

/// The text for one family; empty when there is nothing to change.
///
/// Tables that get rules first come before those that had some, and those that lose all come last: where traffic moves from
/// one table to another, as between redirection and TPROXY, it is captured by both for a moment and never by neither.
pub(crate) fn transition(loaded: &Dump, wanted: &Dump) -> String {
    let nothing = Table::default();
    let mut names: Vec<&String> = loaded.tables.keys().chain(wanted.tables.keys()).collect();
    names.sort_by_key(|name| {
        let place = TABLES.iter().position(|table| *table == name.as_str()).unwrap_or(TABLES.len());
        let order = match (loaded.tables.contains_key(*name), wanted.tables.contains_key(*name)) {
            (false, _) => (0, place),
            (true, true) => (1, place),
            (true, false) => (2, TABLES.len() - place),
        };
        (order, *name)
    });
    names.dedup();
    let mut text = String::new();
    for name in names {
        let (from, to) = [loaded, wanted].map(|dump| dump.tables.get(name).unwrap_or(&nothing)).into();
        if !same(from, to) {
            // Writing to a string cannot fail.
            let _ = write!(text, "*{name}\n{}COMMIT\n", changes(from, to));
        }
    }
    text
}

fn changes(from: &Table, to: &Table) -> String {
    let mut text = String::new();
    for chain in from.chains.union(&to.chains) {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    for Line { chain, rest } in from.rules.iter().filter(|line| !line.is_in_own_chain()) {
        let _ = writeln!(text, "-D {chain} {rest}");
    }
    for Line { chain, rest } in &to.rules {
        let _ = writeln!(text, "-A {chain} {rest}");
    }
    for chain in from.chains.difference(&to.chains) {
        let _ = writeln!(text, "-X {chain}");
    }
    text
}

/// Whether two tables do the same. Rules of different chains have no order among each other.
fn same(one: &Table, other: &Table) -> bool {
    let rules = |table: &Table| {
        let mut rules: Vec<_> = table.rules.iter().map(|line| (line.chain.clone(), line.canonical())).collect();
        rules.sort_by(|(one, _), (other, _)| one.cmp(other));
        rules
    };
    one.chains == other.chains && rules(one) == rules(other)
}

/// In the order in which a packet comes through: what redirects is loaded after what it relies on, and goes before it.
const TABLES: [&str; 3] = ["raw", "mangle", "nat"];

#[cfg(test)]
mod tests;
