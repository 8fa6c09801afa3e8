//! What is in the images, and how the program in them is hardened.

use std::io::Write;

use crate::binary;
use crate::command::{command, stdout, text};
use crate::support::world::{enter, podman, works};
use crate::support::{INIT, PROXY};

/// Bytes. A program, and nothing that came along with it.
const PROXY_AT_MOST: u64 = 24 << 20;
/// Bytes. The program, and both rule tools with their libraries; Debian alone would be 75 MB.
const INIT_AT_MOST: u64 = 36 << 20;

fn readelf(option: &str) -> String {
    stdout(&command("readelf").args(["--wide", option]).arg(binary()).output().unwrap())
}

/// Whatever an image's file system has that is no folder, and its size as podman tells it.
fn content(image: &str) -> (Vec<String>, u64) {
    let mount = podman(["image", "mount", image]).output().unwrap();
    let root = stdout(&mount).trim().to_owned();
    let found = enter().args(["find", &root, "!", "-type", "d", "-printf", "/%P\n"]).output().unwrap();
    let size = podman(["image", "inspect", "--format", "{{.Size}}", image]).output().unwrap();
    (stdout(&found).lines().map(str::to_owned).collect(), stdout(&size).trim().parse().unwrap())
}

/// A figure to keep, past the test harness, which shows nothing of a test that passes.
fn note(image: &str, size: u64) {
    let _ = std::io::stderr().write_all(format!("{image}: {size} bytes\n").as_bytes());
}

#[test]
#[ignore = "needs podman and the release build: just pods"]
fn the_program_is_static_position_independent_and_without_writable_code() {
    let header = readelf("--file-header");
    assert!(header.contains("DYN (Position-Independent Executable"), "PIE: {header}");
    let segments = readelf("--program-headers");
    assert!(!segments.contains("INTERP"), "it needs a loader: {segments}");
    let flags = |name: &str| {
        let line =
            segments.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("no {name}"));
        line.split_whitespace().rev().nth(1).unwrap().to_owned()
    };
    assert_eq!(flags("GNU_STACK"), "RW", "the stack is no code");
    assert_eq!(flags("GNU_RELRO"), "R");
    let both = segments.lines().filter(|line| line.trim_start().starts_with("LOAD") && line.contains("RWE"));
    assert_eq!(both.count(), 0, "both writable and code: {segments}");
    let dynamic = readelf("--dynamic");
    assert!(!dynamic.contains("(NEEDED)"), "it needs libraries: {dynamic}");
    assert!(dynamic.contains("BIND_NOW") || dynamic.contains("NOW PIE"), "full RELRO: {dynamic}");
}

#[test]
#[ignore = "needs podman and the release build: just pods"]
fn the_proxys_image_is_one_file_and_a_user_who_is_not_root() {
    if !works() {
        return;
    }
    let (files, size) = content(PROXY);
    assert_eq!(files, ["/usr/local/bin/meshgate"]);
    assert!(size < PROXY_AT_MOST, "{size} bytes");
    note(PROXY, size);
    let user = podman(["image", "inspect", "--format", "{{.User}}", PROXY]).output().unwrap();
    assert_eq!(stdout(&user).trim(), "1337:1337");
}

#[test]
#[ignore = "needs podman and the release build: just pods"]
fn names_are_resolved_where_there_is_no_libc() {
    if !works() {
        return;
    }
    let mut ask = podman(["run", "--rm", "--network", "none", "--add-host", "admin.example:127.0.0.9", PROXY]);
    let output = ask.args(["explain", "--admin", "admin.example:9"]).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("127.0.0.9:9: Connection refused"), "{said}");
}

#[test]
#[ignore = "needs podman and the release build: just pods"]
fn the_redirections_image_has_both_tools_and_no_shell() {
    if !works() {
        return;
    }
    let (files, size) = content(INIT);
    for tool in ["nft", "iptables-nft-restore", "iptables-legacy-restore", "ip6tables-nft-save", "ip"] {
        assert!(files.contains(&format!("/usr/sbin/{tool}")), "{tool}: {files:#?}");
    }
    let shells = files
        .iter()
        .filter(|file| ["sh", "bash", "dash", "busybox"].iter().any(|shell| file.ends_with(&format!("/{shell}"))));
    assert_eq!(shells.count(), 0, "{files:#?}");
    assert!(size < INIT_AT_MOST, "{size} bytes");
    note(INIT, size);
    // Each of them starts: no library is missing.
    for tool in [["nft", "--version"], ["iptables-legacy", "--version"], ["ip6tables-nft", "--version"], ["ip", "-V"]] {
        let [program, version] = tool;
        let mut run = podman(["run", "--rm", "--network", "none", "--entrypoint", program, INIT, version]);
        stdout(&run.output().unwrap());
    }
}
