//! SMI's access control: `TrafficTarget` of `access.smi-spec.io`, and the routes of `specs.smi-spec.io` it refers to.
//!
//! [`spec`] is the shape of the documents and no more. Each is then given its own meaning ([`traffic_target`],
//! [`http_route_group`], [`tcp_route`]), and [`compose()`] makes one [`Policy`](crate::Policy) of a TrafficTarget and the
//! routes of its namespace, which the engine then treats like any other. [`Reach`] is the same seen by the caller: whom
//! may this service account call at all?
//!
//! The text of SMI leaves corners open. Each is decided here so that what is missing, misspelt or doubtful never lets
//! anybody in; the user guide lists them. TrafficSplit and TrafficMetrics are none of access control.

mod compose;
pub mod lint;
mod pattern;
mod reach;
mod route;
pub mod spec;
mod target;

pub use compose::{Composed, Routes, compose};
pub use pattern::PathMatch;
pub(crate) use pattern::Pattern;
pub use reach::{Reach, concerning};
pub use route::{HttpRouteGroup, TcpRoute, http_route_group, tcp_route};
pub use spec::{HttpRouteGroupSpec, TcpRouteSpec, TrafficTargetSpec};
pub use target::{TrafficTarget, traffic_target};

#[cfg(test)]
pub(crate) mod tests;
