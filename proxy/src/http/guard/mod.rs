//! Looks at the raw bytes of a connection before the HTTP library does, and keeps from it what two readers could understand
//! differently, and what costs more than it brings.
//!
//! The library is lenient where a proxy must not be: it takes LF for CRLF, drops a Content-Length beside a Transfer-Encoding,
//! merges equal lengths, cuts a fragment off a target, answers any number of pings. None of that can be seen in what it hands
//! over, so it is looked for in what it is given. The one idea: a guard only ever refuses. It follows messages by the strict
//! reading and never changes one; what it does not look at (names, values, control bytes) the library refuses by itself, and
//! wherever the two could disagree on where a message ends one of them refuses it.

pub mod http1;
pub mod http2;
