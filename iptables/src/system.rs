//! What the commands ask of the machine: programs to run, files of `/proc` to read, somewhere to say what was seen.
//!
//! The one idea: everything outside of this process comes through one trait, so that choices and failures are tested
//! with scripted answers. Programs get an explicit list of arguments, no environment but what they need, their whole
//! input before they start, and a bounded time. No shell is involved.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::Error;

/// The machine as the commands see it.
pub(crate) trait System {
    /// Where a program is, if it is there.
    fn find(&self, program: &str) -> Option<PathBuf>;

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be run, or does not end in time; not when it fails.
    fn run(&self, program: &Path, arguments: &[&str], input: Option<&str>) -> Result<Ran, Error>;

    /// Runs this very program as another user, with other arguments.
    ///
    /// # Errors
    /// When it cannot be run, or not as that user.
    fn run_self_as(&self, user: u32, arguments: &[&str]) -> Result<Ran, Error>;

    /// A file's content, if it can be read.
    fn read(&self, path: &str) -> Option<String>;

    /// Tells the operator what was found or decided.
    fn note(&self, line: &str);
}

/// How a program ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Whether its status was 0.
    pub(crate) succeeded: bool,
    /// Its standard output.
    pub(crate) output: String,
    /// Its standard error, trimmed.
    pub(crate) complaint: String,
}

/// The real machine.
#[derive(Debug)]
pub(crate) struct Machine {
    path: OsString,
    lock_file: Option<OsString>,
    limit: Duration,
}

impl Machine {
    /// A machine whose programs may take `limit` each.
    pub(crate) fn new(limit: Duration) -> Self {
        let path = std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into());
        Self { path, lock_file: std::env::var_os(LOCK_FILE), limit }
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        // Only what decides which files a tool uses, and a language whose messages are known.
        command.env_clear().env("PATH", &self.path).env("LC_ALL", "C");
        command.envs(self.lock_file.as_ref().map(|file| (LOCK_FILE, file)));
        command.args(arguments).current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn finish(&self, program: &Path, command: &mut Command) -> Result<Ran, Error> {
        let failed = |error| Error::Program { program: program.to_owned(), error };
        let mut child = command.spawn().map_err(failed)?;
        let output = collect(child.stdout.take());
        let complaint = collect(child.stderr.take());
        let told = output.recv_timeout(self.limit).and_then(|output| Ok((output, complaint.recv_timeout(self.limit)?)));
        let Ok((output, complaint)) = told else {
            end(&mut child);
            return Err(Error::TooSlow { program: program.to_owned(), limit: self.limit });
        };
        let status = child.wait().map_err(failed)?;
        Ok(Ran { succeeded: status.success(), output, complaint: complaint.trim().to_owned() })
    }
}

impl System for Machine {
    fn find(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path).map(|folder| folder.join(program)).find(|file| is_program(file))
    }

    fn run(&self, program: &Path, arguments: &[&str], input: Option<&str>) -> Result<Ran, Error> {
        let failed = |error| Error::Program { program: program.to_owned(), error };
        let stdin = input.map_or_else(|| Ok(Stdio::null()), whole).map_err(failed)?;
        self.finish(program, self.command(program, arguments).stdin(stdin))
    }

    fn run_self_as(&self, user: u32, arguments: &[&str]) -> Result<Ran, Error> {
        let program = Path::new(SELF);
        self.finish(program, self.command(program, arguments).stdin(Stdio::null()).uid(user))
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn note(&self, line: &str) {
        // A closed standard error is nobody's loss.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// An input that is whole before anybody reads it. Through a pipe a program could be given the beginning alone, when this
/// process is killed while it writes; and the beginning of a transaction that replaces a table is one that deletes it.
fn whole(input: &str) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("meshgate-rules", MemfdFlags::CLOEXEC)?);
    file.write_all(input.as_bytes())?;
    file.rewind()?;
    Ok(Stdio::from(file))
}

/// Reads a program's output on a thread of its own: one that fills the other pipe first must not wait for us for ever.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What was read before a failure still says something.
            let _ = pipe.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes);
        }
        // Nobody listens any more when the program took too long.
        let _ = tell.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    told
}

fn end(child: &mut Child) {
    // One that has ended in the meantime cannot be killed, and that is fine.
    let _ = child.kill();
    let _ = child.wait();
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Where the tools are when nobody says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// This program, whatever became of its file.
const SELF: &str = "/proc/self/exe";

/// iptables' own variable: where its lock is when `/run` cannot be written.
const LOCK_FILE: &str = "XTABLES_LOCKFILE";

/// A node's whole `iptables-save` is a tenth of it; what is longer is not worth the memory.
const MAX_OUTPUT_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(program: &str, arguments: &[&str], input: Option<&str>, limit: Duration) -> Result<Ran, Error> {
        let machine = Machine::new(limit);
        machine.run(&machine.find(program).unwrap(), arguments, input)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_program_gets_its_input_and_an_environment_of_two() {
        let text = "a line\n".repeat(100_000);
        assert_eq!(run("cat", &[], Some(&text), LONG).unwrap().output, text);
        let environment = run("env", &[], None, LONG).unwrap().output;
        let names: Vec<_> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        assert!(names.iter().all(|name| ["PATH", "LC_ALL", LOCK_FILE].contains(name)), "{environment}");
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let slow = run("sleep", &["1000"], None, Duration::from_millis(50));
        assert!(matches!(slow, Err(Error::TooSlow { .. })), "{slow:?}");
    }

    #[test]
    fn failing_is_an_answer() {
        let ran = run("ls", &["/nothing/here"], None, LONG).unwrap();
        assert!(!ran.succeeded && ran.complaint.contains("/nothing/here"), "{ran:?}");
    }
}
