//! What was issued: a file with a line of JSON for each certificate, which is there before the certificate is.
//!
//! The one idea: the file is opened for each line, so that whoever moves it away (logrotate) needs to tell nobody. What is written is on the
//! disk when [`Journal::write`] returns; a line that could not be written whole is taken back. The file is locked for each line, so several
//! authorities may share it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshgate_identity::ca::Signed;
use serde_json::json;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

use super::proof::Proven;
use crate::access_log::rfc3339;

/// Who calls from where is not everybody's business.
const MODE: u32 = 0o600;

/// How long a line waits for others, ours and other processes'; each takes as long as the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    patience: Duration,
    /// One of our own lines at a time waits for other processes, so that one thread does.
    turn: Arc<Mutex<()>>,
}

impl Journal {
    /// Finds out whether it can be written.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        open(path)?;
        Ok(Self { path: path.to_owned(), patience: PATIENCE, turn: Arc::default() })
    }

    /// Writes a line, away from this thread, and waits until it is on the disk.
    pub(super) async fn write(&self, line: String) -> io::Result<()> {
        let writing = async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let (answer, written) = oneshot::channel();
            let path = self.path.clone();
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let written = append(&path, &line, || !answer.is_closed());
                let _ = answer.send(written);
            });
            written.await.map_err(io::Error::other)?
        };
        timeout(self.patience, writing).await.unwrap_or_else(|_| Err(too_late()))
    }
}

fn append(path: &Path, line: &str, is_waited_for: impl Fn() -> bool) -> io::Result<()> {
    let mut file = open(path)?;
    // What is taken back must be the end of the file.
    file.lock()?;
    if !is_waited_for() {
        return Err(too_late());
    }
    let before = file.metadata()?.len();
    let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
    written.inspect_err(|_| {
        // If that fails too, the line is one too many or a torn one; what it would have been about is not given out.
        let _ = file.set_len(before);
    })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

fn too_late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "another process has locked it, or the disk is too slow")
}

/// What is written of a certificate.
pub(super) fn line(signed: &Signed, proven: &Proven, peer: SocketAddr, now: SystemTime) -> String {
    let mut line = json!({
        "time": rfc3339(now),
        "serial": signed.serial,
        "identity": proven.id.as_str(),
        "notAfter": rfc3339(signed.not_after),
        "proof": proven.by,
        "peer": peer.to_string(),
    })
    .to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::UNIX_EPOCH;

    use super::*;

    #[tokio::test]
    async fn a_line_says_who_got_what_when_and_the_file_may_be_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("issued.jsonl");
        let journal = Journal::open(&path).unwrap();
        let proven = Proven { id: "spiffe://td/ns/a/sa/b".parse().unwrap(), by: "token" };
        let not_after = UNIX_EPOCH + Duration::from_secs(1_800_003_600);
        let signed = Signed { certificate_pem: "secret to nobody".to_owned(), serial: "40ab".to_owned(), not_after };
        let peer = "10.0.0.1:5000".parse().unwrap();
        let text = line(&signed, &proven, peer, UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        journal.write(text.clone()).await.unwrap();
        journal.write(text.clone()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text.repeat(2));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        journal.write(text.clone()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "time": "2027-01-15T08:00:00Z", "serial": "40ab", "identity": "spiffe://td/ns/a/sa/b",
            "notAfter": "2027-01-15T09:00:00Z", "proof": "token", "peer": "10.0.0.1:5000",
        });
        assert_eq!(value, expected);
    }

    #[tokio::test]
    async fn a_line_waits_for_whoever_has_the_file_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("issued.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        let mut other = open(&path).unwrap();
        other.lock().unwrap();
        journal.patience = Duration::from_millis(20);
        assert_eq!(journal.write("lost\n".to_owned()).await.unwrap_err().kind(), ErrorKind::TimedOut);
        journal.patience = PATIENCE;
        let ours = journal.write("ours\n".to_owned());
        let others = async {
            other.write_all(b"other's\n").unwrap();
            drop(other);
        };
        tokio::join!(ours, others).0.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "other's\nours\n");
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Journal::open(&dir.path().join("none/issued.jsonl")).is_err());
        let path = dir.path().join("issued.jsonl");
        let journal = Journal::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(journal.write("x\n".to_owned()).await.is_err());
    }
}
