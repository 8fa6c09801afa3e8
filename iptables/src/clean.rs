//! Takes all of ours away, in every back end there is.
//!
//! The one idea: what is there decides what is done, not the options it was made with.

use crate::backend::{Backend, Survey, Surveyed};
use crate::error::Error;
use crate::routes::Ip;
use crate::system::System;

/// What was taken away.
#[derive(Debug, Default)]
pub(crate) struct Cleaned {
    pub(crate) backends: Vec<(Backend, usize)>,
    /// Routing rules.
    pub(crate) routes: usize,
    /// The inbound side's address.
    pub(crate) address: bool,
}

/// Removes our rules, routing and address.
///
/// # Errors
/// What cannot be removed or looked at; all that can has been removed before.
pub(crate) fn clean(system: &impl System, lock_seconds: u32) -> Result<Cleaned, Error> {
    let mut cleaned = Cleaned::default();
    let mut failures = Vec::new();
    let mut looked_at = 0;
    for Surveyed { backend, found } in Survey::of(system, lock_seconds).0 {
        match found {
            Ok((tool, loaded)) => {
                looked_at += 1;
                if loaded.own.is_empty() {
                    continue;
                }
                match tool.clear(system) {
                    Ok(()) => cleaned.backends.push((backend, loaded.own.count())),
                    Err(error) => failures.push((backend, error)),
                }
            }
            Err(Error::Missing { .. }) => {}
            // Without rights nothing can be said; without the kernel's part nothing can be there.
            Err(error @ Error::Refused { .. }) if !error.is_denied() => {
                system.note(&format!("note: no rules of {backend} can be here: {error}"));
                looked_at += 1;
            }
            Err(error) => failures.push((backend, error)),
        }
    }
    if !failures.is_empty() {
        return Err(Error::NoBackend(failures));
    }
    if looked_at == 0 {
        return Err(Error::Missing {
            program: "none of nft, iptables-nft-restore and iptables-legacy-restore".to_owned(),
        });
    }
    let ip = Ip::find(system);
    cleaned.routes = ip.remove_all_but(system, &[])?;
    cleaned.address = ip.remove_inbound_source(system)?;
    Ok(cleaned)
}
