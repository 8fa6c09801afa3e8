//! One look at the resource folder: which files there are, and their text.
//!
//! Read are `*.yaml`, `*.yml` and `*.json` in the folder and in its immediate subfolders, symbolic links followed.
//! Names that begin with a dot are not: that is where Kubernetes keeps the data of a mounted ConfigMap (`..data`), to
//! which the visible names are links, and editors their temporary files.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files;
use crate::problem::Problem;

/// What the folder held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Folder {
    /// Sorted by path.
    pub(crate) files: Vec<(PathBuf, Arc<str>)>,
    /// Of what could not be read.
    pub(crate) problems: Vec<Problem>,
    /// Files and folders that are there, but not to be read.
    pub(crate) obscured: BTreeSet<PathBuf>,
}

impl Folder {
    /// Looks at `directory`. Never fails: what could not be read is noted.
    pub(crate) fn read(directory: &Path) -> Folder {
        Folder::read_all(&[directory])
    }

    /// Looks at several folders, and at files that are named rather than found.
    pub(crate) fn read_all(places: &[impl AsRef<Path>]) -> Folder {
        let mut folder = Folder::default();
        let mut paths = Vec::new();
        for place in places.iter().map(AsRef::as_ref) {
            if place.is_file() {
                paths.push(place.to_path_buf());
            } else {
                paths.extend(folder.below(place));
            }
        }
        paths.sort();
        paths.dedup();
        for path in paths {
            match files::read(&path) {
                Ok(text) => folder.files.push((path, text.into())),
                Err(error) if error.is_not_found() && has_gone(&path) => {}
                Err(error) => folder.obscure(&path, error.line(), error.to_string()),
            }
        }
        folder
    }

    /// The files to be read in `directory`.
    fn below(&mut self, directory: &Path) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for entry in self.list(directory) {
            let below = if entry.is_dir() { self.list(&entry) } else { vec![entry] };
            paths.extend(below.into_iter().filter(|path| !path.is_dir()));
        }
        paths.retain(|path| has_extension(path));
        paths
    }

    /// What is in `directory` and not hidden.
    fn list(&mut self, directory: &Path) -> Vec<PathBuf> {
        let listed = || -> io::Result<Vec<PathBuf>> {
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(directory)? {
                let entry = entry?;
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    paths.push(entry.path());
                }
            }
            Ok(paths)
        };
        listed().unwrap_or_else(|error| {
            self.obscure(directory, None, format!("the folder cannot be read: {error}"));
            Vec::new()
        })
    }

    fn obscure(&mut self, path: &Path, line: Option<usize>, message: String) {
        self.problems.push(Problem::error(path, message).at(line));
        self.obscured.insert(path.to_path_buf());
    }
}

/// It went between listing and reading. A link to nothing has not gone.
fn has_gone(path: &Path) -> bool {
    path.symlink_metadata().is_err()
}

fn has_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];
