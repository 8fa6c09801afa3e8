//! What a verdict costs: compiled, reduced, decided, by the number of policies and by what tells them apart.
//!
//! `cargo bench -p meshgate-policy`; one mix with `-- 'path prefixes'`. Times are this machine's; what is promised is a
//! ratio, see `docs/policy-performance.md`.

#![allow(clippy::unwrap_used, reason = "what is measured was written here")]
#![allow(missing_docs, reason = "criterion's macros make public items")]

#[path = "../tests/large/mod.rs"]
mod large;

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use large::{Call, MIXES, compile, policies, walkthrough};

const COUNTS: [usize; 4] = [1, 100, 1_000, 10_000];

fn walkthrough_costs(criterion: &mut Criterion) {
    let (set, call) = (compile(&walkthrough()), Call::walkthrough());
    let residual = set.reduce(&call.facts());
    let mut group = criterion.benchmark_group("walk-through");
    group.bench_function("decide", |bench| {
        bench.iter(|| black_box(&residual).decide(black_box(&call.request())).verdict);
    });
    group.bench_function("reduce", |bench| bench.iter(|| black_box(&set).reduce(black_box(&call.facts()))));
    group.finish();
}

fn decide(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for &mix in MIXES {
        for count in COUNTS {
            let (set, call) = (compile(&policies(mix, count)), Call::of(mix, count - 1));
            let residual = set.reduce(&call.facts());
            assert_eq!(residual.decide(&call.request()).verdict.as_str(), "allow", "{} {count}", mix.0);
            group.bench_function(BenchmarkId::new(mix.0, count), |bench| {
                bench.iter(|| black_box(&residual).decide(black_box(&call.request())).verdict);
            });
        }
    }
    group.finish();
}

fn reduce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reduce");
    for &mix in MIXES {
        for count in [1, 10_000] {
            let (set, call) = (compile(&policies(mix, count)), Call::of(mix, count - 1));
            group.bench_function(BenchmarkId::new(mix.0, count), |bench| {
                bench.iter(|| black_box(&set).reduce(black_box(&call.facts())));
            });
        }
    }
    group.finish();
}

/// A new connection whose essential facts another one had, and one that has the first of them.
fn connection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connection");
    let sets = [("walk-through", compile(&walkthrough()), Call::walkthrough())]
        .into_iter()
        .chain(MIXES.iter().map(|&mix| (mix.0, compile(&policies(mix, 10_000)), Call::of(mix, 9_999))));
    for (name, set, call) in sets {
        let facts = set.essential(&call.facts()).to_owned();
        let kept = HashMap::from([(facts.as_ref().fingerprint(), (facts, set.reduce(&call.facts())))]);
        group.bench_function(BenchmarkId::new("shared", name), |bench| {
            bench.iter(|| {
                let facts = black_box(&set).essential(black_box(&call.facts()));
                let found = kept.get(&facts.fingerprint()).filter(|(kept, _)| kept.as_ref() == facts);
                found.map(|(_, residual)| residual.clone())
            });
        });
    }
    group.finish();
}

fn compiling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    for &mix in MIXES {
        let policies = policies(mix, 10_000);
        group.bench_function(BenchmarkId::new(mix.0, 10_000), |bench| bench.iter(|| compile(black_box(&policies))));
    }
    group.finish();
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .without_plots()
}

criterion_group! { name = costs; config = short(); targets = walkthrough_costs, decide, reduce, connection, compiling }
criterion_main!(costs);
