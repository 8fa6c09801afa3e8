//! The contradictions among options that are refused.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Ipv6, Options, OptionsError};
use crate::list::{Interface, Selection};
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
        if let Selection::Listed(list) = &self.outbound_cidrs
            && let Some(cidr) = list.items().iter().find(|cidr| matches!(cidr, IpNet::V6(_)))
        {
            return Err(OptionsError::Ipv6Off { flag: "--istio-service-cidr", item: cidr.to_string() });
        }
        match self.dns_servers.items().iter().find(|server| server.is_ipv6()) {
            Some(server) => Err(OptionsError::Ipv6Off { flag: "--dns-servers", item: server.to_string() }),
            None => Ok(()),
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

const EVERYTHING: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];
const IPV4_LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
const IPV6_LOOPBACK: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128));
/// Unspecified, default, main and local: a catch-all route in one of these would end the pod's network.
const RESERVED_TABLES: [u32; 4] = [0, 253, 254, 255];
