//! A unary gRPC call's message: five bytes (not compressed, its length) and the message itself (gRPC's `PROTOCOL-HTTP2.md`), which needs no
//! framework.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use prost::Message;

/// A flag for compression and the length of the message.
pub const PREFIX: usize = 5;

static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A message with what stands before it.
pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + length);
    framed.put_u8(0);
    // Nothing that is sent comes near it.
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    framed.put_slice(&message.encode_to_vec());
    framed.freeze()
}

/// The one message of a body.
///
/// # Errors
/// There is none, more than one, or one that is compressed.
pub fn only(mut framed: Bytes) -> Result<Bytes, &'static str> {
    if framed.len() < PREFIX {
        return Err("there is none");
    }
    if framed.get_u8() != 0 {
        return Err("it is compressed");
    }
    if framed.get_u32() as usize != framed.len() {
        return Err("its length is wrong");
    }
    Ok(framed)
}

/// What trailers, or the head of an answer without a body, say of the end: gRPC's number, and the server's words. `None` where they say
/// nothing.
pub fn status(fields: &HeaderMap) -> Option<(&[u8], String)> {
    let message = fields.get(&MESSAGE).map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    Some((fields.get(&STATUS)?.as_bytes(), message.unwrap_or_default()))
}
