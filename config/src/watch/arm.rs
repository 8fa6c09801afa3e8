//! The system's notifications, on the right directories.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Signal;
use super::fingerprint::visible;

/// Keeps a watch on the directories that `paths` are in, are, lead to or hold.
pub(super) struct Notifier {
    paths: Arc<[PathBuf]>,
    /// None: there are no notifications, only polling.
    watcher: Option<RecommendedWatcher>,
    /// Directory to the file it was when it was watched: one that is deleted and made again is another.
    armed: BTreeMap<PathBuf, (u64, u64)>,
}

impl Notifier {
    pub(super) fn new(paths: Arc<[PathBuf]>, signal: Signal) -> Notifier {
        let absolute: Vec<PathBuf> = paths.iter().filter_map(|path| std::path::absolute(path).ok()).collect();
        let watcher = notify::recommended_watcher(move |event| on_event(&event, &absolute, &signal));
        let watcher =
            watcher.inspect_err(|error| tracing::warn!(%error, "no file notifications: polling instead")).ok();
        Notifier { paths, watcher, armed: BTreeMap::new() }
    }

    /// Without notifications.
    #[cfg(test)]
    pub(super) fn none(paths: Arc<[PathBuf]>, _: Signal) -> Notifier {
        Notifier { paths, watcher: None, armed: BTreeMap::new() }
    }

    /// Watches what should be watched and is not, or no longer is the same directory.
    pub(super) fn arm(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = directories(&self.paths);
        for (directory, inode) in &wanted {
            if self.armed.get(directory) == Some(inode) {
                continue;
            }
            if self.armed.remove(directory).is_some() {
                // Gone with the directory it was on; asked only so that the crate forgets it too.
                let _ = watcher.unwatch(directory);
            }
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.armed.insert(directory.clone(), *inode);
                }
                Err(error) => tracing::debug!(directory = %directory.display(), %error, "polled only"),
            }
        }
        self.armed.retain(|directory, _| {
            let keep = wanted.contains_key(directory);
            if !keep {
                // As above.
                let _ = watcher.unwatch(directory);
            }
            keep
        });
    }
}

/// The directories that exist of those in which something can happen to `paths`.
fn directories(paths: &[PathBuf]) -> BTreeMap<PathBuf, (u64, u64)> {
    let mut wanted = BTreeMap::new();
    let mut want = |path: &Path| {
        if let (Ok(path), Ok(metadata)) = (std::path::absolute(path), path.metadata())
            && metadata.is_dir()
        {
            wanted.insert(path, (metadata.dev(), metadata.ino()));
        }
    };
    for path in paths {
        want(path);
        let resolved = path.canonicalize().ok();
        for file in [Some(path), resolved.as_ref()].into_iter().flatten() {
            // The parent of `a` is the empty path, which means the current directory.
            want(file.parent().map_or(file, |parent| if parent == Path::new("") { Path::new(".") } else { parent }));
        }
        for entry in visible(path) {
            want(&entry);
        }
    }
    wanted
}

fn on_event(event: &notify::Result<Event>, paths: &[PathBuf], signal: &Signal) {
    match event {
        // Our own reading must not look like a change.
        Ok(Event { kind: EventKind::Access(access), .. }) if *access != AccessKind::Close(AccessMode::Write) => {}
        Ok(event) if event.need_rescan() || event.paths.iter().any(|path| concerns(path, paths)) => signal.touched(),
        // Bytes or times of another file in the same directory, such as a log: nothing of ours changes by that.
        Ok(Event { kind: EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)), .. }) => {}
        // Something else in the same directory: if it is a link on the way to one of the paths, fingerprints will tell.
        Ok(_) => signal.wake(),
        // Lost notifications, for one: nobody knows of what.
        Err(_) => signal.touched(),
    }
}

/// Is it one of the paths, or below one that is a directory?
fn concerns(changed: &Path, paths: &[PathBuf]) -> bool {
    paths.iter().any(|path| changed.starts_with(path))
}
