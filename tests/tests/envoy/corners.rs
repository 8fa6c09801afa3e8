//! Corners, by hand: what each side must do is written down, and is the same.

mod connection;
mod request;
mod shape;

use std::fmt::Write;

use serde_json::Value;

use crate::binary;
use crate::call::Call;
use crate::compare::{Set, compare};
use crate::policies::{Document, NAMES};
use crate::profile::{DEFAULT, Profile};

/// Policies, calls, and for each call what a client sees, as [`Outcome`](crate::call::Outcome) is displayed.
struct Corner {
    profile: Profile,
    documents: Vec<Document>,
    calls: Vec<(Call, &'static str)>,
}

impl Corner {
    /// Policies of the workload's namespace, by their specs.
    fn new<const N: usize, const M: usize>(specs: [Value; N], calls: [(Call, &'static str); M]) -> Self {
        let documents = NAMES.iter().zip(specs).map(|(name, spec)| Document::new(name, spec)).collect();
        Self { profile: DEFAULT, documents, calls: calls.into() }
    }

    fn with(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }

    /// As the policies of these namespaces, in their order.
    fn in_namespaces<const N: usize>(mut self, namespaces: [&str; N]) -> Self {
        for (document, namespace) in self.documents.iter_mut().zip(namespaces) {
            namespace.clone_into(&mut document.namespace);
        }
        self
    }

    /// With the first policy on trial only.
    fn dry_run(mut self) -> Self {
        self.documents[0].dry_run = true;
        self
    }
}

/// Checks both sides against what is written down.
fn check(corners: Vec<Corner>) {
    let Some(envoy) = binary::envoy() else { return };
    let expected: Vec<_> =
        corners.iter().flat_map(|corner| corner.calls.iter().map(|(_, expected)| *expected)).collect();
    let set = |Corner { profile, documents, calls }: Corner| Set {
        profile,
        authentication: None,
        provider: None,
        documents,
        calls: calls.into_iter().map(|(call, _)| call).collect(),
    };
    let verdicts = meshgate_tests::run(compare(&envoy, corners.into_iter().map(set).collect()));
    assert_eq!(verdicts.len(), expected.len());
    let mut wrong = String::new();
    for (verdicts, expected) in verdicts.iter().zip(&expected) {
        if [&verdicts.envoy, &verdicts.ours].into_iter().any(|outcome| outcome.to_string() != *expected) {
            writeln!(wrong, "{expected} expected of {verdicts}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{} corners, as many agreements", verdicts.len());
}
