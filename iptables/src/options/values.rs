//! Options that are one of a few things.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

/// How inbound connections get to the proxy; outbound ones are always redirected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Interception {
    /// The kernel rewrites the destination
    #[value(name = "REDIRECT")]
    Redirect,
    /// The kernel hands over the packets as they are, source address and all; the listener must be transparent
    #[value(name = "TPROXY")]
    Tproxy,
}

/// Whether IPv6 is captured. The rules are the same with `Auto` and `On`; what differs is what to do about a kernel
/// without IPv6, which whoever applies them learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ipv6 {
    /// Where the kernel has it; a warning where it has not
    Auto,
    /// Yes; an error where the kernel has not
    #[value(name = "true")]
    On,
    /// No: all IPv6 traffic stays outside the mesh
    #[value(name = "false")]
    Off,
}

/// The port of the proxy's HBONE listener, if redirection is to leave it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelPort(Option<u16>);

impl TunnelPort {
    /// No port is special. A tunnel then comes in by redirection, which the proxy takes as well.
    pub const NONE: TunnelPort = TunnelPort(None);

    /// The port, never 0.
    pub fn port(self) -> Option<u16> {
        self.0
    }
}

impl Default for TunnelPort {
    /// ztunnel's and Istio's, 15008.
    fn default() -> Self {
        TunnelPort(Some(DEFAULT_TUNNEL_PORT))
    }
}

impl FromStr for TunnelPort {
    type Err = TunnelPortError;

    /// A port, or `none`.
    fn from_str(text: &str) -> Result<Self, TunnelPortError> {
        match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(TunnelPort(Some(port))),
            _ if text == "none" => Ok(TunnelPort::NONE),
            _ => Err(TunnelPortError),
        }
    }
}

impl fmt::Display for TunnelPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(port) => port.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// Neither a port nor `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("want a port from 1 to 65535, or none")]
pub struct TunnelPortError;

const DEFAULT_TUNNEL_PORT: u16 = 15008;
