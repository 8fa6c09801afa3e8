//! Writing of certificates and keys.
//!
//! The one idea: a key file has its mode from the moment it exists, and no key or certificate is written over unless someone said so in
//! as many words. So there is no instant at which others could open a key, and no command that destroys one by the way. Revocation
//! lists are replaced by their successors, and one command at a time changes a directory ([`Lock`]).

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use super::lock::Lock;
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
/// As [`write_svid`]; with [`Existing::Replace`] a file that exists is none, unless it is an authority's own, or a key where the certificate is to
/// be, or the other way round.
pub fn write_svid_over(dir: &Path, name: &str, issued: &Issued, existing: Existing) -> Result<SvidFiles, CaError> {
    let mut components = Path::new(name).components();
    if !matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name) {
        return Err(CaError::FileName { name: name.to_owned() });
    }
    let files = SvidFiles { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}-key.pem")) };
    let _alone = Lock::of(dir)?;
    let is_own = |file: &Path| {
        let own = [super::CERTIFICATE_FILE, super::KEY_FILE, super::REVOCATION_LIST_FILE];
        own.iter().any(|own| file.ends_with(own)) && dir.join(super::KEY_FILE).exists()
    };
    // `a-key` would be given the name of the key of `a`.
    let others = [(&files.certificate, "PRIVATE KEY-----"), (&files.key, "-----BEGIN CERTIFICATE-----")];
    for (file, other) in others {
        if is_own(file) || existing == Existing::Replace && holds(file, other) {
            return Err(CaError::Taken { file: file.clone() });
        }
    }
    write_pair(&files.certificate, &files.key, issued, existing)?;
    Ok(files)
}

fn holds(file: &Path, section: &str) -> bool {
    fs::read(file).is_ok_and(|bytes| bytes.windows(section.len()).any(|part| part == section.as_bytes()))
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
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let staged = file.with_file_name(format!(".{name}.new"));
    // What an interrupted call has left behind.
    discard(&staged);
    write_new(&staged, mode, text)?;
    Ok(staged)
}

fn swap(staged: &Path, file: &Path) -> Result<(), CaError> {
    let renamed = fs::rename(staged, file).map_err(|source| CaError::Write { file: file.to_owned(), source });
    renamed.inspect_err(|_| discard(staged))?;
    // What was said to be revoked is so after a power cut, too; a file system that cannot promise that says so with an error of no use.
    let directory = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

/// Removes a file that this call made. When even that fails, the error that led here says more than this one would.
fn discard(file: &Path) {
    let _ = fs::remove_file(file);
}
