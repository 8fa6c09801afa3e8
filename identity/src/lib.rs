//! Who this workload is, and who is at the other end.
//!
//! A workload is a [`SpiffeId`], proved by an X.509-SVID (a certificate with that ID as its only URI) and the key to it.
//! [`IdentityStore`] reads the files, validates all of them together and publishes each good set as one [`Identity`]: the
//! TLS configurations for both directions, made once per generation. [`peer_identity`] reads the ID out of a peer's
//! certificate; the verifiers in the TLS configurations have then already checked it against the trust bundle of the
//! domain it claims. [`ca`] is the library behind `meshgate ca`.
//!
//! What this does not do: watch files, own a thread or a socket, or decide what a peer may do.
//!
//! ```
//! use std::collections::BTreeMap;
//! use meshgate_identity::{IdentityStore, Sources, SpiffeId, ca};
//!
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path();
//! // As `meshgate ca init` and `meshgate ca issue` do it, in the folder `dir`.
//! let id: SpiffeId = "spiffe://cluster.local/ns/default/sa/backend".parse()?;
//! let authority = ca::init(dir, &ca::InitOptions::new(id.trust_domain()))?;
//! let files = ca::write_svid(dir, "backend", &authority.issue(&ca::IssueOptions::new(id.clone()))?)?;
//!
//! let store = IdentityStore::open(Sources {
//!     id,
//!     certificate: files.certificate,
//!     key: files.key,
//!     trust_bundle: dir.join(ca::CERTIFICATE_FILE),
//!     federated: BTreeMap::new(),
//!     clusters: BTreeMap::new(),
//!     cluster: None,
//!     crl: Vec::new(),
//!     require_crl: false,
//! })?;
//! let identity = store.current();
//! let (_for_callers, _generation) = (identity.server_config(), identity.generation());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod alpn;
pub mod ca;

mod bundle;
mod certificate;
mod crl;
mod delivered;
mod error;
mod expected;
mod files;
mod generation;
mod leaf;
mod pending;
mod session;
mod spiffe;
mod store;
mod svid;
#[cfg(test)]
mod testing;
mod tls;
mod verified;
mod verify;
mod xfcc;

pub use alpn::ClientAlpn;
pub use bundle::{Root, TrustBundles};
pub use crl::RevocationList;
pub use delivered::Delivered;
pub use error::{IdentityError, PeerError, PeerIdentityError};
pub use expected::{Expected, Who};
pub use generation::{ClusterRoots, Identity, Sources};
pub use leaf::peer_identity;
pub use pending::{PendingSvid, RequestKey};
pub use session::{Lost, PeerChain, PeerRole, Standing};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
pub use store::{IdentityStore, Reload};
pub use svid::Svid;
pub use xfcc::client_cert_element;
