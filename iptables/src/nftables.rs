//! Loading by `nft`: one table, replaced whole.
//!
//! The one idea: the kernel takes a text as one transaction, for both families, so there is nothing to undo.

use std::path::PathBuf;

use crate::drift::Rules;
use crate::error::Error;
use crate::listing;
use crate::nft::{NFT_TABLE as TABLE, nft};
use crate::rules::RuleSet;
use crate::system::System;
use crate::xtables::run;

/// The program.
#[derive(Debug, Clone)]
pub(crate) struct Nftables {
    nft: PathBuf,
}

impl Nftables {
    /// Finds the program.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn find(system: &impl System) -> Result<Self, Error> {
        let nft = system.find("nft").ok_or_else(|| Error::Missing { program: "nft".to_owned() })?;
        Ok(Self { nft })
    }

    /// What is loaded in our table.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn loaded(&self, system: &impl System) -> Result<Rules, Error> {
        // Without counters, and with numbers for users and priorities: names of users are this image's own.
        match run(system, &self.nft, &["-s", "-u", "-y", "list", "table", "inet", TABLE], None) {
            Ok(text) => Ok(listing::parse(&text)),
            Err(Error::Refused { complaint, .. }) if complaint.contains("No such file or directory") => {
                Ok(Rules::default())
            }
            Err(error) => Err(error),
        }
    }

    /// The rules in the form of [`Nftables::loaded`].
    pub(crate) fn wanted(rules: &RuleSet) -> Rules {
        listing::parse(&nft(rules))
    }

    /// Puts the rules in place of those that are there.
    ///
    /// # Errors
    /// What the tool says; then all is as it was.
    pub(crate) fn load(&self, system: &impl System, rules: &RuleSet) -> Result<(), Error> {
        run(system, &self.nft, &["-f", "-"], Some(&nft(rules))).map(drop)
    }

    /// Whether the kernel would take the rules.
    ///
    /// # Errors
    /// What the tool says.
    pub(crate) fn test(&self, system: &impl System, rules: &RuleSet) -> Result<(), Error> {
        run(system, &self.nft, &["-c", "-f", "-"], Some(&nft(rules))).map(drop)
    }

    /// Takes the table away.
    ///
    /// # Errors
    /// What the tool says; then all is as it was.
    pub(crate) fn clear(&self, system: &impl System) -> Result<(), Error> {
        // Naming it first makes the deletion succeed when somebody else was faster.
        let text = format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
        run(system, &self.nft, &["-f", "-"], Some(&text)).map(drop)
    }
}
