//! HTTP/2 as frames: nothing is corrected, and nothing kept back.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::knock;
use crate::support::mesh::{BACKEND, Mesh};
use crate::support::soon;
use crate::support::wire::Wire;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types and flags of RFC 9113, section 6.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field as HPACK's literal without indexing, nothing compressed.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.push(u8::try_from(text.len()).unwrap());
        field.extend(text.as_bytes());
    }
    field
}

pub(crate) fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    list.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

pub(crate) const PSEUDO: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", BACKEND)];

pub(crate) fn get(more: &[(&str, &str)]) -> Vec<u8> {
    fields(&[&PSEUDO, more].concat())
}

/// A whole GET.
pub(crate) fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(&[]))
}

pub(crate) fn begin() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A block that says `name` once in 4,000 bytes, and refers to that so often: small to send, large to read.
pub(crate) fn bomb(before: &[u8], name: &str, times: usize) -> Vec<u8> {
    let value = 4000 - name.len() - 32;
    let mut block = before.to_vec();
    // With incremental indexing; a length of more than 126 goes on in another byte (RFC 7541, section 5.1).
    block.extend([0x40, u8::try_from(name.len()).unwrap()]);
    block.extend(name.as_bytes());
    block.extend([0x7f, u8::try_from((value - 127) % 128 + 128).unwrap(), u8::try_from((value - 127) / 128).unwrap()]);
    block.extend(vec![b'a'; value]);
    block.extend(vec![0xbe; times]);
    block
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The next frame; `None` at the end.
pub(crate) async fn next(wire: &mut Wire) -> Option<Frame> {
    let head = wire.exactly(9).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let payload = wire.exactly(length).await?;
    Some(Frame { kind: head[3], flags: head[4], stream: u32::from_be_bytes(head[5..9].try_into().unwrap()), payload })
}

/// Writes as much as is taken, reading all the while, and says with which error code the connection was ended: `None` for a
/// close without GOAWAY.
pub(crate) async fn attack(stream: TcpStream, bytes: Vec<u8>) -> Option<u32> {
    let (mut read, mut write) = stream.into_split();
    let writing = tokio::task::spawn_local(async move {
        let _ = write.write_all(&bytes).await;
        // Held open: it is for the proxy to end this.
        std::future::pending::<()>().await;
    });
    let mut received = Vec::new();
    let _ = soon("the end of the attack", read.read_to_end(&mut received)).await;
    writing.abort();
    let mut rest = received.as_slice();
    let mut code = None;
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, next)) = after.split_at_checked(length) else { break };
        if head[3] == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        rest = next;
    }
    code
}

/// Sends these frames on a connection of their own, and says what status stream 1 gets; 0 for a reset or an end.
pub(crate) async fn status_of(mesh: &Mesh, door: &str, frames: &[u8]) -> u16 {
    let mut wire = knock(mesh, door).await;
    wire.send([&begin(), frames].concat()).await;
    loop {
        let Some(frame) = next(&mut wire).await else { return 0 };
        match frame.kind {
            HEADERS => return status_in(&frame.payload),
            RST_STREAM | GOAWAY => return 0,
            _ => {}
        }
    }
}

/// The status is the first field: indexed in the static table, or a literal with an indexed name.
pub(crate) fn status_in(block: &[u8]) -> u16 {
    // A smaller table may be announced first.
    let block = block.iter().position(|byte| byte & 0xe0 != 0x20).map_or(block, |at| &block[at..]);
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [first @ 0x88..=0x8e, ..] => INDEXED[usize::from(first - 0x88)],
        [_, length, value @ ..] if length & 0x80 != 0 => {
            // Huffman's code has five bits for 0 to 2, and six for the other digits (RFC 7541, appendix B).
            let bits: Vec<u16> =
                value.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
            let (mut at, mut status) = (0, 0);
            for _ in 0..3 {
                let number = |len: usize| bits[at..at + len].iter().fold(0, |all, bit| all * 2 + bit);
                let (digit, len) = if number(5) < 3 { (number(5), 5) } else { (number(6) - 0x19 + 3, 6) };
                (status, at) = (status * 10 + digit, at + len);
            }
            status
        }
        [_, _, value @ ..] => String::from_utf8_lossy(&value[..3]).parse().unwrap_or(1),
        _ => 1,
    }
}
