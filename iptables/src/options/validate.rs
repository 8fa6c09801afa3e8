//! The contradictions among options that are refused, and what to do about each.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Ipv6, Options};
use crate::list::{CidrList, Interface, PortRange, Selection};
use crate::rules::{DNS_PORT, OUTBOUND_MARK};

impl Options {
    /// Refuses options that contradict each other, or whose rules would not do what they say.
    ///
    /// # Errors
    /// The first contradiction, naming the flags in it.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.validate_owners()?;
        self.validate_own_ports()?;
        self.validate_ports()?;
        self.validate_inbound_cidrs()?;
        self.validate_outbound_cidrs()?;
        self.validate_families()?;
        self.validate_interfaces()?;
        self.validate_dns()?;
        self.validate_tproxy()
    }

    fn validate_owners(&self) -> Result<(), OptionsError> {
        if self.proxy_uid.is_empty() {
            return Err(OptionsError::NoUid);
        }
        if self.proxy_uid.items().contains(&0) {
            return Err(OptionsError::RootUid);
        }
        if self.proxy_gid.items().contains(&0) {
            return Err(OptionsError::RootGid);
        }
        match &self.outbound_owner_groups {
            Selection::Listed(groups) if groups.is_empty() => Err(OptionsError::NoGroup),
            Selection::Listed(_) if !self.outbound_owner_groups_exclude.is_empty() => Err(OptionsError::GroupsTwice),
            _ => Ok(()),
        }
    }

    /// The ports that the proxy, or what stands beside it, listens on; each by its flag.
    fn own_ports(&self) -> Vec<(&'static str, u16)> {
        let tunnel = self.inbound_tunnel_port.port().map(|port| ("--inbound-tunnel-port", port));
        let dns = self.redirect_dns.then_some(("--dns-port", self.dns_port));
        let listeners =
            [("--outbound-port", self.outbound_port), ("--inbound-capture-port", self.inbound_capture_port)];
        listeners.into_iter().chain(tunnel).chain(dns).collect()
    }

    fn validate_own_ports(&self) -> Result<(), OptionsError> {
        let own = self.own_ports();
        for (index, (first, port)) in own.iter().enumerate() {
            if let Some((second, _)) = own.iter().skip(index + 1).find(|(_, other)| other == port) {
                return Err(OptionsError::SamePort { first, second, port: *port });
            }
            if let Selection::Listed(included) = &self.inbound_ports
                && included.contains(*port)
            {
                return Err(OptionsError::OwnPortIncluded { listener: first, port: *port });
            }
        }
        Ok(())
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

    fn validate_inbound_cidrs(&self) -> Result<(), OptionsError> {
        match self.inbound_cidrs_exclude.items().iter().find(|cidr| cidr.prefix_len() == 0) {
            Some(cidr) => Err(OptionsError::EverySourceExcluded { cidr: *cidr }),
            None => Ok(()),
        }
    }

    fn validate_outbound_cidrs(&self) -> Result<(), OptionsError> {
        let included = match &self.outbound_cidrs {
            Selection::All => EVERYTHING.as_slice(),
            Selection::Listed(list) => list.items(),
        };
        let untouched = [IpNet::V4(self.outbound_ipv4_loopback_cidr), IPV6_LOOPBACK];
        if let Some(cidr) = included.iter().find(|cidr| untouched.iter().any(|lo| lo.contains(*cidr))) {
            return Err(OptionsError::LoopbackIncluded { cidr: *cidr });
        }
        for outer in self.outbound_cidrs_exclude.items() {
            // The other way round is the point of an exclusion: a hole in what is included.
            if let Some(inner) = included.iter().find(|inner| outer.contains(*inner)) {
                return Err(OptionsError::CidrExcludedWhole { included: *inner, excluded: *outer });
            }
        }
        if !IPV4_LOOPBACK.contains(&self.outbound_ipv4_loopback_cidr) {
            return Err(OptionsError::NotLoopback { cidr: self.outbound_ipv4_loopback_cidr });
        }
        Ok(())
    }

    fn validate_families(&self) -> Result<(), OptionsError> {
        if self.ipv6 != Ipv6::Off {
            return Ok(());
        }
        let ipv6 = |list: &CidrList| list.items().iter().find(|cidr| matches!(cidr, IpNet::V6(_))).copied();
        match &self.outbound_cidrs {
            Selection::Listed(list) => ipv6(list).map_or(Ok(()), |cidr| Err(OptionsError::Ipv6Off { cidr })),
            Selection::All => Ok(()),
        }
    }

    fn validate_interfaces(&self) -> Result<(), OptionsError> {
        let lists = [
            ("--istio-exclude-interfaces", &self.exclude_interfaces),
            ("--kube-virt-interfaces", &self.kube_virt_interfaces),
        ];
        if let Some((flag, _)) = lists.iter().find(|(_, list)| list.items().iter().any(Interface::is_loopback)) {
            return Err(OptionsError::LoopbackInterface { flag });
        }
        let virt = self.kube_virt_interfaces.items();
        match self.exclude_interfaces.items().iter().find(|interface| virt.contains(interface)) {
            Some(interface) => Err(OptionsError::InterfaceTwice { interface: interface.clone() }),
            None => Ok(()),
        }
    }

    fn validate_dns(&self) -> Result<(), OptionsError> {
        let says_which = self.capture_all_dns || !self.dns_servers.is_empty();
        if !self.redirect_dns {
            return if says_which { Err(OptionsError::DnsOff) } else { Ok(()) };
        }
        if !says_which {
            return Err(OptionsError::NoDnsServer);
        }
        if self.dns_port == DNS_PORT {
            return Err(OptionsError::DnsPort);
        }
        if self.outbound_ports_exclude.contains(DNS_PORT) {
            return Err(OptionsError::DnsExcluded);
        }
        Ok(())
    }

    fn validate_tproxy(&self) -> Result<(), OptionsError> {
        if matches!(self.tproxy_mark, 0 | OUTBOUND_MARK) {
            return Err(OptionsError::Mark { mark: self.tproxy_mark });
        }
        if RESERVED_TABLES.contains(&self.tproxy_table) {
            return Err(OptionsError::Table { table: self.tproxy_table });
        }
        Ok(())
    }

    /// Whether loopback addresses are among what is to be captured: then not all that stays on the machine is left alone.
    pub(crate) fn captures_loopback(&self) -> bool {
        let on_loopback = |cidr: &IpNet| matches!(cidr, IpNet::V4(cidr) if IPV4_LOOPBACK.contains(cidr));
        matches!(&self.outbound_cidrs, Selection::Listed(list) if list.items().iter().any(on_loopback))
    }
}

/// Options that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Two listeners, or what should be told apart by its port, could not be.
    #[error("{first} and {second} are both {port}: each needs a port of its own")]
    SamePort {
        /// One flag.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// The port given twice.
        port: u16,
    },
    /// What is sent to a listener of the proxy would be sent to another of its listeners.
    #[error("--istio-inbound-ports names {port}, which is the proxy's own ({listener}): leave it out")]
    OwnPortIncluded {
        /// The flag that says whose port it is.
        listener: &'static str,
        /// The port.
        port: u16,
    },
    /// Without an exempted user the proxy's own connections would come back to it for ever.
    #[error("--proxy-uid is empty: the proxy's own connections would be captured")]
    NoUid,
    /// Every process of user 0 would bypass the mesh.
    #[error(
        "--proxy-uid 0 is refused: every process that runs as root would bypass the mesh; run the proxy as a user \
             of its own"
    )]
    RootUid,
    /// Group 0 is what containers with an arbitrary user id commonly have.
    #[error("--proxy-gid 0 is refused: every process in the root group would bypass the mesh; leave it out")]
    RootGid,
    /// An empty list of groups would capture nothing, which more likely is an unset variable than an intention.
    #[error(
        "--outbound-owner-groups is empty: want group ids, or * for all; to capture nothing, empty --istio-service-cidr"
    )]
    NoGroup,
    /// Groups are both listed and excluded from all.
    #[error(
        "--outbound-owner-groups-exclude takes groups out of all, and --outbound-owner-groups is a list: give one of the two"
    )]
    GroupsTwice,
    /// A port is both captured and not.
    #[error("port {ports} is in {included} and in {excluded}: take it out of one")]
    PortsInAndOut {
        /// The flag that captures it.
        included: &'static str,
        /// The flag that does not.
        excluded: &'static str,
        /// The ports in question.
        ports: PortRange,
    },
    /// No caller of a family would be captured.
    #[error("--inbound-cidrs-exclude {cidr} leaves no caller; to capture nothing inbound, empty --istio-inbound-ports")]
    EverySourceExcluded {
        /// The network in question.
        cidr: IpNet,
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
    /// The rules return what an application sends itself before any CIDR is looked at.
    #[error(
        "--istio-service-cidr {cidr} is where an application calls itself, which is never captured; \
             --outbound-ipv4-loopback-cidr says which addresses these are"
    )]
    LoopbackIncluded {
        /// The network in question.
        cidr: IpNet,
    },
    /// What is called loopback is not.
    #[error("--outbound-ipv4-loopback-cidr {cidr} is not within 127.0.0.0/8: what goes there would bypass the mesh")]
    NotLoopback {
        /// The network in question.
        cidr: Ipv4Net,
    },
    /// An IPv6 network is to be captured while IPv6 is off.
    #[error("--istio-service-cidr {cidr} is IPv6, and --ipv6 is false")]
    Ipv6Off {
        /// The network in question.
        cidr: IpNet,
    },
    /// The proxy's way to its own workload leads over loopback.
    #[error("{flag} names lo: what an application sends itself is left alone anyhow, and the proxy needs the rest")]
    LoopbackInterface {
        /// The flag.
        flag: &'static str,
    },
    /// An interface's traffic is both captured and not.
    #[error("{interface} is in --istio-exclude-interfaces and in --kube-virt-interfaces: take it out of one")]
    InterfaceTwice {
        /// The interface.
        interface: Interface,
    },
    /// It is said whose DNS queries are captured, and none are.
    #[error("--capture-all-dns and --dns-servers do nothing without --redirect-dns")]
    DnsOff,
    /// No DNS query would be captured.
    #[error("--redirect-dns needs --capture-all-dns, or in --dns-servers the servers of the pod's resolv.conf")]
    NoDnsServer,
    /// The DNS proxy's port is the one that is redirected to it.
    #[error("--dns-port is 53, whose queries are captured: the DNS proxy needs another")]
    DnsPort,
    /// DNS is both captured and not.
    #[error("port 53 is in --istio-local-outbound-ports-exclude, and --redirect-dns captures it: drop one")]
    DnsExcluded,
    /// A mark that says something else already.
    #[error(
        "--istio-inbound-tproxy-mark {mark} is taken: 0 is no mark, and {OUTBOUND_MARK} marks what the proxy sends to its own workload"
    )]
    Mark {
        /// The mark.
        mark: u32,
    },
    /// A routing table that the kernel uses itself.
    #[error("--istio-inbound-tproxy-route-table {table} is the kernel's own: want another than 0 and 253 to 255")]
    Table {
        /// The table.
        table: u32,
    },
}

const EVERYTHING: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];
const IPV4_LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const IPV6_LOOPBACK: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128));
/// Unspecified, default, main and local: a catch-all route in one of these would end the pod's network.
const RESERVED_TABLES: [u32; 4] = [0, 253, 254, 255];
