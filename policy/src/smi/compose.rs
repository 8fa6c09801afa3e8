//! A TrafficTarget and the routes it names, made one policy.
//!
//! Each element of `spec.rules` becomes one rule under the same index, also where nothing can match it, so that a report
//! names what the author wrote. A rule that has lost all its routes keeps a condition that never holds: left without
//! any, it would match everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::condition::{Condition, ConnectionTest, RequestTest};
use crate::lint::{About, FOREIGN_NAMESPACE, Lint, MISSING_ROUTE};
use crate::model::{Action, AnyCondition, Clause, Family, ObjectName, Policy, Rule};
use crate::request::Protocol;
use crate::select::Scope;
use crate::smi::pattern::{PathMatch, Pattern};
use crate::smi::route::{HttpMatch, HttpRouteGroup, TcpRoute};
use crate::smi::spec::RouteKind;
use crate::smi::target::{RouteRef, TrafficTarget};

/// The routes of the mesh by name.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Every HTTPRouteGroup.
    pub http: BTreeMap<ObjectName, Arc<HttpRouteGroup>>,
    /// Every TCPRoute.
    pub tcp: BTreeMap<ObjectName, Arc<TcpRoute>>,
}

/// What became of a TrafficTarget.
#[derive(Clone, Debug)]
pub struct Composed {
    /// `None` when it is ignored as a whole.
    pub policy: Option<Policy>,
    /// What could not be followed, and so lets nobody in.
    pub findings: Vec<Lint>,
}

/// Joins a TrafficTarget with the routes of its namespace. `part` is how much of a path a `pathRegex` must cover.
pub fn compose(target: &TrafficTarget, routes: &Routes, part: PathMatch) -> Composed {
    let mut composer = Composer { target, routes, part, findings: Vec::new() };
    if *target.destination.namespace != *target.name.namespace {
        let message = format!(
            "is ignored: its destination is in namespace {}, and only a TrafficTarget of that namespace may let callers in \
             there",
            target.destination.namespace
        );
        composer.find(FOREIGN_NAMESPACE, message);
        return Composed { policy: None, findings: composer.findings };
    }
    let ports = composer.ports();
    let rules = target.rules.iter().enumerate().map(|(index, rule)| composer.rule(index, rule, &ports)).collect();
    let policy = Policy {
        name: target.name.clone(),
        family: Family::Smi,
        action: Action::Allow,
        dry_run: false,
        scope: Scope::ServiceAccount(target.destination.name.clone()),
        rules,
        provider: None,
        clusters: target.clusters.clone(),
        unreadable: None,
    };
    Composed { policy: Some(policy), findings: composer.findings }
}

struct Composer<'a> {
    target: &'a TrafficTarget,
    routes: &'a Routes,
    part: PathMatch,
    findings: Vec<Lint>,
}

impl Composer<'_> {
    /// The conditions on the port that all rules of the target share: TCPRoutes beside each other add up, and together
    /// they restrict the HTTPRouteGroups beside them.
    fn ports(&mut self) -> Clause {
        let mut clause = Clause::new();
        if let Some(port) = self.target.port {
            clause.push(port_condition("destination.port", &[port]));
        }
        let mut given = self.target.rules.iter().enumerate().filter(|(_, rule)| rule.kind == RouteKind::TcpRoute);
        let Some(first) = given.next() else { return clause };
        let mut allowed = Vec::new();
        let mut every = false;
        for (index, rule) in std::iter::once(first).chain(given) {
            let name = self.in_own_namespace(&rule.name);
            match self.routes.tcp.get(&name) {
                Some(route) => {
                    every |= route.ports.is_empty();
                    allowed.extend_from_slice(&route.ports);
                }
                None => {
                    let message = format!("rules[{index}]: there is no TCPRoute {name}: it lets nothing in");
                    self.find(MISSING_ROUTE, message);
                }
            }
        }
        match (every, allowed.is_empty()) {
            (true, _) => {}
            (false, true) => clause.push(nothing("none of its TCPRoutes is there")),
            (false, false) => clause.push(port_condition("ports", &allowed)),
        }
        clause
    }

    fn rule(&mut self, index: usize, rule: &RouteRef, ports: &Clause) -> Rule {
        let has_http = self.target.rules.iter().any(|rule| rule.kind == RouteKind::HttpRouteGroup);
        let (protocol, to) = match rule.kind {
            RouteKind::HttpRouteGroup => (protocol(Protocol::Http), self.requests(index, rule)),
            RouteKind::TcpRoute if has_http => {
                (nothing("a TCPRoute beside HTTPRouteGroups only restricts their ports"), Vec::new())
            }
            RouteKind::TcpRoute => (protocol(Protocol::Tcp), Vec::new()),
            RouteKind::UdpRoute => {
                let why = "UDP does not pass through the proxy";
                self.find(MISSING_ROUTE, format!("rules[{index}]: {why}: it lets nothing in"));
                (nothing(why), Vec::new())
            }
        };
        let when = std::iter::once(protocol).chain(ports.iter().cloned()).collect();
        Rule { from: vec![vec![self.sources()]], to, when }
    }

    fn sources(&self) -> AnyCondition {
        let accounts = self.target.sources.clone();
        let values = accounts.iter().map(|account| format!("{}/{}", account.namespace, account.name)).collect();
        connection("sources", values, ConnectionTest::LocalAccounts { accounts, trust_domains: Box::default() })
    }

    /// One clause for each match that the rule names; never none.
    fn requests(&mut self, index: usize, rule: &RouteRef) -> Vec<Clause> {
        let name = self.in_own_namespace(&rule.name);
        let Some(group) = self.routes.http.get(&name).cloned() else {
            let message = format!("rules[{index}]: there is no HTTPRouteGroup {name}: the rule lets nothing in");
            self.find(MISSING_ROUTE, message);
            return vec![vec![nothing(&format!("there is no HTTPRouteGroup {name}"))]];
        };
        let chosen = |one: &&HttpMatch| {
            let listed = |names: &Vec<String>| one.name.as_ref().is_some_and(|name| names.contains(name));
            rule.matches.as_ref().is_none_or(listed)
        };
        for wanted in rule.matches.iter().flatten() {
            if !group.matches.iter().any(|one| one.name.as_ref() == Some(wanted)) {
                let message =
                    format!("rules[{index}]: HTTPRouteGroup {name} has no match {wanted:?}: it lets nothing in");
                self.find(MISSING_ROUTE, message);
            }
        }
        let clauses: Vec<Clause> = group.matches.iter().filter(chosen).map(|one| self.request(one)).collect();
        if clauses.is_empty() {
            return vec![vec![nothing(&format!("HTTPRouteGroup {name} has none of the matches"))]];
        }
        clauses
    }

    fn request(&self, one: &HttpMatch) -> Clause {
        let name = one.name.as_deref().unwrap_or_default();
        let field = |field: &str| format!("matches[{name}].{field}");
        let any = one.methods.is_empty() || one.methods.iter().any(|method| method == "*");
        let listed = one.methods.iter().filter(|method| *method != "*").map(|method| method.as_str().into()).collect();
        let written = if one.methods.is_empty() { vec!["*".to_owned()] } else { one.methods.clone() };
        let mut clause = vec![request(&field("methods"), written, RequestTest::MethodList { any, listed })];
        if let Some(path) = &one.path {
            let values = vec![path.clone()];
            clause.push(match Pattern::parse(path, self.part) {
                Ok(pattern) => request(&field("pathRegex"), values, RequestTest::PathRegex(pattern)),
                // Read once already with the group; should one reading accept what the other does not, nothing passes.
                Err(message) => nothing(&format!("{}: {message}", field("pathRegex"))),
            });
        }
        for header in &one.headers {
            let test = RequestTest::HeaderRegex { name: header.name.clone(), pattern: header.pattern.clone() };
            clause.push(request(&field(&format!("headers[{}]", header.name)), vec![header.written.clone()], test));
        }
        clause
    }

    fn in_own_namespace(&self, name: &str) -> ObjectName {
        ObjectName { namespace: self.target.name.namespace.clone(), name: name.to_owned() }
    }

    fn find(&mut self, code: &'static str, message: String) {
        self.findings.push(Lint { code, about: About::TrafficTarget, policy: self.target.name.clone(), message });
    }
}

fn connection(field: &str, values: Vec<String>, test: ConnectionTest) -> AnyCondition {
    let condition = Condition { field: field.into(), values: values.into(), negated: false, test };
    AnyCondition::Connection(Box::new(condition))
}

fn request(field: &str, values: Vec<String>, test: RequestTest) -> AnyCondition {
    let condition = Condition { field: field.into(), values: values.into(), negated: false, test };
    AnyCondition::Request(Arc::new(condition))
}

fn port_condition(field: &str, ports: &[u16]) -> AnyCondition {
    connection(field, ports.iter().map(u16::to_string).collect(), ConnectionTest::Ports(ports.into()))
}

fn protocol(protocol: Protocol) -> AnyCondition {
    let word = match protocol {
        Protocol::Http => "HTTP",
        Protocol::Tcp => "TCP",
    };
    connection("protocol", vec![word.to_owned()], ConnectionTest::Protocol(protocol))
}

/// A condition that never holds.
fn nothing(why: &str) -> AnyCondition {
    connection("rule", vec![why.to_owned()], ConnectionTest::Nothing)
}
