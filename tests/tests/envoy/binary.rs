//! Where Envoy is.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Names the binary, before anything else.
const VARIABLE: &str = "MESHGATE_ENVOY";

/// The Envoy to compare with: the one that the environment names, the one that `.ci/run` installs under the target folder, or
/// the one on the PATH. `None`, said where no test harness captures it, on a machine without.
///
/// # Panics
/// When the environment names one that is not there: who asks for one wants no other.
pub(crate) fn envoy() -> Option<PathBuf> {
    if let Some(named) = env::var_os(VARIABLE) {
        let named = PathBuf::from(named);
        assert!(named.is_file(), "{VARIABLE} names {}, which is not there", named.display());
        return Some(named);
    }
    let found = installed().or_else(on_path);
    if found.is_none() {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a comparison with Envoy").to_owned();
        let message = format!("\n*** SKIPPED: {test}: no Envoy; CONTRIBUTING.md says how to get it ***\n");
        // Straight to the descriptor: the harness keeps what eprintln! writes in a test that passes.
        let _ = std::io::stderr().write_all(message.as_bytes());
    }
    found
}

/// In the environment of Python wheels under the target folder, whatever that Python's version is called.
fn installed() -> Option<PathBuf> {
    let target = Path::new(crate::binary().to_str()?).ancestors().find(|folder| folder.join("ci-tools").is_dir())?;
    let versions = fs::read_dir(target.join("ci-tools/lib")).ok()?.flatten();
    let binaries = versions.map(|version| version.path().join("site-packages/envoy/_bin/envoy"));
    binaries.into_iter().find(|binary| binary.is_file())
}

fn on_path() -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join("envoy")).find(|binary| binary.is_file())
}
