//! Network namespaces on one switch, none of which the machine's own network knows of.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::command::{command, feed};
use super::heir;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The address of a pod, by its position in the network.
    pub(crate) fn pod(self, index: usize) -> IpAddr {
        let host = u8::try_from(index + 1).unwrap();
        match self {
            Self::V4 => IpAddr::from([10, 77, 0, host]),
            Self::V6 => IpAddr::from([0xfd00, 0x77, 0, 0, 0, 0, 0, host.into()]),
        }
    }

    /// The cluster address of a pod's service. Nobody has it: it means something to the proxy alone.
    pub(crate) fn service(self, index: usize) -> IpAddr {
        let host = u8::try_from(index + 1).unwrap();
        match self {
            Self::V4 => IpAddr::from([10, 96, 0, host]),
            Self::V6 => IpAddr::from([0xfd00, 0x96, 0, 0, 0, 0, 0, host.into()]),
        }
    }

    /// Where the proxy's inbound side calls the application from.
    pub(crate) fn inbound_source(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.6",
            Self::V6 => "::6",
        }
    }

    /// The machine's own address.
    pub(crate) fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::from([127, 0, 0, 1]),
            Self::V6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        }
    }
}

/// What the names of all namespaces begin with; the number of the process that made them follows.
const PREFIX: &str = "meshgate-tests-";

/// What an init container has for redirection.
const INIT: &str = "-all,+net_admin,+net_raw";

/// A switch, and a namespace plugged into it for each pod. All are gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    /// The switch's, and then the pods'.
    namespaces: Vec<Namespace>,
    /// What names mean in it.
    hosts: Option<PathBuf>,
}

impl Network {
    /// Makes a network of named pods.
    ///
    /// # Errors
    /// What `ip` says.
    pub(crate) fn new(pods: &[&str]) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("{PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let switch = Namespace::new(format!("{prefix}-switch"))?;
        switch.ip("link add name switch type bridge\nlink set switch up\n")?;
        let mut network = Self { namespaces: vec![switch], hosts: None };
        for (index, pod) in pods.iter().enumerate() {
            network.plug(index, format!("{prefix}-{pod}"))?;
        }
        Ok(network)
    }

    /// The same, with a file that stands at `/etc/hosts` for whatever is run in it from now on.
    pub(super) fn with_hosts(self, hosts: PathBuf) -> Self {
        Self { hosts: Some(hosts), ..self }
    }

    /// Takes the way from one pod to another, in that direction.
    ///
    /// # Errors
    /// What `ip` says.
    pub(super) fn cut(&self, from: usize, to: usize) -> Result<(), String> {
        let [v4, v6] = Family::BOTH.map(|family| family.pod(to));
        self.namespaces[from + 1].ip(&format!("route add unreachable {v4}/32\nroute add unreachable {v6}/128\n"))
    }

    /// Removes what is left of test processes that were killed together with who cleans up after them: nothing runs in it any more,
    /// but the names stay.
    pub(super) fn sweep() {
        let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                drop(Namespace { name });
            }
        }
    }

    fn plug(&mut self, index: usize, name: String) -> Result<(), String> {
        let pod = Namespace::new(name)?;
        let [switch, ..] = self.namespaces.as_slice() else { return Err("no switch".to_owned()) };
        let (v4, v6) = (Family::V4.pod(index), Family::V6.pod(index));
        // Nobody else can have the addresses, so none is held back while the kernel looks for others that have it (nodad).
        //
        // The services' networks need a route and nothing behind it: without one a connection fails before any rule sees it.
        pod.ip(&format!(
            "link set lo up\n\
             link add name eth0 type veth peer name port{index} netns {switch}\n\
             link set eth0 up\n\
             addr add {v4}/24 dev eth0\n\
             addr add {v6}/64 dev eth0 nodad\n\
             route add 10.96.0.0/16 dev eth0\n\
             route add fd00:96::/64 dev eth0\n",
            switch = switch.name
        ))?;
        // Whoever likes may send an ICMP echo.
        let everybody = "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range";
        feed(command("ip").args(["netns", "exec", &pod.name, "sh", "-c", everybody]), "")?;
        switch.ip(&format!("link set port{index} master switch up\n"))?;
        self.namespaces.push(pod);
        Ok(())
    }

    /// The beginning of a command in a pod's namespace, as a user without any capability unless that is root.
    pub(crate) fn enter(&self, index: usize, user: u32) -> Command {
        self.enter_with(index, user, &[])
    }

    /// The same for root, with the capabilities that init containers are given for redirection, and no more.
    pub(crate) fn enter_as_init(&self, index: usize) -> Command {
        self.enter_with(index, 0, &["--bounding-set", INIT, "--inh-caps", "-all", "--no-new-privs"])
    }

    /// The same for a user that keeps one capability.
    pub(crate) fn enter_capable(&self, index: usize, user: u32, capability: &str) -> Command {
        let only = format!("-all,+{capability}");
        self.enter_with(index, user, &["--inh-caps", &only, "--ambient-caps", &only, "--bounding-set", &only])
    }

    fn enter_with(&self, index: usize, user: u32, privileges: &[&str]) -> Command {
        let (namespace, user) = (&self.namespaces[index + 1], user.to_string());
        let mut enter = command("ip");
        enter.args(["netns", "exec", &namespace.name]);
        if let Some(hosts) = &self.hosts {
            // In the mount namespace that `ip netns exec` made for this command alone.
            enter.args(["sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(hosts);
        }
        // Killed with the test, even when the test is killed.
        enter.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--pdeathsig", "KILL"]);
        enter.args(privileges);
        enter
    }
}

#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: String) -> Result<Self, String> {
        heir::netns(&name);
        feed(command("ip").args(["netns", "add", &name]), "")?;
        Ok(Self { name })
    }

    fn ip(&self, commands: &str) -> Result<(), String> {
        feed(command("ip").args(["-netns", &self.name, "-batch", "-"]), commands)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = feed(command("ip").args(["netns", "delete", &self.name]), "") {
            eprintln!("{error}");
        }
    }
}
