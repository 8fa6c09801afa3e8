//! The chunked coding (RFC 9112, section 7.1), a byte at a time but for the data.

use super::Breach;

/// Bytes of chunk extensions in one message. Nobody is known to use them; what they can be used for is to make a server read
/// much more than it is told to (CVE-2023-39326), and to hide what another reader takes for data.
pub(super) const EXTENSION_BYTES: usize = 4096;

/// Hexadecimal digits of a size: as many as fit 64 bits.
const SIZE_DIGITS: u8 = 16;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    Size { size: u64, digits: u8 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data(u64),
    DataCr,
    DataLf,
}

impl Chunks {
    /// The beginning of the first chunk.
    pub(super) fn new() -> Self {
        Self::Size { size: 0, digits: 0 }
    }

    /// With so much of a chunk's data left.
    pub(super) fn after(left: u64) -> Self {
        if left == 0 { Self::DataCr } else { Self::Data(left) }
    }

    /// What comes behind this byte; `None` behind the last chunk. `extensions` counts theirs.
    pub(super) fn byte(self, byte: u8, extensions: &mut usize) -> Result<Option<Self>, Breach> {
        let next = match (self, byte) {
            (Self::Size { size, digits }, b'\r') if digits > 0 => Self::SizeLf { size },
            (Self::Size { size, digits }, b';') if digits > 0 => Self::Extension { size },
            (Self::Size { size, digits }, _) => {
                let digit = char::from(byte).to_digit(16).filter(|_| digits < SIZE_DIGITS).ok_or(Breach::ChunkSize)?;
                Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Extension { size }, b'\r') => Self::SizeLf { size },
            (Self::Extension { .. }, _) => {
                *extensions += 1;
                if *extensions > EXTENSION_BYTES || (byte.is_ascii_control() && byte != b'\t') {
                    return Err(Breach::ChunkExtension);
                }
                self
            }
            (Self::SizeLf { size: 0 }, b'\n') => return Ok(None),
            (Self::SizeLf { size }, b'\n') => Self::Data(size),
            (Self::SizeLf { .. }, _) => return Err(Breach::ChunkSize),
            (Self::Data(left), _) => Self::after(left.saturating_sub(1)),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::new(),
            (Self::DataCr | Self::DataLf, _) => return Err(Breach::ChunkEnd),
        };
        Ok(Some(next))
    }
}
