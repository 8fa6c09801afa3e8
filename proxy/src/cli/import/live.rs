//! What a cluster exports, told by its gateway: the beginning of what [`crate::clusters::wire`] describes, over the mutual TLS of
//! a tunnel.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use h2::RecvStream;
use h2::client;
use http::{Request, StatusCode, header};
use meshgate_config::{Bootstrap, ClusterKey, GatewayAddress};
use meshgate_identity::SpiffeId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::target::FromGateway;
use crate::clusters::wire::{CONTENT_TYPE, Exported, LINE_MAX, PATH};
use crate::clusters::{Clusters, Lines};
use crate::orig_dst::OwnAddresses;
use crate::source;
use crate::tunnel::dial;

/// For each step: to connect, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The list of a gateway that is who the bootstrap says, and of the cluster that was asked for.
///
/// # Errors
/// Nothing says whose gateway it is; it cannot be reached, is somebody else, or its answer is no list.
pub(super) async fn ask(from: &FromGateway, bootstrap: &Bootstrap) -> anyhow::Result<(ClusterKey, Exported)> {
    let address = Arc::new(address(from, bootstrap)?);
    let clusters = Clusters::default();
    let gateway = clusters.gateway(&address);
    let about = || format!("gateway {address}");
    if address.ip.is_none() {
        let found = timeout(PATIENCE, tokio::net::lookup_host((&*address.host, address.port))).await;
        let found =
            found.context("its name is not looked up in time").and_then(|found| Ok(found?)).with_context(about)?;
        gateway.update(|seen| seen.addresses = found.collect());
    }
    let store = timeout(PATIENCE, source::obtain(bootstrap)).await.context("there is no identity in time")??;
    // Nothing listens here that it could come back to.
    let own = OwnAddresses::new([]);
    let stream = dial::dial(&gateway, &store.current(), &own, PATIENCE).await?;
    let exported =
        timeout(PATIENCE, list(stream)).await.context("it does not answer in time").flatten().with_context(about)?;
    anyhow::ensure!(
        exported.cluster_key == address.cluster.as_str(),
        "gateway {address}: it is the gateway of {:?}",
        exported.cluster_key
    );
    let trust_domain = address.identity.trust_domain();
    anyhow::ensure!(
        exported.trust_domain == trust_domain.as_str(),
        "gateway {address}: it says that its workloads are of the trust domain {:?}, and it is of {trust_domain}",
        exported.trust_domain
    );
    Ok((address.cluster.clone(), exported))
}

/// Whose gateway it is: as said, or as the bootstrap has it, which also says who it must prove to be.
fn address(from: &FromGateway, bootstrap: &Bootstrap) -> anyhow::Result<GatewayAddress> {
    let gateway = &from.gateway;
    let known = bootstrap.multicluster.clusters.iter().find(|peer| match &from.key {
        Some(key) => peer.key == *key,
        None => peer.gateway.as_ref().is_some_and(|at| at.host == gateway.host && at.port == gateway.port),
    });
    let (cluster, identity) = match (known, &from.key) {
        (Some(peer), _) => (peer.key.clone(), peer.gateway_id.clone()),
        (None, Some(key)) => {
            let (namespace, name) = &bootstrap.multicluster.gateway_account;
            (key.clone(), SpiffeId::from_service_account(&bootstrap.trust_domain, namespace, name)?)
        }
        (None, None) => anyhow::bail!(
            "--from-gateway {}:{}: the bootstrap names no cluster with this gateway; say whose it is: KEY=HOST:PORT",
            gateway.host,
            gateway.port
        ),
    };
    Ok(GatewayAddress { cluster, host: gateway.host.as_str().into(), ip: gateway.ip(), port: gateway.port, identity })
}

/// Asks, and reads the first line.
pub(super) async fn list(stream: impl AsyncRead + AsyncWrite + Unpin) -> anyhow::Result<Exported> {
    let (sender, connection) = client::handshake(stream).await?;
    let exchange = async {
        let request = Request::get(format!("https://gateway{PATH}")).header(header::ACCEPT, CONTENT_TYPE).body(())?;
        let (response, _) = sender.ready().await?.send_request(request, true)?;
        let response = response.await?;
        anyhow::ensure!(response.status() == StatusCode::OK, "it answers {} to {PATH}", response.status());
        let line = first_line(response.into_body()).await?;
        serde_json::from_slice(&line).context("what it says is no list of exports")
    };
    tokio::select! {
        biased;
        exported = exchange => exported,
        ended = connection => match ended {
            Ok(()) => anyhow::bail!("it has ended the session"),
            Err(error) => Err(error.into()),
        },
    }
}

async fn first_line(mut body: RecvStream) -> anyhow::Result<Vec<u8>> {
    let mut lines = Lines::new(LINE_MAX);
    loop {
        let piece: Bytes = body.data().await.context("it has ended its answer")??;
        body.flow_control().release_capacity(piece.len())?;
        // An empty line is a heartbeat.
        if let Some(line) = lines.push(&piece)?.into_iter().find(|line| !line.is_empty()) {
            return Ok(line);
        }
    }
}
