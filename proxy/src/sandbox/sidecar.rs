//! One `meshgate run` process and what can be asked of it.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use http::Method;

use crate::sandbox::{ADMIN_PORT, Answer, HBONE_PORT, OUTBOUND_PORT, POD_PORT, SandboxError, Subnet, request, until};

/// A running sidecar; it is killed when dropped.
#[derive(Debug)]
pub struct Sidecar {
    child: Child,
    binary: PathBuf,
    bootstrap: PathBuf,
    address: IpAddr,
    output: PathBuf,
    access_log: PathBuf,
    /// Nobody else may have its address before its process has ended.
    _subnet: Subnet,
}

impl Sidecar {
    /// Starts the process; its own log goes to `<logs>/<name>.log`.
    pub(super) fn spawn(
        binary: &Path,
        bootstrap: &Path,
        logs: &Path,
        name: &str,
        address: IpAddr,
        subnet: &Subnet,
    ) -> io::Result<Self> {
        let output = logs.join(format!("{name}.log"));
        File::create(&output)?;
        let child = run(binary, bootstrap, &output)?;
        let access_log = logs.join(format!("{name}.access.log"));
        let (binary, bootstrap) = (binary.to_owned(), bootstrap.to_owned());
        Ok(Self { child, binary, bootstrap, address, output, access_log, _subnet: subnet.clone() })
    }

    /// Kills the process (SIGKILL), if it still runs, and starts another by what its bootstrap file says now.
    ///
    /// # Errors
    /// As of a first start.
    pub async fn restart(&mut self) -> Result<(), SandboxError> {
        self.kill();
        self.child = self.again()?;
        self.until_ready().await
    }

    /// Starts another process by the same bootstrap file, while this one runs.
    ///
    /// # Errors
    /// The operating system's.
    pub fn successor(&self) -> Result<Self, SandboxError> {
        let child = self.again()?;
        let Self { binary, bootstrap, address, output, access_log, _subnet, .. } = self;
        let (binary, bootstrap) = (binary.clone(), bootstrap.clone());
        let (output, access_log, _subnet) = (output.clone(), access_log.clone(), _subnet.clone());
        Ok(Self { child, binary, bootstrap, address: *address, output, access_log, _subnet })
    }

    fn again(&self) -> Result<Child, SandboxError> {
        let child = run(&self.binary, &self.bootstrap, &self.output);
        child.map_err(|error| SandboxError::new("cannot start it again", error))
    }

    /// Its bootstrap file.
    pub fn bootstrap(&self) -> &Path {
        &self.bootstrap
    }

    /// Its process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its pod's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Where its pod is called.
    pub fn inbound(&self) -> SocketAddr {
        SocketAddr::new(self.address, POD_PORT)
    }

    /// Where its application sends to.
    pub fn outbound(&self) -> SocketAddr {
        SocketAddr::new(self.address, OUTBOUND_PORT)
    }

    /// Where it takes tunnels, if it does.
    pub fn hbone(&self) -> SocketAddr {
        SocketAddr::new(self.address, HBONE_PORT)
    }

    /// Its admin endpoint.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.address, ADMIN_PORT)
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// The lines of its access log so far, whole ones only.
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(&self.access_log).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for the access log line that comes after the `seen` first ones.
    ///
    /// # Errors
    /// None came.
    pub async fn next_access(&self, seen: usize) -> Result<serde_json::Value, SandboxError> {
        until("an access log line", async || self.access_log().into_iter().nth(seen)).await
    }

    /// A page of its admin endpoint; `None` when it does not answer with 200.
    pub async fn admin_page(&self, path: &str) -> Option<String> {
        match request(self.admin(), &self.admin().to_string(), Method::GET, path).await {
            Answer::Http { status: 200, body, .. } => Some(body),
            _ => None,
        }
    }

    /// What all series of a metric come to that have these labels among theirs, `name{label="value",...}`; `None` while there is none.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        sum(&self.admin_page("/metrics").await?, series)
    }

    /// Waits until a metric satisfies a condition.
    ///
    /// # Errors
    /// It does not.
    pub async fn until_metric(&self, series: &str, wanted: impl Fn(f64) -> bool) -> Result<f64, SandboxError> {
        until(series, async || self.metric(series).await.filter(|value| wanted(*value))).await
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// It ended, or did not become ready.
    pub async fn until_ready(&mut self) -> Result<(), SandboxError> {
        let ready = until("ready", async || match self.child.try_wait() {
            Ok(None) => self.admin_page("/ready").await.map(|_| true),
            Ok(Some(_)) | Err(_) => Some(false),
        });
        match ready.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(SandboxError::new(self.output(), "the sidecar ended")),
            Err(error) => Err(SandboxError::new(self.output(), error)),
        }
    }

    /// Kills the process and waits for its end.
    pub fn kill(&mut self) {
        // One that has already ended can't be killed, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sum(page: &str, series: &str) -> Option<f64> {
    let pairs = |labels: &str| -> Vec<String> {
        let labels = labels.trim_end_matches('}').split("\",").map(|pair| pair.trim_end_matches('"').to_owned());
        labels.filter(|pair| !pair.is_empty()).collect()
    };
    let (name, wanted) = series.split_once('{').unwrap_or((series, ""));
    let wanted = pairs(wanted);
    let mut values = page.lines().filter_map(|line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let labels = if labels.is_empty() { Vec::new() } else { pairs(labels.strip_prefix('{')?) };
        wanted.iter().all(|pair| labels.contains(pair)).then(|| value.parse::<f64>().ok())?
    });
    let first = values.next()?;
    Some(values.fold(first, |sum, value| sum + value))
}

/// Starts the process; what it prints goes to the end of `output`.
fn run(binary: &Path, bootstrap: &Path, output: &Path) -> io::Result<Child> {
    let log = File::options().append(true).open(output)?;
    let mut command = Command::new(binary);
    // Its bootstrap file says everything; what is set for another process on this machine is not meant for it.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MESHGATE_")) {
        command.env_remove(name);
    }
    command
        .args(["run", "--bootstrap"])
        .arg(bootstrap)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
    }
}
