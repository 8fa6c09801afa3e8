//! Transparent redirection: [`Options`] in, rules in the kernel out.
//!
//! The one idea: the redirection is a value. [`rules`] turns options into a [`RuleSet`], an ordered list that knows
//! nothing of any tool; [`restore`] writes it for `iptables-restore` and `ip6tables-restore`, [`nft`] as one
//! nftables transaction. So what would be loaded can be read, compared and tested without touching a kernel. The commands of
//! [`cli`] load these texts, compare them with what is loaded, and take them away.
//!
//! What it does not do: it speaks to no kernel by itself, but through the firewall tools. `docs/redirection.md` gives the
//! reason for each rule, `docs/iptables.md` the commands.
//!
//! ```
//! use meshgate_iptables::{Family, NFT_TABLE, Options, nft, restore, rules};
//!
//! let rules = rules(&Options::default())?;
//! assert!(nft(&rules).contains(NFT_TABLE), "one transaction for `nft -f`");
//! assert!(restore(&rules, Family::V4).starts_with("*nat\n"), "for `iptables-restore --noflush`");
//! # Ok::<(), meshgate_iptables::OptionsError>(())
//! ```

mod alone;
mod apply;
mod backend;
mod check;
mod clean;
pub mod cli;
mod destination;
mod drift;
mod dump;
mod environment;
mod error;
mod list;
mod listing;
mod nft;
mod nftables;
mod options;
mod plan;
mod probe;
mod report;
mod restore;
mod routes;
mod rules;
mod session;
mod system;
mod validate;
mod xtables;

pub use backend::{Backend, Choice};
pub use error::Error;
pub use list::{
    AddressList, CidrList, IdList, Interface, InterfaceList, Item, List, ListError, PortList, PortRange, Selection,
};
pub use nft::{NFT_TABLE, nft};
pub use options::{Interception, Ipv6, Options, OptionsError, TunnelPort};
pub use restore::{restore, rule_words};
pub use rules::{Chain, Family, Hook, Match, OUTBOUND_MARK, Owner, Routing, Rule, RuleSet, Table, Target, rules};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
