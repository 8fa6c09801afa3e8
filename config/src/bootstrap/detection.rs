//! How what a connection speaks is found out, where no service says it.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use serde::Deserialize;

use super::validate::Validator;
use crate::app_protocol::OpaquePorts;

/// More ports than anybody lists by hand; each costs a look-up of their logarithm at most.
const PORTS_MAX: usize = 1024;

/// How what a connection speaks is found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detection {
    /// Ports that are not parsed where no service says what is spoken there.
    pub opaque_ports: OpaquePorts,
    /// How long first bytes are waited for at ports that differ from `timeouts.detect`; all greater than zero.
    pub port_timeouts: BTreeMap<u16, Duration>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawDetection {
    opaque_ports: Option<Vec<NonZeroU16>>,
    #[serde(default)]
    port_timeouts: BTreeMap<String, String>,
}

pub(super) fn detection(v: &mut Validator<'_>, raw: RawDetection) -> Detection {
    let ports = raw.opaque_ports.map(|ports| {
        if ports.len() > PORTS_MAX {
            v.fail("detection.opaquePorts", format!("lists {} ports: the most is {PORTS_MAX}", ports.len()));
        }
        ports.into_iter().map(NonZeroU16::get).collect()
    });
    let mut port_timeouts = BTreeMap::new();
    for (port, timeout) in raw.port_timeouts {
        let field = format!("detection.portTimeouts.{port}");
        let Some(number) = v.parse::<NonZeroU16>(&field, &port, "a port") else { continue };
        // What is wrong with it has been said.
        let timeout = v.duration(&field, Some(timeout), Duration::MAX);
        port_timeouts.insert(number.get(), timeout);
    }
    Detection { opaque_ports: ports.unwrap_or_default(), port_timeouts }
}
