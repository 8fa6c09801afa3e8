//! Writing of certificates and keys.
//!
//! The one idea: a key file has its mode from the moment it exists, and no key or certificate is written over unless someone said so in
//! as many words. So there is no instant at which others could open a key, and no command that destroys one by the way. Revocation
//! lists are replaced by their successors.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use super::{CaError, Issued};

/// Read and write for the owner, nothing for anyone else.
const KEY_MODE: u32 = 0o600;
/// Readable for all: a certificate is sent to every peer.
const CERTIFICATE_MODE: u32 = 0o644;

/// What becomes of files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They are in the way.
    Keep,
    /// Each is replaced in one step, the key first. A reader between the two steps finds a key that is not the certificate's, which it
    /// takes for half a renewal.
    Replace,
}

/// Where [`write_svid`] put things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SvidFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key, readable for its owner only.
    pub key: PathBuf,
}

/// Writes `<name>.pem` and `<name>-key.pem` into a directory that is there.
///
/// # Errors
/// When one of the two files exists or cannot be written; then neither is made.
pub fn write_svid(dir: &Path, name: &str, issued: &Issued) -> Result<SvidFiles, CaError> {
    write_svid_over(dir, name, issued, Existing::Keep)
}

/// As [`write_svid`], and says what becomes of files that are there already.
///
/// # Errors
/// As [`write_svid`]; with [`Existing::Replace`] a file that exists is none, unless it is an authority's own.
pub fn write_svid_over(dir: &Path, name: &str, issued: &Issued, existing: Existing) -> Result<SvidFiles, CaError> {
    let mut components = Path::new(name).components();
    if !matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name) {
        return Err(CaError::FileName { name: name.to_owned() });
    }
    let files = SvidFiles { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}-key.pem")) };
    if files.certificate.file_name().is_some_and(|file| file == super::CERTIFICATE_FILE) && files.key.exists() {
        return Err(CaError::Exists { file: files.certificate });
    }
    write_pair(&files.certificate, &files.key, issued, existing)?;
    Ok(files)
}

/// Writes the key, then the certificate; if the second fails, the first is taken back. What is replaced changes certificate first, each
/// file in one step; whoever reads them in between finds a key that is not the certificate's, and has to read again.
pub(super) fn write_pair(certificate: &Path, key: &Path, issued: &Issued, existing: Existing) -> Result<(), CaError> {
    if existing == Existing::Replace {
        let staged = staged(key, KEY_MODE, &issued.key_pem)?;
        replace(certificate, &issued.certificate_pem).inspect_err(|_| discard(&staged))?;
        return swap(&staged, key);
    }
    write_new(key, KEY_MODE, &issued.key_pem)?;
    write_new(certificate, CERTIFICATE_MODE, &issued.certificate_pem).inspect_err(|_| discard(key))
}

fn write_new(file: &Path, mode: u32, text: &str) -> Result<(), CaError> {
    let failed = |source| CaError::Write { file: file.to_owned(), source };
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(file);
    let mut open = opened.map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => CaError::Exists { file: file.to_owned() },
        _ => failed(source),
    })?;
    open.write_all(text.as_bytes()).and_then(|()| open.sync_all()).map_err(failed).inspect_err(|_| discard(file))
}

/// Writes a file for all to read that may be there, in one step.
pub(super) fn replace(file: &Path, text: &str) -> Result<(), CaError> {
    swap(&staged(file, CERTIFICATE_MODE, text)?, file)
}

/// What is to take a file's place, beside it.
fn staged(file: &Path, mode: u32, text: &str) -> Result<PathBuf, CaError> {
    let staged = file.with_extension("new");
    // What an interrupted call has left behind.
    discard(&staged);
    write_new(&staged, mode, text)?;
    Ok(staged)
}

fn swap(staged: &Path, file: &Path) -> Result<(), CaError> {
    let renamed = fs::rename(staged, file).map_err(|source| CaError::Write { file: file.to_owned(), source });
    renamed.inspect_err(|_| discard(staged))
}

/// Removes a file that this call made. When even that fails, the error that led here says more than this one would.
fn discard(file: &Path) {
    let _ = fs::remove_file(file);
}
