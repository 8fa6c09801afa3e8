//! What a report learns from the answer while it passes.

use http::HeaderMap;

use super::Report;
use crate::access_log::field;
use crate::metrics;

impl Report {
    /// The head of the upstream's answer has come.
    pub fn head_came(&mut self) {
        if let (Some(line), Some(asked)) = (&mut self.0.line, self.0.asked) {
            line.millis(field!("upstream_service_time"), asked.elapsed());
        }
    }

    /// A part of the body that goes downstream.
    pub fn sent(&mut self, bytes: &[u8]) {
        self.0.sent += bytes.len() as u64;
        if self.0.grpc {
            self.0.messages.feed(bytes);
        }
    }

    /// What the upstream says of a gRPC call, in its trailers or in the head of an answer that has nothing else.
    pub fn grpc_status(&mut self, fields: &HeaderMap) {
        if self.0.grpc
            && let Some(status) = fields.get("grpc-status")
        {
            self.0.grpc_status = Some(metrics::grpc_status(status.as_bytes()));
        }
    }

    /// What we answer a gRPC call ourselves.
    pub fn grpc(&mut self, status: &'static str) {
        self.0.grpc_status = Some(status);
    }
}
