//! gRPC without a framework: what its messages look like on HTTP/2, at either end (gRPC's `PROTOCOL-HTTP2.md`).
//!
//! The one idea: a message is five bytes (whether it is compressed, its length) and itself. Nothing is compressed here, and a length is
//! believed only up to a limit.

mod call;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::{Method, Request, Version};
use prost::Message;

pub use call::{Call, CallError};

/// A flag for compression and the length of the message.
pub const PREFIX: usize = 5;

/// The status of a call that went well.
pub const OK: &str = "0";

/// How a call went, in headers or trailers.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Words to it.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What a call's body is.
pub const TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nobody said that it may be.
    #[error("it is compressed")]
    Compressed,
    /// More than is read.
    #[error("it has {length} bytes, at most {max} are read")]
    TooLong {
        /// As its prefix says.
        length: usize,
        /// As we say.
        max: usize,
    },
    /// There is none.
    #[error("there is none")]
    Missing,
    /// Less or more of it came than was said, or another after it.
    #[error("its length is wrong")]
    Length,
}

/// A call's end, as the other side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// A number, as in gRPC's list.
    pub code: String,
    /// The other side's words.
    pub message: String,
}

/// A message behind its prefix.
pub fn framed(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.encoded_len());
    framed.put_u8(0);
    // What is larger than this cannot have come out of limited parts.
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    framed.put_slice(&message.encode_to_vec());
    framed.freeze()
}

/// Takes a message of at most `max` bytes out of what has been received, if a whole one is there.
///
/// # Errors
/// What comes is none, or too long; told before it is there.
pub fn next(received: &mut BytesMut, max: usize) -> Result<Option<Bytes>, Malformed> {
    let Some((prefix, rest)) = received.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let [compressed, length @ ..] = *prefix;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if compressed != 0 {
        return Err(Malformed::Compressed);
    }
    if length > max {
        return Err(Malformed::TooLong { length, max });
    }
    if rest.len() < length {
        return Ok(None);
    }
    received.advance(PREFIX);
    Ok(Some(received.split_to(length).freeze()))
}

/// The one message that a whole body is.
///
/// # Errors
/// It is none, or more than one.
pub fn only(mut body: Bytes) -> Result<Bytes, Malformed> {
    if body.len() < PREFIX {
        return Err(if body.is_empty() { Malformed::Missing } else { Malformed::Length });
    }
    if body.get_u8() != 0 {
        return Err(Malformed::Compressed);
    }
    if body.get_u32() as usize != body.len() {
        return Err(Malformed::Length);
    }
    Ok(body)
}

/// What is said of a call's end; `None` where nothing is said of it yet.
pub fn status(headers: &HeaderMap) -> Option<Status> {
    let text =
        |name| headers.get(name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Some(Status { code: text(STATUS)?, message: text(MESSAGE).unwrap_or_default() })
}

/// Makes a call of a request that has nothing but its address.
pub fn head<B>(mut call: Request<B>) -> Request<B> {
    *call.method_mut() = Method::POST;
    *call.version_mut() = Version::HTTP_2;
    call.headers_mut().insert(CONTENT_TYPE, TYPE);
    call.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_when_all_of_it_is_there_and_the_next_one_stays() {
        let mut received = BytesMut::new();
        for (more, expected) in
            [(&[0, 0, 0][..], None), (&[0, 2, 7][..], None), (&[8, 0, 0, 0, 0, 0][..], Some(&[7, 8][..]))]
        {
            received.extend_from_slice(more);
            assert_eq!(next(&mut received, 10).unwrap().as_deref(), expected);
        }
        assert_eq!(next(&mut received, 10).unwrap().as_deref(), Some(&[][..]));
        assert_eq!(next(&mut received, 10), Ok(None));
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_comes() {
        let prefix = |bytes: &[u8]| next(&mut BytesMut::from(bytes), 10);
        assert_eq!(prefix(&[0, 0, 0, 0, 11]), Err(Malformed::TooLong { length: 11, max: 10 }));
        assert_eq!(prefix(&[0, 0xff, 0xff, 0xff, 0xff]), Err(Malformed::TooLong { length: 0xffff_ffff, max: 10 }));
        assert_eq!(prefix(&[1, 0, 0, 0, 1]), Err(Malformed::Compressed));
    }

    #[test]
    fn a_body_of_one_message_is_that_and_nothing_more() {
        let body = |bytes: &'static [u8]| only(Bytes::from_static(bytes));
        assert_eq!(body(&[0, 0, 0, 0, 1, 9]).as_deref(), Ok(&[9][..]));
        assert_eq!(body(&[]), Err(Malformed::Missing));
        assert_eq!(body(&[0, 0, 0]), Err(Malformed::Length));
        assert_eq!(body(&[0, 0, 0, 0, 2, 9]), Err(Malformed::Length));
        assert_eq!(body(&[0, 0, 0, 0, 0, 9]), Err(Malformed::Length));
        assert_eq!(body(&[1, 0, 0, 0, 1, 9]), Err(Malformed::Compressed));
    }
}
