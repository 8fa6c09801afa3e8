//! The rules as they are held in memory, whatever document they were written in.
//!
//! A [`Policy`] is immutable and knows nothing of the workload it may apply to; that comes with
//! [`PolicySet::compile`](crate::PolicySet::compile). Reading documents is the business of [`istio`](crate::istio).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use meshgate_identity::TrustDomain;
use serde::{Deserialize, Serialize};

use crate::condition::{Condition, ConnectionTest, RequestTest};
use crate::custom::Providers;
use crate::field::Field;
use crate::index::Ask;
use crate::select::{Labels, Scope};
use crate::smi::PathMatch;

/// Which object, of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What selection looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The namespace it runs in.
    pub namespace: String,
    /// Its service account, without the namespace.
    pub service_account: String,
    /// The labels of its pod.
    pub labels: BTreeMap<String, String>,
}

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Policies in this namespace select workloads of every namespace.
    pub root_namespace: String,
    /// The mesh's own trust domain.
    pub trust_domain: TrustDomain,
    /// Its other names: a principal of one is a principal of all.
    pub trust_domain_aliases: Vec<TrustDomain>,
    /// How an unconditional DENY rule is read.
    pub catch_all_deny: CatchAllDeny,
    /// What it means that no TrafficTarget lets a caller in.
    pub smi: SmiMode,
    /// How much of a path a `pathRegex` must cover.
    pub smi_path_match: PathMatch,
    /// Whom CUSTOM policies can ask.
    pub providers: Providers,
}

/// Whether SMI's TrafficTargets are in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SmiMode {
    /// They let nobody in and keep nobody out: SMI's permissive traffic policy mode.
    #[default]
    Permissive,
    /// What no TrafficTarget lets in is refused: SMI's traffic policy mode.
    TrafficPolicy,
}

/// Where a rule comes from. A request must pass each family that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `security.istio.io`
    Istio,
    /// `access.smi-spec.io`
    Smi,
}

/// How a DENY rule without any condition (`rules: [{}]`) is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CatchAllDeny {
    /// As Istio reads it: everything is refused, whatever ALLOW policies say.
    #[default]
    Istio,
    /// As a baseline: refused unless a rule of an ALLOW policy matches. Other DENY rules still come first.
    Baseline,
}

/// Something in a document that makes it unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Invalid {
    /// Where: `spec.rules[0].to[0].operation.ports[1]`.
    pub path: String,
    /// What is wrong and what was expected.
    pub message: String,
}

/// One authorization policy.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) name: ObjectName,
    pub(crate) family: Family,
    pub(crate) action: Action,
    pub(crate) dry_run: bool,
    pub(crate) scope: Scope,
    pub(crate) rules: Vec<Rule>,
    /// Who is asked, for CUSTOM.
    pub(crate) provider: Option<Box<str>>,
    /// See [`Policy::applies_in`]; empty = everywhere.
    pub(crate) clusters: Box<[Box<str>]>,
    pub(crate) unreadable: Option<String>,
}

/// What happens when a rule of a policy matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Lets in; one such policy makes everything else refused.
    Allow,
    /// Refuses, before any ALLOW is asked.
    Deny,
    /// Marks for the access log; decides nothing.
    Audit,
    /// Asks an external provider, before any other.
    Custom,
}

impl Policy {
    /// Stands for a document that could not be read and has no good version to fall back on: it refuses everything it
    /// selects. Without a selector that is its whole namespace, or the mesh when it is in the root namespace.
    pub fn unreadable(name: ObjectName, selector: Option<BTreeMap<String, String>>, why: &str) -> Policy {
        Policy {
            name,
            family: Family::Istio,
            action: Action::Deny,
            dry_run: false,
            scope: Scope::Workloads(selector.map(Labels::from)),
            rules: vec![Rule::default()],
            provider: None,
            clusters: Box::default(),
            unreadable: Some(why.to_owned()),
        }
    }

    /// Its namespace and name.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// Where it comes from.
    pub fn family(&self) -> Family {
        self.family
    }

    /// What its document is called: `AuthorizationPolicy` or `TrafficTarget`.
    pub fn kind(&self) -> &'static str {
        match self.family {
            Family::Istio => "AuthorizationPolicy",
            Family::Smi => "TrafficTarget",
        }
    }

    /// What a match means; an unreadable policy denies.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Whether it is only tried out: evaluated and reported, never enforced.
    pub fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whom it asks, for CUSTOM.
    pub fn provider(&self) -> Option<&str> {
        self.provider.as_deref()
    }

    /// Whether it is about workloads in this cluster (`region/zone/group/cluster`): only a TrafficTarget may be restricted.
    pub fn applies_in(&self, cluster: &str) -> bool {
        self.clusters.is_empty() || self.clusters.iter().any(|one| **one == *cluster)
    }

    /// How many rules it has.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Why the document could not be read, if this policy stands for such a one.
    pub fn unreadable_because(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }
}

/// Matches when one of `from`, one of `to` and all of `when` hold; an empty part is no limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rule {
    pub(crate) from: Vec<Clause>,
    pub(crate) to: Vec<Clause>,
    pub(crate) when: Clause,
}

/// Conditions that must all hold, in the order they were written.
pub(crate) type Clause = Vec<AnyCondition>;

/// A condition, by when it can be answered.
#[derive(Clone, Debug)]
pub(crate) enum AnyCondition {
    /// Once a connection.
    Connection(Box<Condition<ConnectionTest>>),
    /// Once a request, in most cases. Shared with the residuals of every connection.
    Request(Arc<Condition<RequestTest>>),
}

impl AnyCondition {
    /// Where in the rule it stands.
    pub(crate) fn field(&self) -> &Field {
        match self {
            AnyCondition::Connection(condition) => &condition.field,
            AnyCondition::Request(condition) => &condition.field,
        }
    }

    /// What it asks of a connection.
    pub(crate) fn ask_connection(&self) -> Option<Ask<'_>> {
        match self {
            AnyCondition::Connection(condition) => condition.ask(),
            AnyCondition::Request(_) => None,
        }
    }

    /// The header it asks about.
    pub(crate) fn header(&self) -> Option<&HeaderName> {
        match self {
            AnyCondition::Connection(_) => None,
            AnyCondition::Request(condition) => condition.header(),
        }
    }

    /// Whether it has nothing to look at on a TCP connection.
    pub(crate) fn http_only(&self) -> bool {
        match self {
            AnyCondition::Connection(_) => false,
            AnyCondition::Request(condition) => condition.test.http_only(),
        }
    }
}

impl Rule {
    /// The alternatives of which one must hold, part by part; no part is empty.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[Clause]> {
        [self.from.as_slice(), self.to.as_slice(), std::slice::from_ref(&self.when)]
            .into_iter()
            .filter(|group| group.iter().any(|clause| !clause.is_empty()))
    }

    /// Every condition, wherever it stands.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &AnyCondition> {
        self.from.iter().chain(&self.to).chain([&self.when]).flatten()
    }

    /// Gives back the room that was kept for more; rules are kept by the thousand.
    pub(crate) fn shrink(&mut self) {
        for part in [&mut self.from, &mut self.to] {
            part.iter_mut().for_each(Vec::shrink_to_fit);
            part.shrink_to_fit();
        }
        self.when.shrink_to_fit();
    }

    /// Whether it was written without any condition: it matches everything.
    pub(crate) fn is_unconditional(&self) -> bool {
        self.conditions().next().is_none()
    }

    /// Whether any of its conditions needs HTTP.
    pub(crate) fn needs_http(&self) -> bool {
        self.conditions().any(AnyCondition::http_only)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
            Action::Audit => "AUDIT",
            Action::Custom => "CUSTOM",
        })
    }
}
