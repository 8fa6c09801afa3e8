//! The way to a workload behind another cluster's gateway.
//!
//! Two sessions, one inside the other: an outer one of mutual TLS and HTTP/2 to the gateway, which carries many tunnels, and in
//! each tunnel (HTTP/2 CONNECT, RFC 9113 section 8.5) an inner one of mutual TLS to the far workload, of which the gateway sees
//! only bytes. This is about the outer one; the inner is made as over any socket.

pub mod dial;
