//! The ways into the kernel, and which of them to take.
//!
//! The one idea: what a machine can do is found out by doing it. The choice orders the back ends by what is known without
//! trying (which programs are there, where rules are already), and the first that takes the rules is the one.

use std::fmt;

use clap::ValueEnum;

use crate::drift::Rules;
use crate::error::Error;
use crate::nftables::Nftables;
use crate::rules::RuleSet;
use crate::system::System;
use crate::xtables::{Dumps, Xtables};

/// A way into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// nft: a table of its own
    Nft,
    /// iptables that writes nftables
    IptablesNft,
    /// iptables of old, with kernel modules of its own
    IptablesLegacy,
}

impl Backend {
    /// All, the preferred first: one transaction for both families beats one a table, and what the kernel's makers go on with
    /// beats what they have given up.
    pub const ALL: [Backend; 3] = [Backend::Nft, Backend::IptablesNft, Backend::IptablesLegacy];
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Nft => "nft",
            Backend::IptablesNft => "iptables-nft",
            Backend::IptablesLegacy => "iptables-legacy",
        })
    }
}

/// The back end that the command line asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The one that has our rules already, else rules of others, else the first that works
    #[default]
    Auto,
    /// nft, one transaction for both families
    Nft,
    /// iptables-nft-restore
    IptablesNft,
    /// iptables-legacy-restore
    IptablesLegacy,
}

impl Choice {
    fn only(self) -> Option<Backend> {
        match self {
            Choice::Auto => None,
            Choice::Nft => Some(Backend::Nft),
            Choice::IptablesNft => Some(Backend::IptablesNft),
            Choice::IptablesLegacy => Some(Backend::IptablesLegacy),
        }
    }
}

/// A back end whose programs are there.
#[derive(Debug, Clone)]
pub(crate) enum Tool {
    Nft(Nftables),
    Xtables(Xtables),
}

/// What is in the kernel by way of one back end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Ours.
    pub(crate) own: Rules,
    /// How many rules of others there are.
    pub(crate) foreign_rules: usize,
    /// Whether Kubernetes' own chains are there, which belong to a node.
    pub(crate) of_a_node: bool,
}

impl Tool {
    fn find(system: &impl System, backend: Backend, lock_seconds: u32) -> Result<Self, Error> {
        match backend {
            Backend::Nft => Nftables::find(system).map(Tool::Nft),
            _ => Xtables::find(system, backend, lock_seconds).map(Tool::Xtables),
        }
    }

    /// What is loaded.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn loaded(&self, system: &impl System) -> Result<Loaded, Error> {
        match self {
            Tool::Nft(nft) => Ok(Loaded { own: nft.loaded(system)?, ..Loaded::default() }),
            Tool::Xtables(xtables) => {
                let dumps = xtables.loaded(system)?;
                let chains = || dumps.v4.foreign_chains.iter().chain(&dumps.v6.foreign_chains);
                Ok(Loaded {
                    own: dumps.rules(),
                    foreign_rules: dumps.v4.foreign_rules + dumps.v6.foreign_rules,
                    of_a_node: chains().any(|chain| chain.starts_with(KUBERNETES_CHAIN)),
                })
            }
        }
    }

    /// The rules as [`Tool::loaded`] shows them once they are loaded.
    pub(crate) fn wanted(&self, rules: &RuleSet) -> Rules {
        match self {
            Tool::Nft(_) => Nftables::wanted(rules),
            Tool::Xtables(_) => Dumps::of(rules).rules(),
        }
    }

    /// Loads the rules in place of ours that are there.
    ///
    /// # Errors
    /// What the tool says; then all is as it was, unless the error says otherwise.
    pub(crate) fn load(&self, system: &impl System, rules: &RuleSet) -> Result<(), Error> {
        match self {
            Tool::Nft(nft) => nft.load(system, rules),
            Tool::Xtables(xtables) => xtables.load(system, &Dumps::of(rules)),
        }
    }

    /// Whether the rules would be taken, as far as can be told without loading them.
    ///
    /// # Errors
    /// What the tool says.
    pub(crate) fn test(&self, system: &impl System, rules: &RuleSet) -> Result<(), Error> {
        match self {
            Tool::Nft(nft) => nft.test(system, rules),
            Tool::Xtables(xtables) => xtables.test(system, &Dumps::of(rules)),
        }
    }

    /// Takes all of ours away.
    ///
    /// # Errors
    /// What the tool says; then all is as it was, unless the error says otherwise.
    pub(crate) fn clear(&self, system: &impl System) -> Result<(), Error> {
        match self {
            Tool::Nft(nft) => nft.clear(system),
            Tool::Xtables(xtables) => xtables.load(system, &Dumps::default()),
        }
    }
}

/// All back ends of the machine, with what is loaded in them.
#[derive(Debug)]
pub(crate) struct Survey(pub(crate) Vec<Surveyed>);

/// A back end, and what was found.
#[derive(Debug)]
pub(crate) struct Surveyed {
    pub(crate) backend: Backend,
    pub(crate) found: Result<(Tool, Loaded), Error>,
}

impl Survey {
    /// Looks at all back ends.
    pub(crate) fn of(system: &impl System, lock_seconds: u32) -> Self {
        Self(Backend::ALL.map(|backend| Surveyed { backend, found: look(system, backend, lock_seconds) }).into())
    }

    /// The back ends to try, the first one first, each with the reason.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn candidates(self, choice: Choice) -> Result<(Vec<Candidate>, Vec<Surveyed>), Error> {
        let mut usable = Vec::new();
        let (mut failed, mut others) = (Vec::new(), Vec::new());
        for surveyed in self.0 {
            match surveyed.found {
                _ if choice.only().is_some_and(|only| only != surveyed.backend) => others.push(surveyed),
                Ok((tool, loaded)) => usable.push(Candidate::new(surveyed.backend, tool, loaded, choice)),
                Err(error) => failed.push((surveyed.backend, error)),
            }
        }
        if usable.is_empty() {
            return Err(Error::NoBackend(failed));
        }
        usable.sort_by_key(|candidate| candidate.why);
        others.extend(failed.into_iter().map(|(backend, error)| Surveyed { backend, found: Err(error) }));
        Ok((usable, others))
    }
}

/// A back end that could be taken.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) backend: Backend,
    pub(crate) tool: Tool,
    pub(crate) loaded: Loaded,
    pub(crate) why: Why,
}

/// Why a back end is taken: the better reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    Asked,
    HasOurs,
    HasOthers,
    Preferred,
}

impl Candidate {
    fn new(backend: Backend, tool: Tool, loaded: Loaded, choice: Choice) -> Self {
        let why = if choice.only().is_some() {
            Why::Asked
        } else if !loaded.own.is_empty() {
            Why::HasOurs
        } else if loaded.foreign_rules > 0 {
            Why::HasOthers
        } else {
            Why::Preferred
        };
        Self { backend, tool, loaded, why }
    }

    /// As what it was before it could have been taken.
    pub(crate) fn into_surveyed(self) -> Surveyed {
        Surveyed { backend: self.backend, found: Ok((self.tool, self.loaded)) }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Asked => "asked for by --backend",
            Why::HasOurs => "our rules are there already",
            Why::HasOthers => "rules of others are there already",
            Why::Preferred => "the first that works",
        })
    }
}

fn look(system: &impl System, backend: Backend, lock_seconds: u32) -> Result<(Tool, Loaded), Error> {
    let tool = Tool::find(system, backend, lock_seconds)?;
    let loaded = tool.loaded(system)?;
    Ok((tool, loaded))
}

/// kube-proxy's and the kubelet's chains.
const KUBERNETES_CHAIN: &str = "KUBE-";

#[cfg(test)]
mod tests;
