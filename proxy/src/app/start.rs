//! What a worker thread does from its start to its end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use meshgate_config::Snapshot;
use meshgate_identity::Identity;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::HOUSEKEEPING;
use super::sockets::Sockets;
use crate::access_log::Sink;
use crate::connection::Direction;
use crate::drain::{Drain, Phase};
use crate::listen::accept_loop;
use crate::trace::Tracer;
use crate::worker::{Shared, Worker};
use crate::{gateway, inbound, jwks, outbound, sessions};

/// What a worker thread is given to start with.
pub(super) struct WorkerStart {
    pub(super) shared: Arc<Shared>,
    pub(super) config: watch::Receiver<Arc<Snapshot>>,
    pub(super) identity: watch::Receiver<Arc<Identity>>,
    pub(super) keys: jwks::Keys,
    pub(super) sink: Option<Sink>,
    pub(super) tracer: Option<Tracer>,
    pub(super) drain: Drain,
    pub(super) sockets: Sockets,
    /// Told once it accepts on all of them.
    pub(super) started: mpsc::Sender<()>,
}

impl WorkerStart {
    pub(super) async fn run(self) -> io::Result<()> {
        let Self { shared, config, identity, keys, sink, tracer, drain, sockets, started } = self;
        let sink = sink.unwrap_or_else(Sink::off);
        let worker = Rc::new(Worker::new(shared, config, identity, keys, sink, tracer, drain));
        for (socket, listener) in sockets.inbound {
            let listener = Rc::new(listener);
            let serve =
                move |worker, stream, connection| inbound::serve(worker, stream, connection, Rc::clone(&listener));
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Inbound, Phase::Draining, serve);
            tokio::task::spawn_local(accept);
        }
        for (socket, listener) in sockets.outbound {
            let listener = Rc::new(listener);
            let serve =
                move |worker, stream, connection| outbound::serve(worker, stream, connection, Rc::clone(&listener));
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Outbound, Phase::Ended, serve);
            tokio::task::spawn_local(accept);
        }
        for socket in sockets.gateway {
            let serve = |worker, stream, connection| async move { gateway::serve(&worker, stream, connection).await };
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Gateway, Phase::Draining, serve);
            tokio::task::spawn_local(accept);
        }
        for socket in sockets.compatibility {
            let serve = |worker, stream, connection| async move {
                gateway::compatibility::serve(&worker, stream, connection).await;
            };
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Gateway, Phase::Draining, serve);
            tokio::task::spawn_local(accept);
        }
        tokio::task::spawn_local(sessions::keep(Rc::clone(&worker)));
        for socket in sockets.hbone {
            let serve =
                |worker, stream, connection| async move { inbound::hbone::serve(&worker, stream, connection).await };
            let socket = TcpListener::from_std(socket)?;
            let accept = accept_loop(Rc::clone(&worker), socket, Direction::Inbound, Phase::Draining, serve);
            tokio::task::spawn_local(accept);
        }
        // There is room for one of each worker.
        let _ = started.try_send(());
        drop(started);
        worker.until_drained(HOUSEKEEPING).await;
        Ok(())
    }
}
