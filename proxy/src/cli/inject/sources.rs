//! What is read: files, folders, standard input.

use std::path::{Path, PathBuf};

use meshgate_config::{Problem, manifest};

/// A file's text, and the name that stands in messages.
pub(super) struct Source {
    pub(super) name: PathBuf,
    pub(super) text: String,
}

/// Reads everything, or says all that cannot be read.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Source>, Vec<Problem>> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match named(file) {
            Ok(more) => sources.extend(more),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

fn named(file: &Path) -> Result<Vec<Source>, Problem> {
    if file.as_os_str() == "-" {
        let name = PathBuf::from("<stdin>");
        crate::cli::await_input();
        let text = manifest::read_from(std::io::stdin().lock(), &name)?;
        return Ok(vec![Source { name, text }]);
    }
    let paths = if file.is_dir() { folder(file)? } else { vec![file.to_path_buf()] };
    paths.into_iter().map(|name| Ok(Source { text: manifest::read(&name)?, name })).collect()
}

/// The manifests in a folder, by name; as with `kubectl apply -f`, not in the folders in it.
fn folder(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let failed = |error: std::io::Error| Problem::error(folder, format!("cannot be read: {error}"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_manifest = path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if is_manifest && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Problem::error(folder, "there is no *.yaml, *.yml or *.json in this folder"));
    }
    Ok(found)
}
