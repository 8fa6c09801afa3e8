//! What can be seen of files without reading them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// For every path, and everything in those that are directories (one more level down), what it is now. Two that are
/// equal were, as far as can be seen, taken of the same files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(BTreeMap<PathBuf, Option<Seen>>);

/// Of where a path leads to.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Differs when a link on the way was swapped, even between files of equal age and size.
    resolved: Option<PathBuf>,
    modified: (i64, i64),
    /// Changes with permissions and renames, which leave the time of modification alone.
    changed: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

impl Fingerprint {
    pub(super) fn of(paths: &[PathBuf]) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        for path in paths {
            fingerprint.add(path, 2);
        }
        fingerprint
    }

    fn add(&mut self, path: &Path, levels: usize) {
        let metadata = path.metadata().ok();
        let is_directory = metadata.as_ref().is_some_and(Metadata::is_dir);
        self.0.insert(path.to_path_buf(), metadata.map(|metadata| Seen::new(path, &metadata)));
        if is_directory && levels > 0 {
            for entry in visible(path) {
                self.add(&entry, levels - 1);
            }
        }
    }
}

impl Seen {
    fn new(path: &Path, metadata: &Metadata) -> Seen {
        Seen {
            resolved: path.canonicalize().ok(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

/// What is in a directory and not hidden; nothing when it cannot be read.
pub(super) fn visible(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b".")).map(|entry| entry.path()).collect()
}
