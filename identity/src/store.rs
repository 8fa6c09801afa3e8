//! The identity in force, and how it is replaced.
//!
//! The one idea: the last good one stays. A reload reads every file, validates the whole and publishes it in one step; when
//! anything is wrong the caller gets the error and everyone else keeps what they had.
//!
//! What this does not do: notice that a file changed. The owner of a file watcher calls [`IdentityStore::reload`], and who is handed an
//! identity calls [`IdentityStore::deliver`].

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::files::Material;
use crate::{Delivered, Identity, IdentityError, Sources};

/// Holds the identity in force and publishes each new generation to its subscribers.
pub struct IdentityStore {
    sources: Sources,
    /// The bytes the generation in force was made of. Held for the length of a reload, so that two of them at once
    /// publish in the order they read.
    loaded: Mutex<Loaded>,
    sender: watch::Sender<Arc<Identity>>,
}

struct Loaded {
    material: Material,
    /// What was handed over last of what was good; `None` where all is in files.
    delivered: Option<Delivered>,
}

/// What a reload did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The files hold what is in force already.
    Unchanged,
    /// A new generation is in force.
    Published,
}

impl IdentityStore {
    /// Reads and validates the files.
    ///
    /// # Errors
    /// When a file cannot be read, is not what it must be, or the files do not belong together.
    pub fn open(sources: Sources) -> Result<Self, IdentityError> {
        Self::begin(sources, None)
    }

    /// The same with what has been handed over; only what is left of `sources` is read.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn delivered(sources: Sources, delivered: Delivered) -> Result<Self, IdentityError> {
        Self::begin(sources, Some(delivered))
    }

    fn begin(sources: Sources, delivered: Option<Delivered>) -> Result<Self, IdentityError> {
        let material = Material::read(&sources, delivered.as_ref())?;
        let identity = Identity::from_material(&sources, &material, 1)?;
        let (sender, _) = watch::channel(Arc::new(identity));
        Ok(Self { sources, loaded: Mutex::new(Loaded { material, delivered }), sender })
    }

    /// A receiver that has the identity in force and sees every later one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Identity>> {
        self.sender.subscribe()
    }

    /// The identity in force.
    pub fn current(&self) -> Arc<Identity> {
        Arc::clone(&self.sender.borrow())
    }

    /// Reads the files again and takes them into use when they differ and are good. Blocks on the files and on the
    /// validation, a few milliseconds: not for a thread that serves connections.
    ///
    /// # Errors
    /// As [`open`](Self::open); the identity in force stays.
    pub fn reload(&self) -> Result<Reload, IdentityError> {
        self.replace(None)
    }

    /// Takes what was handed over into use in the place of the last, when it differs and is good. Blocks as [`reload`](Self::reload) does.
    ///
    /// # Errors
    /// As [`open`](Self::open); the identity in force stays, and what was handed over before.
    pub fn deliver(&self, delivered: Delivered) -> Result<Reload, IdentityError> {
        self.replace(Some(delivered))
    }

    fn replace(&self, delivered: Option<Delivered>) -> Result<Reload, IdentityError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let material = Material::read(&self.sources, delivered.as_ref().or(loaded.delivered.as_ref()))?;
        if loaded.material == material {
            return Ok(Reload::Unchanged);
        }
        let generation = self.sender.borrow().generation() + 1;
        let identity = Identity::from_material(&self.sources, &material, generation)?;
        loaded.material = material;
        loaded.delivered = delivered.or(loaded.delivered.take());
        self.sender.send_replace(Arc::new(identity));
        Ok(Reload::Published)
    }

    /// Whether files of revocation lists are read.
    pub fn has_revocation_lists(&self) -> bool {
        !self.sources.crl.is_empty()
    }

    /// The files to watch, each once.
    pub fn paths(&self) -> Vec<PathBuf> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let delivered = loaded.delivered.as_ref();
        let own = [&self.sources.certificate, &self.sources.key].into_iter().filter(|_| delivered.is_none());
        let bundle = Some(&self.sources.trust_bundle).filter(|_| !delivered.is_some_and(Delivered::has_bundle));
        let own = own.chain(bundle).chain(&self.sources.crl);
        let clusters = self.sources.clusters.values().map(|roots| &roots.file);
        let mut paths: Vec<_> = own.chain(self.sources.federated.values()).chain(clusters).cloned().collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

impl fmt::Debug for IdentityStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityStore")
            .field("sources", &self.sources)
            .field("current", &*self.sender.borrow())
            .finish()
    }
}

#[cfg(test)]
mod tests;
