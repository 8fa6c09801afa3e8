//! Several names for one trust domain.
//!
//! A mesh that changes its trust domain keeps the old name as an alias: a policy that names one is meant for all.
//! Resolved once, at compile time, so that matching never sees an alias.

use meshgate_identity::TrustDomain;

use crate::condition::{Condition, ConnectionTest};
use crate::matchers::StringMatch;
use crate::model::{AnyCondition, Rule, Settings};

/// In a policy's principals always the mesh's own domain, whatever that is called.
const LOCAL: &str = "cluster.local";

/// All names of the mesh's trust domain, its own first.
pub(crate) struct Aliases<'a>(Vec<&'a str>);

impl<'a> Aliases<'a> {
    /// The trust domain of the mesh and its aliases.
    pub(crate) fn new(settings: &'a Settings) -> Aliases<'a> {
        let aliases = settings.trust_domain_aliases.iter();
        Aliases([&settings.trust_domain].into_iter().chain(aliases).map(TrustDomain::as_str).collect())
    }

    /// The rule with every name that has aliases written out; `None` when that is the rule as it is.
    pub(crate) fn resolve(&self, rule: &Rule) -> Option<Rule> {
        let conditions = rule.from.iter().flatten().chain(&rule.when);
        let mut tests = conditions.map(|condition| match condition {
            AnyCondition::Connection(condition) => self.resolved(condition),
            AnyCondition::Request(_) => None,
        });
        if tests.all(|test| test.is_none()) {
            return None;
        }
        let mut rule = rule.clone();
        for condition in rule.from.iter_mut().flatten().chain(&mut rule.when) {
            if let AnyCondition::Connection(condition) = condition
                && let Some(test) = self.resolved(condition)
            {
                condition.test = test;
            }
        }
        Some(rule)
    }

    /// What the condition compares once aliases are written out; `None` when nothing changes.
    fn resolved(&self, condition: &Condition<ConnectionTest>) -> Option<ConnectionTest> {
        let under = |each: &dyn Fn(&str) -> Option<Vec<String>>| {
            let names: Vec<_> = condition.values.iter().map(|value| (value, each(value))).collect();
            names.iter().any(|(_, names)| names.is_some()).then(|| {
                let names =
                    names.into_iter().flat_map(|(value, names)| names.unwrap_or_else(|| vec![value.to_owned()]));
                names.map(|name| StringMatch::parse(&name, StringMatch::NonEmpty)).collect()
            })
        };
        match &condition.test {
            ConnectionTest::LocalAccounts { accounts, .. } => Some(ConnectionTest::LocalAccounts {
                accounts: accounts.clone(),
                trust_domains: self.0.iter().map(|name| Box::from(*name)).collect(),
            }),
            ConnectionTest::Principals(_) => under(&|value| self.principal(value)).map(ConnectionTest::Principals),
            ConnectionTest::TrustDomains(_) => {
                under(&|value| self.trust_domain(value)).map(ConnectionTest::TrustDomains)
            }
            _ => None,
        }
    }

    /// A value of `principals` under every name; `None` when it has no other. Only `<domain>/ns/<namespace>/sa/<account>`,
    /// five parts, has any; and as `cluster.local` is replaced, it no longer means a foreign domain of that very name.
    fn principal(&self, value: &str) -> Option<Vec<String>> {
        let (domain, rest) = value.split_once('/').unwrap_or((value, ""));
        if self.0.as_slice() == [domain]
            || value.split('/').count() != 5
            || domain == "*"
            || !(domain == LOCAL || self.covers(domain))
        {
            return None;
        }
        let suffix = domain.strip_prefix('*');
        let under = |name: &&str| match suffix {
            Some(suffix) if name.ends_with(suffix) => value.to_owned(),
            _ => format!("{name}/{rest}"),
        };
        Some(self.0.iter().map(under).collect())
    }

    fn trust_domain(&self, value: &str) -> Option<Vec<String>> {
        let aliased = self.0.len() > 1 && self.0.contains(&value);
        aliased.then(|| self.0.iter().map(ToString::to_string).collect())
    }

    fn covers(&self, pattern: &str) -> bool {
        let pattern = StringMatch::parse(pattern, StringMatch::NonEmpty);
        self.0.iter().any(|name| pattern.matches(name.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_out_principals_of_the_own_domain() {
        let aliases = Aliases(vec!["new-td", "old-td"]);
        for (value, expected) in [
            ("new-td/ns/a/sa/b", vec!["new-td/ns/a/sa/b", "old-td/ns/a/sa/b"]),
            ("old-td/ns/a/sa/b", vec!["new-td/ns/a/sa/b", "old-td/ns/a/sa/b"]),
            ("cluster.local/ns/a/sa/b", vec!["new-td/ns/a/sa/b", "old-td/ns/a/sa/b"]),
            ("old-*/ns/a/sa/b", vec!["new-td/ns/a/sa/b", "old-td/ns/a/sa/b"]),
            ("*-td/ns/a/sa/b", vec!["*-td/ns/a/sa/b", "*-td/ns/a/sa/b"]),
            ("*d-td/ns/a/sa/b", vec!["new-td/ns/a/sa/b", "*d-td/ns/a/sa/b"]),
            ("new-td/ns/a/sa/*", vec!["new-td/ns/a/sa/*", "old-td/ns/a/sa/*"]),
            ("other/ns/a/sa/b", vec!["other/ns/a/sa/b"]),
            ("*/ns/a/sa/b", vec!["*/ns/a/sa/b"]),
            ("new-td/ns/a*", vec!["new-td/ns/a*"]),
            ("new-td/ns/a/sa/b/c", vec!["new-td/ns/a/sa/b/c"]),
            ("*", vec!["*"]),
        ] {
            let names = aliases.principal(value).unwrap_or_else(|| vec![value.to_owned()]);
            assert_eq!(names, expected, "{value}");
        }
    }

    #[test]
    fn the_local_name_points_only_to_the_own_domain() {
        let names = |value: &str| Some(vec![value.to_owned()]);
        assert_eq!(Aliases(vec!["td"]).principal("cluster.local/ns/a/sa/b"), names("td/ns/a/sa/b"));
        assert_eq!(Aliases(vec!["td"]).trust_domain("cluster.local"), None);
        assert_eq!(Aliases(vec!["td", "old"]).trust_domain("old"), Some(vec!["td".to_owned(), "old".to_owned()]));
    }

    #[test]
    fn one_name_changes_nothing() {
        assert_eq!(Aliases(vec!["td"]).principal("td/ns/a/sa/b"), None);
        assert_eq!(Aliases(vec!["td"]).trust_domain("td"), None);
    }
}
