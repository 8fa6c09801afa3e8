//! Which endpoint is next.
//!
//! The one idea: what changes seldom is arranged ahead, so that choosing is an index. A [`Choice`] holds the ways to a service's
//! endpoints ([`Candidate`]) and an arrangement of those in rotation, clusters in a smooth weighted cycle. It
//! is arranged anew when somebody's health has changed. What all workers share, and reloads keep, is in the service's [`Ledger`].
//!
//! Policy has spoken before: what is out of reach is no candidate. Whether a failed try may be followed by another is the
//! affair of who holds the request.

mod blame;
mod candidate;
mod choice;
mod cycle;
mod family;
mod hash;
mod health;
mod ledger;
mod load;
mod outlier;
mod rotation;
#[cfg(test)]
mod testing;

pub use candidate::{Account, Attempt, Behind, Caller, Candidate, Outcome, Weighing};
pub use choice::{Candidates, Choice, Service};
pub use family::Family;
pub use health::Health;
pub use ledger::{Key, Ledger, Ledgers, keep};
