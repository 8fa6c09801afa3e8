//! The application that every cluster has.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;

use crate::sandbox::Application;

/// Says where it is, and what it is told to.
#[derive(Debug)]
pub struct Httpbin {
    application: Application,
    behaviour: Rc<Behaviour>,
}

#[derive(Debug, Default)]
struct Behaviour {
    is_broken: Cell<bool>,
    requests: Cell<usize>,
    last: RefCell<HeaderMap>,
}

impl Httpbin {
    pub(super) async fn start(cluster: &str) -> io::Result<Self> {
        let behaviour = Rc::<Behaviour>::default();
        let (told, text) = (Rc::clone(&behaviour), format!("Hi, I am from {cluster} and controlled by mesh!\n"));
        let application = Application::start(move |request| {
            told.requests.set(told.requests.get() + 1);
            told.last.replace(request.headers().clone());
            let mut response = Response::new(Full::<Bytes>::from(text.clone()));
            if told.is_broken.get() {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        });
        Ok(Self { application: application.await?, behaviour })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.application.address()
    }

    /// Whether it answers 503 from now on.
    pub fn set_broken(&self, is_broken: bool) {
        self.behaviour.is_broken.set(is_broken);
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        self.behaviour.requests.get()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.application.connections()
    }

    /// The header fields of the last one.
    pub fn last_headers(&self) -> HeaderMap {
        self.behaviour.last.borrow().clone()
    }
}
