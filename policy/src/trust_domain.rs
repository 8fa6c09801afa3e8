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

    /// The rule with every name that has aliases written out.
    pub(crate) fn resolve(&self, rule: &Rule) -> Rule {
        let mut rule = rule.clone();
        for condition in rule.from.iter_mut().flatten().chain(&mut rule.when) {
            if let AnyCondition::Connection(condition) = condition {
                self.resolve_condition(condition);
            }
        }
        rule
    }

    fn resolve_condition(&self, condition: &mut Condition<ConnectionTest>) {
        let resolved = |each: &dyn Fn(&str) -> Vec<String>| {
            let values = condition.values.iter().flat_map(|value| each(value));
            values.map(|value| StringMatch::parse(&value, StringMatch::NonEmpty)).collect()
        };
        match &mut condition.test {
            ConnectionTest::LocalAccounts { trust_domains, .. } => {
                *trust_domains = self.0.iter().map(|name| Box::from(*name)).collect();
            }
            ConnectionTest::Principals(_) => {
                condition.test = ConnectionTest::Principals(resolved(&|value| self.principal(value)));
            }
            ConnectionTest::TrustDomains(_) => {
                condition.test = ConnectionTest::TrustDomains(resolved(&|value| self.trust_domain(value)));
            }
            _ => {}
        }
    }

    /// A value of `principals` under every name. Only `<domain>/ns/<namespace>/sa/<account>`, five parts, has any; and
    /// as `cluster.local` is replaced, it no longer means a foreign domain of that very name.
    fn principal(&self, value: &str) -> Vec<String> {
        let (domain, rest) = value.split_once('/').unwrap_or((value, ""));
        if value.split('/').count() != 5 || domain == "*" || !(domain == LOCAL || self.covers(domain)) {
            return vec![value.to_owned()];
        }
        let suffix = domain.strip_prefix('*');
        let under = |name: &&str| match suffix {
            Some(suffix) if name.ends_with(suffix) => value.to_owned(),
            _ => format!("{name}/{rest}"),
        };
        self.0.iter().map(under).collect()
    }

    fn trust_domain(&self, value: &str) -> Vec<String> {
        if self.0.contains(&value) { self.0.iter().map(ToString::to_string).collect() } else { vec![value.to_owned()] }
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
            assert_eq!(aliases.principal(value), expected, "{value}");
        }
    }

    #[test]
    fn the_local_name_points_only_to_the_own_domain() {
        assert_eq!(Aliases(vec!["td"]).principal("cluster.local/ns/a/sa/b"), ["td/ns/a/sa/b"]);
        assert_eq!(Aliases(vec!["td"]).trust_domain("cluster.local"), ["cluster.local"]);
        assert_eq!(Aliases(vec!["td", "old"]).trust_domain("old"), ["td", "old"]);
    }
}
