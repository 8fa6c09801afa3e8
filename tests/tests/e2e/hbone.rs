//! Tunnels to the application (HBONE): what comes out of one is nobody's but the caller's that its outer connection showed, and is
//! judged as if it had come in beside it.

mod hostile;
mod inbound;
mod outbound;
