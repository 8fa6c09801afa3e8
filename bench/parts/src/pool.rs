//! An upstream connection borrowed for a request and given back.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use meshgate::http::body::RequestBody;
use meshgate::http::pool::{Http1, Lease, Origin, Pool, Slot};
use tokio::io::duplex;
use tokio::runtime::Builder;

use crate::pick::upstream;
use crate::{Part, Work};

/// Of the own certificate.
const GENERATION: u64 = 1;

pub(crate) fn parts() -> Vec<Part> {
    [1, 64].map(|idle| Part::new(format!("pool/http1/{idle}"), move || borrow(idle))).into()
}

/// From a slot with so many connections at rest.
fn borrow(idle: usize) -> Work {
    // Without a limit and without an age; the endpoint's places are counted apart.
    let slot = Pool::default().slot(&upstream(([10, 2, 0, 1], 8080).into()));
    for _ in 0..idle {
        Lease::whole(&slot, connection(&slot), None).release();
    }
    Box::new(move || {
        let connection = black_box(&slot).checkout(GENERATION).unwrap();
        Lease::whole(&slot, connection, None).release();
    })
}

/// One that nobody drives: it rests, and that is all it does here.
fn connection(slot: &Slot) -> Http1 {
    let runtime = Builder::new_current_thread().build().unwrap();
    let (io, other) = duplex(1);
    let (sender, connection) =
        runtime.block_on(hyper::client::conn::http1::handshake::<_, RequestBody>(TokioIo::new(io))).unwrap();
    // As long as the process: who drops it says that the connection has ended.
    std::mem::forget((connection, other));
    let task = runtime.spawn(std::future::pending::<()>());
    slot.connected(sender, Rc::default(), Origin::new(GENERATION, None), task.abort_handle(), Arc::default())
}
