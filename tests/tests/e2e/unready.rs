//! A process that is asked to end before it serves, whatever it waits for then; also as process 1, which no signal kills that it does
//! not listen for.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use meshgate::sandbox::{PodSpec, Sandbox, until};
use tokio::task::spawn_blocking;

use crate::support::backend::pod;
use crate::support::{Bound, as_process_1, soon};

/// As any process, and as process 1.
const AS: [bool; 2] = [false, true];

/// A process that is not ready.
struct Unready {
    child: Bound,
    output: PathBuf,
    is_first: bool,
}

impl Unready {
    /// `None` where this machine cannot do it.
    fn start(sandbox: &mut Sandbox, change: impl FnOnce(&mut PodSpec), is_first: bool) -> Option<Self> {
        let mut command = if is_first { as_process_1()? } else { Command::new(crate::binary()) };
        let mut spec = PodSpec { application: Some("127.0.0.1:1".parse().unwrap()), ..pod("backend") };
        change(&mut spec);
        let address = sandbox.next_address();
        let (bootstrap, output) = (sandbox.prepare(&spec, address).unwrap(), sandbox.path("output"));
        let file = File::create(&output).unwrap();
        command.arg("run").arg("--bootstrap").arg(bootstrap);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Some(Self { child: Bound(command.spawn().unwrap()), output, is_first })
    }

    /// Waits until it has said so.
    async fn says(&self, words: &str) {
        let said = async || fs::read_to_string(&self.output).unwrap().contains(words).then_some(());
        until(words, said).await.unwrap();
    }

    /// Sent a signal, it ends, and well, and says why.
    async fn ends(mut self, signal: &str) {
        let mut pid = self.child.0.id().to_string();
        if self.is_first {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
            children.trim().clone_into(&mut pid);
        }
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let ended = until("the end", async || self.child.0.try_wait().unwrap()).await;
        let said = fs::read_to_string(&self.output).unwrap();
        assert_eq!(ended.unwrap_or_else(|error| panic!("{error}: {said}")).code(), Some(0), "{said}");
        assert!(said.contains(&format!("SIG{signal}: ending; it has not served yet")), "{said}");
    }
}

#[test]
fn while_it_waits_for_its_identity() {
    meshgate_tests::run(async {
        for is_first in AS {
            let mut sandbox = Sandbox::new(crate::binary()).unwrap();
            let socket = format!("unix://{}", sandbox.path("none.sock").display());
            let started = Unready::start(&mut sandbox, |spec| spec.workload_api = Some(socket), is_first);
            let Some(unready) = started else { continue };
            unready.says("waiting for one").await;
            unready.ends("TERM").await;
        }
    });
}

#[test]
fn while_a_file_is_read_that_takes_forever() {
    meshgate_tests::run(async {
        for is_first in AS {
            let mut sandbox = Sandbox::new(crate::binary()).unwrap();
            let file = sandbox.path("roots.pem");
            assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
            let bootstrap = format!("jwks: {{trustBundle: {}}}\n", file.display());
            let started = Unready::start(&mut sandbox, |spec| spec.bootstrap = bootstrap, is_first);
            let Some(unready) = started else { continue };
            // This returns when it is opened at the other end too.
            let opening = spawn_blocking(move || File::options().write(true).open(file).unwrap());
            let _open = soon("the file being read", opening).await.unwrap();
            unready.ends("INT").await;
        }
    });
}

#[test]
fn while_the_process_that_runs_does_not_answer() {
    meshgate_tests::run(async {
        let mut sandbox = Sandbox::new(crate::binary()).unwrap();
        let door = sandbox.path("hand-over.sock");
        let running = UnixListener::bind(&door).unwrap();
        let bootstrap = format!("handOver: {{socket: {}}}\n", door.display());
        let unready = Unready::start(&mut sandbox, |spec| spec.bootstrap = bootstrap, false).unwrap();
        let asked = spawn_blocking(move || {
            let (mut peer, _) = running.accept().unwrap();
            assert_ne!(peer.read(&mut [0; 64]).unwrap(), 0);
            peer
        });
        let _peer = soon("the hello", asked).await.unwrap();
        unready.ends("TERM").await;
        let left = fs::read_dir(sandbox.path("")).unwrap().map(|file| file.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("hand-over.sock.")).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}
