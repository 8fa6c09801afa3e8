//! What to redirect: the flags of `meshgate iptables`, and the contradictions among them that are refused.
//!
//! The one idea: names are istio-init's wherever they mean the same, so that an init container's arguments carry over.
//! It says nothing about how the rules look; `rules.rs` does.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::{ArgAction, Args};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::list::{CidrList, PortList, PortRange, Selection};

/// Which traffic is sent to the proxy, and where the proxy is.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Options {
    /// Port of the proxy's outbound listener
    #[arg(short = 'p', long, visible_alias = "envoy-port", value_name = "PORT", default_value_t = DEFAULT_OUTBOUND_PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub outbound_port: u16,

    /// Port of the proxy's inbound listener
    #[arg(short = 'z', long, visible_alias = "inbound-port", value_name = "PORT", default_value_t = DEFAULT_INBOUND_PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub inbound_capture_port: u16,

    /// User ids the proxy runs as: their traffic is never captured
    #[arg(short = 'u', long, value_name = "UIDS", value_delimiter = ',', default_values_t = [DEFAULT_PROXY_UID])]
    pub proxy_uid: Vec<u32>,

    /// Group ids the proxy runs as, when the user id alone does not tell it apart [default: none]
    #[arg(short = 'g', long, value_name = "GIDS", value_delimiter = ',')]
    pub proxy_gid: Vec<u32>,

    /// Inbound ports to capture: a list, `*` for all, empty for none
    #[arg(short = 'b', long = "istio-inbound-ports", value_name = "PORTS", default_value_t = Selection::All)]
    pub inbound_ports: Selection<PortList>,

    /// Inbound ports not to capture
    #[arg(short = 'd', long = "istio-local-exclude-ports", value_name = "PORTS", default_value_t)]
    pub inbound_ports_exclude: PortList,

    /// Destinations to capture: a list of CIDRs, `*` for all, empty for none
    #[arg(short = 'i', long = "istio-service-cidr", value_name = "CIDRS", default_value_t = Selection::All)]
    pub outbound_cidrs: Selection<CidrList>,

    /// Destinations not to capture
    #[arg(short = 'x', long = "istio-service-exclude-cidr", value_name = "CIDRS", default_value_t)]
    pub outbound_cidrs_exclude: CidrList,

    /// Outbound ports to capture wherever they go, beside what --istio-service-cidr captures
    #[arg(short = 'q', long = "istio-outbound-ports", value_name = "PORTS", default_value_t)]
    pub outbound_ports: PortList,

    /// Outbound ports not to capture
    #[arg(short = 'o', long = "istio-local-outbound-ports-exclude", value_name = "PORTS", default_value_t)]
    pub outbound_ports_exclude: PortList,

    /// Capture IPv6 as well as IPv4; false leaves all IPv6 traffic outside the mesh
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub ipv6: bool,
}

impl Default for Options {
    /// Everything is captured: what the flags give when none is set.
    fn default() -> Self {
        Options {
            outbound_port: DEFAULT_OUTBOUND_PORT,
            inbound_capture_port: DEFAULT_INBOUND_PORT,
            proxy_uid: vec![DEFAULT_PROXY_UID],
            proxy_gid: Vec::new(),
            inbound_ports: Selection::All,
            inbound_ports_exclude: PortList::default(),
            outbound_cidrs: Selection::All,
            outbound_cidrs_exclude: CidrList::default(),
            outbound_ports: PortList::default(),
            outbound_ports_exclude: PortList::default(),
            ipv6: true,
        }
    }
}

impl Options {
    /// Refuses options that contradict each other, or whose rules would not do what they say.
    ///
    /// # Errors
    /// The first contradiction, naming the flags in it.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if self.outbound_port == self.inbound_capture_port {
            return Err(OptionsError::SamePort { port: self.outbound_port });
        }
        if self.proxy_uid.is_empty() {
            return Err(OptionsError::NoUid);
        }
        if self.proxy_uid.contains(&0) {
            return Err(OptionsError::RootUid);
        }
        if self.proxy_gid.contains(&0) {
            return Err(OptionsError::RootGid);
        }
        self.validate_ports()?;
        self.validate_cidrs()
    }

    fn validate_ports(&self) -> Result<(), OptionsError> {
        if let Selection::Listed(included) = &self.inbound_ports
            && let Some(ports) = included.intersection(&self.inbound_ports_exclude)
        {
            return Err(OptionsError::PortsInAndOut {
                included: "--istio-inbound-ports",
                excluded: "--istio-local-exclude-ports",
                ports,
            });
        }
        if let Some(ports) = self.outbound_ports.intersection(&self.outbound_ports_exclude) {
            return Err(OptionsError::PortsInAndOut {
                included: "--istio-outbound-ports",
                excluded: "--istio-local-outbound-ports-exclude",
                ports,
            });
        }
        Ok(())
    }

    fn validate_cidrs(&self) -> Result<(), OptionsError> {
        let included = match &self.outbound_cidrs {
            Selection::All => EVERYTHING.as_slice(),
            Selection::Listed(list) => list.networks(),
        };
        let excluded = self.outbound_cidrs_exclude.networks();
        if let Selection::Listed(list) = &self.outbound_cidrs
            && let Some(cidr) = list.networks().iter().find(|cidr| LOOPBACK.iter().any(|lo| lo.contains(*cidr)))
        {
            return Err(OptionsError::LoopbackIncluded { cidr: *cidr });
        }
        for outer in excluded {
            // The other way round is the point of an exclusion: a hole in what is included.
            if let Some(inner) = included.iter().find(|inner| outer.contains(*inner)) {
                return Err(OptionsError::CidrExcludedWhole { included: *inner, excluded: *outer });
            }
        }
        if let Selection::Listed(list) = &self.outbound_cidrs
            && !self.ipv6
            && let Some(cidr) = list.networks().iter().find(|cidr| matches!(cidr, IpNet::V6(_)))
        {
            return Err(OptionsError::Ipv6Off { cidr: *cidr });
        }
        Ok(())
    }
}

/// Options that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Inbound and outbound traffic could not be told apart.
    #[error("--outbound-port and --inbound-capture-port are both {port}: the proxy needs a listener for each")]
    SamePort {
        /// The port given twice.
        port: u16,
    },
    /// Without an exempted user the proxy's own connections would come back to it for ever.
    #[error("--proxy-uid is empty: the proxy's own connections would be captured")]
    NoUid,
    /// Every process of user 0 would bypass the mesh.
    #[error("--proxy-uid 0 is refused: every process that runs as root would bypass the mesh")]
    RootUid,
    /// Group 0 is what containers with an arbitrary user id commonly have.
    #[error("--proxy-gid 0 is refused: every process in the root group would bypass the mesh")]
    RootGid,
    /// A port is both captured and not.
    #[error("port {ports} is in {included} and in {excluded}")]
    PortsInAndOut {
        /// The flag that captures it.
        included: &'static str,
        /// The flag that does not.
        excluded: &'static str,
        /// The ports in question.
        ports: PortRange,
    },
    /// Nothing of an included network would be captured.
    #[error(
        "--istio-service-exclude-cidr {excluded} leaves nothing of --istio-service-cidr {included}; \
             to capture nothing, make the latter empty"
    )]
    CidrExcludedWhole {
        /// What was to be captured.
        included: IpNet,
        /// What swallows it.
        excluded: IpNet,
    },
    /// The rules return the application's own loopback traffic before any CIDR is looked at.
    #[error("--istio-service-cidr {cidr} is loopback, which is never captured")]
    LoopbackIncluded {
        /// The network in question.
        cidr: IpNet,
    },
    /// An IPv6 network is to be captured while IPv6 is off.
    #[error("--istio-service-cidr {cidr} is IPv6, and --ipv6 is false")]
    Ipv6Off {
        /// The network in question.
        cidr: IpNet,
    },
}

/// Istio's outbound port, which dashboards, network policies and habits expect.
const DEFAULT_OUTBOUND_PORT: u16 = 15001;
/// Istio's inbound port.
const DEFAULT_INBOUND_PORT: u16 = 15006;
/// Istio's proxy user: images and security policies already make room for it.
const DEFAULT_PROXY_UID: u32 = 1337;

const EVERYTHING: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];
const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

#[cfg(test)]
mod tests;
