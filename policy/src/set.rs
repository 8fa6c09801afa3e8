//! The policies that apply to one workload, ready to be asked.
//!
//! Work is done as early as it can be: selection, order, trust domain aliases and the index once a configuration
//! ([`PolicySet::compile`]), what a connection fixes once a connection ([`PolicySet::reduce`]), and only the rest once
//! a request ([`Residual::decide`]). A rule that asks nothing of the connection is made ready once for all of them.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::HeaderName;

use crate::custom::Asked;
use crate::essential::Looks;
use crate::eval::Residual;
use crate::guard::{Guards, Opened};
use crate::index::{Ask, Index};
use crate::model::{AnyCondition, CatchAllDeny, Clause, Policy, Rule, Settings, SmiMode, Workload};
use crate::request::{ConnectionFacts, Protocol, RemoteIp};
use crate::residual::{Kind, Kinds, Program};
use crate::trust_domain::Aliases;

/// Policies compiled for one workload; a clone is a reference. The default has none and allows everything.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    pub(crate) compiled: Arc<Compiled>,
}

/// What a set and the residuals made of it share. A rule is known by its number, which is also its place in the order.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    policies: Box<[Arc<Policy>]>,
    rules: Box<[Entry]>,
    /// Rules that ask something of a connection, by what they ask.
    http_index: Index,
    tcp_index: Index,
    /// All other rules, as far as a connection's protocol leaves them open, and for HTTP the guarded ones.
    http: Program,
    tcp: Program,
    guards: Guards,
    /// Of which kinds there is a policy in force, even one without rules.
    pub(crate) in_force: Kinds,
    looks: Looks,
    /// That the rules ask about, each once.
    pub(crate) headers: Arc<[HeaderName]>,
    catch_all_deny: CatchAllDeny,
    smi: SmiMode,
    /// Whom the CUSTOM rules ask.
    pub(crate) asked: Asked,
}

#[derive(Debug)]
struct Entry {
    policy: u32,
    index: u32,
    /// With trust domain aliases written out, where that differs from what is written.
    resolved: Option<Box<Rule>>,
}

/// A rule as this mesh reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompiledRule<'a> {
    pub(crate) policy: &'a Policy,
    /// In `spec.rules`, from 0.
    pub(crate) index: usize,
    /// With trust domain aliases written out.
    pub(crate) rule: &'a Rule,
    /// An unconditional DENY rule that ALLOW rules take precedence over: [`CatchAllDeny::Baseline`].
    pub(crate) baseline: bool,
}

impl PolicySet {
    /// Takes the policies that select the workload. Their order, root namespace first and then by name, decides only
    /// which of several matching rules is reported.
    pub fn compile(policies: &[Arc<Policy>], workload: &Workload, settings: &Settings) -> PolicySet {
        let root = settings.root_namespace.as_str();
        let mut selected: Vec<_> = policies.iter().filter(|policy| policy.selects(workload, root)).cloned().collect();
        selected.sort_by(|a, b| (a.name.namespace != root, &a.name).cmp(&(b.name.namespace != root, &b.name)));
        PolicySet { compiled: Arc::new(Compiled::new(selected.into(), settings)) }
    }

    /// Answers everything the connection fixes and leaves what depends on the request. Rules that can no longer match
    /// are gone from the result.
    pub fn reduce(&self, facts: &ConnectionFacts<'_>) -> Residual {
        let compiled = &self.compiled;
        let shared = compiled.shared(facts.protocol);
        let mut own = Program::default();
        for number in compiled.candidates(facts) {
            let rule = compiled.rule(number);
            let kind = Kind::of(rule.policy);
            if shared.section(kind).always().is_none_or(|always| number < always.number) {
                own.add(number, rule, facts, None);
            }
        }
        own.finish();
        let open = match facts.protocol {
            Protocol::Http => compiled.guards.open(|number| compiled.rule(number).rule, facts),
            // No rule has a guard there.
            Protocol::Tcp => Opened::default(),
        };
        Residual::new(Arc::clone(compiled), facts, own, open)
    }

    /// The policies that select the workload, in the order in which they are reported.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.compiled.policies.iter().map(|policy| &**policy)
    }

    /// Whether no policy selects the workload, and none has to.
    pub fn is_empty(&self) -> bool {
        self.compiled.policies.is_empty() && self.compiled.smi == SmiMode::Permissive
    }

    pub(crate) fn looks(&self) -> Looks {
        self.compiled.looks
    }
}

impl Compiled {
    fn new(policies: Box<[Arc<Policy>]>, settings: &Settings) -> Compiled {
        let aliases = Aliases::new(settings);
        let asked = Asked::by(&policies, &settings.providers);
        let mut rules = Vec::with_capacity(policies.iter().map(|policy| policy.rules.len()).sum());
        for (number, policy) in (0..).zip(&policies) {
            rules.extend((0..).zip(&policy.rules).map(|(index, rule)| Entry {
                policy: number,
                index,
                resolved: aliases.resolve(rule).map(Box::new),
            }));
        }
        let mut in_force = policies.iter().map(|policy| Kind::of(policy)).collect::<Kinds>();
        // TrafficTargets are in force by the mode alone: without it they decide nothing, and with it their absence does.
        in_force.set(Kind::Target, settings.smi == SmiMode::TrafficPolicy);
        let mut compiled = Compiled {
            policies,
            rules: rules.into(),
            in_force,
            catch_all_deny: settings.catch_all_deny,
            smi: settings.smi,
            asked,
            ..Compiled::default()
        };
        compiled.prepare();
        compiled
    }

    /// Divides the rules by whether they ask anything of a connection: those that do into the indexes, the others into the
    /// programs that all connections share. So do guarded ones on HTTP.
    fn prepare(&mut self) {
        let guards = Guards::new(self.numbers().map(|number| self.rule(number).rule));
        let (mut http_asking, mut tcp_asking) = (Vec::new(), Vec::new());
        let mut headers = HashSet::new();
        let (mut http, mut tcp, mut looks) = (Program::default(), Program::default(), Looks::default());
        for number in self.numbers() {
            let rule = self.rule(number);
            let guard = guards.of(number);
            headers.extend(rule.rule.conditions().filter_map(AnyCondition::header).cloned());
            if guard.is_some() {
                http.add(number, rule, &nobody(Protocol::Http), guard);
            }
            if rule.rule.conditions().any(looks_at_connection) {
                rule.rule.conditions().for_each(|condition| looks.add(condition));
                tcp_asking.push(number);
                http_asking.extend(guard.is_none().then_some(number));
            } else {
                http.add(number, rule, &nobody(Protocol::Http), None);
                tcp.add(number, rule, &nobody(Protocol::Tcp), None);
            }
        }
        http.finish();
        tcp.finish();
        (self.http_index, self.tcp_index) = (self.index(&http_asking), self.index(&tcp_asking));
        (self.http, self.tcp, self.looks, self.guards) = (http, tcp, looks, guards);
        self.headers = headers.into_iter().collect();
    }

    fn index(&self, rules: &[u32]) -> Index {
        let groups = |number| self.rule(number).rule.groups().map(|group| group.iter().map(asks));
        Index::new(rules.iter().copied(), groups)
    }

    /// The rules that ask something of a connection and may match on this one, in their order.
    fn candidates(&self, facts: &ConnectionFacts<'_>) -> Vec<u32> {
        let mut found = Vec::new();
        let index = match facts.protocol {
            Protocol::Http => &self.http_index,
            Protocol::Tcp => &self.tcp_index,
        };
        index.candidates(facts, |rules| found.extend_from_slice(rules));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What is left on every connection of this protocol.
    pub(crate) fn shared(&self, protocol: Protocol) -> &Program {
        match protocol {
            Protocol::Http => &self.http,
            Protocol::Tcp => &self.tcp,
        }
    }

    /// All rules, in their order.
    pub(crate) fn numbers(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.rules.len()).unwrap_or(u32::MAX)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "numbers and entries are made together, in `new`; refusing beats guessing"
    )]
    pub(crate) fn rule(&self, number: u32) -> CompiledRule<'_> {
        let Entry { policy, index, resolved } = &self.rules[number as usize];
        let (policy, index) = (&*self.policies[*policy as usize], *index as usize);
        let rule = resolved.as_deref().unwrap_or(&policy.rules[index]);
        let baseline = self.catch_all_deny == CatchAllDeny::Baseline && policy.is_catch_all(rule);
        CompiledRule { policy, index, rule, baseline }
    }

    /// Each policy with its rules, in their order.
    pub(crate) fn policies(&self) -> impl Iterator<Item = (&Policy, impl Iterator<Item = CompiledRule<'_>>)> {
        let mut next = 0;
        self.policies.iter().map(move |policy| {
            let start = next;
            next += u32::try_from(policy.rules.len()).unwrap_or(u32::MAX);
            (&**policy, (start..next).map(|number| self.rule(number)))
        })
    }
}

fn asks(clause: &Clause) -> impl Iterator<Item = Option<Ask<'_>>> {
    clause.iter().map(AnyCondition::ask_connection)
}

/// Whether the answer may differ from one connection of a protocol to another.
fn looks_at_connection(condition: &AnyCondition) -> bool {
    match condition {
        AnyCondition::Connection(_) => true,
        AnyCondition::Request(condition) => condition.test.may_be_settled(),
    }
}

/// For rules that look at nothing of it but the protocol.
pub(crate) fn nobody(protocol: Protocol) -> ConnectionFacts<'static> {
    let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    ConnectionFacts {
        peer: None,
        source_ip: address,
        remote_ip: RemoteIp::PerRequest,
        destination: SocketAddr::new(address, 0),
        service_port: None,
        opaque_port: false,
        sni: None,
        protocol,
    }
}
