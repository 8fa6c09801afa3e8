//! What redirection needs of routing: for TPROXY, a table that takes marked packets to this machine; for IPv6, the address
//! from which the inbound side calls the application.
//!
//! The one idea: our routing rules have a priority of their own, by which they are found again whatever options they were
//! made with.

use std::path::PathBuf;

use crate::drift::Rules;
use crate::environment::has_inbound_source;
use crate::error::Error;
use crate::rules::{Family, Routing, RuleSet};
use crate::system::System;
use crate::xtables::run;

/// A mark, and the table that is looked up for packets that carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    family: Family,
    mark: u32,
    table: u32,
}

/// The routing that a rule set needs.
pub(crate) fn wanted(rules: &RuleSet) -> Vec<Route> {
    let route =
        |Routing { mark, table }| rules.families().iter().map(move |family| Route { family: *family, mark, table });
    rules.routing().into_iter().flat_map(route).collect()
}

/// The `ip` program, where it is there.
#[derive(Debug, Clone)]
pub(crate) struct Ip(Option<PathBuf>);

impl Ip {
    pub(crate) fn find(system: &impl System) -> Self {
        Self(system.find("ip"))
    }

    fn run(&self, system: &impl System, family: Family, words: &str) -> Result<String, Error> {
        let program = self.0.as_ref().ok_or_else(|| Error::Missing { program: "ip".to_owned() })?;
        let family = if family == Family::V6 { "-6" } else { "-4" };
        let arguments: Vec<&str> = std::iter::once(family).chain(words.split_whitespace()).collect();
        run(system, program, &arguments, None)
    }

    /// Our routing rules that are there; none where there is no program that could tell, or could have made them.
    ///
    /// # Errors
    /// What the program says.
    pub(crate) fn loaded(&self, system: &impl System) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [Family::V4, Family::V6] {
            if self.0.is_none() {
                continue;
            }
            let text = match self.run(system, family, "rule show") {
                Ok(text) => text,
                // A kernel without IPv6 has no rules of it.
                Err(Error::Refused { .. }) if family == Family::V6 => String::new(),
                Err(error) => return Err(error),
            };
            routes.extend(text.lines().filter_map(|line| parse(family, line)));
        }
        Ok(routes)
    }

    /// Adds what is missing, before rules that count on it.
    ///
    /// # Errors
    /// What the program says.
    pub(crate) fn add(&self, system: &impl System, rules: &RuleSet) -> Result<(), Error> {
        let wanted = wanted(rules);
        let loaded = if wanted.is_empty() { Vec::new() } else { self.loaded(system)? };
        for route in &wanted {
            let Route { family, mark, table } = route;
            self.run(system, *family, &format!("route replace local default dev lo table {table}"))?;
            if !loaded.contains(route) {
                let words = format!("rule add priority {PRIORITY} fwmark {mark} lookup {table}");
                self.run(system, *family, &words)?;
            }
        }
        if rules.families().contains(&Family::V6) && !has_inbound_source(system) {
            let added = self.run(system, Family::V6, "addr add ::6/128 dev lo");
            if let Err(error) = added {
                system.note(&format!(
                    "warning: the proxy cannot call the application over IPv6: loopback does not have the address ::6 ({error})"
                ));
            }
        }
        Ok(())
    }

    /// Removes what these rules do not need, once nothing counts on it.
    ///
    /// # Errors
    /// What the program says.
    pub(crate) fn remove_all_but(&self, system: &impl System, wanted: &[Route]) -> Result<usize, Error> {
        let stale: Vec<Route> = self.loaded(system)?.into_iter().filter(|route| !wanted.contains(route)).collect();
        for route in &stale {
            let Route { family, mark, table } = route;
            let words = format!("rule del priority {PRIORITY} fwmark {mark} lookup {table}");
            self.run(system, *family, &words)?;
            if !wanted.iter().any(|wanted| wanted.family == *family && wanted.table == *table) {
                // It may be gone: a rule outlives the table that it names.
                let _ = self.run(system, *family, &format!("route del local default dev lo table {table}"));
            }
        }
        Ok(stale.len())
    }

    /// Takes the inbound side's address away, if it is there.
    ///
    /// # Errors
    /// What the program says.
    pub(crate) fn remove_inbound_source(&self, system: &impl System) -> Result<bool, Error> {
        if !has_inbound_source(system) {
            return Ok(false);
        }
        self.run(system, Family::V6, "addr del ::6/128 dev lo")?;
        Ok(true)
    }

    /// The routing that is there and that which is wanted, in comparable form.
    ///
    /// # Errors
    /// What the program says.
    pub(crate) fn compare(&self, system: &impl System, rules: &RuleSet) -> Result<(Rules, Rules), Error> {
        let (mut loaded, mut needed) = (Rules::default(), Rules::default());
        for route in self.loaded(system)? {
            let table = self.run(system, route.family, &format!("route show table {}", route.table));
            let leads_here = table.is_ok_and(|text| text.contains("local default dev lo"));
            describe(&mut loaded, &route, leads_here);
        }
        for route in wanted(rules) {
            describe(&mut needed, &route, true);
        }
        if rules.families().contains(&Family::V6) {
            needed.push(SOURCE_PLACE, "::6/128".to_owned());
            if has_inbound_source(system) {
                loaded.push(SOURCE_PLACE, "::6/128".to_owned());
            }
        }
        Ok((loaded, needed))
    }
}

fn describe(rules: &mut Rules, Route { family, mark, table }: &Route, leads_here: bool) {
    let ip = if *family == Family::V6 { "ip6" } else { "ip" };
    rules.push(&format!("{ip} rule"), format!("priority {PRIORITY} fwmark {mark} lookup {table}"));
    if leads_here {
        rules.push(&format!("{ip} route table {table}"), "local default dev lo".to_owned());
    }
}

/// `15006:	from all fwmark 0x539 lookup 133`
fn parse(family: Family, line: &str) -> Option<Route> {
    let (priority, rest) = line.split_once(':')?;
    let after = |name: &str| rest.split_whitespace().skip_while(|word| *word != name).nth(1);
    let mark = after("fwmark")?;
    let mark = match mark.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => mark.parse().ok()?,
    };
    let table = after("lookup")?.parse().ok()?;
    (priority == PRIORITY).then_some(Route { family, mark, table })
}

/// The inbound listener's number: what others use for theirs are round numbers and the ends of the range.
const PRIORITY: &str = "15006";

const SOURCE_PLACE: &str = "ip6 address lo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_our_routing_rules_alone() {
        let route = Route { family: Family::V4, mark: 1337, table: 133 };
        for (line, expected) in [
            ("15006:\tfrom all fwmark 0x539 lookup 133", Some(route.clone())),
            ("15006:\tfrom all fwmark 0x539 lookup 133 ", Some(route)),
            ("15007:\tfrom all fwmark 0x539 lookup 133", None),
            ("32766:\tfrom all lookup main", None),
            ("", None),
        ] {
            assert_eq!(parse(Family::V4, line), expected, "{line}");
        }
    }
}
