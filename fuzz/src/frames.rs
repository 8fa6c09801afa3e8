//! HTTP/2 frames from whoever connects: however they are cut, the guard sees the same, and holds no more than a few counts.

use meshgate::http::guard::http2::{Budget, Excess, Frame, Frames, Limits, Role};
use tokio::time::Instant;

/// The first byte says in pieces of how many bytes the rest arrives, and its highest bit from which end.
pub fn http2_frames(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let role = if size & 0x80 == 0 { Role::Server } else { Role::Client };
    let whole = cut(role, stream.chunks(stream.len().max(1)));
    let pieces = cut(role, stream.chunks(usize::from(size & 0x7f).max(1)));
    assert_eq!(whole, pieces, "however it is cut it has the same frames");
    let limits = Limits { control_frames: 100, resets: 10, header_block_bytes: 1000 };
    let now = Instant::now();
    let mut budget = Budget::new(role, &limits, now);
    let mut block = 0_u64;
    for (index, frame) in pieces.iter().enumerate() {
        let begins = index == 0 && (frame.kind != 4 || frame.has(1));
        match (budget.received(frame, || now), frame.kind) {
            (Err(excess), _) => {
                assert_eq!(excess == Excess::Preface, begins);
                assert!([1, 11].contains(&excess.code()) && !excess.as_str().is_empty());
                return;
            }
            (Ok(()), 1) => block = u64::from(frame.length),
            (Ok(()), 9) => block += u64::from(frame.length),
            _ => {}
        }
        assert!(!begins, "it has not begun as HTTP/2 does");
        assert!(block <= 1000, "a block beyond its bound");
        // What goes out is counted as well; nothing of it may make more of the other side's allowance than there is room for.
        if budget.sent(frame, || now).is_err() {
            return;
        }
    }
}

fn cut<'a>(role: Role, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Frame> {
    let mut frames = if role == Role::Server { Frames::of_client() } else { Frames::of_server() };
    let mut found = Vec::new();
    for mut piece in pieces {
        while let Some(frame) = frames.next(&mut piece) {
            found.push(frame);
        }
        assert!(piece.is_empty(), "read to its end");
    }
    found
}
