//! HTTP on the data path: one request's way from the downstream connection to the upstream's answer.

pub mod authentication;
pub mod body;
pub mod client;
pub mod forward;
pub mod headers;
pub mod idle;
pub mod layers;
pub mod pool;
pub mod refusal;
pub mod rest;
pub mod retry;
pub mod server;
pub mod standing;
