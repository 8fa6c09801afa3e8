//! Runs one test: reads its resources, judges its cases.

use std::path::PathBuf;

use meshgate_config::offline::Resources;
use meshgate_config::{Problem, Surroundings};
use meshgate_policy::{Settings, Workload};
use tokio::time::Instant;

use super::coverage::Coverage;
use super::files::{Called, Test, WrittenSettings, folder_of};
use super::{CaseOutcome, Given, Outcome};
use crate::case::{Case, Parsed};
use crate::cli::DNS_SUFFIX;
use crate::cli::offline::{Offline, Own};

/// Judges every case.
pub(super) fn run<'a>(test: &'a Test<'a>, given: &Given, coverage: &mut Coverage) -> Result<Outcome<'a>, Vec<Problem>> {
    let (written, spec) = (test.written, &test.spec);
    let settings = settings(given, &spec.settings);
    let mut surroundings = given.bootstrap.as_ref().map_or_else(|| Surroundings::alone(DNS_SUFFIX), Surroundings::from);
    if let Some(domain) = &spec.settings.cluster_domain {
        surroundings.cluster_domain.clone_from(domain);
    }
    let places = places(test, given);
    let resources = Resources::read_all(&places, &settings, &surroundings);
    if resources.problems().iter().any(Problem::is_error) {
        return Err(resources.problems().iter().filter(|problem| problem.is_error()).cloned().collect());
    }
    coverage.knows(resources.policies());
    let mut offline = Offline::new(resources, own(given), given.bootstrap.as_ref());
    offline.level = spec.settings.path_normalization.unwrap_or(offline.level);
    offline.trusted_proxies = spec.settings.num_trusted_proxies.unwrap_or(offline.trusted_proxies);
    let mut defaults = Case::default();
    match &spec.workload {
        Some(Called::Named(name)) => defaults.workload = Some(name.clone()),
        Some(Called::Described(workload)) => offline.own = Own { workload: workload.clone(), name: None },
        None => {}
    }
    let defaults = spec.defaults.clone().over(&defaults);
    let mut cases = Vec::new();
    let mut problems = Vec::new();
    for (index, case) in spec.cases.iter().enumerate() {
        let begun = Instant::now();
        match offline.judge(&case.request.clone().over(&defaults)) {
            Ok(answer) => {
                coverage.saw(&answer);
                let differs = case.expect.differs(&answer);
                cases.push(CaseOutcome {
                    name: case.name.clone(),
                    // Each look costs a reading of the document.
                    line: differs.is_some().then(|| written.line(&format!("spec.cases[{index}]"))),
                    expected: case.expect.to_string(),
                    differs,
                    answer,
                    took: begun.elapsed(),
                });
            }
            Err(error) => {
                let path = format!("spec.cases[{index}].request.{}", error.field);
                problems.push(written.error(&path, error.message));
            }
        }
    }
    if problems.is_empty() { Ok(Outcome { test, cases }) } else { Err(problems) }
}

/// The test's own, else the one given, else the test file's folder.
fn places(test: &Test<'_>, given: &Given) -> Vec<PathBuf> {
    let file = test.written.name();
    let own = given.bootstrap.as_ref().map(|bootstrap| &bootstrap.resources.directory);
    match (&test.spec.resources, given.resources.as_ref().or(own)) {
        (Some(places), _) => places.resolve(file),
        (None, Some(directory)) => vec![directory.clone()],
        (None, None) => vec![folder_of(file).to_path_buf()],
    }
}

fn own(given: &Given) -> Own {
    let unnamed =
        || Workload { namespace: "default".to_owned(), service_account: "default".to_owned(), ..Workload::default() };
    given.bootstrap.as_ref().map_or_else(|| Own { workload: unnamed(), name: None }, Own::of)
}

fn settings(given: &Given, written: &WrittenSettings) -> Settings {
    let mut settings = given.settings.clone();
    if let Some(Parsed(trust_domain)) = &written.trust_domain {
        settings.trust_domain = trust_domain.clone();
    }
    if let Some(aliases) = &written.trust_domain_aliases {
        settings.trust_domain_aliases = aliases.iter().map(|Parsed(domain)| domain.clone()).collect();
    }
    if let Some(namespace) = &written.root_namespace {
        settings.root_namespace.clone_from(namespace);
    }
    settings.catch_all_deny = written.catch_all_deny.unwrap_or(settings.catch_all_deny);
    settings.smi = written.smi.unwrap_or(settings.smi);
    settings
}
