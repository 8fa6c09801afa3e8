//! The label sets of our own metrics. Values come from configuration, from verified certificates or from this code, never raw from
//! the wire.

use prometheus_client::encoding::EncodeLabelSet;

use super::family::{LabelSet, OVERFLOW};

/// What may stand in a label.
pub trait LabelValue {
    /// Of what was one series too many.
    fn overflow() -> Self;
}

impl LabelValue for &'static str {
    fn overflow() -> Self {
        OVERFLOW
    }
}

impl LabelValue for String {
    fn overflow() -> Self {
        OVERFLOW.to_owned()
    }
}

/// Structs whose fields are labels of their names.
macro_rules! label_sets {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl LabelSet for $name {
            fn overflow() -> Self {
                Self { $($field: <$kind as LabelValue>::overflow(),)* }
            }
        }
    )*};
}

/// Of a root's fingerprint (SHA-256) what tells it from any other: its first 16 hexadecimal digits.
pub fn root_label(fingerprint: &str) -> &str {
    fingerprint.get(..16).unwrap_or(fingerprint)
}

label_sets! {
    /// Labels of the decision counter.
    DecisionLabels {
        /// `allow` or `deny`.
        decision: &'static str,
        /// Why, as in the access log.
        reason: &'static str,
        /// The deciding policy, `namespace/name`; `-` where none did.
        policy: String,
    }

    /// Labels of counters by direction and outcome.
    OutcomeLabels {
        /// `inbound`, `outbound` or `gateway`.
        direction: &'static str,
        /// What happened.
        outcome: &'static str,
    }

    /// Labels of the counter of TLS handshakes.
    HandshakeLabels {
        /// `inbound`, `outbound` or `gateway`.
        direction: &'static str,
        /// `ok` or `error`.
        outcome: &'static str,
        /// Why not: `timeout`, `closed`, `no_certificate`, `expired`, `untrusted`, `revoked`, `identity`, `alert` or `protocol`; `-` of those
        /// that went well.
        reason: &'static str,
    }

    /// Labels of what is counted by the root that vouches for a peer.
    RootLabels {
        /// `inbound`: it called us; `outbound`: we called it.
        direction: &'static str,
        /// Of the peer.
        trust_domain: String,
        /// The start of the root's fingerprint, see [`root_label`].
        root: String,
    }

    /// Labels of what is said of our own certificate.
    OwnRootLabels {
        /// The start of its root's fingerprint, see [`root_label`].
        root: String,
    }

    /// Labels of the counter of connections that said nothing in time.
    PortLabels {
        /// `inbound`, `outbound` or `gateway`.
        direction: &'static str,
        /// The port it was going to, where it is one of the configuration's; else `other`.
        port: String,
    }

    /// Labels of gauges by direction.
    DirectionLabels {
        /// `inbound`, `outbound` or `gateway`.
        direction: &'static str,
    }

    /// Labels of gauges by state.
    StateLabels {
        /// Which.
        state: &'static str,
    }

    /// Labels of counters by result alone.
    ResultLabels {
        /// `ok` or `error`.
        result: &'static str,
    }

    /// Labels of the counter of external checks.
    ProviderLabels {
        /// The provider's name, as the bootstrap has it.
        provider: String,
        /// `allow`, `deny`, `timeout` or `error`.
        result: &'static str,
    }

    /// Labels of what is known of another cluster.
    ClusterLabels {
        /// Its key.
        cluster: String,
    }

    /// Labels of the counter of failed attempts to ask a gateway.
    ProbeLabels {
        /// Its cluster's key.
        cluster: String,
        /// Why: `unreachable`, `identity`, `loop`, `silent`, `broken`, `protocol`, `status` or `list`.
        reason: &'static str,
    }

    /// Labels of counters by reason alone.
    ReasonLabels {
        /// Why.
        reason: &'static str,
    }

    /// Labels of the counter of HTTP/2 connections that were ended.
    Http2Labels {
        /// Who was at the other end: `downstream` or `upstream`; `gateway` or `caller` of an outer connection.
        peer: &'static str,
        /// What there was too much of: `control_frames`, `resets`, `header_block` or `heads`; `preface` where there was none.
        reason: &'static str,
    }

    /// Labels of the counter of tries beyond the first.
    RetryLabels {
        /// How the try before ended: `unsent`, `unprocessed`, `unreached` (by its proxy), `lost`, `timeout` or `answer`.
        reason: &'static str,
        /// `answered`, `failed`, `cancelled`; `no_budget` when there was none.
        outcome: &'static str,
    }
}
