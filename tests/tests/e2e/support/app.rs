//! Applications to call: scripted on the wire, or HTTP/2.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::wire::{Message, Wire};

/// Something that listens, and counts; when dropped it takes no more connections.
#[derive(Debug)]
pub(crate) struct App {
    address: SocketAddr,
    connections: Rc<Cell<usize>>,
    seen: Rc<RefCell<Vec<Message>>>,
    serving: Rc<RefCell<JoinSet<()>>>,
    task: JoinHandle<()>,
}

impl App {
    /// Hands every connection to `serve`, in a task of its own.
    pub(crate) async fn tcp(serve: impl AsyncFn(TcpStream) + 'static) -> Self {
        Self::with(async move |stream, _| serve(stream).await).await
    }

    /// Answers every request with what `answer` writes for it; requests are kept as they came.
    pub(crate) async fn http1(answer: impl Fn(&Message) -> String + 'static) -> Self {
        Self::with(async move |stream, seen| {
            let mut wire = Wire::over(stream);
            while let Some(request) = wire.request().await {
                let answer = answer(&request);
                seen.borrow_mut().push(request);
                if !wire.try_send(answer).await {
                    return;
                }
            }
        })
        .await
    }

    /// Says `ok` to every request.
    pub(crate) async fn ok() -> Self {
        Self::http1(|_| ok("ok")).await
    }

    /// Serves HTTP/2 by prior knowledge, and nothing else.
    pub(crate) async fn http2<B, F>(answer: F) -> Self
    where
        B: Body<Data = Bytes, Error = Infallible> + 'static,
        F: AsyncFn(Request<Incoming>) -> Response<B> + 'static,
    {
        let answer = Rc::new(answer);
        Self::tcp(async move |stream| {
            let answer = Rc::clone(&answer);
            let service = hyper::service::service_fn(move |request| {
                let answer = Rc::clone(&answer);
                async move { Ok::<_, Infallible>(answer(request).await) }
            });
            // How a client's connection ends is the client's affair.
            let _ = http2::Builder::new(Local).serve_connection(TokioIo::new(stream), service).await;
        })
        .await
    }

    /// Says `ok` to every request, over HTTP/1.1 and over HTTP/2 by prior knowledge.
    pub(crate) async fn either() -> Self {
        Self::tcp(async |stream| {
            let service = hyper::service::service_fn(async |_| Ok::<_, Infallible>(Response::new(full("ok"))));
            let mut first = [0; 3];
            while matches!(stream.peek(&mut first).await, Ok(1 | 2)) {
                tokio::task::yield_now().await;
            }
            let io = TokioIo::new(stream);
            // How a client's connection ends is the client's affair.
            match &first {
                b"PRI" => drop(http2::Builder::new(Local).serve_connection(io, service).await),
                _ => drop(http1::Builder::new().serve_connection(io, service).await),
            }
        })
        .await
    }

    async fn with(serve: impl AsyncFn(TcpStream, Rc<RefCell<Vec<Message>>>) + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, seen) = (Rc::<Cell<usize>>::default(), Rc::<RefCell<Vec<Message>>>::default());
        let serving = Rc::<RefCell<JoinSet<()>>>::default();
        let (counted, kept, serve) = (Rc::clone(&connections), Rc::clone(&seen), Rc::new(serve));
        let at_work = Rc::clone(&serving);
        let task = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.set(counted.get() + 1);
                let (serve, kept) = (Rc::clone(&serve), Rc::clone(&kept));
                at_work.borrow_mut().spawn_local(async move { serve(stream, kept).await });
            }
        });
        Self { address, connections, seen, serving, task }
    }

    /// Ends it with all its connections, whatever they are at; they have ended when it returns.
    pub(crate) async fn kill(&mut self) {
        self.task.abort();
        // Aborted, and gone.
        let _ = (&mut self.task).await;
        let mut serving = self.serving.take();
        serving.shutdown().await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has ever accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// The requests so far; they are forgotten.
    pub(crate) fn take_seen(&self) -> Vec<Message> {
        self.seen.take()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
        self.serving.borrow_mut().detach_all();
    }
}

/// An address where nobody listens. It stays taken while the socket is held.
pub(crate) fn nobody() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A 200 with a length.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A body that is all there.
pub(crate) fn full(text: &'static str) -> Full<Bytes> {
    Full::from(text)
}

/// A body of frames that are sent as they come.
pub(crate) struct Frames(mpsc::Receiver<Frame<Bytes>>);

impl Frames {
    pub(crate) fn channel() -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self(receiver))
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// Spawns on the test's own thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
