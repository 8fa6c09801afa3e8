use super::bytes::H2_PREFACE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

async fn pair() -> (TcpStream, Rewind<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), Rewind::new(accepted.unwrap().0))
}

#[tokio::test]
async fn waits_for_the_rest_of_a_partial_preface() {
    let (first, rest) = H2_PREFACE.split_at(5);
    assert_eq!(in_pieces(&[first, rest], Duration::from_secs(5)).await, Detected::Http2);
}

#[tokio::test]
async fn a_silent_client_is_timed_out_and_a_closed_one_closed() {
    let (client, mut server) = pair().await;
    let detected = detect(&mut server, Duration::from_millis(20)).await.unwrap();
    assert_eq!(detected, Detected::TimedOut);
    drop(client);
    assert_eq!(detect(&mut server, Duration::from_secs(5)).await.unwrap(), Detected::Closed);
}

#[tokio::test]
async fn a_client_that_closes_inside_a_hello_is_an_error_at_once() {
    let got = all_of(b"\x16\x03\x01\x02\x00\x01").await;
    assert_eq!(got.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// Sends pieces, each once the one before it has been looked at, and says what is detected; then that all of it can be read.
async fn in_pieces(pieces: &[&[u8]], deadline: Duration) -> Detected {
    let (mut client, mut server) = pair().await;
    client.set_nodelay(true).unwrap();
    let mut detecting = Box::pin(detect(&mut server, deadline));
    let mut done = None;
    for piece in pieces {
        client.write_all(piece).await.unwrap();
        if done.is_none() {
            // Long enough on loopback for the piece to be there, and looked at, by itself.
            done = timeout(Duration::from_millis(5), &mut detecting).await.ok();
        }
    }
    let detected = match done {
        Some(done) => done.unwrap(),
        None => detecting.as_mut().await.unwrap(),
    };
    drop(detecting);
    let sent = pieces.concat();
    let mut whole = vec![0; sent.len()];
    let reading = timeout(Duration::from_secs(5), server.read_exact(&mut whole)).await;
    reading.expect("what was looked at can be read at once").unwrap();
    assert!(whole == sent, "bytes were consumed");
    detected
}

/// What is detected of a client that says this, and then ends its direction.
async fn all_of(bytes: &[u8]) -> io::Result<Detected> {
    let (mut client, mut server) = pair().await;
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    detect(&mut server, Duration::from_secs(60)).await
}

#[tokio::test]
async fn a_client_hello_is_told_from_segments_of_any_size() {
    for (alpn, mesh) in [(b"istio-http/1.1".to_vec(), true), (b"http/1.1".to_vec(), false)] {
        let hello = bytes::tests::hello(&[vec![b'x'; 250], vec![b'y'; 250], vec![b'z'; 250], alpn]);
        assert!(hello.len() > 1500, "{}: no post-quantum key share?", hello.len());
        let (first, rest) = hello.split_at(1);
        let (record, rest) = rest.split_at(4);
        let (some, rest) = rest.split_at(1460);
        let got = in_pieces(&[first, record, some, rest], Duration::from_secs(5)).await;
        assert_eq!(got, Detected::Tls { mesh });
        let each: Vec<_> = hello.chunks(97).collect();
        assert_eq!(in_pieces(&each, Duration::from_secs(5)).await, Detected::Tls { mesh });
    }
}

#[tokio::test]
async fn who_hesitates_is_taken_for_what_they_began_with_and_else_for_opaque() {
    for (bytes, expected) in [
        (&b"G"[..], Detected::TimedOut),
        (b"GET", Detected::TimedOut),
        (b"PRI", Detected::TimedOut),
        (b"PRI * HTTP/2.0\r\n\r\nS", Detected::Http2),
        (b"\x16", Detected::TimedOut),
        (b"\x16\x03\x01\x05\x00\x01", Detected::Tls { mesh: false }),
    ] {
        let got = in_pieces(&[bytes], Duration::from_millis(30)).await;
        assert_eq!(got, expected, "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn a_client_that_has_said_all_it_wants_to_is_not_waited_for() {
    for (bytes, expected) in [(&b"STATUS"[..], Detected::Opaque), (b"PRI * H", Detected::Http2)] {
        assert_eq!(all_of(bytes).await.unwrap(), expected, "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn a_hello_without_end_is_not_waited_for_beyond_what_is_looked_at() {
    let mut endless = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc".to_vec();
    endless.resize(crate::rewind::LOOK_MAX, 0);
    assert_eq!(in_pieces(&[&endless], Duration::from_secs(60)).await, Detected::Tls { mesh: false });
}
