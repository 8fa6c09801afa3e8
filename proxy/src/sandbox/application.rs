//! Applications for the sandbox: small HTTP servers that say who they are.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running application; it ends when dropped.
#[derive(Debug)]
pub struct Application {
    address: SocketAddr,
    connections: Rc<Cell<usize>>,
    task: JoinHandle<()>,
}

impl Application {
    /// Starts a server on a free port of 127.0.0.1 that answers every request with `answer`.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn start<F>(answer: F) -> io::Result<Self>
    where
        F: Fn(Request<Incoming>) -> Response<Full<Bytes>> + Clone + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let connections = Rc::<Cell<usize>>::default();
        let counted = Rc::clone(&connections);
        let task = tokio::task::spawn_local(async move {
            // An accept that fails ends the application; whoever calls it will see that.
            while let Ok((stream, _)) = listener.accept().await {
                counted.set(counted.get() + 1);
                let answer = answer.clone();
                let service =
                    hyper::service::service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(request))));
                tokio::task::spawn_local(async move {
                    // How a client's connection ends is the client's affair.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, connections, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has ever accepted.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer function that says the same to everybody.
pub fn answer_text(text: &'static str) -> impl Fn(Request<Incoming>) -> Response<Full<Bytes>> + Clone {
    move |_| Response::new(Full::from(text))
}
