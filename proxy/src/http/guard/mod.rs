//! Guards around connections, which see the raw bytes before the HTTP libraries do.

pub mod http2;
