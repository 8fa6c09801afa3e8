//! Clients that ask again and again while something happens, and what became of every single request.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use meshgate::sandbox::three::who;
use meshgate::sandbox::{Caller, request, until};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Between two requests of one client: a load, not a flood, on machines that do other things besides.
const PACE: Duration = Duration::from_millis(5);

/// Clients that ask until they are told to stop.
pub(crate) struct Load {
    asked: Rc<Asked>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Asked {
    is_over: Cell<bool>,
    /// Who answered, or else what came, and how long it took.
    answers: RefCell<Vec<(String, Duration)>>,
}

impl Load {
    /// So many clients, every other one on a new connection for each request.
    pub(crate) fn on(outbound: SocketAddr, host: &'static str, clients: usize) -> Self {
        let asked = Rc::<Asked>::default();
        let client = |number: usize| {
            let asked = Rc::clone(&asked);
            tokio::task::spawn_local(async move { ask(outbound, host, number.is_multiple_of(2), &asked).await })
        };
        let clients = (0..clients).map(client).collect();
        Self { asked, clients }
    }

    /// Waits until so many more requests have been answered.
    pub(crate) async fn more(&self, requests: usize) {
        let wanted = self.answered() + requests;
        until("answers", async || (self.answered() >= wanted).then_some(())).await.unwrap();
    }

    /// Ends it; what there was of every request.
    pub(crate) async fn end(self) -> Vec<(String, Duration)> {
        self.asked.is_over.set(true);
        for client in self.clients {
            client.await.unwrap();
        }
        self.asked.answers.take()
    }

    /// Ends it; fails the test when any request was not answered by one of the clusters.
    pub(crate) async fn all_answered(self) -> Vec<(String, Duration)> {
        let answers = self.end().await;
        let failed: Vec<_> = answers.iter().filter(|(who, _)| !who.starts_with("cluster-")).collect();
        assert!(failed.is_empty(), "{} of {} failed: {failed:?}", failed.len(), answers.len());
        answers
    }

    fn answered(&self) -> usize {
        self.asked.answers.borrow().len()
    }
}

async fn ask(outbound: SocketAddr, host: &str, keeps: bool, asked: &Asked) {
    let mut kept = Caller::connect(outbound).await.unwrap();
    while !asked.is_over.get() {
        let began = Instant::now();
        let answer = match keeps {
            true => kept.request(host, Method::GET, "/").await,
            false => request(outbound, host, Method::GET, "/").await,
        };
        asked.answers.borrow_mut().push((who(&answer), began.elapsed()));
        tokio::time::sleep(PACE).await;
    }
}
