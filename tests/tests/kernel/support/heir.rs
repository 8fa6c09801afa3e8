//! Who cleans up when the tests' process is killed and cannot.
//!
//! A shell of its own reads what there is to take away, and takes it away when its input ends, which it does with the process however
//! that ends. What has gone by then is left alone.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::{LazyLock, Mutex};

use super::command::command;

const WILL: &str = r#"
netns= folders=
while read -r what which; do
    case $what in
        netns) netns="$netns $which" ;;
        folder) folders="$folders $which" ;;
    esac
done
for name in $netns; do [ ! -e "/run/netns/$name" ] || ip netns delete "$name"; done
for folder in $folders; do rm -rf "$folder"; done
"#;

static HEIR: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
    let mut shell = command("sh");
    // Out of the reach of a Ctrl-C, and holding nothing that somebody waits to see closed.
    shell.args(["-c", WILL]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Mutex::new(shell.spawn().unwrap().stdin.take().unwrap())
});

/// Leaves a network namespace.
pub(super) fn netns(name: &str) {
    writeln!(HEIR.lock().unwrap(), "netns {name}").unwrap();
}

/// Leaves a folder, whose path has no spaces.
pub(super) fn folder(path: &Path) {
    writeln!(HEIR.lock().unwrap(), "folder {}", path.display()).unwrap();
}
