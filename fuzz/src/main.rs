//! All targets in one binary, which links once: `FUZZ_TARGET` names one, and the arguments are libFuzzer's.

#![no_main]

use std::sync::OnceLock;

use meshgate_fuzz::TARGETS;

/// Set before the first input.
static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let Some((_, target)) = TARGETS.into_iter().find(|(name, _)| *name == wanted) else {
            eprintln!("FUZZ_TARGET is to be one of {}", TARGETS.map(|(name, _)| name).join(", "));
            std::process::exit(2);
        };
        TARGET.set(target).expect("it is set once");
    },
    |data: &[u8]| TARGET.get().expect("it is set before")(data)
);
