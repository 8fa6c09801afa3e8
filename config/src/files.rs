//! Reading one file of configuration: a regular file, of bounded size, in UTF-8.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::yaml::MAX_FILE_BYTES;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The system said no.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is a folder, and a file is wanted")]
    Folder,
    /// A pipe or device could block or never end.
    #[error("is not a regular file")]
    NotRegular,
    #[error("is larger than {} MiB, the most that is read", MAX_FILE_BYTES / (1024 * 1024))]
    TooLarge,
    #[error("is not text in UTF-8: line {line} has a byte that does not belong")]
    NotUtf8 { line: usize },
}

impl ReadError {
    /// Where in the file, if it is one place.
    pub(crate) fn line(&self) -> Option<usize> {
        match self {
            ReadError::NotUtf8 { line } => Some(*line),
            _ => None,
        }
    }

    /// The file is not there (any more).
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads the whole file, following symbolic links.
pub(crate) fn read(path: &Path) -> Result<String, ReadError> {
    // Asked before opening, because opening a pipe waits for its writer.
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() {
        return Err(if kind.is_dir() { ReadError::Folder } else { ReadError::NotRegular });
    }
    read_from(File::open(path)?)
}

/// Reads to the end, if that comes soon enough.
pub(crate) fn read_from(reader: impl Read) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ReadError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        ReadError::NotUtf8 { line: 1 + valid.filter(|byte| **byte == b'\n').count() }
    })
}
