//! Which endpoint is next.
//!
//! What is asked of an endpoint here is small: a [`Candidate`] is a way to it that can be tried, and an [`Attempt`] is one try,
//! which says how it went.

mod candidate;
mod cursor;
mod split;

pub use candidate::{Attempt, Caller, Candidate, Outcome};
pub use cursor::{Cursor, Cursors, Family};
pub use split::Turns;
