use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};
use tokio::time::advance;

use super::*;

const GENERATION: u64 = 1;

type Driver = http1::Connection<TokioIo<DuplexStream>, RequestBody>;

/// A connection that carries its first request, and what keeps it open.
async fn connection(slot: &Slot) -> (Http1, (Driver, DuplexStream)) {
    let (io, other) = duplex(1);
    let (sender, driver) = http1::handshake(TokioIo::new(io)).await.unwrap();
    let task = tokio::spawn(std::future::pending::<()>());
    let origin = Origin::new(GENERATION, None);
    (slot.connected(sender, Rc::default(), origin, task.abort_handle(), Arc::default()), (driver, other))
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_not_needed_are_let_go_but_for_a_few() {
    let (spare, unit) = (Duration::from_secs(3), Duration::from_secs(1));
    let pool = Pool::default();
    let slot = pool.slot(&Upstream {
        address: SocketAddr::from(([10, 0, 0, 1], 8080)),
        version: HttpVersion::Http1,
        security: Security::Plaintext,
        source: None,
        connect_timeout: unit,
        via: None,
    });
    let (mut busy, mut open) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let (connection, held) = connection(&slot).await;
        busy.push(connection);
        open.push(held);
    }
    let release = |busy: Vec<Http1>| busy.into_iter().for_each(|one| Lease::whole(&slot, one, None).release());
    release(busy);
    advance(2 * unit).await;
    pool.let_go_of_spares(spare);
    assert_eq!(pool.idle(), 8, "none has been unused for so long");
    release((0..5).map(|_| slot.checkout(GENERATION).unwrap()).collect());
    advance(2 * unit).await;
    pool.let_go_of_spares(spare);
    assert_eq!(pool.idle(), 5, "those that were needed at once");
    advance(4 * unit).await;
    pool.let_go_of_spares(spare);
    assert_eq!(pool.idle(), FEW, "nobody has asked");
    advance(60 * unit).await;
    pool.let_go_of_spares(spare);
    assert_eq!(pool.idle(), FEW, "that is for the sweep to say");
    pool.sweep(unit);
    assert_eq!(pool.idle(), 0);
}
