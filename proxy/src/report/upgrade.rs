//! What a report knows of a request whose connection goes on in another protocol.

use std::net::SocketAddr;
use std::rc::Rc;

use http::HeaderValue;

use super::Report;
use crate::http::upgrade::Switch;

impl Report {
    /// It asks to go on in this protocol, and may.
    pub fn asks_to_upgrade(&mut self, protocol: HeaderValue) {
        self.0.upgrade = Some(protocol);
    }

    /// The protocol that it asks to go on in, and may.
    pub fn upgrade(&self) -> Option<&HeaderValue> {
        self.0.upgrade.as_ref()
    }

    /// Where it leaves what its connection is to go on with.
    pub fn switch(&self) -> Option<Rc<Switch>> {
        self.0.in_flight.as_ref()?.switch()
    }

    /// Where the answer came from.
    pub fn upstream_address(&self) -> Option<SocketAddr> {
        self.0.upstream.as_ref().map(|candidate| candidate.slot().upstream().address)
    }

    /// A tunnel moved so many bytes from the downstream and to it.
    pub fn tunnelled(&mut self, received: u64, sent: u64) {
        self.0.tunnelled = received;
        self.0.sent = sent;
    }

    /// It ended before its time, for a reason that has a flag.
    pub fn ended_early(&mut self, flags: &'static str) {
        self.0.flags = flags;
    }
}
