//! One connection: its handshake, and its calls.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::call::{self, Caller};
use super::{Desk, Seat};
use crate::throttle;

/// Calls at once on one connection: a workload has one, an agent of a node one for each of its workloads.
const STREAMS: u32 = 100;

/// Bytes of a call's headers: a token of 16 KiB, which no client of ours sends a longer one than, and what comes with it.
const HEADERS: u32 = 32 * 1024;

/// Bytes of a call's body that may be under way.
const WINDOW: u32 = 64 * 1024;

/// Between looks whether a connection is idle, or the end near.
const LOOK: Duration = Duration::from_millis(500);

/// Serves it until it ends; it is counted as long as `_seat` lives.
pub(super) async fn serve(desk: Rc<Desk>, stream: TcpStream, peer: SocketAddr, _seat: Seat) {
    let handshake = async {
        let (_, config) = desk.tls();
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let builder = builder();
        let connection = builder.handshake::<_, Bytes>(stream).await.map_err(std::io::Error::other)?;
        Ok((connection, certificates))
    };
    let failed = |error: &dyn std::fmt::Display| {
        desk.counts.refused("handshake");
        if let Some(left_out) = throttle::admit() {
            tracing::warn!(%peer, %error, left_out, "handshake failed");
        }
    };
    match timeout(desk.settings.timeout, handshake).await {
        Ok(Ok((connection, certificates))) => {
            let caller = Rc::new(Caller { peer, certificates });
            calls(&desk, connection, &caller).await;
        }
        Ok(Err(error)) => failed(&crate::tls::reason(&error)),
        Err(_) => failed(&"it took too long"),
    }
}

fn builder() -> server::Builder {
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(STREAMS).max_header_list_size(HEADERS).initial_window_size(WINDOW);
    builder
}

async fn calls(desk: &Rc<Desk>, mut connection: server::Connection<TlsStream<TcpStream>, Bytes>, caller: &Rc<Caller>) {
    let mut calls = JoinSet::new();
    let mut look = interval(LOOK);
    let mut since = Instant::now();
    // When it was told to go.
    let mut leaving = None;
    loop {
        tokio::select! {
            call = connection.accept() => match call {
                Some(Ok((request, respond))) => {
                    since = Instant::now();
                    calls.spawn_local(call::serve(Rc::clone(desk), Rc::clone(caller), request, respond));
                }
                Some(Err(error)) => {
                    tracing::debug!(peer = %caller.peer, %error, "a connection broke");
                    return;
                }
                None => return,
            },
            Some(_) = calls.join_next(), if !calls.is_empty() => since = Instant::now(),
            _ = look.tick() => {
                let is_idle = calls.is_empty() && since.elapsed() >= desk.settings.idle;
                if leaving.is_none() && (is_idle || desk.ending.get()) {
                    connection.graceful_shutdown();
                    leaving = Some(Instant::now());
                }
                // Who does not go is left.
                if calls.is_empty() && leaving.is_some_and(|told| told.elapsed() >= desk.settings.timeout) {
                    return;
                }
            }
        }
    }
}
