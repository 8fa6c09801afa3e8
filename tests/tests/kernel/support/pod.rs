//! A pod: an application, and a sidecar unless it is outside of the mesh.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;

use meshgate::sandbox::ADMIN_PORT;
use serde_json::Value;

use super::command::{Answer, stdout};
use super::network::{Family, Network};
use super::redirection::Rendering;
use super::until;

/// Applications and clients run as this user.
pub(crate) const APPLICATION_USER: u32 = 1000;
/// The sidecar runs as this user, Istio's; the redirection tells it by that.
pub(crate) const PROXY_USER: u32 = 1337;

/// Where the application speaks HTTP, and what its service calls port 80.
pub(crate) const HTTP_PORT: u16 = 8080;
/// As [`HTTP_PORT`], of no service.
pub(crate) const OTHER_PORT: u16 = 8081;
/// Where the application speaks first; its service has the same port, named `tcp`.
pub(crate) const TCP_PORT: u16 = 9000;
/// Where the application answers datagrams.
pub(crate) const UDP_PORT: u16 = 9001;

/// What follows each of many answers.
const EACH: &str = "\nended: %{http_code} %{exitcode}\n";

/// A pod in a namespace of its own.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) index: usize,
    /// Where its sidecar's admin endpoint is.
    pub(super) admin: u16,
    /// The only one that its sidecar has.
    pub(super) capability: Option<&'static str>,
    sidecar: Option<Process>,
    application: Option<Process>,
    folder: PathBuf,
    /// Last: a namespace goes when nothing runs in it.
    network: Rc<Network>,
}

impl Pod {
    /// A pod in which nothing runs yet. Its files are in `folder`.
    pub(super) fn new(network: &Rc<Network>, folder: &Path, index: usize, name: &'static str) -> Self {
        let (folder, network) = (folder.to_owned(), Rc::clone(network));
        Self { name, index, admin: ADMIN_PORT, capability: None, sidecar: None, application: None, folder, network }
    }

    /// Starts an application that calls itself `called` and listens at the host `on`, and waits until it does.
    pub(super) fn start_application(&mut self, called: &str, on: &str) {
        let mut serve = self.network.enter(self.index, APPLICATION_USER);
        serve.arg(self.folder.join("bin/application")).args(["serve", called]);
        let ports = [("http", HTTP_PORT), ("http", OTHER_PORT), ("tcp", TCP_PORT), ("udp", UDP_PORT)];
        serve.args(ports.map(|(protocol, port)| format!("{protocol}={on}:{port}")));
        serve.stderr(Stdio::inherit());
        let mut application = Process::start(&mut serve);
        let mut line = String::new();
        BufReader::new(application.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n", "the application of {}", self.name);
        self.application = Some(application);
    }

    /// Redirects its traffic.
    pub(super) fn redirect(&self, rendering: Rendering, flags: &[String]) {
        rendering.load(&self.network, self.index, &self.folder.join("bin/meshgate"), flags);
    }

    /// Starts the sidecar, which reads `<name>.yaml`.
    pub(super) fn start_sidecar(&mut self) {
        let mut run = match self.capability {
            None => self.network.enter(self.index, PROXY_USER),
            Some(capability) => self.network.enter_capable(self.index, PROXY_USER, capability),
        };
        let log = self.folder.join(format!("{}.log", self.name));
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        run.arg(self.folder.join("bin/meshgate")).args(["run", "--bootstrap"]);
        run.arg(self.folder.join(format!("{}.yaml", self.name)));
        run.stdout(log.try_clone().unwrap()).stderr(log);
        self.sidecar = Some(Process::start(&mut run));
    }

    /// Kills the sidecar.
    pub(crate) fn kill_sidecar(&mut self) {
        self.sidecar = None;
    }

    /// Starts the sidecar again, by what its bootstrap file says now, and waits until it is ready.
    pub(crate) fn restart_sidecar(&mut self) {
        self.kill_sidecar();
        self.start_sidecar();
        self.until_ready();
    }

    /// Whether it has a sidecar.
    pub(super) fn in_mesh(&self) -> bool {
        self.sidecar.is_some()
    }

    /// Waits until the sidecar says that it is ready.
    pub(super) fn until_ready(&mut self) {
        let ready = until("a sidecar that is ready", || {
            let ended = self.sidecar.as_mut()?.0.try_wait().unwrap().is_some();
            (ended || self.ask_admin("ready").status == 200).then_some(!ended)
        });
        assert!(ready, "the sidecar of {} ended: {}", self.name, self.output());
    }

    /// What a plain curl sees.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Answer {
        self.curl_as(APPLICATION_USER, arguments)
    }

    /// As [`Pod::curl`], as another user.
    pub(crate) fn curl_as(&self, user: u32, arguments: &[&str]) -> Answer {
        Answer::of(self.network.enter(self.index, user), arguments)
    }

    /// A TCP conversation in which the caller waits to be greeted, says `line` and ends.
    pub(crate) fn call(&self, address: SocketAddr, line: &str) -> Output {
        self.application_client(&["call", &address.to_string(), line])
    }

    /// The answers to requests for one URL, one after the other and each on a connection of its own: the name of the application that
    /// answered, or else the status and curl's own for the request.
    pub(crate) fn who(&self, url: &str, requests: usize) -> Vec<String> {
        let urls = format!("{url}?[1-{requests}]");
        let said = Answer::of(
            self.network.enter(self.index, APPLICATION_USER),
            &["-H", "Connection: close", "--write-out", EACH, &urls],
        );
        let mut name = None;
        let mut answers = Vec::new();
        for line in said.body.lines() {
            if let Some(said) = line.strip_prefix("name: ") {
                name = Some(said.to_owned());
            } else if let Some(ended) = line.strip_prefix("ended: ") {
                let answered = name.take().filter(|_| ended == "200 0");
                answers.push(answered.unwrap_or_else(|| ended.to_owned()));
            }
        }
        assert_eq!(answers.len(), requests, "{said}");
        answers
    }

    /// A conversation in which the caller says `line` and ends; what it heard.
    pub(crate) fn say(&self, address: SocketAddr, line: &str) -> Output {
        self.application_client(&["say", &address.to_string(), line])
    }

    /// A datagram, and the one that answers it.
    pub(crate) fn datagram(&self, address: SocketAddr, line: &str) -> Output {
        self.application_client(&["datagram", &address.to_string(), line])
    }

    /// An ICMP echo.
    pub(crate) fn ping(&self, address: IpAddr) -> Output {
        self.application_client(&["ping", &address.to_string()])
    }

    /// Sends each of two pods a segment of no connection, which takes a user who may; the address of the one that resets it first.
    pub(crate) fn stray(&self, to: [&Pod; 2]) -> String {
        let mut client = self.network.enter_as_init(self.index);
        client.arg(self.folder.join("bin/application")).args(["stray", &self.address(Family::V4).to_string()]);
        client.args(to.map(|pod| SocketAddr::new(pod.address(Family::V4), HTTP_PORT).to_string()));
        stdout(&client.output().unwrap())
    }

    fn application_client(&self, arguments: &[&str]) -> Output {
        let mut client = self.network.enter(self.index, APPLICATION_USER);
        client.arg(self.folder.join("bin/application")).args(arguments).output().unwrap()
    }

    /// What `meshgate` prints as the sidecar's user; it has read the sidecar's bootstrap file.
    pub(crate) fn meshgate(&self, arguments: &[&str]) -> String {
        let mut run = self.network.enter(self.index, PROXY_USER);
        run.arg(self.folder.join("bin/meshgate")).args(arguments);
        run.arg("--bootstrap").arg(self.folder.join(format!("{}.yaml", self.name)));
        stdout(&run.output().unwrap())
    }

    /// The sidecar's metrics.
    pub(crate) fn metrics(&self) -> String {
        self.ask_admin("metrics").body
    }

    fn ask_admin(&self, page: &str) -> Answer {
        self.curl(&[&format!("http://127.0.0.1:{}/{page}", self.admin)])
    }

    /// A metric of the sidecar by its name and labels as exposed; `None` while it is not there.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let page = self.metrics();
        let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Its own address.
    pub(crate) fn address(&self, family: Family) -> IpAddr {
        family.pod(self.index)
    }

    /// The URL of a path of its service, by cluster address.
    pub(crate) fn service(&self, family: Family, path: &str) -> String {
        format!("http://{}{path}", SocketAddr::new(family.service(self.index), 80))
    }

    /// A URL of its own address.
    pub(crate) fn at(&self, family: Family, port: u16, path: &str) -> String {
        format!("http://{}{path}", SocketAddr::new(self.address(family), port))
    }

    /// What the sidecar printed.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.folder.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// The sidecar's access log so far, whole lines only.
    pub(crate) fn access_log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join(format!("logs/{}.access.log", self.name))).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for the access log line that satisfies a condition.
    #[track_caller]
    pub(crate) fn logged(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let find = || self.access_log().into_iter().find(|line| wanted(line));
        let waiting = meshgate_tests::run(meshgate::sandbox::until("an access log line", async || find()));
        waiting.unwrap_or_else(|error| panic!("{error}; {}: {:#?}\n{}", self.name, self.access_log(), self.output()))
    }

    /// As [`Pod::logged`], for the request to a path.
    #[track_caller]
    pub(crate) fn logged_path(&self, path: &str) -> Value {
        self.logged(|line| line["path"] == path)
    }
}

/// A process that is killed when dropped.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has already ended can't be killed, and that is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
