//! What an outer connection is asked while it lasts.

use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use h2::server;
use meshgate_config::Snapshot;
use meshgate_policy::Residual;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::{SOON, Side, TAKEN_BACK_MAX, facts};
use crate::error::{ErrorKind, ProxyError};
use crate::limits::Permit;
use crate::{open, throttle};

impl Side {
    /// Makes sure that the caller is still who it was, and of the cluster that its tunnels were judged by; false when it is told
    /// to go. They are judged by themselves when policies change.
    pub(super) fn judge_again(&self) -> Result<bool, ProxyError> {
        let refused = |why| Err(ProxyError::new(ErrorKind::DownstreamTls, why));
        if let Some(why) = self.session.over() {
            return refused(why);
        }
        let identity = Arc::clone(&self.worker.identity.borrow());
        if self.told_under.replace(identity.generation()) != identity.generation()
            && self.session.is_good()
            && identity.cluster_of(self.session.certificates()) != self.caller.cluster
        {
            return refused("by the roots in force the caller is of another cluster");
        }
        Ok(self.session.is_good())
    }

    /// Ends a connection on which too many streams were taken back.
    pub(super) fn calm<I: AsyncRead + AsyncWrite + Unpin>(&self, connection: &mut server::Connection<I, Bytes>) {
        if self.taken_back.get() > 2 * TAKEN_BACK_MAX {
            tracing::debug!(peer = %self.caller.id, "outer connection ended: too many streams taken back");
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        } else if self.taken_back.get() > TAKEN_BACK_MAX {
            connection.graceful_shutdown();
        }
    }

    /// A tunnel, if the caller may have another.
    ///
    /// # Errors
    /// [`ErrorKind::TooMany`].
    pub(crate) fn tunnel(&self) -> Result<Permit, ProxyError> {
        self.admitted.tunnel().ok_or_else(|| {
            if let Some(left_out) = throttle::admit() {
                let section = self.door.section;
                tracing::warn!(peer = %self.caller.id, left_out, "tunnel refused: {section}.tunnelsPerCaller reached");
            }
            ProxyError::new(ErrorKind::TooMany, "the caller has too many tunnels")
        })
    }

    /// A tunnel's place among what is open; what it leads to is not known yet.
    pub(crate) fn enter_tunnel(&self) -> open::Held {
        self.worker.open.enter_within(&self.connection.place)
    }

    /// One that was asked for at `asked` was given up by its caller before it came to anything.
    pub(crate) fn took_back(&self, asked: Instant) {
        if asked.elapsed() < SOON {
            self.taken_back.set(self.taken_back.get() + 1);
        }
    }

    /// One has come to something.
    pub(crate) fn came_to_something(&self) {
        self.taken_back.set(self.taken_back.get().saturating_sub(1));
    }

    /// What the policies that apply to the gateway leave open.
    pub(super) fn residual(&self, snapshot: &Snapshot) -> Residual {
        let facts = facts(self.destination, Some(&self.caller.id), self.caller.source, self.sni.as_deref());
        self.worker.residuals.residual(snapshot, &facts)
    }
}
