//! What is wrong with a message.

/// How a message breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Breach {
    /// LF that no CR precedes; to some the end of a line, to others not.
    #[error("a line ends without CR")]
    BareLf,
    /// Empty lines before a head, beyond the one that old clients send behind a body (RFC 9112, section 2.2).
    #[error("empty lines before a message")]
    EmptyLines,
    /// `#` in a request target, which has no fragment.
    #[error("a fragment in the request target")]
    Fragment,
    /// Both Content-Length and Transfer-Encoding.
    #[error("content-length beside transfer-encoding")]
    TwoFramings,
    /// More than one Content-Length, equal or not.
    #[error("more than one content-length")]
    RepeatedLength,
    /// Content-Length other than digits, or that no file can have (2^63 bytes and more).
    #[error("content-length is not a length")]
    BadLength,
    /// More than one Transfer-Encoding.
    #[error("more than one transfer-encoding")]
    RepeatedCoding,
    /// A Transfer-Encoding that is not `chunked` alone.
    #[error("transfer-encoding is not chunked")]
    BadCoding,
    /// Transfer-Encoding, which HTTP/1.0 does not know.
    #[error("transfer-encoding in HTTP/1.0")]
    CodingInHttp10,
    /// More than one Host.
    #[error("more than one host")]
    RepeatedHost,
    /// An answer that does not begin with a version and three digits from 100.
    #[error("a status line that is none")]
    BadStatus,
    /// More interim answers before the answer than anybody needs.
    #[error("too many interim answers")]
    Interim,
    /// An answer, or more of one, to nothing.
    #[error("bytes that no request asked for")]
    Unasked,
    /// A chunk size other than one to sixteen hexadecimal digits, or something behind it.
    #[error("a chunk size that is none")]
    ChunkSize,
    /// Control bytes in chunk extensions, or more of them than anybody needs.
    #[error("chunk extensions with control bytes, or too many")]
    ChunkExtension,
    /// Chunk data that is not followed by CRLF.
    #[error("chunk data does not end where its size says")]
    ChunkEnd,
}
