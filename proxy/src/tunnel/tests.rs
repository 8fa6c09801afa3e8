use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Method, Request, Response, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Duration, timeout};

use super::*;

/// A connection as the two ends make it: what opens tunnels, and the tunnels as the other end has them.
async fn pair() -> (SendRequest<Bytes>, mpsc::UnboundedReceiver<TunnelStream>) {
    let (near, far): (DuplexStream, DuplexStream) = duplex(64 * 1024);
    let (opened, tunnels) = mpsc::unbounded_channel();
    spawn_local(async move {
        let mut connection = crate::gateway::builder(TUNNELS_MAX).handshake(far).await.unwrap();
        let open = Open::default();
        let mut driving = poll_fn(|cx| {
            let accepted = connection.poll_accept(cx);
            open.driven();
            accepted
        });
        while let Some(Ok((request, mut respond))) = (&mut driving).await {
            let send = respond.send_response(Response::new(()), false).unwrap();
            let _ = opened.send(TunnelStream::new(send, request.into_body(), open.hold()));
        }
    });
    let (sender, connection) = pool::builder().handshake(near).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    (sender, tunnels)
}

async fn open(sender: &SendRequest<Bytes>) -> TunnelStream {
    let request = Request::builder().method(Method::CONNECT).uri("a.b.svc.clusterset.local:80");
    let request = request.version(Version::HTTP_2).body(()).unwrap();
    let (answer, send) = sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
    TunnelStream::new(send, answer.await.unwrap().into_body(), Open::default().hold())
}

/// Writes until nothing more is taken, and says how much was.
async fn fill(tunnel: &mut TunnelStream) -> usize {
    let mut written = 0;
    while let Ok(more) = timeout(Duration::from_millis(200), tunnel.write(&[7; 10_000])).await {
        written += more.unwrap();
    }
    written
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let test = async {
        let (sender, mut tunnels) = pair().await;
        let (mut near, mut far) = (open(&sender).await, tunnels.recv().await.unwrap());
        let near = async {
            near.write_all(&[1; 1_000_000]).await.unwrap();
            near.shutdown().await.unwrap();
            assert_eq!(near.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let far = async {
            let mut question = Vec::new();
            // Ends only if the end arrives while the answer is still to come.
            far.read_to_end(&mut question).await.unwrap();
            far.write_all(b"answer").await.unwrap();
            far.shutdown().await.unwrap();
            question.len()
        };
        let (answer, question) = tokio::join!(near, far);
        assert_eq!((answer.as_slice(), question), (&b"answer"[..], 1_000_000));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_tunnel_that_nobody_reads_from_holds_one_window_and_stops_no_other() {
    let test = async {
        let (sender, mut tunnels) = pair().await;
        let mut stalled = Vec::new();
        for _ in 0..20 {
            let (mut near, far) = (open(&sender).await, tunnels.recv().await.unwrap());
            let written = fill(&mut near).await;
            assert!(written >= WINDOW as usize && written <= (WINDOW + SEND_BUFFER as u32) as usize, "{written}");
            stalled.push((near, far));
        }
        let (mut near, mut far) = (open(&sender).await, tunnels.recv().await.unwrap());
        let write = async {
            near.write_all(&[3; 5_000_000]).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let read = async {
            let mut bytes = Vec::new();
            far.read_to_end(&mut bytes).await.unwrap();
            bytes.len()
        };
        let ((), read) = timeout(Duration::from_secs(20), async { tokio::join!(write, read) }).await.unwrap();
        assert_eq!(read, 5_000_000);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_is_dropped_half_way_is_no_end_at_the_other_side() {
    let test = async {
        let (sender, mut tunnels) = pair().await;
        for near_goes in [true, false] {
            let (mut near, mut far) = (open(&sender).await, tunnels.recv().await.unwrap());
            near.write_all(b"beginning").await.unwrap();
            far.read_exact(&mut [0; 9]).await.unwrap();
            let mut left = if near_goes {
                drop(near);
                far
            } else {
                drop(far);
                near
            };
            let error = left.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{near_goes}");
            assert!(left.write(b"more").await.is_err());
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error_in_its_tunnels() {
    let test = async {
        let (near, far) = duplex(64 * 1024);
        let server = spawn_local(async move {
            let mut connection = crate::gateway::builder(TUNNELS_MAX).handshake::<_, Bytes>(far).await.unwrap();
            let mut held = Vec::new();
            while let Some(Ok((request, mut respond))) = poll_fn(|cx| connection.poll_accept(cx)).await {
                let send = respond.send_response(Response::new(()), false).unwrap();
                held.push((request, send));
            }
        });
        let (sender, connection) = pool::builder().handshake(near).await.unwrap();
        spawn_local(async move {
            let _ = connection.await;
        });
        let mut tunnel = open(&sender).await;
        server.abort();
        assert!(timeout(Duration::from_secs(5), tunnel.read(&mut [0; 1])).await.unwrap().is_err());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_answer_is_noticed_but_not_while_nothing_is_open() {
    let test = async {
        // Takes everything, and never answers after the handshake.
        let (near, far) = duplex(1024 * 1024);
        let (sender, mut connection) = pool::builder().handshake::<_, Bytes>(near).await.unwrap();
        let tunnels = Open::default();
        let pings = connection.ping_pong();
        spawn_local(async move {
            let _ = connection.await;
        });
        let started = tokio::time::Instant::now();
        let watch = pulse::lost(pings, || tunnels.count() > 0);
        let mut watch = std::pin::pin!(watch);
        assert!(timeout(Duration::from_secs(60), watch.as_mut()).await.is_err());
        let _held = tunnels.hold();
        timeout(Duration::from_secs(15), watch).await.unwrap();
        assert!(started.elapsed() > Duration::from_secs(60));
        drop((sender, far));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_tunnel_of_single_bytes_that_nobody_reads_ends_no_other() {
    let test = async {
        let (sender, mut tunnels) = pair().await;
        let (mut stalled, mut unread) = (open(&sender).await, tunnels.recv().await.unwrap());
        let (mut near, mut far) = (open(&sender).await, tunnels.recv().await.unwrap());
        let mut written = 0;
        while written < WINDOW
            && let Ok(Ok(1)) = timeout(Duration::from_millis(200), stalled.write(&[(written % 251) as u8])).await
        {
            written += 1;
            if written % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        near.write_all(b"still there").await.unwrap();
        timeout(Duration::from_secs(5), far.read_exact(&mut [0; 11])).await.unwrap().unwrap();
        assert_eq!(written, WINDOW);
        stalled.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        timeout(Duration::from_secs(5), unread.read_to_end(&mut bytes)).await.unwrap().unwrap();
        assert_eq!(bytes.len(), WINDOW as usize);
        assert!(bytes.iter().zip(0_u32..).all(|(byte, at)| u32::from(*byte) == at % 251));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn what_collects_behind_a_reader_comes_in_order_and_its_end_behind_it() {
    let test = async {
        let (sender, mut tunnels) = pair().await;
        let (mut near, mut far) = (open(&sender).await, tunnels.recv().await.unwrap());
        let mut sent = Vec::new();
        for size in (0..200).map(|turn| [1, 5000, 30, 1024, 1023][turn % 5]) {
            let piece: Vec<u8> = (sent.len()..sent.len() + size).map(|at| (at % 251) as u8).collect();
            near.write_all(&piece).await.unwrap();
            sent.extend(piece);
            if sent.len() > 200_000 {
                break;
            }
            // Driven often enough for a look in between, and read now and then.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        near.shutdown().await.unwrap();
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert!(read == sent);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    };
    LocalSet::new().run_until(test).await;
}
