//! What is loaded against what is wanted, as lines that begin with `-` or `+`.
//!
//! The one idea: rules of any tool are lists of lines by chain, in a form in which equal lines mean equal rules. It does
//! not say how either came about.

use std::collections::{BTreeMap, BTreeSet};

use crate::dump::Dump;

/// Rules by the place they are in, such as `ip nat OUTPUT`, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules(BTreeMap<String, Vec<String>>);

impl Rules {
    /// A place with nothing in it yet.
    pub(crate) fn place(&mut self, name: &str) {
        self.0.entry(name.to_owned()).or_default();
    }

    /// Adds a rule at the end of its place.
    pub(crate) fn push(&mut self, place: &str, rule: String) {
        self.0.entry(place.to_owned()).or_default().push(rule);
    }

    /// The rules of the tables of one family, which `ip` or `ip6` names.
    pub(crate) fn add_dump(&mut self, family: &str, dump: &Dump) {
        for (name, table) in &dump.tables {
            for chain in &table.chains {
                self.place(&format!("{family} {name} {chain}"));
            }
            for line in &table.rules {
                self.push(&format!("{family} {name} {}", line.chain), line.canonical());
            }
        }
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many rules there are.
    pub(crate) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// What has to be taken away (`-`) and added (`+`) to come from these rules to those wanted, place by place; empty when
    /// they are the same.
    pub(crate) fn difference(&self, wanted: &Rules) -> Vec<String> {
        let places: BTreeSet<&String> = self.0.keys().chain(wanted.0.keys()).collect();
        let mut lines = Vec::new();
        for place in places {
            let (loaded, wanted) = (self.0.get(place), wanted.0.get(place));
            if loaded == wanted {
                continue;
            }
            lines.push(match (loaded, wanted) {
                (None, _) => format!("{place}: missing"),
                (_, None) => format!("{place}: not wanted"),
                _ => format!("{place}:"),
            });
            let empty = Vec::new();
            lines.extend(changes(loaded.unwrap_or(&empty), wanted.unwrap_or(&empty)));
        }
        lines
    }
}

/// The changes between two lists: what both have in common in the same order stays, by the longest common subsequence. Lists
/// are as long as the options are, so the table of it is small.
fn changes(from: &[String], to: &[String]) -> Vec<String> {
    let mut lengths = vec![vec![0_usize; to.len() + 1]; from.len() + 1];
    let at = |lengths: &[Vec<usize>], row: usize, column: usize| {
        lengths.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default()
    };
    for (row, old) in from.iter().enumerate().rev() {
        for (column, new) in to.iter().enumerate().rev() {
            let length = match old == new {
                true => at(&lengths, row + 1, column + 1) + 1,
                false => at(&lengths, row + 1, column).max(at(&lengths, row, column + 1)),
            };
            if let Some(cell) = lengths.get_mut(row).and_then(|row| row.get_mut(column)) {
                *cell = length;
            }
        }
    }
    let (mut row, mut column, mut lines) = (0, 0, Vec::new());
    loop {
        match (from.get(row), to.get(column)) {
            (None, None) => return lines,
            (Some(old), Some(new)) if old == new => (row, column) = (row + 1, column + 1),
            (Some(old), new) if new.is_none() || at(&lengths, row + 1, column) >= at(&lengths, row, column + 1) => {
                lines.push(format!("- {old}"));
                row += 1;
            }
            (_, Some(new)) => {
                lines.push(format!("+ {new}"));
                column += 1;
            }
            (Some(_), None) => row += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(place: &str, lines: &[&str]) -> Rules {
        let mut rules = Rules::default();
        rules.place(place);
        lines.iter().for_each(|line| rules.push(place, (*line).to_owned()));
        rules
    }

    #[test]
    fn says_what_to_take_away_and_what_to_add() {
        for (loaded, wanted, difference) in [
            (&["a", "b"][..], &["a", "b"][..], &[][..]),
            (&["a", "b"], &["a"], &["P:", "- b"]),
            (&["a"], &["a", "b"], &["P:", "+ b"]),
            (&["b", "a"], &["a", "b"], &["P:", "- b", "+ b"]),
            (&["a", "a"], &["a"], &["P:", "- a"]),
            (&["a", "x", "c"], &["a", "b", "c"], &["P:", "- x", "+ b"]),
        ] {
            assert_eq!(rules("P", loaded).difference(&rules("P", wanted)), difference, "{loaded:?} {wanted:?}");
        }
    }

    #[test]
    fn an_empty_chain_is_not_none() {
        let (chain, none) = (rules("P", &[]), Rules::default());
        assert_eq!(none.difference(&chain), ["P: missing"]);
        assert_eq!(chain.difference(&none), ["P: not wanted"]);
    }
}
