//! A shell in which a page's commands are run, one after the other, as a reader would.
//!
//! It has a network, processes and mounts of its own (`unshare`): ports are free, and with the shell ends whatever it has started. Its folder
//! holds copies of `examples` and `deploy`; of programs that need more than this machine it finds stand-ins that check what they are given.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// For one command: none of the guide takes a tenth of it on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine's network: one interface with an address of each family, and a way to everywhere that leads nowhere.
/// `ip netns` and iptables keep files in `/run`.
const NETWORK: &str = "mount -t tmpfs tmpfs /run
ip link set lo up
ip link add eth0 type veth peer name far && ip link set eth0 up && ip link set far up
ip addr add 192.0.2.10/24 dev eth0 && ip route add default via 192.0.2.1
ip addr add 2001:db8::10/64 dev eth0 nodad && ip -6 route add default via 2001:db8::1
exec bash --norc --noprofile";

/// A page's shell.
pub(crate) struct Session {
    shell: Child,
    input: ChildStdin,
    /// The exit status of each step.
    answers: Receiver<String>,
    dir: TempDir,
    steps: usize,
}

/// How a step ended.
pub(crate) struct Outcome {
    /// None: the shell ended with it.
    pub(crate) status: Option<String>,
    /// Standard output and standard error.
    pub(crate) output: String,
}

/// How `unshare` gives this user namespaces; or why it does not.
static UNSHARE: LazyLock<Result<Vec<&str>, String>> = LazyLock::new(|| {
    let root = vec!["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let user = [vec!["--user", "--map-root-user"], root.clone()].concat();
    let mut said = String::new();
    for arguments in [root, user] {
        let output = Command::new("unshare").args(&arguments).args(["ip", "link", "set", "lo", "up"]).output();
        match output {
            Ok(output) if output.status.success() => return Ok(arguments),
            Ok(output) => said.push_str(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => said.push_str(&error.to_string()),
        }
    }
    Err(said)
});

/// Whether who is root in these namespaces is so outside of them, too.
pub(crate) fn is_root() -> bool {
    UNSHARE.as_ref().is_ok_and(|arguments| !arguments.contains(&"--user"))
}

/// Whether this machine can do it. When it cannot, says so where no test harness captures it.
///
/// # Panics
/// In CI, where nothing is left out.
pub(crate) fn is_possible() -> bool {
    let Err(reason) = UNSHARE.as_ref() else { return true };
    assert!(std::env::var_os("CI").is_none(), "no namespaces for the guide's commands: {reason}");
    let line = format!("\n*** SKIPPED: the guide's commands need namespaces of their own: {reason} ***\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

impl Session {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (tools, work) = (dir.path().join("bin"), dir.path().join("meshgate"));
        for folder in [&tools, &work, &dir.path().join("steps"), &dir.path().join("cluster")] {
            fs::create_dir(folder).unwrap();
        }
        symlink(crate::binary(), tools.join("meshgate")).unwrap();
        // As at a terminal, where it shows no progress while it prints.
        fs::write(dir.path().join(".curlrc"), "silent\nshow-error\n").unwrap();
        let root = crate::root();
        for folder in ["examples", "deploy"] {
            copy(&root.join(folder), &work.join(folder));
        }
        let stand_ins = root.join("tests/tests/docs/stand-ins");
        let search = format!("{}:{}:{}", stand_ins.display(), tools.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("unshare");
        command.args(UNSHARE.as_ref().unwrap()).args(["sh", "-c", NETWORK]);
        command.env_clear().env("PATH", format!("{search}:/usr/local/sbin:/usr/sbin:/sbin")).env("HOME", dir.path());
        command.env("LANG", "C.UTF-8").env("CLUSTER", dir.path().join("cluster")).env("REPOSITORY", root);
        command.current_dir(work).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.spawn().unwrap();
        let (input, output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let (tell, answers) = channel();
        thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).all(|line| tell.send(line).is_ok()));
        Self { shell, input, answers, dir, steps: 0 }
    }

    /// Runs a piece of shell in the session's own shell.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn run(&mut self, script: &str) -> Result<Outcome, String> {
        self.steps += 1;
        let file = self.dir.path().join(format!("steps/{}", self.steps));
        let output = file.with_extension("out");
        fs::write(&file, script).unwrap();
        let line = format!(". {0} >{1} 2>&1 </dev/null; printf '%s\\n' $?\n", file.display(), output.display());
        // A shell that has ended is noticed by its silence.
        let _ = self.input.write_all(line.as_bytes());
        let status = match self.answers.recv_timeout(PATIENCE) {
            Ok(status) => Some(status),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("it does not end within {PATIENCE:?}; so far it said:\n{}", read(&output)));
            }
        };
        Ok(Outcome { status, output: read(&output) })
    }

    /// What the cluster's stand-in was given.
    pub(crate) fn applied(&self) -> Vec<(PathBuf, String)> {
        let files = fs::read_dir(self.dir.path().join("cluster")).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), read(&path))).collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The first process of its namespace goes with it, and so do all others.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
