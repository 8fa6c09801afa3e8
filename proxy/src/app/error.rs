//! Why a process does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use meshgate_config::Problem;
use meshgate_identity::{IdentityError, SpiffeIdError};

use crate::dial::DialError;
use crate::hand_over::HandOverError;
use crate::jwks;
use crate::log::LevelError;

/// Why the process could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bootstrap or the resources have problems; all of them are listed.
    #[error("{}", list(.0))]
    Config(Vec<Problem>),
    /// The bootstrap at this path, or a variable over it, wants the log to have a level that is none.
    #[error("{}: {field}: {level}", .path.display())]
    Log {
        /// The bootstrap.
        path: PathBuf,
        /// Its field, or the variable.
        field: &'static str,
        /// Why it is none.
        level: LevelError,
    },
    /// The own certificate, key or trust bundle is not usable.
    #[error("identity: {0}")]
    Identity(#[from] IdentityError),
    /// The bootstrap's workload has names that no SPIFFE ID can have.
    #[error("workload: {0}")]
    Workload(#[from] SpiffeIdError),
    /// The roots that keys are fetched by are not usable.
    #[error("jwks.trustBundle: {0}")]
    Jwks(#[from] jwks::FetchError),
    /// The roots that the collector of traces is trusted by are not usable.
    #[error("tracing.trustBundle: {0}")]
    Tracing(DialError),
    /// A listener could not be bound.
    #[error("{what}: cannot listen on {address}: {source}")]
    Bind {
        /// The bootstrap's field.
        what: String,
        /// Its value.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The access log could not be opened.
    #[error("accessLog.path: cannot open {path}: {source}")]
    AccessLog {
        /// The bootstrap's value.
        path: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The operating system refused something that is always there.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
    /// A worker ended although nobody asked it to: a defect.
    #[error("ended by itself: {0}")]
    Broke(io::Error),
    /// The running process and this one do not come to terms; the running one serves on.
    #[error("handOver.socket: {path}: {source}")]
    HandOver {
        /// The bootstrap's value.
        path: PathBuf,
        /// Why not.
        source: HandOverError,
    },
    /// Files cannot be watched.
    #[error("cannot watch files: {0}")]
    Watch(#[from] meshgate_config::watch::WatchError),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
