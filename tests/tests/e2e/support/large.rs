//! Large bodies, and how much memory a process took for them.

use std::fs;

use meshgate::sandbox::Sidecar;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::app::{App, ok};
use super::wire::Wire;

pub(crate) const MIB: u64 = 1 << 20;

/// The most memory a process ever had, in bytes.
pub(crate) fn peak(sidecar: &Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Reads until the end or `len` bytes, and says how many came.
pub(crate) async fn count(stream: &mut TcpStream, len: u64) -> u64 {
    let (mut buffer, mut total) = (vec![0; 256 * 1024], 0);
    while total < len {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => total += read as u64,
        }
    }
    total
}

/// Writes `len` bytes, or as many as are taken.
pub(crate) async fn write(stream: &mut TcpStream, len: u64) {
    let block = vec![b'x'; 256 * 1024];
    for _ in 0..len / block.len() as u64 {
        if stream.write_all(&block).await.is_err() {
            return;
        }
    }
}

/// Answers a GET with `len` bytes, and anything else with the number of bytes it got.
pub(crate) async fn large(len: u64) -> App {
    App::tcp(async move |stream| {
        let mut wire = Wire::over(stream);
        while let Some(head) = wire.head().await {
            if head.start.starts_with("GET") {
                if !wire.try_send(format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n")).await {
                    return;
                }
                write(wire.stream(), len).await;
            } else {
                let early = wire.buffered();
                let total = early + count(wire.stream(), len - early).await;
                wire.send(ok(&total.to_string())).await;
            }
        }
    })
    .await
}
