//! A resource folder of one's own, for tests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use meshgate_policy::{CatchAllDeny, Settings, Workload};

use crate::bootstrap::Bootstrap;
use crate::problem::Problem;

/// A temporary folder with `resources/` in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new(files: &[(&str, &str)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        std::fs::create_dir(folder.resources()).unwrap();
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub(crate) fn resources(&self) -> PathBuf {
        self.0.path().join("resources")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.resources().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.path(name)).unwrap();
    }

    /// For the workload `default/backend` with the label `app: backend`.
    pub(crate) fn bootstrap(&self) -> Bootstrap {
        self.bootstrap_with("workload: {namespace: default, serviceAccount: backend, labels: {app: backend}}\n")
    }

    /// With these lines in it, which say who the workload is.
    pub(crate) fn bootstrap_with(&self, lines: &str) -> Bootstrap {
        let path = self.0.path().join("bootstrap.yaml");
        let text = format!(
            "{lines}identity: {{certificate: c.pem, key: k.pem, trustBundle: r.pem}}\nresources: {{directory: resources}}\n"
        );
        std::fs::write(&path, text).unwrap();
        Bootstrap::load(&path, []).unwrap()
    }

    /// Problems as they are shown, with file names relative to `resources/`.
    pub(crate) fn shown(&self, problems: &[Problem]) -> Vec<String> {
        let prefix = format!("{}/", self.resources().display());
        problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        root_namespace: "istio-system".into(),
        trust_domain: "cluster.local".parse().unwrap(),
        trust_domain_aliases: Vec::new(),
        catch_all_deny: CatchAllDeny::default(),
        smi: Default::default(),
        providers: Default::default(),
        smi_path_match: Default::default(),
    }
}

pub(crate) fn backend() -> Workload {
    let labels = BTreeMap::from([("app".to_owned(), "backend".to_owned())]);
    Workload { namespace: "default".into(), service_account: "backend".into(), labels }
}
