//! Findings that are meant: objects say so by an annotation.

use std::collections::BTreeMap;

use crate::kept::Standing;
use crate::problem::Problem;
use crate::resource::ALLOW;

/// Takes out what the objects concerned allow, and puts in what is wrong with how they say so.
pub(super) fn apply(standing: &Standing, mut problems: Vec<Problem>) -> Vec<Problem> {
    let mut allowed: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (key, place, written) in standing.allowances() {
        for code in written.split(',').map(str::trim).filter(|code| !code.is_empty()) {
            if super::is_known(code) {
                allowed.entry(key.to_string()).or_default().push(code);
            } else {
                let message = format!("`{code}` is not the code of a finding: see `meshgate check --list`");
                let problem = Problem::warning(&place.file, message).at(Some(place.line)).about(key);
                unknown.push(problem.in_field(Some(format!("metadata.annotations[{ALLOW}]"))));
            }
        }
    }
    let is_allowed = |problem: &Problem| {
        let codes = problem.object.as_ref().and_then(|object| allowed.get(object));
        let code = problem.field.as_deref().unwrap_or_default();
        !problem.is_error() && codes.is_some_and(|codes| codes.contains(&code))
    };
    problems.retain(|problem| !is_allowed(problem));
    problems.extend(unknown);
    problems
}
