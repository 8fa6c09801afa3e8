use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// Notes what is told.
#[derive(Clone, Default)]
struct Told(Rc<RefCell<Vec<String>>>);

impl Watch for Told {
    fn within_head(&self, is_within: bool) {
        self.0.borrow_mut().push(is_within.to_string());
    }

    fn excess(&self, excess: Excess) {
        self.0.borrow_mut().push(excess.as_str().to_owned());
    }
}

fn pair(control_frames: u32) -> (DuplexStream, Guarded<DuplexStream, Told>, Told) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let told = Told::default();
    let limits = Limits { control_frames, ..Limits::default() };
    (near, Guarded::new(far, Role::Server, &limits, told.clone()), told)
}

#[tokio::test]
async fn a_flood_is_answered_with_goaway_and_nothing_of_its_last_piece_is_read() {
    let (mut near, mut guarded, told) = pair(100);
    near.write_all(PREFACE).await.unwrap();
    let mut read = vec![0; 1 << 16];
    assert_eq!(guarded.read(&mut read).await.unwrap(), PREFACE.len());
    // The library's own frames are whole, so there is room for another.
    guarded.write_all(&PING).await.unwrap();
    near.write_all(&PING.repeat(50)).await.unwrap();
    assert_eq!(guarded.read(&mut read).await.unwrap(), 50 * PING.len());
    near.write_all(&PING.repeat(100)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(guarded.read(&mut read).await.unwrap_err().to_string(), "control_frames");
    }
    drop(guarded);
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [&PING[..], &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]].concat());
    assert_eq!(*told.0.borrow(), ["true", "false", "control_frames"]);
}

#[tokio::test]
async fn many_heads_in_one_piece_wait_for_what_is_to_be_written_of_those_before_them() {
    let (mut near, mut guarded, _) = pair(1000);
    near.write_all(PREFACE).await.unwrap();
    let mut room = vec![0; 1 << 16];
    assert_eq!(guarded.read(&mut room).await.unwrap(), PREFACE.len());
    let head = |stream: u32| [&[0, 0, 0, 1, 5][..], &stream.to_be_bytes()].concat();
    for (streams, waits) in [(1..200, false), (201..601, true)] {
        for stream in streams {
            near.write_all(&head(2 * stream + 1)).await.unwrap();
        }
        assert!(guarded.read(&mut room).await.unwrap() > 0);
        near.write_all(&PING).await.unwrap();
        let looks = std::future::poll_fn(|cx| {
            Poll::Ready(Pin::new(&mut guarded).poll_read(cx, &mut ReadBuf::new(&mut room)).is_pending())
        });
        assert_eq!(looks.await, waits);
        // Once, and then it goes on by itself.
        near.write_all(&PING).await.unwrap();
        assert!(guarded.read(&mut room).await.unwrap() > 0);
        guarded.write_all(&PING).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_written_into_a_frame_of_the_library() {
    let (mut near, mut guarded, told) = pair(100);
    guarded.write_all(&PING[..12]).await.unwrap();
    near.write_all(&[PREFACE, &PING.repeat(200)].concat()).await.unwrap();
    assert!(guarded.read(&mut [0; 1 << 16]).await.is_err());
    drop(guarded);
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, PING[..12]);
    assert_eq!(told.0.borrow().last().unwrap(), "control_frames");
}

#[tokio::test]
async fn a_head_that_comes_in_pieces_is_told_until_it_is_whole() {
    let (mut near, mut guarded, told) = pair(1000);
    let mut read = vec![0; 1 << 16];
    // Half a HEADERS with END_HEADERS, its rest; one without, a part of its CONTINUATION, and that one's rest.
    let headers = |flags: u8| [&[0, 0, 4, 1, flags, 0, 0, 0, 1][..], b"abcd"].concat();
    let continuation = [&[0, 0, 4, 9, 4, 0, 0, 0, 1][..], b"abcd"].concat();
    let mut step = async |bytes: &[u8]| {
        near.write_all(bytes).await.unwrap();
        assert_eq!(guarded.read(&mut read).await.unwrap(), bytes.len());
        std::mem::take(&mut *told.0.borrow_mut())
    };
    assert_eq!(step(&PREFACE[..10]).await, ["true", "true"]);
    assert_eq!(step(&PREFACE[10..]).await, ["false"]);
    assert_eq!(step(&headers(4)).await, [""; 0]);
    assert_eq!(step(&headers(4)[..11]).await, ["true"]);
    assert_eq!(step(&headers(4)[11..]).await, ["false"]);
    assert_eq!(step(&headers(0)).await, ["true"]);
    assert_eq!(step(&continuation[..12]).await, ["true"]);
    assert_eq!(step(&continuation[12..]).await, ["false"]);
}
