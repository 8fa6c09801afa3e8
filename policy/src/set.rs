//! The policies that apply to one workload, ready to be asked.
//!
//! Work is done as early as it can be: selection, order and trust domain aliases once a configuration
//! ([`PolicySet::compile`]), what a connection fixes once a connection ([`PolicySet::reduce`]), and only the rest once
//! a request ([`Residual::decide`]).

use std::sync::Arc;

use crate::custom::Asked;
use crate::eval::Residual;
use crate::model::{CatchAllDeny, Policy, Rule, Settings, SmiMode, Workload};
use crate::request::ConnectionFacts;
use crate::residual::Program;
use crate::trust_domain::Aliases;

/// Policies compiled for one workload. The default has none and allows everything.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    pub(crate) policies: Vec<CompiledPolicy>,
    pub(crate) smi: SmiMode,
    pub(crate) asked: Asked,
}

/// A policy with its rules as this mesh reads them.
#[derive(Clone, Debug)]
pub(crate) struct CompiledPolicy {
    pub(crate) source: Arc<Policy>,
    pub(crate) rules: Vec<CompiledRule>,
}

#[derive(Clone, Debug)]
pub(crate) struct CompiledRule {
    /// With trust domain aliases written out.
    pub(crate) rule: Rule,
    /// An unconditional DENY rule that ALLOW rules take precedence over: [`CatchAllDeny::Baseline`].
    pub(crate) baseline: bool,
}

impl PolicySet {
    /// Takes the policies that select the workload. Their order, root namespace first and then by name, decides only
    /// which of several matching rules is reported.
    pub fn compile(policies: &[Arc<Policy>], workload: &Workload, settings: &Settings) -> PolicySet {
        let root = settings.root_namespace.as_str();
        let aliases = Aliases::new(settings);
        let mut selected: Vec<_> = policies.iter().filter(|policy| policy.selects(workload, root)).collect();
        selected.sort_by_key(|policy| (policy.name.namespace != root, &policy.name));
        let compile_policy = |policy: &Arc<Policy>| CompiledPolicy {
            rules: policy
                .rules
                .iter()
                .map(|rule| CompiledRule {
                    baseline: settings.catch_all_deny == CatchAllDeny::Baseline && policy.is_catch_all(rule),
                    rule: aliases.resolve(rule),
                })
                .collect(),
            source: Arc::clone(policy),
        };
        PolicySet {
            asked: Asked::by(&selected, &settings.providers),
            policies: selected.into_iter().map(compile_policy).collect(),
            smi: settings.smi,
        }
    }

    /// Answers everything the connection fixes and leaves what depends on the request. Rules that can no longer match
    /// are gone from the result.
    pub fn reduce(&self, facts: &ConnectionFacts<'_>) -> Residual {
        let mut program = Program::new(self.smi);
        program.provider_fault = self.asked.fault;
        for policy in &self.policies {
            if !self.asked.passes_over(&policy.source, facts.protocol) {
                program.add(policy, facts);
            }
        }
        Residual::new(program)
    }

    /// Whether no policy selects the workload, and none has to.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.smi == SmiMode::Permissive
    }
}
