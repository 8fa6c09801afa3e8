//! What only HTTP/2 can say: that a request was not looked at.

use h2::Reason;
use h2::server::SendResponse;

use super::*;

/// An HTTP/2 server that does with each request what `act` says, by its number.
async fn server(
    act: impl Fn(usize, &mut SendResponse<bytes::Bytes>) -> bool + 'static,
) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Rc::<Cell<usize>>::default();
    let (counted, act) = (Rc::clone(&count), Rc::new(act));
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (counted, act) = (Rc::clone(&counted), Rc::clone(&act));
            tokio::task::spawn_local(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    counted.set(counted.get() + 1);
                    if !act(counted.get(), &mut respond) {
                        return;
                    }
                }
            });
        }
    });
    (address, count)
}

/// With a target as HTTP/2 has it.
async fn ask(proxy: &Proxy, request: &str) -> (u16, String) {
    proxy.ask(&request.replacen(" /", " http://service/", 1)).await
}

fn ok(respond: &mut SendResponse<bytes::Bytes>) -> bool {
    let response = Response::builder().header("content-length", "2").body(()).unwrap();
    respond.send_response(response, false).unwrap().send_data("ok".into(), true).unwrap();
    true
}

#[test]
fn a_stream_that_was_lost_is_opened_elsewhere_for_a_get_alone_and_one_that_was_refused_for_a_post_too() {
    run(async {
        for reason in [Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR, Reason::CANCEL] {
            let (bad, refused) = server(move |_, respond| {
                respond.send_reset(reason);
                true
            })
            .await;
            let (good, taken) = server(|_, respond| ok(respond)).await;
            let mut proxy = Proxy::new("");
            proxy.candidates = [bad, good].map(|address| proxy.candidate(address, HttpVersion::Http2, None)).into();
            assert_eq!(ask(&proxy, GET).await, (200, "ok".to_owned()), "{reason}");
            assert_eq!(ask(&proxy, PUT).await.0, 200, "{reason}");
            assert_eq!((refused.get(), taken.get()), (2, 2));
            let (status, answered) = if reason == Reason::REFUSED_STREAM { (200, 3) } else { (503, 2) };
            assert_eq!(ask(&proxy, POST).await.0, status, "{reason}");
            assert_eq!((refused.get(), taken.get()), (3, answered));
        }
    });
}

#[test]
fn where_there_is_one_endpoint_a_refused_stream_is_opened_again_but_not_one_that_was_reset() {
    run(async {
        for (reason, status, seen) in [(Reason::REFUSED_STREAM, 200, 2), (Reason::INTERNAL_ERROR, 503, 1)] {
            let (only, count) = server(move |number, respond| match number {
                1 => {
                    respond.send_reset(reason);
                    true
                }
                _ => ok(respond),
            })
            .await;
            let mut proxy = Proxy::new("");
            proxy.candidates.push(proxy.candidate(only, HttpVersion::Http2, None));
            assert_eq!(ask(&proxy, GET).await.0, status, "{reason}");
            assert_eq!(count.get(), seen, "{reason}");
        }
    });
}

#[test]
fn a_connection_that_ends_under_a_get_is_made_again() {
    run(async {
        // Dropped without a GOAWAY once the second request has come.
        let (only, count) = server(|number, respond| number != 2 && ok(respond)).await;
        let mut proxy = Proxy::new("");
        proxy.candidates.push(proxy.candidate(only, HttpVersion::Http2, None));
        for _ in 0..2 {
            assert_eq!(ask(&proxy, GET).await, (200, "ok".to_owned()));
        }
        assert_eq!(count.get(), 3);
        assert_eq!(proxy.retries("lost", "answered"), 1);
    });
}
