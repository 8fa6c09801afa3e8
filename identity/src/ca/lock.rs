//! One command at a time changes a directory. Of two that write the next revocation list, the second would undo what the first has revoked.
//!
//! The one idea: what is locked is a file that only its owner may open, not the directory, which anybody who may read it could lock and keep.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use super::CaError;

/// In the directory, for as long as it is being changed.
const FILE: &str = ".meshgate-ca.lock";
/// Read and write for the owner, nothing for anyone else.
const MODE: u32 = 0o600;
/// How long one command waits for others; they take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps others out, until it is dropped or the process ends, however it ends.
pub(super) struct Lock {
    file: PathBuf,
    _locked: File,
}

impl Lock {
    /// Waits for whoever changes the directory now.
    pub(super) fn of(dir: &Path) -> Result<Self, CaError> {
        Self::within(dir, PATIENCE)
    }

    fn within(dir: &Path, patience: Duration) -> Result<Self, CaError> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let file = dir.join(FILE);
        let (taken, waiting) = mpsc::channel();
        let failed = |source| CaError::Write { file: dir.to_owned(), source };
        // Should it come too late, there is nobody to send it to, and so it is dropped.
        thread::Builder::new().spawn(move || taken.send(Self::take(file))).map_err(failed)?;
        waiting.recv_timeout(patience).map_err(|_| CaError::Busy { dir: dir.to_owned() })?.map_err(failed)
    }

    fn take(file: PathBuf) -> io::Result<Self> {
        loop {
            let open = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(&file)?;
            open.lock()?;
            // Whoever had it may have removed it, and somebody else have the next one already.
            if is_in_place(&open, &file) {
                return Ok(Self { file, _locked: open });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // One that stays is no harm: it is locked by nobody.
        let _ = fs::remove_file(&self.file);
    }
}

/// Whether it is this file that others find under its name.
fn is_in_place(open: &File, file: &Path) -> bool {
    let (Ok(open), Ok(found)) = (open.metadata(), fs::metadata(file)) else { return false };
    (open.dev(), open.ino()) == (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const SOON: Duration = Duration::from_millis(30);

    #[test]
    fn who_has_it_keeps_others_out_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        // What a command has left behind that was killed.
        fs::write(&file, "").unwrap();
        let held = Lock::of(dir.path()).unwrap();
        assert!(matches!(Lock::within(dir.path(), SOON), Err(CaError::Busy { dir: busy }) if busy == dir.path()));
        drop(held);
        assert!(!file.exists());
        let held = Lock::within(dir.path(), SOON).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        drop(held);
    }

    #[test]
    fn who_locks_the_directory_itself_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let open = File::open(dir.path()).unwrap();
        open.lock().unwrap();
        assert!(Lock::within(dir.path(), SOON).is_ok());
    }

    #[test]
    fn of_many_one_at_a_time_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let _held = Lock::of(dir.path()).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
