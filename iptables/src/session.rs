//! What all commands that touch the kernel begin with: what is wanted here, and whether it may be done here.
//!
//! The one idea: options are settled against the machine once. IPv6 that may be missing is, or is not, part of the rules
//! from then on.

use crate::environment::{Ipv6 as Found, ipv6, is_of_the_machine};
use crate::error::Error;
use crate::options::{Ipv6 as Wish, Options};
use crate::rules::{RuleSet, rules};
use crate::system::System;

/// What is wanted of this namespace.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// The rules.
    pub(crate) rules: RuleSet,
    /// What to do about a back end that takes no rules of IPv6.
    pub(crate) without_ipv6: WithoutIpv6,
}

/// What it means when IPv6 cannot be captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithoutIpv6 {
    /// Nothing: it was demanded, or is not wanted.
    Fails,
    /// The workload has an address of it that others reach, and it would reach others by: that is a way past the mesh.
    Bypasses,
    /// There is nothing to capture.
    Suffices,
}

impl Wanted {
    /// Settles the options against the machine.
    ///
    /// # Errors
    /// Options that contradict each other, or IPv6 demanded where there is none.
    pub(crate) fn settle(system: &impl System, options: &Options) -> Result<Self, Error> {
        let all = rules(options)?;
        let fails = |rules| Ok(Self { rules, without_ipv6: WithoutIpv6::Fails });
        match (options.ipv6, ipv6(system)) {
            (Wish::Off, Found::Addressed) => {
                system.note("warning: --ipv6 false: the workload has an IPv6 address, whose traffic bypasses the mesh");
                fails(all)
            }
            (Wish::Off, _) => fails(all),
            (Wish::On, Found::Off(reason)) => Err(Error::Ipv6Off(reason)),
            (Wish::On, _) => fails(all),
            (Wish::Auto, Found::Off(reason)) => {
                system.note(&format!("warning: {reason}: only IPv4 is captured"));
                fails(all.without_ipv6())
            }
            (Wish::Auto, Found::Local) => Ok(Self { rules: all, without_ipv6: WithoutIpv6::Suffices }),
            (Wish::Auto, Found::Addressed) => Ok(Self { rules: all, without_ipv6: WithoutIpv6::Bypasses }),
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
