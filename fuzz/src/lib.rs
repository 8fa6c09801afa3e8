//! What must hold for whatever comes in: one function per target, each panics when it does not.
//!
//! The functions know nothing of a fuzzer, so that ordinary tests can run them over the seeds too.

mod documents;
mod identities;
mod paths;
mod policies;

pub use documents::{bootstrap, yaml_resources};
pub use identities::spiffe_id;
pub use paths::{path_normalize, path_template};
pub use policies::policy_decide;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 6] = [
    ("bootstrap", bootstrap),
    ("path_normalize", path_normalize),
    ("path_template", path_template),
    ("policy_decide", policy_decide),
    ("spiffe_id", spiffe_id),
    ("yaml_resources", yaml_resources),
];
