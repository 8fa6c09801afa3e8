//! The messages of `SpiffeWorkloadAPI/FetchX509SVID`, as far as they are used here, with the field numbers of the
//! [public definition](https://github.com/spiffe/go-spiffe/blob/main/proto/spiffe/workload/workload.proto).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

/// `X509SVIDRequest`, which has no fields.
#[derive(Clone, PartialEq, Message)]
pub(super) struct X509SvidRequest {}

/// `X509SVIDResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<X509Svid>,
    /// Each one list, DER.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) crl: Vec<Bytes>,
    /// By the ID of a trust domain: its roots, DER, one after the other.
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub(super) federated_bundles: BTreeMap<String, Bytes>,
}

/// `X509SVID`. `Debug` leaves the key out.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub(super) struct X509Svid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    /// Certificates, DER, leaf first.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) x509_svid: Bytes,
    /// PKCS#8, DER.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) x509_svid_key: Bytes,
    /// The roots of its trust domain, DER, one after the other.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) bundle: Bytes,
}

impl std::fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509Svid").field("spiffe_id", &self.spiffe_id).finish_non_exhaustive()
    }
}
