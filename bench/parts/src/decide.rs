//! Whether a request may pass, by the number of policies.

use std::hint::black_box;

use crate::large::{Call, MIXES, compile, policies};
use crate::{Part, Work};

pub(crate) fn parts() -> Vec<Part> {
    [1, 10_000]
        .into_iter()
        .flat_map(|count| {
            [
                Part::new(format!("decide/request/{count}"), move || request(count)),
                Part::new(format!("decide/connection/{count}"), move || connection(count)).few(),
            ]
        })
        .collect()
}

/// On a connection whose caller is known.
fn request(count: usize) -> Work {
    let (set, call) = last_of(count);
    let residual = set.reduce(&call.facts());
    Box::new(move || {
        black_box(black_box(&residual).decide(black_box(&call.request())).verdict);
    })
}

/// What remains of the policies for a caller that comes for the first time.
fn connection(count: usize) -> Work {
    let (set, call) = last_of(count);
    Box::new(move || {
        black_box(black_box(&set).reduce(black_box(&call.facts())));
    })
}

/// So many policies, and the request that the last of them lets in.
fn last_of(count: usize) -> (meshgate_policy::PolicySet, Call) {
    let mix = *MIXES.first().unwrap();
    (compile(&policies(mix, count)), Call::of(mix, count - 1))
}
