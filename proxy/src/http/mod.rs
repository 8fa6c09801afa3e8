//! HTTP on the data path: one request's way from the downstream connection to the upstream's answer.

pub mod authentication;
pub mod body;
pub mod client;
pub mod cork;
pub mod deadline;
pub mod expect;
pub mod forward;
pub mod forwarded;
pub mod guard;
pub mod headers;
pub mod idle;
pub mod layers;
pub mod pool;
pub mod proxy_status;
pub mod refusal;
pub mod request_id;
pub mod rest;
pub mod retry;
pub mod server;
pub mod stall;
pub mod standing;
pub mod upgrade;
pub mod view;
