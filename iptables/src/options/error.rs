//! Why options are refused, and what to do about it.

use ipnet::{IpNet, Ipv4Net};

use crate::list::{Interface, PortRange};
use crate::rules::OUTBOUND_MARK;

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
    /// IPv6 is to be captured while IPv6 is off.
    #[error("{flag} names {item}, which is IPv6, and --ipv6 is false: drop one")]
    Ipv6Off {
        /// The flag.
        flag: &'static str,
        /// The network or address in question.
        item: String,
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
