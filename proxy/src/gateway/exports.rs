//! Tells a caller what it may call here, and again whenever that has changed; see [`crate::clusters::wire`].

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use meshgate_config::{Export, ExportedPort};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{Side, answer, choose, plan};
use crate::clusters::wire::{CONTENT_TYPE, Exported, HEARTBEAT, Port, Service};
use crate::drain::Phase;
use crate::tunnel::{Held, TunnelStream};

/// For a reader to take a line: one that does not is cut off, rather than that lists pile up for it.
const WRITE: Duration = Duration::from_secs(10);

/// Answers until the reader has gone, does not read, or the gateway drains.
pub(super) async fn serve(side: Rc<Side>, recv: h2::RecvStream, mut respond: SendResponse<Bytes>, held: Held) {
    // Each holds a whole list for as long as its reader takes to read it.
    let Some(_permit) = side.lists.take() else { return answer(respond, StatusCode::TOO_MANY_REQUESTS, None) };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    let Ok(send) = respond.send_response(response, false) else { return };
    let mut stream = TunnelStream::new(send, recv, held);
    let (mut config, mut drain) = (side.worker.config.clone(), side.worker.drain.clone());
    let mut said = None;
    loop {
        config.mark_unchanged();
        let now = exported(&side);
        let mut line = Vec::new();
        if said.as_ref() != Some(&now) {
            // Names and numbers: there is nothing in it that JSON cannot say.
            line = serde_json::to_vec(&now).unwrap_or_default();
            said = Some(now);
        }
        line.push(b'\n');
        if !matches!(timeout(WRITE, stream.write_all(&line)).await, Ok(Ok(()))) {
            return;
        }
        let changed = tokio::select! {
            biased;
            () = drain.reached(Phase::Draining) => break,
            changed = timeout(HEARTBEAT, config.changed()) => changed,
        };
        if let Ok(Err(_)) = changed {
            break;
        }
    }
    // Whoever has gone needs no end.
    let _ = stream.shutdown().await;
}

fn exported(side: &Side) -> Exported {
    let snapshot = side.worker.snapshot();
    let residual = side.residual(&snapshot);
    let none = HeaderMap::new();
    let may_call = |export: &Export, exported: &ExportedPort| {
        let authority = plan::authority(&export.service, exported.port.port);
        plan::may_call(export, side.caller.cluster.as_deref())
            && plan::lets_in(&plan::decide(&residual, &side.caller, &authority, &none))
    };
    let services = snapshot.exports.iter().map(|export| Service {
        namespace: export.service.namespace.clone(),
        name: export.service.name.clone(),
        service_account_name: export.service_account.clone(),
        ports: export.ports.iter().filter(|exported| may_call(export, exported)).map(port).collect(),
    });
    let bootstrap = &side.worker.shared.bootstrap;
    Exported {
        cluster_key: bootstrap.cluster_key.to_string(),
        trust_domain: bootstrap.trust_domain.to_string(),
        exports: services.filter(|service| !service.ports.is_empty()).collect(),
    }
}

fn port(exported: &ExportedPort) -> Port {
    Port::of(exported, choose::ready(&exported.port).len())
}
