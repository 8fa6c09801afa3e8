//! What must not cost anything: allocations and memory counted, times compared with each other and never with a clock's
//! idea of fast, so that a slow machine passes and a slow algorithm does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_types, reason = "what is measured is real time")]

mod large;

use std::hint::black_box;
use std::time::{Duration, Instant};

use allocation_counter::{AllocationInfo, measure};
use large::{Call, MIXES, compile, policies, walkthrough};
use meshgate_policy::{PolicySet, Residual};

const MANY: usize = 10_000;
const MIB: i64 = 1024 * 1024;

#[test]
fn deciding_allocates_nothing() {
    let nothing = |what: &str, set: &PolicySet, call: &Call| {
        let (residual, facts, request) = (set.reduce(&call.facts()), call.facts(), call.request());
        let counted = measure(|| {
            let decision = black_box(&residual).decide(black_box(&request));
            black_box((
                residual.fixed(),
                residual.custom(&request),
                residual.nearest(&decision, &facts, Some(&request)),
            ));
            black_box(set.essential(&facts));
        });
        assert_eq!(counted, AllocationInfo::default(), "{what}");
    };
    nothing("walk-through", &compile(&walkthrough()), &Call::walkthrough());
    for &mix in MIXES {
        let set = compile(&policies(mix, 100));
        nothing(mix.0, &set, &Call::of(mix, 99));
        // Refused, with a nearest miss.
        nothing(mix.0, &set, &Call::of(mix, 100));
    }
}

#[test]
fn ten_thousand_policies_take_less_than_ten_mebibytes() {
    for &mix in MIXES {
        let mut held = None;
        let counted = measure(|| {
            let policies = policies(mix, MANY);
            held = Some((compile(&policies), policies));
        });
        println!("{}: {:.2} MiB", mix.0, counted.bytes_current as f64 / MIB as f64);
        assert!(counted.bytes_current < 10 * MIB, "{}: {counted:?}", mix.0);
    }
}

/// The best of several, which is what the machine can do when nobody else is at it.
fn best(runs: u32, mut run: impl FnMut()) -> Duration {
    let once = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    (0..runs).map(once).min().unwrap()
}

/// Whether one cost is within some times the other, in one of several looks: what else the machine does can make either
/// look dear, but not every time the same one.
fn within(times: u32, what: &str, few: impl Fn() -> Duration, many: impl Fn() -> Duration) {
    let mut looks = Vec::new();
    while looks.len() < 5 {
        let (few, many) = (few(), many());
        if many < times * few {
            println!("{what}: {few:?}, {many:?}");
            return;
        }
        looks.push((few, many));
    }
    panic!("{what}: more than {times} times the cost: {looks:?}");
}

fn deciding(residual: &Residual, call: &Call) -> Duration {
    let request = call.request();
    best(30, || {
        for _ in 0..200 {
            black_box(black_box(residual).decide(black_box(&request)));
        }
    })
}

#[test]
fn a_request_costs_the_same_with_one_policy_and_with_ten_thousand() {
    for &mix in MIXES {
        let made = |count| {
            let (set, call) = (compile(&policies(mix, count)), Call::of(mix, count - 1));
            let residual = set.reduce(&call.facts());
            assert_eq!(residual.decide(&call.request()).verdict.as_str(), "allow", "{} {count}", mix.0);
            (residual, call)
        };
        let (one, many) = (made(1), made(MANY));
        // A list of them would cost thousands of times as much; a look-up costs some hashes more.
        within(20, mix.0, || deciding(&one.0, &one.1), || deciding(&many.0, &many.1));
    }
}

#[test]
fn a_new_caller_costs_the_same_with_a_hundred_policies_and_with_ten_thousand() {
    for &mix in MIXES {
        // Up to some hundred rules for one caller are copied for it; more are not.
        let made = |count| (compile(&policies(mix, count)), Call::of(mix, count - 1));
        let cost = |(set, call): &(PolicySet, Call)| {
            best(30, || {
                for _ in 0..50 {
                    black_box(black_box(set).reduce(black_box(&call.facts())));
                }
            })
        };
        let (few, many) = (made(100), made(MANY));
        within(10, mix.0, || cost(&few), || cost(&many));
    }
}

#[test]
fn compiling_costs_in_proportion() {
    for &mix in MIXES {
        let (few, many) = (policies(mix, MANY / 10), policies(mix, MANY));
        let cost = |policies| best(5, || drop(black_box(compile(black_box(policies)))));
        within(40, mix.0, || cost(&few), || cost(&many));
    }
}
