//! A pod, as podman makes it of YAML.

use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;

use crate::command::{Answer, feed, stdout, text};

use super::until;
use super::world::{enter, podman};

/// The container of the application.
pub(crate) const APPLICATION: &str = "app";
/// The container of the proxy.
pub(crate) const SIDECAR: &str = "meshgate-proxy";

/// A pod; it is removed when dropped.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
}

impl Pod {
    /// Makes a pod of its YAML, with this address in a network of podman's. Its init containers have ended well by then, and its
    /// others are started.
    pub(crate) fn play(name: &str, yaml: &str, network: &str, address: IpAddr) -> Self {
        // First: what could only be made in part is removed as well.
        let pod = Self { name: name.to_owned(), address };
        let network = format!("{network}:ip={address}");
        let played = feed(&mut podman(["kube", "play", "--network", &network, "-"]), yaml);
        played.unwrap_or_else(|error| panic!("{error}\n{yaml}"));
        pod
    }

    /// What a plain curl in the application's container sees.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Answer {
        Answer::of(self.enter(APPLICATION), arguments)
    }

    /// The beginning of a command in a container.
    pub(crate) fn enter(&self, container: &str) -> Command {
        podman(["exec", &self.container(container)])
    }

    /// Sends a signal to a container's first process.
    pub(crate) fn signal(&self, container: &str, signal: &str) {
        stdout(&podman(["kill", "--signal", signal, &self.container(container)]).output().unwrap());
    }

    /// Waits for a container's end.
    pub(crate) fn until_ended(&self, container: &str) {
        until("a container's end", || (self.inspect(container, ".State.Status") == "exited").then_some(()));
    }

    /// What podman knows of a container, by a path as of its templates.
    pub(crate) fn inspect(&self, container: &str, path: &str) -> String {
        let format = format!("{{{{{path}}}}}");
        let mut inspect = podman(["container", "inspect", "--format", &format, &self.container(container)]);
        stdout(&inspect.output().unwrap()).trim().to_owned()
    }

    /// The sum of a metric of the sidecar over all labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = self.curl(&["http://127.0.0.1:15021/metrics"]).body;
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// How often the sidecar has read its resources.
    pub(crate) fn readings(&self) -> f64 {
        self.metric("mesh_config_reloads_total")
    }

    /// Waits until the sidecar says that it is ready.
    pub(crate) fn until_ready(&self) {
        let ready = || (self.curl(&["http://127.0.0.1:15021/ready"]).status == 200).then_some(());
        until(&format!("{} being ready", self.name), ready);
    }

    /// What a container printed.
    pub(crate) fn output(&self, container: &str) -> String {
        let output = podman(["logs", &self.container(container)]).output().unwrap();
        text(&output.stdout) + &text(&output.stderr)
    }

    /// Waits for the line of the sidecar's access log that satisfies a condition.
    #[track_caller]
    pub(crate) fn logged(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{what} in the access log of {}", self.name), || {
            let output = self.output(SIDECAR);
            let mut lines = output.lines().filter_map(|line| serde_json::from_str(line).ok());
            lines.find(|line: &Value| wanted(line))
        })
    }

    /// As [`Pod::logged`], for the request to a path.
    #[track_caller]
    pub(crate) fn logged_path(&self, path: &str) -> Value {
        self.logged(path, |line| line["path"] == path)
    }

    fn container(&self, container: &str) -> String {
        format!("{}-{container}", self.name)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // What it said is lost with it, and somebody will want to know why a test failed.
        if std::thread::panicking() {
            let logs = podman(["pod", "logs", &self.name]).output().unwrap();
            eprintln!("{}: {}{}", self.name, text(&logs.stdout), text(&logs.stderr));
        }
        let inspected = podman(["pod", "inspect", "--format", "{{.ID}}", &self.name]).output().unwrap();
        if let Err(error) = feed(&mut podman(["pod", "rm", "--force", "--time", "0", &self.name]), "") {
            eprintln!("{error}");
        }
        // podman forgets cgroups of a hierarchy that it does not use, and they end with no namespace. Only empty ones can be removed.
        let cgroups = format!("*/libpod_parent/{}*", text(&inspected.stdout).trim());
        if inspected.status.success() {
            let mut sweep = enter();
            sweep.args(["find", "/sys/fs/cgroup", "-depth", "-type", "d", "-path", &cgroups]);
            let _ = sweep.args(["-exec", "rmdir", "{}", ";"]).output();
        }
    }
}
