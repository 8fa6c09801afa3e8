//! What all commands that touch the kernel begin with: what is wanted here, and whether it may be done here.
//!
//! The one idea: options are settled against the machine once. IPv6 that may be missing is, or is not, part of the rules
//! from then on.

use crate::environment::{Ipv6, ipv6, is_of_the_machine};
use crate::error::Error;
use crate::options::Options;
use crate::rules::{RuleSet, rules};
use crate::system::System;

/// What is wanted of this namespace.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The rules.
    pub(crate) rules: RuleSet,
    /// The rules to be content with when the machine takes none of IPv6: there when nobody demanded IPv6, and the workload
    /// has no IPv6 address by which to get past the mesh.
    pub(crate) without_ipv6: Option<RuleSet>,
    /// The rules of IPv4 alone, for telling whether it is IPv6 that fails.
    pub(crate) only_ipv4: Option<RuleSet>,
    /// Whether failing to capture IPv6 would leave an address of the workload outside of the mesh.
    pub(crate) has_ipv6_address: bool,
}

impl Wanted {
    /// Settles the options against the machine.
    ///
    /// # Errors
    /// Options that contradict each other, or IPv6 demanded where there is none.
    pub(crate) fn settle(system: &impl System, options: &Options) -> Result<Self, Error> {
        let all = rules(options)?;
        let only_ipv4 = rules(&Options { ipv6: false, ..options.clone() }).ok();
        let found = ipv6(system);
        let has_ipv6_address = found == Ipv6::Addressed;
        if !options.ipv6 {
            if has_ipv6_address {
                system.note("warning: --ipv6 false: the workload has an IPv6 address, whose traffic bypasses the mesh");
            }
            return Ok(Self { rules: all, without_ipv6: None, only_ipv4, has_ipv6_address });
        }
        match found {
            Ipv6::Off(reason) => {
                system.note(&format!("note: {reason}: only IPv4 is captured"));
                Ok(Self { rules: only_ipv4.clone().unwrap_or(all), without_ipv6: None, only_ipv4, has_ipv6_address })
            }
            Ipv6::Local => Ok(Self { rules: all, without_ipv6: only_ipv4.clone(), only_ipv4, has_ipv6_address }),
            Ipv6::Addressed => Ok(Self { rules: all, without_ipv6: None, only_ipv4, has_ipv6_address }),
        }
    }
}

/// Refuses to work on the network of a whole machine.
///
/// # Errors
/// When this is one, and nobody said that it is meant.
pub(crate) fn guard(system: &impl System, has_node_chains: bool, allowed: bool) -> Result<(), Error> {
    let how = if is_of_the_machine(system) {
        "this is the machine's own network namespace (is the pod's hostNetwork true?)"
    } else if has_node_chains {
        "this is the network namespace of a Kubernetes node: its chains (KUBE-…) are here"
    } else {
        return Ok(());
    };
    if !allowed {
        return Err(Error::HostNetwork(how));
    }
    system.note(&format!("warning: {how}"));
    Ok(())
}
