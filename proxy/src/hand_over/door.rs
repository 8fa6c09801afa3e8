//! The unix socket's file: who is behind it, and how it changes hands without ever being away.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::{HandOverError, failed};

/// Of a folder's mode: its group's and everybody's right to write.
const OTHERS_WRITE: u32 = 0o022;

/// A listening unix socket under a name of its own, until it is put into its place.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    made: PathBuf,
    path: PathBuf,
    in_place: bool,
}

impl Door {
    /// Makes it beside `path`, for nobody but this user, so that a folder which does not let that is found out before anything else
    /// has begun.
    ///
    /// # Errors
    /// The operating system's.
    pub fn make(path: &Path) -> Result<Self, HandOverError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let found = fs::metadata(folder).map_err(failed("cannot make the socket"))?;
        // Whoever may write there can put another socket in this one's place.
        if found.mode() & OTHERS_WRITE != 0 || ![0, geteuid().as_raw()].contains(&found.uid()) {
            return Err(HandOverError::Folder(folder.to_owned()));
        }
        let mut made = path.as_os_str().to_owned();
        made.push(format!(".{}", std::process::id()));
        let made = PathBuf::from(made);
        // Left by a process with our number that was killed.
        if fs::symlink_metadata(&made).is_ok_and(|file| file.file_type().is_socket()) {
            fs::remove_file(&made).map_err(failed("cannot make the socket"))?;
        }
        let listener = UnixListener::bind(&made).map_err(failed("cannot make the socket"))?;
        let door = Self { listener, made, path: path.to_owned(), in_place: false };
        fs::set_permissions(&door.made, Permissions::from_mode(0o600)).map_err(failed("cannot make the socket"))?;
        Ok(door)
    }

    /// Puts it into its place, where another's may have been until now: whoever connects finds the one or the other.
    ///
    /// # Errors
    /// The operating system's.
    pub fn put_in_place(&mut self) -> Result<(), HandOverError> {
        fs::rename(&self.made, &self.path).map_err(failed("cannot put the socket into its place"))?;
        self.in_place = true;
        Ok(())
    }

    /// The socket, which does not block.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.set_nonblocking(true)?;
        self.listener.try_clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if !self.in_place {
            // Whoever comes later with our number removes it.
            let _ = fs::remove_file(&self.made);
        }
        // Once in its place the file stays: by now another's may be there, and one that nobody is behind stops nobody.
    }
}

/// Connects to the process at `path`; `None` if nobody is there.
///
/// # Errors
/// The operating system's, also when more wait to be let in than there is room for; something that is no socket.
pub(super) async fn connect(path: &Path) -> Result<Option<UnixStream>, HandOverError> {
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(HandOverError::NotASocket),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(HandOverError::Io { step: "looking for a running process", source }),
    }
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(None),
        Err(source) => Err(HandOverError::Io { step: "looking for a running process", source }),
    }
}
