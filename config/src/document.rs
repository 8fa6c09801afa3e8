//! The frame that documents of Istio, SMI, FSM and the MCS API share.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A document as written, in which an unknown field is an error; `status` is what a server adds. Where `spec` may be absent or
/// null, `T` is an `Option`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document<T> {
    #[serde(rename = "apiVersion")]
    pub(crate) api_version: String,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
    pub(crate) spec: T,
}
