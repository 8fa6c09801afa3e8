//! Servers that are not ours: Google's gRPC in Python, in processes of their own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// One of them. It prints its port when it listens, then what it has to say, and ends with its standard input.
pub(crate) struct Foreign {
    child: Child,
    pub(crate) port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Foreign {
    /// `None`, said loudly, on a machine where it was not prepared: `.ci/run tools` does that.
    pub(crate) fn start(what: &str, script: &str, arguments: &[&str]) -> Option<Self> {
        let python = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("ci-tools/bin/python");
        let mut command = Command::new(&python);
        let child = command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut port = String::new();
        let listening = child.and_then(|mut child| {
            let mut said = BufReader::new(child.stdout.take().unwrap());
            said.read_line(&mut port)?;
            Ok((child, said))
        });
        match (listening, port.trim().parse()) {
            (Ok((child, said)), Ok(port)) => {
                let lines = Arc::<Mutex<Vec<String>>>::default();
                let kept = Arc::clone(&lines);
                std::thread::spawn(move || {
                    for line in said.lines().map_while(Result::ok) {
                        kept.lock().unwrap().push(line);
                    }
                });
                Some(Self { child, port, lines })
            }
            (child, _) => {
                let reason = child.map_or_else(|error| error.to_string(), |_| "it did not start".to_owned());
                // Straight to the descriptor: the harness keeps what eprintln! writes in a test that passes.
                let line = format!("\n*** SKIPPED: {what}: {}: {reason} ***\n", python.display());
                let _ = std::io::stderr().write_all(line.as_bytes());
                None
            }
        }
    }

    /// What it has said so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // One that has already ended can't be killed, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
