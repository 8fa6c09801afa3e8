//! What the operator writes: it may be refused, with a reason, but never end the process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use meshgate_config::offline::Resources;
use meshgate_config::{Bootstrap, Problem, Surroundings, check};
use meshgate_policy::Workload;
use tempfile::TempDir;

use super::policies::settings;

/// Files of these names are read like any others; in memory where the system has a place for that.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("meshgate-fuzz-").tempdir_in(parent).expect("a temporary folder")
});

pub(crate) fn written(folder: &str, name: &str, data: &[u8]) -> PathBuf {
    let folder = FOLDER.path().join(folder);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(name), data).expect("a file");
    folder
}

fn look_at(problems: &[Problem]) {
    for problem in problems {
        let shown = problem.to_string();
        assert!(!shown.is_empty());
        assert!(!shown.contains(['\n', '\r', '\u{1b}']), "one line, and no terminal's commands: {shown:?}");
    }
}

/// A resource file: whatever is in it, a reading ends, problems can be shown, and the policies it leaves can be compiled.
pub fn yaml_resources(data: &[u8]) {
    let folder = written("resources", "fuzzed.yaml", data);
    let workload = Workload { namespace: "default".into(), ..Workload::default() };
    let own = check::Own { workload: workload.clone(), ..check::Own::default() };
    look_at(&check::check(&folder, &settings(), Some(&own)));
    let _ = Resources::read(&folder, &settings(), &Surroundings::alone("cluster.local")).snapshot(workload);
}

/// A bootstrap file, and behind a NUL, which no such file has, the environment: `NAME=value` lines.
pub fn bootstrap(data: &[u8]) {
    let (file, environment) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], String::from_utf8_lossy(&data[at + 1..])),
        None => (data, "".into()),
    };
    let path = written("bootstrap", "fuzzed.yaml", file).join("fuzzed.yaml");
    let pairs = environment.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (format!("MESHGATE_{name}"), value.to_owned()));
    if let Err(problems) = Bootstrap::load(&path, pairs) {
        assert!(!problems.is_empty(), "a refusal has a reason");
        look_at(&problems);
    }
}
