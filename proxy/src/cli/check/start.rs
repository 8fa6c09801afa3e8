//! What `meshgate run` would say of a bootstrap before it comes to the resources.
//!
//! The one idea: what is wrong is told by the same code as at a start. What is of the machine that it will run on (ports, folders of logs) is left
//! out, and files that are not here are said to be so: CI may check what is run elsewhere.

use std::io::ErrorKind;
use std::path::PathBuf;

use meshgate_config::Bootstrap;
use meshgate_identity::{IdentityError, IdentityStore};

use crate::app::StartError;
use crate::trace::Exporter;
use crate::{jwks, log};

/// What there is to say.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// A proxy would not start with it.
    pub(super) wrong: Vec<String>,
    /// It could not be looked at, and why.
    pub(super) unseen: Vec<String>,
}

impl Start {
    pub(super) fn of(bootstrap: &Bootstrap) -> Self {
        let mut start = Self::default();
        if let Err(error) = log::check(&bootstrap.log.level) {
            start.wrong.push(format!("log.level: {error}"));
        }
        let is_here = start.identity(bootstrap).unwrap_or_else(|error| {
            start.wrong.push(error.to_string());
            true
        });
        let jwks = bootstrap.jwks.trust_bundle.as_ref();
        start.roots(jwks, is_here, || jwks::Client::new(jwks).map(drop).map_err(Into::into));
        let tracing = bootstrap.tracing.as_ref().and_then(|tracing| tracing.trust_bundle.as_ref());
        start.roots(tracing, is_here, || {
            let id = bootstrap.identity_sources()?.id;
            Exporter::new(bootstrap, &id).map(drop).map_err(StartError::Tracing)
        });
        start
    }

    /// Whether the files are on this machine.
    fn identity(&mut self, bootstrap: &Bootstrap) -> Result<bool, StartError> {
        let (settings, sources) = (&bootstrap.identity, bootstrap.identity_sources()?);
        if settings.workload_api.is_some() || settings.ca.is_some() {
            // It comes while it runs.
            return Ok(false);
        }
        // One of them alone is a mistake.
        if !sources.certificate.exists() && !sources.key.exists() {
            self.unseen.push(format!("{} is not here, so the identity", sources.certificate.display()));
            return Ok(false);
        }
        match IdentityStore::open(sources) {
            Err(IdentityError::Read { file, source }) if source.kind() == ErrorKind::PermissionDenied => {
                self.unseen.push(format!("{} is not for this user to read, so the identity", file.display()));
                Ok(true)
            }
            opened => Ok(opened.map(|_| true)?),
        }
    }

    /// Roots that somebody else than the mesh's peers is trusted by.
    fn roots(&mut self, file: Option<&PathBuf>, is_here: bool, take: impl FnOnce() -> Result<(), StartError>) {
        match file {
            Some(file) if !is_here && !file.exists() => {
                self.unseen.push(format!("{} is not here, so it", file.display()));
            }
            Some(_) => self.wrong.extend(take().err().map(|error| error.to_string())),
            None => {}
        }
    }
}
