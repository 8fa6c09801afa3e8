//! Programs, run with nothing of this process's environment: a proxy setting or a `.curlrc` of whoever runs the tests
//! must not decide where a client's connection goes.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

/// Debian keeps `ip`, `nft` and `iptables-restore` where only root's PATH looks.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longer than any answer takes; the bound that keeps a hanging connection from hanging the tests.
const CURL_SECONDS: &str = "15";

/// Follows curl's body: the status.
const STATUS: &str = "\n%{http_code}";

/// A command with an empty environment and no input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end, with `input` on its standard input.
///
/// # Errors
/// What it said, when it failed, or why it could not be run.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<(), String> {
    let mut run = || -> io::Result<Output> {
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        // One that ends without reading all of it says why on its standard error.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    };
    match run() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{}: {}", line(command), text(&output.stderr).trim_end())),
        Err(error) => Err(format!("{}: {error}", line(command))),
    }
}

/// A command as one would type it.
fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// What curl made of a request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// curl's exit status: 0 when there was an answer, whatever it was.
    pub(crate) exit: Option<i32>,
    /// The answer's status; 0 without one.
    pub(crate) status: u16,
    pub(crate) body: String,
    /// What curl complained of.
    pub(crate) complaint: String,
}

impl Answer {
    /// Runs curl through `enter`, a command that takes another to run.
    pub(crate) fn of(mut enter: Command, arguments: &[&str]) -> Self {
        enter.args(["curl", "--disable", "--silent", "--show-error", "--max-time", CURL_SECONDS]);
        let output = enter.args(["--write-out", STATUS]).args(arguments).output().unwrap();
        let said = text(&output.stdout);
        let (body, status) = said.rsplit_once('\n').unwrap_or(("", "0"));
        Self {
            exit: output.status.code(),
            status: status.parse().unwrap_or(0),
            body: body.to_owned(),
            complaint: text(&output.stderr),
        }
    }

    /// A line of the test application's answer.
    pub(crate) fn said(&self, key: &str) -> &str {
        said(&self.body, key).unwrap_or_else(|| panic!("no {key} in {self}"))
    }

    /// Fails the test unless the application answered.
    #[track_caller]
    pub(crate) fn assert_ok(self, what: &str) -> Self {
        assert_eq!((self.exit, self.status), (Some(0), 200), "{what}: {self}");
        self
    }

    /// Fails the test unless a policy refused the request, in Istio's words.
    #[track_caller]
    pub(crate) fn assert_denied(self, what: &str) -> Self {
        assert_eq!((self.status, self.body.trim_end()), (403, "RBAC: access denied"), "{what}: {self}");
        self
    }

    /// Fails the test unless the connection was closed without an answer.
    #[track_caller]
    pub(crate) fn assert_closed(self, what: &str) -> Self {
        // 52: closed without a byte; 56: reset, as when it is closed with the request still unread.
        assert!(self.status == 0 && matches!(self.exit, Some(52 | 56)), "{what}: {self}");
        self
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exit, status, body, complaint } = self;
        write!(f, "curl ended with {exit:?}, status {status}: {complaint}{body}")
    }
}

/// The rest of the line of `text` that begins with `key`.
pub(crate) fn said<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

/// Output as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output, or a failed test.
#[track_caller]
pub(crate) fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}
