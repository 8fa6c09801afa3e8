//! What the bootstrap says about tunnels: `hbone`, and how much one caller may have of them here and at gateways.

use std::net::SocketAddr;

use serde::Deserialize;

use super::validate::Validator;
use super::{InboundListener, Role};

/// Toward the local application through tunnels (HBONE: mutual TLS, and HTTP/2 CONNECT in it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HboneSettings {
    /// Where it listens; empty = off.
    pub listeners: Vec<SocketAddr>,
    /// How much one caller may have.
    pub limits: TunnelLimits,
}

/// How much one identity may have of tunnels at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelLimits {
    /// Connections.
    pub connections_per_caller: usize,
    /// Tunnels in one connection.
    pub tunnels_per_connection: u32,
    /// Tunnels over all its connections.
    pub tunnels_per_caller: usize,
}

/// The limits as written.
#[derive(Default)]
pub(super) struct RawLimits {
    pub(super) connections_per_caller: Option<usize>,
    pub(super) tunnels_per_connection: Option<u32>,
    pub(super) tunnels_per_caller: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawHbone {
    #[serde(default)]
    listeners: Vec<String>,
    connections_per_caller: Option<usize>,
    tunnels_per_connection: Option<u32>,
    tunnels_per_caller: Option<usize>,
}

/// Reads `hbone`, which only a sidecar may have: what comes out of a tunnel goes where an inbound listener leads.
pub(super) fn hbone(v: &mut Validator<'_>, raw: &RawHbone, role: Role, inbound: &[InboundListener]) -> HboneSettings {
    let is_on = !raw.listeners.is_empty();
    if is_on && role == Role::Gateway {
        v.fail("hbone.listeners", "is for `role: sidecar`; a gateway's tunnels come in at gateway.listeners");
    } else if is_on && inbound.is_empty() {
        v.fail("hbone.listeners", "what comes out of a tunnel goes where an inbound listener leads, and there is none");
    }
    let limits = RawLimits {
        connections_per_caller: raw.connections_per_caller,
        tunnels_per_connection: raw.tunnels_per_connection,
        tunnels_per_caller: raw.tunnels_per_caller,
    };
    HboneSettings { listeners: v.addresses("hbone.listeners", &raw.listeners), limits: limits.read(v, "hbone") }
}

impl RawLimits {
    /// Reads them as fields of `section`.
    pub(super) fn read(&self, v: &mut Validator<'_>, section: &str) -> TunnelLimits {
        let field = |name: &str| format!("{section}.{name}");
        TunnelLimits {
            connections_per_caller: v.at_least(&field("connectionsPerCaller"), self.connections_per_caller, 1, 256),
            tunnels_per_connection: v.at_least(&field("tunnelsPerConnection"), self.tunnels_per_connection, 1, 100),
            tunnels_per_caller: v.at_least(&field("tunnelsPerCaller"), self.tunnels_per_caller, 1, 10_000),
        }
    }
}
