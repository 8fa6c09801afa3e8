//! What can go wrong between the command line and the kernel.
//!
//! The one idea: a tool's complaint comes with what to do about it. The tools speak of tables and sockets; who reads the
//! log of an init container wants to know which capability, module or package is missing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::backend::Backend;
use crate::options::OptionsError;

/// A failure of the `iptables` subcommand.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict each other or would leave the mesh open.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Write(#[from] io::Error),
    /// Whether another command is at it could not be asked.
    #[error("cannot find out whether another meshgate changes rules in this network namespace: {0}")]
    Alone(#[source] io::Error),
    /// Another command was at it all the time.
    #[error("another meshgate has been changing rules in this network namespace for {} s; --lock-timeout waits longer", .0.as_secs())]
    Busy(
        /// How long it was waited for.
        Duration,
    ),
    /// A program could not be run.
    #[error("cannot run {}: {error}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A program did not end in time; it was ended.
    #[error("{} did not end within {} s", program.display(), limit.as_secs())]
    TooSlow {
        /// The program.
        program: PathBuf,
        /// How long it had.
        limit: Duration,
    },
    /// A program is not there.
    #[error("no {program} on the PATH: the image must have it, or another --backend must do")]
    Missing {
        /// Its name.
        program: String,
    },
    /// A tool refused.
    #[error("{command}: {}{}", complaint.replace('\n', "; "), advice(complaint))]
    Refused {
        /// The tool with its arguments.
        command: String,
        /// What it said.
        complaint: String,
    },
    /// No back end works.
    #[error("{}", reasons(.0))]
    NoBackend(
        /// Each with the reason.
        Vec<(Backend, Error)>,
    ),
    /// A load failed, and what was there before could not be put back.
    #[error("{load}; and putting back what was there before failed as well: {undo}")]
    NotUndone {
        /// Why the load failed.
        load: Box<Error>,
        /// Why the way back failed.
        undo: Box<Error>,
    },
    /// The machine's own network namespace.
    #[error(
        "{0}: redirecting here would capture every process of the machine; --allow-host-network does it all the same"
    )]
    HostNetwork(
        /// How it is told.
        &'static str,
    ),
    /// IPv6 was demanded and is off.
    #[error("--ipv6 true, and {0}")]
    Ipv6Off(
        /// How it is told.
        &'static str,
    ),
    /// IPv6 cannot be captured while the workload has an IPv6 address.
    #[error("{0}; the workload has an IPv6 address, whose traffic would bypass the mesh: --ipv6 false accepts that")]
    Ipv6Uncaptured(
        /// Why it cannot.
        Box<Error>,
    ),
    /// A probe could not be made, which says nothing about the redirection.
    #[error("cannot probe: {0}")]
    Probe(
        /// Why not.
        String,
    ),
}

impl Error {
    /// Whether it is rights that are missing: then a look at what is loaded says nothing.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Error::Refused { complaint, .. } if advice(complaint) == DENIED)
    }
}

/// What to do about a tool's complaint, as far as it is known.
fn advice(complaint: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
    if says(&["lock file", "xtables.lock"]) && says(&["Read-only", "Permission denied", "No such file"]) {
        " (the lock of iptables-legacy needs a place: mount an emptyDir at /run, or set XTABLES_LOCKFILE)"
    } else if says(&["holding the xtables lock"]) {
        " (somebody else changes rules in this namespace; --lock-timeout waits longer)"
    } else if says(&["Permission denied", "Operation not permitted", "must be root"]) {
        DENIED
    } else if says(&["insmod", "Table does not exist", "table does not exist"]) {
        " (the kernel has no such table here: `modprobe iptable_nat ip6table_nat iptable_mangle ip6table_mangle iptable_raw \
         ip6table_raw` on the node, or another --backend)"
    } else if says(&["No chain/target/match by that name", "Couldn't load", "Extension"]) {
        " (a match or a target is missing: `modprobe xt_REDIRECT xt_owner xt_comment xt_multiport` on the node, or another \
         --backend)"
    } else if says(&["Operation not supported", "Protocol not supported", "Invalid argument", "No such file"]) {
        " (the kernel cannot do this in nftables: `modprobe nf_tables nft_chain_nat nft_redir` on the node, or \
         --backend iptables-legacy)"
    } else {
        ""
    }
}

const DENIED: &str = " (needs the capability NET_ADMIN, and iptables-legacy NET_RAW as well: in Kubernetes \
                      `securityContext.capabilities.add`)";

fn reasons(failures: &[(Backend, Error)]) -> String {
    match failures {
        [(_, error)] => error.to_string(),
        failures => {
            let lines = failures.iter().map(|(backend, error)| format!("\n  {backend}: {error}"));
            format!("no back end works:{}", lines.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_says_what_to_do() {
        for (complaint, what) in [
            ("Operation not permitted (you must be root)", "NET_ADMIN"),
            ("can't initialize iptables table `nat': Permission denied (you must be root)", "NET_RAW"),
            (
                "can't initialize iptables table `nat': Table does not exist (do you need to insmod?)",
                "modprobe iptable_nat",
            ),
            ("Error: Could not process rule: Operation not supported", "nf_tables"),
            ("iptables-restore: No chain/target/match by that name.", "xt_REDIRECT"),
            ("Fatal: can't open lock file /run/xtables.lock: Read-only file system", "XTABLES_LOCKFILE"),
            ("Another app is currently holding the xtables lock.", "--lock-timeout"),
        ] {
            let error = Error::Refused { command: "tool".to_owned(), complaint: complaint.to_owned() };
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
