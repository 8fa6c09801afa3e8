//! The meshgate proxy: bytes from here to there, with an identity at both ends and a policy in between.
//!
//! In reading order, which is the order in which a connection meets them:
//!
//! [`app`] wires everything; [`reload`] takes into force what changes; [`runtime`] has the threads, [`descriptors`] how many files they may open; [`listen`] accepts; [`orig_dst`] says where a connection was going;
//! [`inbound`] and [`outbound`] plan and execute; [`detect`] looks at the first bytes; [`tls`] takes TLS off and puts it on;
//! [`ext_authz`] asks external providers; [`http`] and [`tcp`] forward; [`route`] and [`balance`] choose the endpoint, [`circuit`] bounds what it gets; [`report`] writes what happened to
//! [`access_log`] and [`metrics`]. [`error`] says whose fault it was. [`clusters`] watches other clusters' gateways. [`source`] has our identity, from files, from [`workload_api`] or from the authority that [`ca`] asks; [`grpc`] is what calls look like.
//! [`hand_over`] gives the listeners to the next process. [`admin`], [`log`], [`drain`], [`readiness`] and [`signal`] are
//! the life cycle; [`cli`] is the command line, and [`sandbox`] a mesh on this machine for the demo and the tests.

pub mod access_log;
pub mod admin;
pub mod app;
pub mod balance;
pub mod ca;
pub mod case;
pub mod changes;
pub mod circuit;
pub mod cli;
pub mod clusters;
pub mod connection;
pub mod copy;
pub mod descriptors;
pub mod detect;
pub mod dial;
pub mod drain;
pub mod error;
pub mod ext_authz;
pub mod gateway;
pub mod grpc;
pub mod hand_over;
pub mod http;
pub mod inbound;
pub mod judge;
pub mod jwks;
pub mod limits;
pub mod listen;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod open;
pub mod orig_dst;
pub mod outbound;
pub mod random;
pub mod readiness;
pub mod reload;
pub mod report;
pub mod residuals;
pub mod resolve;
pub mod rewind;
pub mod route;
pub mod runtime;
pub mod sandbox;
pub mod sessions;
pub mod signal;
pub mod socket;
pub mod source;
pub mod stream;
pub mod tcp;
pub mod throttle;
pub mod tls;
pub mod trace;
pub mod tunnel;
pub mod turns;
pub mod worker;
pub mod workload_api;
