//! Where rules are: the kernel's tables and chains, and our own chains with their names.
//!
//! The names are a contract: what checks, cleans or reads the rules knows them. None is ever used for anything else.

/// A table of iptables. In nftables all chains are in one table, [`crate::NFT_TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Before connection tracking.
    Raw,
    /// Marks, and transparent proxying.
    Mangle,
    /// New connections are given another destination.
    Nat,
}

impl Table {
    /// All that rules can be in, in the order in which a packet comes through and in which they are loaded: nothing is
    /// redirected before what that relies on is there.
    pub const ALL: [Table; 3] = [Table::Raw, Table::Mangle, Table::Nat];

    /// As `iptables -t` has it.
    pub fn name(self) -> &'static str {
        match self {
            Table::Raw => "raw",
            Table::Mangle => "mangle",
            Table::Nat => "nat",
        }
    }
}

/// A chain of the kernel that our chains are entered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What comes in by an interface, loopback too.
    Prerouting,
    /// What is sent from here.
    Output,
}

impl Hook {
    /// Both.
    pub const ALL: [Hook; 2] = [Hook::Prerouting, Hook::Output];

    /// As iptables has it; nftables has it in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Prerouting => "PREROUTING",
            Hook::Output => "OUTPUT",
        }
    }
}

/// A chain of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// The kernel's own, in one of its tables.
    Kernel(Table, Hook),
    /// `nat`: to the inbound listener.
    InboundRedirect,
    /// `nat`: to the outbound listener.
    OutboundRedirect,
    /// `nat`: what comes from elsewhere.
    Inbound,
    /// `nat`: DNS queries, to the DNS proxy.
    Dns,
    /// `nat`: what the workload sends.
    Outbound,
    /// `mangle`: what belongs to no connection.
    DropInvalid,
    /// `mangle`: packets of connections that are the proxy's already.
    TproxyDivert,
    /// `mangle`: to the inbound listener as it is.
    TproxyRedirect,
    /// `mangle`: what comes from elsewhere.
    TproxyInbound,
    /// `mangle`: what is sent from here.
    TproxyOutbound,
    /// `raw`: DNS packets that are sent from here.
    DnsQueries,
    /// `raw`: DNS packets from elsewhere.
    DnsAnswers,
}

impl Chain {
    /// The chains that are made for the mesh, each after those that it jumps to.
    pub const OWN: [Chain; 12] = [
        Chain::DnsQueries,
        Chain::DnsAnswers,
        Chain::DropInvalid,
        Chain::TproxyDivert,
        Chain::TproxyRedirect,
        Chain::TproxyInbound,
        Chain::TproxyOutbound,
        Chain::InboundRedirect,
        Chain::OutboundRedirect,
        Chain::Inbound,
        Chain::Dns,
        Chain::Outbound,
    ];

    /// All chains of ours that one table can have, whatever the options: what there is to clean up.
    pub fn own(table: Table) -> impl Iterator<Item = Chain> {
        Chain::OWN.into_iter().filter(move |chain| chain.table() == table)
    }

    /// The table it is in.
    pub fn table(self) -> Table {
        match self {
            Chain::Kernel(table, _) => table,
            Chain::DnsQueries | Chain::DnsAnswers => Table::Raw,
            Chain::DropInvalid
            | Chain::TproxyDivert
            | Chain::TproxyRedirect
            | Chain::TproxyInbound
            | Chain::TproxyOutbound => Table::Mangle,
            Chain::InboundRedirect | Chain::OutboundRedirect | Chain::Inbound | Chain::Dns | Chain::Outbound => {
                Table::Nat
            }
        }
    }

    /// As iptables has it: at most 28 characters, the kernel's limit.
    pub fn name(self) -> &'static str {
        match self {
            Chain::Kernel(_, hook) => hook.name(),
            Chain::InboundRedirect => "MESHGATE_INBOUND_REDIRECT",
            Chain::OutboundRedirect => "MESHGATE_OUTBOUND_REDIRECT",
            Chain::Inbound => "MESHGATE_INBOUND",
            Chain::Dns => "MESHGATE_DNS",
            Chain::Outbound => "MESHGATE_OUTBOUND",
            Chain::DropInvalid => "MESHGATE_DROP_INVALID",
            Chain::TproxyDivert => "MESHGATE_TPROXY_DIVERT",
            Chain::TproxyRedirect => "MESHGATE_TPROXY_REDIRECT",
            Chain::TproxyInbound => "MESHGATE_TPROXY_INBOUND",
            Chain::TproxyOutbound => "MESHGATE_TPROXY_OUTBOUND",
            Chain::DnsQueries => "MESHGATE_DNS_QUERIES",
            Chain::DnsAnswers => "MESHGATE_DNS_ANSWERS",
        }
    }
}
