//! A place in which podman runs that has nothing in common with the machine's podman, and that nothing comes out of.
//!
//! One process in mount, network, process and IPC namespaces of its own holds it. Its `/run` is in memory: images, containers,
//! networks and locks are there. When that process ends the kernel ends every process in it, and what they had mounted and made
//! goes with them; it is killed with the thread that started it, which ends with the test program.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Command;
use std::sync::{LazyLock, mpsc};
use std::thread;

use crate::command::{command, feed};

use super::images;

/// Everything of podman's, and what images are made of.
pub(crate) const ROOT: &str = "/run/pods";

/// A world: what is in memory in it, and what podman is told. Limits of processes are stated because podman's own are more
/// than a machine without privileges over itself may give.
const SETTING: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mkdir -p /run/pods /run/lock
cat >/run/pods/containers.conf <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
# The guide's gateways have the ports 81 to 83, and no privilege. Kubernetes allows the same where a pod asks for it.
default_sysctls = ["net.ipv4.ip_unprivileged_port_start=0"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "/run/pods/networks"
CONF
ip link set lo up
echo made
exec sleep infinity
"#;

/// The process that holds it, as the machine counts.
static HOLDER: LazyLock<Result<u32, String>> = LazyLock::new(|| {
    for program in ["podman", "runc", "conmon", "nsenter", "setpriv", "unshare", "ldd", "curl", "busybox", "nft"] {
        let found = feed(command("sh").args(["-c", "command -v \"$0\" >&2", program]), "");
        found.map_err(|_| format!("there is no {program}"))?;
    }
    let (tell, told) = mpsc::channel();
    // The kernel kills the holder when the thread that started it ends, and this one ends with the program.
    thread::spawn(move || tell.send(hold()).is_ok().then(thread::park));
    told.recv().map_err(|error| error.to_string())?
});

fn hold() -> Result<u32, String> {
    let mut hold = command("setpriv");
    hold.args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--net", "--ipc"]);
    hold.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SETTING]);
    let mut holder = hold.spawn().map_err(|error| error.to_string())?;
    let mut said = String::new();
    let read = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said);
    if read.is_ok() && said == "made\n" {
        return Ok(holder.id());
    }
    let _ = holder.kill();
    let _ = holder.stderr.take().unwrap().read_to_string(&mut said);
    Err(format!("cannot make namespaces (needs root): {said}"))
}

/// The beginning of a command in it, as root.
pub(crate) fn enter() -> Command {
    let holder = HOLDER.as_ref().unwrap();
    let mut enter = command("nsenter");
    for (option, file) in [("mount", "mnt"), ("net", "net"), ("ipc", "ipc"), ("pid", "pid_for_children")] {
        enter.arg(format!("--{option}=/proc/{holder}/ns/{file}"));
    }
    enter
}

/// podman in it.
pub(crate) fn podman<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut podman = enter();
    podman.args(["env", &format!("CONTAINERS_CONF={ROOT}/containers.conf")]);
    podman.args(["podman", "--root", &format!("{ROOT}/storage"), "--runroot", &format!("{ROOT}/runroot")]);
    podman.args(arguments);
    podman
}

/// Makes a Secret for volumes. podman 4.3 keeps it as YAML, reads no `stringData`, and does not decode `data`; so this is not played.
pub(crate) fn keep_secret(name: &str, data: &str) {
    feed(&mut podman(["secret", "create", name, "-"]), data).unwrap_or_else(|error| panic!("{error}"));
}

/// Replaces a file of a volume in one step.
pub(crate) fn replace(volume: &str, file: &str, text: &str) {
    let folder = format!("{ROOT}/storage/volumes/{volume}/_data");
    let mut write = enter();
    write.args(["sh", "-ec", "cat >\"$0/.new\"; mv \"$0/.new\" \"$0/$1\"", &folder, file]);
    feed(&mut write, text).unwrap_or_else(|error| panic!("{error}"));
}

/// Whether podman works here, with the images built. When it does not, says so where no test harness captures it.
pub(crate) fn works() -> bool {
    let Err(reason) = HOLDER.as_ref().and_then(|_| images::BUILT.as_ref()) else { return true };
    let thread = thread::current();
    let test = thread.name().unwrap_or("pod test");
    // Straight to the descriptor: the harness keeps what eprintln! writes in a test that passes.
    let _ = std::io::stderr().write_all(format!("\n*** SKIPPED: {test}: {reason} ***\n").as_bytes());
    false
}
