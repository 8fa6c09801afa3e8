//! Outer connections whose other end is nobody any more, or somebody else.

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::edge::{Edge, TWO};
use super::{LONG, echo, local, says_back};
use crate::tunnel::TunnelStream;

async fn open(edge: &Edge) -> TunnelStream {
    edge.export(&[("cart", &[echo().await], &[TWO])]);
    let mut tunnel = edge.open("cart").await.unwrap();
    says_back(&mut tunnel, b"before").await;
    tunnel
}

async fn ends(tunnel: &mut TunnelStream) {
    let end = timeout(LONG, tunnel.read(&mut [0; 1])).await.expect("an end");
    assert!(end.is_err(), "{end:?}");
}

#[tokio::test]
async fn an_outer_connection_ends_with_its_tunnels_when_the_root_of_the_callers_cluster_is_taken_out() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let mut tunnel = open(&edge).await;
        let another = edge.another_root();
        edge.roots("two", |old| old.to_owned() + &another, &edge.gateway);
        says_back(&mut tunnel, b"one more root changes nothing").await;
        edge.roots("two", |_| another, &edge.gateway);
        ends(&mut tunnel).await;
        let line = edge.logged(|line| line["response_flags"] == "DOWNSTREAM_TLS").await;
        let why = line["connection_termination_details"].as_str().unwrap();
        assert!(why.contains("nobody vouches for the peer's certificate any more"), "{line}");
    })
    .await;
}

#[tokio::test]
async fn an_outer_connection_ends_when_the_roots_in_force_put_its_caller_into_another_cluster() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let mut tunnel = open(&edge).await;
        let two = edge.root("two");
        // Vouched for as before, and by the gateway's own bundle as well: nothing tells which cluster it is in.
        edge.roots("one", |own| own.to_owned() + &two, &edge.gateway);
        ends(&mut tunnel).await;
    })
    .await;
}

#[tokio::test]
async fn a_callers_outer_connection_ends_with_its_tunnels_when_the_gateways_root_is_taken_out() {
    local(async {
        let edge = Edge::new("  listeners: ['127.0.0.1:0']\n").await;
        let mut tunnel = open(&edge).await;
        let another = edge.another_root();
        edge.roots("one", |old| old.to_owned() + &another, &edge.caller);
        says_back(&mut tunnel, b"one more root changes nothing").await;
        edge.roots("one", |_| another, &edge.caller);
        ends(&mut tunnel).await;
        assert!(edge.open("cart").await.is_err());
    })
    .await;
}
