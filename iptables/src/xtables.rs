//! Loading by `iptables-restore` and `ip6tables-restore`, of either kind.
//!
//! The one idea: what is loaded is read first, and one text a family turns it into what is wanted. When the second family
//! fails, the first is turned back into what was read. Kernel tables of one family change one by one, each at once.

use std::path::{Path, PathBuf};

use crate::backend::Backend;
use crate::drift::Rules;
use crate::dump::Dump;
use crate::error::Error;
use crate::plan::transition;
use crate::restore::restore;
use crate::rules::{Family, RuleSet};
use crate::system::System;

/// The programs of one kind, for both families.
#[derive(Debug, Clone)]
pub(crate) struct Xtables {
    v4: Pair,
    v6: Option<Pair>,
    lock_seconds: u32,
}

/// What shows and what loads the rules of one family.
#[derive(Debug, Clone)]
struct Pair {
    save: PathBuf,
    restore: PathBuf,
}

/// What is, or is to be, in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dumps {
    pub(crate) v4: Dump,
    pub(crate) v6: Dump,
}

impl Dumps {
    /// What these rules come to.
    pub(crate) fn of(rules: &RuleSet) -> Self {
        let dump = |family| match rules.families().contains(&family) {
            true => Dump::parse(&restore(rules, family)),
            false => Dump::default(),
        };
        Self { v4: dump(Family::V4), v6: dump(Family::V6) }
    }

    /// Our rules in comparable form.
    pub(crate) fn rules(&self) -> Rules {
        let mut rules = Rules::default();
        rules.add_dump("ip", &self.v4);
        rules.add_dump("ip6", &self.v6);
        rules
    }
}

impl Xtables {
    /// Finds the programs: by the name that tells their kind, else by a plain name that says it is of this kind.
    ///
    /// # Errors
    /// When those of IPv4 are not there.
    pub(crate) fn find(system: &impl System, backend: Backend, lock_seconds: u32) -> Result<Self, Error> {
        let kind = if backend == Backend::IptablesNft { "nft" } else { "legacy" };
        let pair = |tool: &str| {
            let named = [format!("{tool}-{kind}-save"), format!("{tool}-{kind}-restore")];
            let plain = [format!("{tool}-save"), format!("{tool}-restore")];
            let both =
                |[save, restore]: &[String; 2]| Some(Pair { save: system.find(save)?, restore: system.find(restore)? });
            both(&named).or_else(|| both(&plain).filter(|pair| is_of_kind(system, &pair.restore, backend)))
        };
        let v4 = pair("iptables").ok_or_else(|| Error::Missing { program: format!("iptables-{kind}-restore") })?;
        Ok(Self { v4, v6: pair("ip6tables"), lock_seconds })
    }

    /// What of ours is loaded.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn loaded(&self, system: &impl System) -> Result<Dumps, Error> {
        let v6 = match self.v6.as_ref().map(|pair| save(system, pair)) {
            Some(Ok(dump)) => dump,
            // Where IPv6 cannot be read for want of IPv6 there are no rules of it either.
            Some(Err(error)) if !matches!(error, Error::Refused { .. }) || error.is_denied() => return Err(error),
            _ => Dump::default(),
        };
        Ok(Dumps { v4: save(system, &self.v4)?, v6 })
    }

    /// Turns what is loaded into what is wanted, in both families or in none.
    ///
    /// # Errors
    /// What a tool says; then all is as it was, unless the error says otherwise.
    pub(crate) fn load(&self, system: &impl System, wanted: &Dumps) -> Result<(), Error> {
        let before = self.loaded(system)?;
        let Err(error) = self.change(system, &before, wanted) else { return Ok(()) };
        let now = self.loaded(system).map_err(|undo| not_undone(&error, undo))?;
        self.change(system, &now, &before).map_err(|undo| not_undone(&error, undo))?;
        Err(error)
    }

    /// Whether the tools would take the rules, as far as they tell without loading them.
    ///
    /// # Errors
    /// What a tool says.
    pub(crate) fn test(&self, system: &impl System, wanted: &Dumps) -> Result<(), Error> {
        let loaded = self.loaded(system)?;
        self.restore(system, "--test", &loaded, wanted)
    }

    fn change(&self, system: &impl System, from: &Dumps, to: &Dumps) -> Result<(), Error> {
        self.restore(system, "--noflush", from, to)
    }

    fn restore(&self, system: &impl System, how: &str, from: &Dumps, to: &Dumps) -> Result<(), Error> {
        self.feed(system, Some(&self.v4), how, &transition(&from.v4, &to.v4))?;
        self.feed(system, self.v6.as_ref(), how, &transition(&from.v6, &to.v6))
    }

    fn feed(&self, system: &impl System, pair: Option<&Pair>, how: &str, text: &str) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        let pair = pair.ok_or_else(|| Error::Missing { program: "ip6tables-restore".to_owned() })?;
        let wait = format!("--wait={}", self.lock_seconds);
        // --test alone would read the text as one that replaces everything.
        let arguments: &[&str] = if how == "--noflush" { &[how, &wait] } else { &["--noflush", how, &wait] };
        run(system, &pair.restore, arguments, Some(text)).map(drop)
    }
}

fn not_undone(load: &Error, undo: Error) -> Error {
    let load = Error::Refused { command: "load".to_owned(), complaint: load.to_string() };
    Error::NotUndone { load: Box::new(load), undo: Box::new(undo) }
}

/// Whether a plain name stands for this kind: `iptables-restore v1.8.9 (nf_tables)`. One that says nothing of a kind is older
/// than the other kind.
fn is_of_kind(system: &impl System, program: &Path, backend: Backend) -> bool {
    let version = run(system, program, &["--version"], None).unwrap_or_default();
    version.contains("nf_tables") == (backend == Backend::IptablesNft)
}

fn save(system: &impl System, pair: &Pair) -> Result<Dump, Error> {
    run(system, &pair.save, &[], None).map(|text| Dump::parse(&text))
}

/// Runs a tool and gives what it printed.
///
/// # Errors
/// When it fails, in its own words.
pub(crate) fn run(
    system: &impl System,
    program: &Path,
    arguments: &[&str],
    input: Option<&str>,
) -> Result<String, Error> {
    let ran = system.run(program, arguments, input)?;
    if ran.succeeded {
        return Ok(ran.output);
    }
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let command = [&*name].into_iter().chain(arguments.iter().copied()).collect::<Vec<_>>().join(" ");
    Err(Error::Refused { command, complaint: ran.complaint })
}
