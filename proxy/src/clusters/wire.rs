//! What a gateway says of its exports, one JSON object a line.
//!
//! `GET /meshgate/v1/exports` over the mutual TLS of a tunnel, answered with [`CONTENT_TYPE`]: at once the whole list of what the
//! caller may call, then the whole list whenever it has changed, and an empty line every [`HEARTBEAT`] in between. So a reader
//! never has to put changes together, and knows soon when nobody is there any more.

use std::time::Duration;

use meshgate_config::{AppProtocol, ExportedPort};
use serde::{Deserialize, Serialize};

/// Where it is asked for.
pub const PATH: &str = "/meshgate/v1/exports";

/// A list a line.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// Between two lines at the most. A reader that hears nothing for twice as long takes the gateway for gone.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// Bytes of a line at the most: some ten thousand exports.
pub const LINE_MAX: usize = 4 * 1024 * 1024;

/// Everything that one caller may call through a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// The cluster it is the gateway of.
    pub cluster_key: String,
    /// The trust domain of its workloads.
    pub trust_domain: String,
    /// By namespace and name.
    pub exports: Vec<Service>,
}

/// One exported service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who runs it, as its export says.
    pub service_account_name: String,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// One port of an exported service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The service's port.
    pub port: u16,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its `appProtocol`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// Under which path the listener for plain HTTP has it.
    pub path: String,
    /// Ready endpoints now.
    pub ready: u32,
}

impl Port {
    /// What is said of an exported port with so many `ready` endpoints.
    pub fn of(exported: &ExportedPort, ready: usize) -> Self {
        let ExportedPort { port, path, .. } = exported;
        // As a Service would write it.
        let app_protocol = match port.app_protocol {
            AppProtocol::Auto | AppProtocol::Opaque => None,
            AppProtocol::Http => Some("http"),
            AppProtocol::Http2 => Some("http2"),
            AppProtocol::Tcp => Some("tcp"),
        };
        Self {
            port: port.port,
            name: port.name.clone(),
            app_protocol: app_protocol.map(str::to_owned),
            path: path.clone(),
            ready: u32::try_from(ready).unwrap_or(u32::MAX),
        }
    }
}
