//! Transparent redirection as data: [`Options`] in, firewall text out.
//!
//! The one idea: the redirection is a value. [`rules`] turns options into a [`RuleSet`], an ordered list that knows
//! nothing of any tool; [`restore`] writes it for `iptables-restore` and `ip6tables-restore`, [`nft`] as one
//! nftables transaction. So what would be loaded can be read, compared and tested without touching a kernel.
//!
//! What it does not do: it runs no program and opens no socket. `docs/redirection.md` gives the reason for each rule.

pub mod cli;
mod error;
mod list;
mod nft;
mod options;
mod restore;
mod rules;

pub use error::Error;
pub use list::{
    AddressList, CidrList, IdList, Interface, InterfaceList, Item, List, ListError, PortList, PortRange, Selection,
};
pub use nft::{NFT_TABLE, nft};
pub use options::{Interception, Ipv6, Options, OptionsError, TunnelPort};
pub use restore::{restore, rule_words};
pub use rules::{Chain, Family, Hook, Match, OUTBOUND_MARK, Owner, Routing, Rule, RuleSet, Table, Target, rules};

#[cfg(test)]
mod tests;
