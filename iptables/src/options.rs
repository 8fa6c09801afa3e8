//! What to redirect: the flags of `meshgate iptables`.
//!
//! The one idea: names are istio-init's wherever they mean the same, and proxy-init's (Linkerd) beside them, so that an
//! init container's arguments carry over. Every value is read strictly, into a type that is safe to write into rules;
//! `options/validate.rs` refuses what contradicts itself. Nothing here says how the rules look; `rules.rs` does.

mod validate;
mod values;

use std::net::Ipv4Addr;

use clap::{ArgAction, Args};
use ipnet::Ipv4Net;

pub use validate::OptionsError;
pub use values::{Interception, Ipv6, TunnelPort};

use crate::list::{AddressList, CidrList, IdList, InterfaceList, PortList, Selection};

/// Which traffic is sent to the proxy, and where the proxy is.
///
/// Where an environment variable is read it is one of Istio's that begin with `ISTIO_`. Its others are not: Kubernetes
/// sets `ENVOY_PORT=tcp://...` by itself in every pod beside a Service named `envoy`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Options {
    /// Port of the proxy's outbound listener
    #[arg(short = 'p', long, visible_alias = "envoy-port", alias = "outgoing-proxy-port", value_name = "PORT",
          default_value_t = DEFAULT_OUTBOUND_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub outbound_port: u16,

    /// Port of the proxy's inbound listener
    #[arg(short = 'z', long, visible_alias = "inbound-port", alias = "incoming-proxy-port", value_name = "PORT",
          default_value_t = DEFAULT_INBOUND_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub inbound_capture_port: u16,

    /// Port of the proxy's HBONE listener, reached without redirection; `none` to treat it as any other
    #[arg(short = 'e', long, value_name = "PORT", default_value_t)]
    pub inbound_tunnel_port: TunnelPort,

    /// User ids the proxy runs as: their traffic is never captured
    #[arg(short = 'u', long, value_name = "UIDS", default_value = "1337")]
    pub proxy_uid: IdList,

    /// Group ids the proxy runs as, when the user id alone does not tell it apart
    #[arg(short = 'g', long, value_name = "GIDS", default_value_t)]
    pub proxy_gid: IdList,

    /// How inbound connections get to the proxy
    #[arg(short = 'm', long = "istio-inbound-interception-mode", visible_alias = "interception-mode",
          env = "ISTIO_INBOUND_INTERCEPTION_MODE", value_name = "MODE", value_enum, ignore_case = true,
          default_value_t = Interception::Redirect)]
    pub interception: Interception,

    /// With TPROXY, the mark of packets that are the proxy's
    #[arg(short = 't', long = "istio-inbound-tproxy-mark", visible_alias = "tproxy-mark",
          env = "ISTIO_INBOUND_TPROXY_MARK", value_name = "MARK", default_value_t = DEFAULT_TPROXY_MARK)]
    pub tproxy_mark: u32,

    /// With TPROXY, the routing table that delivers marked packets here
    #[arg(short = 'r', long = "istio-inbound-tproxy-route-table", visible_alias = "tproxy-route-table",
          env = "ISTIO_INBOUND_TPROXY_ROUTE_TABLE", value_name = "TABLE", default_value_t = DEFAULT_TPROXY_TABLE)]
    pub tproxy_table: u32,

    /// Inbound ports to capture: a list, `*` for all, empty for none
    #[arg(short = 'b', long = "istio-inbound-ports", visible_alias = "inbound-ports", alias = "ports-to-redirect",
          env = "ISTIO_INBOUND_PORTS", value_name = "PORTS", default_value_t = Selection::All)]
    pub inbound_ports: Selection<PortList>,

    /// Inbound ports not to capture, of all
    #[arg(
        short = 'd',
        long = "istio-local-exclude-ports",
        visible_alias = "inbound-ports-exclude",
        alias = "inbound-ports-to-ignore",
        env = "ISTIO_LOCAL_EXCLUDE_PORTS",
        value_name = "PORTS",
        default_value = "15000,15020,15021,15090"
    )]
    pub inbound_ports_exclude: PortList,

    /// Sources whose inbound connections are not captured
    #[arg(long, visible_alias = "subnets-to-ignore", value_name = "CIDRS", default_value_t)]
    pub inbound_cidrs_exclude: CidrList,

    /// Destinations to capture: a list of CIDRs, `*` for all, empty for none
    #[arg(short = 'i', long = "istio-service-cidr", visible_alias = "outbound-cidrs", env = "ISTIO_SERVICE_CIDR",
          value_name = "CIDRS", default_value_t = Selection::All)]
    pub outbound_cidrs: Selection<CidrList>,

    /// Destinations not to capture
    #[arg(
        short = 'x',
        long = "istio-service-exclude-cidr",
        visible_alias = "outbound-cidrs-exclude",
        env = "ISTIO_SERVICE_EXCLUDE_CIDR",
        value_name = "CIDRS",
        default_value_t
    )]
    pub outbound_cidrs_exclude: CidrList,

    /// Outbound ports to capture wherever they go, beside what --istio-service-cidr captures
    #[arg(
        short = 'q',
        long = "istio-outbound-ports",
        visible_alias = "outbound-ports",
        env = "ISTIO_OUTBOUND_PORTS",
        value_name = "PORTS",
        default_value_t
    )]
    pub outbound_ports: PortList,

    /// Outbound ports not to capture
    #[arg(
        short = 'o',
        long = "istio-local-outbound-ports-exclude",
        visible_alias = "outbound-ports-exclude",
        alias = "outbound-ports-to-ignore",
        env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE",
        value_name = "PORTS",
        default_value_t
    )]
    pub outbound_ports_exclude: PortList,

    /// Groups whose outbound traffic is captured: a list of ids, or `*` for all
    #[arg(long, env = "ISTIO_OUTBOUND_OWNER_GROUPS", value_name = "GIDS", default_value_t = Selection::All)]
    pub outbound_owner_groups: Selection<IdList>,

    /// Groups whose outbound traffic is not captured, of all
    #[arg(long, env = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", value_name = "GIDS", default_value_t)]
    pub outbound_owner_groups_exclude: IdList,

    /// Interfaces whose traffic is not captured, either way
    #[arg(
        short = 'c',
        long = "istio-exclude-interfaces",
        visible_alias = "exclude-interfaces",
        env = "ISTIO_EXCLUDE_INTERFACES",
        value_name = "INTERFACES",
        default_value_t
    )]
    pub exclude_interfaces: InterfaceList,

    /// Interfaces of virtual machines: what comes from them is captured as outbound
    #[arg(short = 'k', long, value_name = "INTERFACES", default_value_t)]
    pub kube_virt_interfaces: InterfaceList,

    /// Drop TCP packets that belong to no connection, where the kernel would answer with a reset
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub drop_invalid: bool,

    /// Send the application's DNS queries to --dns-port, where some DNS proxy must listen: meshgate has none
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE", value_name = "BOOL", default_value_t = false, action = ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub redirect_dns: bool,

    /// With --redirect-dns, the queries to all servers, not only to those of --dns-servers
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub capture_all_dns: bool,

    /// With --redirect-dns, the servers whose queries are captured: those of the pod's resolv.conf
    #[arg(long, value_name = "ADDRESSES", default_value_t)]
    pub dns_servers: AddressList,

    /// With --redirect-dns, the port of the DNS proxy, which runs as the proxy's user
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_DNS_PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub dns_port: u16,

    /// Whether IPv6 is captured beside IPv4; `false` leaves it outside the mesh
    #[arg(long, visible_alias = "dual-stack", env = "ISTIO_DUAL_STACK", value_name = "WHETHER", value_enum,
          default_value_t = Ipv6::Auto, num_args = 0..=1, default_missing_value = "true")]
    pub ipv6: Ipv6,

    /// What an application calls itself at, and is left alone with
    #[arg(long, env = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", value_name = "CIDR", default_value_t = DEFAULT_LOOPBACK)]
    pub outbound_ipv4_loopback_cidr: Ipv4Net,
}

impl Default for Options {
    /// Everything is captured: what the flags give when none is set.
    fn default() -> Self {
        Options {
            outbound_port: DEFAULT_OUTBOUND_PORT,
            inbound_capture_port: DEFAULT_INBOUND_PORT,
            inbound_tunnel_port: TunnelPort::default(),
            proxy_uid: IdList::from_iter([DEFAULT_PROXY_UID]),
            proxy_gid: IdList::default(),
            interception: Interception::Redirect,
            tproxy_mark: DEFAULT_TPROXY_MARK,
            tproxy_table: DEFAULT_TPROXY_TABLE,
            inbound_ports: Selection::All,
            inbound_ports_exclude: PortList::of(&DEFAULT_INBOUND_EXCLUDE),
            inbound_cidrs_exclude: CidrList::default(),
            outbound_cidrs: Selection::All,
            outbound_cidrs_exclude: CidrList::default(),
            outbound_ports: PortList::default(),
            outbound_ports_exclude: PortList::default(),
            outbound_owner_groups: Selection::All,
            outbound_owner_groups_exclude: IdList::default(),
            exclude_interfaces: InterfaceList::default(),
            kube_virt_interfaces: InterfaceList::default(),
            drop_invalid: false,
            redirect_dns: false,
            capture_all_dns: false,
            dns_servers: AddressList::default(),
            dns_port: DEFAULT_DNS_PORT,
            ipv6: Ipv6::Auto,
            outbound_ipv4_loopback_cidr: DEFAULT_LOOPBACK,
        }
    }
}

/// Istio's outbound port, which dashboards, network policies and habits expect.
const DEFAULT_OUTBOUND_PORT: u16 = 15001;
/// Istio's inbound port.
const DEFAULT_INBOUND_PORT: u16 = 15006;
/// Istio's proxy user: images and security policies already make room for it.
const DEFAULT_PROXY_UID: u32 = 1337;
/// Istio's mark of what is the proxy's.
const DEFAULT_TPROXY_MARK: u32 = 1337;
/// Istio's routing table.
const DEFAULT_TPROXY_TABLE: u32 = 133;
/// Where Istio's agent takes DNS queries.
const DEFAULT_DNS_PORT: u16 = 15053;
/// Our admin port, for the kubelet's probes and for Prometheus; and the three that Istio keeps free for the same:
/// merged metrics, readiness, the proxy's metrics. Otherwise a probe would need a certificate.
const DEFAULT_INBOUND_EXCLUDE: [u16; 4] = [15000, 15020, 15021, 15090];
/// Istio's: an application may well talk to its sidecar's or its neighbour's other loopback addresses through the mesh.
const DEFAULT_LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 32);

#[cfg(test)]
mod tests;
