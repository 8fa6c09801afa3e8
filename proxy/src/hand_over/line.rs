//! What one process says to the other: text of a fixed length, with at most one descriptor.
//!
//! The kernel takes and gives what is sent at once as a whole, and with it its descriptor; so a read that is shorter is nothing that
//! was meant.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Bytes: the longest kind and the longest IPv6 address with a scope and a port take 75.
const LENGTH: usize = 128;

const SPACE: usize = rustix::cmsg_space!(ScmRights(1));

/// What was received.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) descriptor: Option<OwnedFd>,
}

/// Says `text`, which is shorter than a line.
///
/// # Errors
/// The operating system's; `WouldBlock` where the socket does not block.
pub(super) fn send(socket: impl AsFd, text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let line = format!("{text:<LENGTH$}");
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    // A peer that is gone is an error, not a signal.
    let sent = sendmsg(socket, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    if sent == LENGTH { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The next line.
///
/// # Errors
/// The operating system's; `WouldBlock` where the socket does not block; `UnexpectedEof` at the end; `InvalidData` for what is no line.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Line> {
    let mut line = [0; LENGTH];
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut line)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    // Taken out whatever the rest is like, so that it is closed.
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let text = match received.bytes {
        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
        LENGTH => str::from_utf8(&line).ok().map(str::trim_end),
        _ => None,
    };
    let Some(text) = text.filter(|text| !text.contains(char::is_control)) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a line of this protocol"));
    };
    Ok(Line { text: text.to_owned(), descriptor })
}
