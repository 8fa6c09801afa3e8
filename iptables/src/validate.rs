//! Proves by real connections that the redirection acts.
//!
//! The one idea: outbound is proved as the application, inbound as the proxy. A connection to the workload's own address comes
//! from elsewhere for nobody in the same namespace, but the proxy's user is sent through the inbound redirect when it makes
//! one, and becoming that user takes a right (`CAP_SETUID`) that may not be there; then inbound is not probed, and that is
//! said. That the kernel's own chain leads into ours is for `check` to see.
//!
//! Exit status: 0 what was probed is redirected; 16 and more something is not, plus 1 for outbound IPv4, 2 for outbound IPv6,
//! 4 for inbound IPv4, 8 for inbound IPv6; 2 nothing could be proved.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::destination::{destination, free_port};
use crate::environment::{Identity, identity, own_address};
use crate::error::Error;
use crate::list::Selection;
use crate::options::{Interception, Options};
use crate::probe::{Seen, probe};
use crate::rules::{Family, RuleSet};
use crate::system::System;

/// How to probe.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probing {
    /// The port that the probes connect to.
    pub(crate) port: u16,
    /// How long each may take.
    pub(crate) timeout: Duration,
}

/// What became of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Redirected(SocketAddr),
    NotRedirected(SocketAddr, String),
    /// The options say that it is not redirected.
    NotWanted(&'static str),
    /// That is no proof of anything.
    NotProbed(String),
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) direction: &'static str,
    pub(crate) family: Family,
    pub(crate) outcome: Outcome,
}

/// Probes both directions of all captured families, tells each as it ends, and gives the exit status.
///
/// # Errors
/// When a probe cannot be made, or none could.
pub(crate) fn validate(
    system: &impl System,
    options: &Options,
    rules: &RuleSet,
    probing: Probing,
    tell: &mut impl FnMut(Probed) -> Result<(), Error>,
) -> Result<u8, Error> {
    let who = identity(system).ok_or_else(|| Error::Probe("/proc/self/status cannot be read".to_owned()))?;
    let (mut failed, mut proved) = (0, false);
    for (direction, bits) in [("outbound", OUTBOUND), ("inbound", INBOUND)] {
        for (family, bit) in [Family::V4, Family::V6].into_iter().zip(bits) {
            if !rules.families().contains(&family) {
                continue;
            }
            let outcome = match direction {
                "outbound" => outbound(options, family, probing, &who)?,
                _ => inbound(system, options, family, probing, &who)?,
            };
            proved |= !matches!(outcome, Outcome::NotProbed(_));
            failed |= if matches!(outcome, Outcome::NotRedirected(..)) { bit } else { 0 };
            tell(Probed { direction, family, outcome })?;
        }
    }
    match (failed, proved) {
        (0, true) => Ok(0),
        (0, false) => Err(Error::Probe("nothing could be probed, see above".to_owned())),
        (failed, _) => Ok(NOT_REDIRECTED + failed),
    }
}

impl Outcome {
    /// One word, for machines.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Outcome::Redirected(_) => "redirected",
            Outcome::NotRedirected(..) => "notRedirected",
            Outcome::NotWanted(_) => "notWanted",
            Outcome::NotProbed(_) => "notProbed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Redirected(to) => write!(f, "a connection to {to} is redirected"),
            Outcome::NotRedirected(to, why) => write!(f, "a connection to {to} is NOT redirected: {why}"),
            Outcome::NotWanted(why) => write!(f, "nothing to prove: {why}"),
            Outcome::NotProbed(why) => write!(f, "not probed: {why}"),
        }
    }
}

fn outbound(options: &Options, family: Family, probing: Probing, who: &Identity) -> Result<Outcome, Error> {
    if who.is_proxy(options) {
        return Ok(Outcome::NotProbed("this is the proxy's user, whose connections are not captured".to_owned()));
    }
    if !who.sends_captured(options) {
        let why = format!("the options leave what group {} sends alone, which is this process's", who.group);
        return Ok(Outcome::NotProbed(why));
    }
    let Some(to) = destination(options, family, probing.port) else {
        return Ok(Outcome::NotWanted("the options capture no address that could be tried"));
    };
    probe(SocketAddr::new(loopback(family), options.outbound_port), to, probing.timeout).map(|seen| seen.of(to))
}

fn inbound(
    system: &impl System,
    options: &Options,
    family: Family,
    probing: Probing,
    who: &Identity,
) -> Result<Outcome, Error> {
    if matches!(&options.inbound_ports, Selection::Listed(ports) if ports.is_empty()) {
        return Ok(Outcome::NotWanted("the options capture nothing inbound"));
    }
    if options.interception == Interception::Tproxy {
        let why = "with TPROXY that takes a transparent listener, which only the proxy is";
        return Ok(Outcome::NotProbed(why.to_owned()));
    }
    let Some(address) = own_address(system, family) else {
        return Ok(Outcome::NotProbed("the workload has no address but loopback".to_owned()));
    };
    // The rule by which the proxy's user comes in is behind those of excluded ports.
    let Some(port) = free_port(options, probing.port) else {
        return Ok(Outcome::NotProbed("the options exclude every port that could be tried".to_owned()));
    };
    let to = SocketAddr::new(address, port);
    let listen = SocketAddr::new(loopback(family), options.inbound_capture_port);
    if who.is_proxy(options) {
        return probe(listen, to, probing.timeout).map(|seen| seen.of(to));
    }
    let Some(user) = proxy_user(options) else {
        return Ok(Outcome::NotProbed("there is no proxy's user to become".to_owned()));
    };
    let seconds = probing.timeout.as_secs().to_string();
    let words = ["iptables", "probe", "--listen", &listen.to_string(), "--to", &to.to_string(), "--timeout", &seconds];
    match system.run_self_as(user, &words) {
        Ok(ran) if ran.succeeded => Ok(Outcome::Redirected(to)),
        Ok(ran) => match ran.output.trim().strip_prefix(PROBE_FAILED) {
            Some(why) => Ok(Outcome::NotRedirected(to, why.to_owned())),
            None => Err(Error::Probe(ran.complaint)),
        },
        Err(error) => {
            Ok(Outcome::NotProbed(format!("inbound needs user {user}, and that takes the capability SETUID ({error})")))
        }
    }
}

/// Runs one probe and prints what came of it: what [`inbound`] starts as the proxy's user.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn run_probe(
    listen: SocketAddr,
    to: SocketAddr,
    timeout: Duration,
    out: &mut impl Write,
) -> Result<u8, Error> {
    match probe(listen, to, timeout)? {
        Seen::Redirected => Ok(0),
        Seen::NotRedirected(why) => {
            writeln!(out, "{PROBE_FAILED}{why}")?;
            Ok(1)
        }
        Seen::Unroutable => {
            writeln!(out, "{PROBE_FAILED}there is no route to it")?;
            Ok(1)
        }
    }
}

impl Seen {
    fn of(self, to: SocketAddr) -> Outcome {
        match self {
            Seen::Redirected => Outcome::Redirected(to),
            Seen::NotRedirected(why) => Outcome::NotRedirected(to, why),
            Seen::Unroutable => Outcome::NotProbed(format!("there is no route to {}", to.ip())),
        }
    }
}

fn proxy_user(options: &Options) -> Option<u32> {
    options.proxy_uid.items().first().copied()
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([127, 0, 0, 1]),
        Family::V6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]),
    }
}

/// The status of failed probes, to which their bits are added. Clear of 0 to 2, which mean the same for every command.
pub const NOT_REDIRECTED: u8 = 16;
/// What is added when outbound IPv4 is not redirected, and IPv6.
pub const OUTBOUND: [u8; 2] = [1, 2];
/// As [`OUTBOUND`], inbound.
pub const INBOUND: [u8; 2] = [4, 8];

const PROBE_FAILED: &str = "not redirected: ";
