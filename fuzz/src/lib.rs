//! What must hold for whatever comes in: one function per target, each panics when it does not.
//!
//! The functions know nothing of a fuzzer, so that ordinary tests can run them over the seeds too.

mod answers;
mod cases;
mod certificates;
mod detection;
mod documents;
mod exports;
mod frames;
mod framing;
mod heads;
mod identities;
mod keys;
mod paths;
mod policies;
mod routes;
mod tokens;
mod words;

pub use answers::ext_authz_answer;
pub use cases::case;
pub use certificates::{certificate, certificate_request};
pub use detection::detection;
pub use documents::{bootstrap, yaml_resources};
pub use exports::exports;
pub use frames::http2_frames;
pub use framing::http1_guard;
pub use heads::request_head;
pub use identities::spiffe_id;
pub use keys::key_set;
pub use paths::{path_normalize, path_template};
pub use policies::policy_decide;
pub use routes::smi_regex;
pub use tokens::token;
pub use words::words;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 19] = [
    ("bootstrap", bootstrap),
    ("case", case),
    ("certificate", certificate),
    ("certificate_request", certificate_request),
    ("detection", detection),
    ("exports", exports),
    ("ext_authz_answer", ext_authz_answer),
    ("http1_guard", http1_guard),
    ("http2_frames", http2_frames),
    ("key_set", key_set),
    ("path_normalize", path_normalize),
    ("path_template", path_template),
    ("policy_decide", policy_decide),
    ("request_head", request_head),
    ("smi_regex", smi_regex),
    ("spiffe_id", spiffe_id),
    ("token", token),
    ("words", words),
    ("yaml_resources", yaml_resources),
];
