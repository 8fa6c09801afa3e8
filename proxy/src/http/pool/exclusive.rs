//! A connection that carries one request at a time, and what a connection was made under.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::http::body::RequestBody;
use crate::http::guard::http1::Signals;
use crate::sessions::Session;

/// What a connection was made under.
#[derive(Debug)]
pub struct Origin {
    pub(super) generation: u64,
    session: Option<Rc<Session>>,
}

impl Origin {
    /// Of this [`Slot::generation`](super::Slot::generation), and resting on this session.
    pub fn new(generation: u64, session: Option<Rc<Session>>) -> Self {
        Self { generation, session }
    }

    /// Whether the other end is still who it was: its certificate ends before its connections do.
    pub(super) fn is_good(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.is_good())
    }
}

/// What wakes the task of an HTTP/1.1 connection.
///
/// hyper wakes it for every part of an answer's body that is taken, so that it reads the next. The last part has none behind it: for
/// that one it is not woken, which would be one more turn of its task for every request. A waker has to be fit for other threads, and
/// never meets one.
#[derive(Debug, Default)]
pub struct Bell {
    task: OnceLock<Waker>,
    muffled: AtomicBool,
    rung: AtomicBool,
}

impl Bell {
    /// Polls `connection`, which from then on rings the bell for the task that polls it: always the same.
    pub fn poll<F: Future>(self: &Arc<Self>, connection: Pin<&mut F>, cx: &Context<'_>) -> Poll<F::Output> {
        self.task.get_or_init(|| cx.waker().clone());
        connection.poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))))
    }

    /// Takes a part of the connection's answer.
    pub fn take<T>(&self, body: &mut Incoming, take: impl FnOnce(&mut Incoming) -> T) -> T {
        self.muffled.store(true, Ordering::Relaxed);
        let part = take(body);
        self.muffled.store(false, Ordering::Relaxed);
        if self.rung.swap(false, Ordering::Relaxed) && !body.is_end_stream() {
            self.ring();
        }
        part
    }

    fn ring(&self) {
        if self.muffled.load(Ordering::Relaxed) {
            self.rung.store(true, Ordering::Relaxed);
        } else if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// An HTTP/1.1 connection. Dropped while a request is on it, it is closed at once: whoever does not read what is left of an
/// answer, or write what is left of a request, will not take part in an orderly end either.
#[derive(Debug)]
pub struct Http1 {
    /// Where requests are given to it.
    pub sender: http1::SendRequest<RequestBody>,
    /// To and from the guard of its answers.
    pub signals: Rc<Signals>,
    pub(super) origin: Origin,
    pub(super) retires: Option<Instant>,
    pub(super) task: AbortHandle,
    pub(super) bell: Arc<Bell>,
    /// A request is on it.
    pub(super) busy: bool,
}

impl Http1 {
    /// Whether it takes another request.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.origin.is_good() && !self.sender.is_closed() && self.retires.is_none_or(|retires| now < retires)
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        if self.busy {
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt;
    use http::Request;
    use http_body_util::BodyExt;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether each part of an answer, of which so much comes at a time, woke the task of its connection when it was taken.
    /// Another request is sent and answered behind it.
    async fn woken_by(parts: &[&str]) -> Vec<bool> {
        let (count, bell) = (Arc::<Count>::default(), Arc::<Bell>::default());
        let task = Waker::from(Arc::clone(&count));
        let turn = Context::from_waker(&task);
        let (near, mut far) = tokio::io::duplex(4096);
        let (mut sender, mut connection) = http1::Builder::new().handshake(TokioIo::new(near)).await.unwrap();
        let mut drive = || assert!(bell.poll(Pin::new(&mut connection), &turn).is_pending());
        drive();
        let mut woken = Vec::new();
        for _ in 0..2 {
            sender.ready().now_or_never().unwrap().unwrap();
            let before = count.0.load(Ordering::Relaxed);
            let mut asked = pin!(sender.try_send_request(Request::new(RequestBody::own(bytes::Bytes::new()))));
            assert!(asked.as_mut().now_or_never().is_none());
            assert!(count.0.load(Ordering::Relaxed) > before, "a request wakes it");
            drive();
            assert!(far.read(&mut [0; 4096]).await.unwrap() > 0);
            let (first, more) = parts.split_first().unwrap();
            far.write_all(first.as_bytes()).await.unwrap();
            drive();
            let mut body = asked.now_or_never().unwrap().ok().unwrap().into_body();
            let mut more = more.iter();
            woken.clear();
            loop {
                let before = count.0.load(Ordering::Relaxed);
                let part = bell.take(&mut body, |body| body.frame().now_or_never());
                let Some(Ok(_)) = part.expect("a part is there") else { break };
                woken.push(count.0.load(Ordering::Relaxed) > before);
                if body.is_end_stream() {
                    break;
                }
                far.write_all(more.next().unwrap().as_bytes()).await.unwrap();
                drive();
            }
        }
        woken
    }

    #[tokio::test]
    async fn only_the_last_part_of_an_answer_leaves_its_connection_asleep() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
        assert_eq!(woken_by(&[&format!("{head}abcd")]).await, [false]);
        assert_eq!(woken_by(&[&format!("{head}ab"), "c", "d"]).await, [true, true, false]);
    }

    #[tokio::test]
    async fn a_part_of_which_nobody_knows_whether_it_is_the_last_wakes_its_connection() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(woken_by(&[&format!("{head}1\r\na\r\n"), "0\r\n\r\n"]).await, [true]);
    }
}
