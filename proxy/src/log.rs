//! The process's own log: how it begins, and how its level is changed while it runs.
//!
//! The one idea: a process has one log, so what changes its level is kept once, beside it. What is not logged costs what it did
//! without that: each place in the code remembers that nobody listens, until the level changes.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use meshgate_config::{LogFormat, LogSettings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What takes another filter into use; the type of what it reaches depends on the format.
type Replace = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    replace: Replace,
    level: Mutex<String>,
}

/// Why a level is not in force.
#[derive(Debug)]
pub enum LevelError {
    /// It is none.
    Parse(ParseError),
    /// This process has no log of ours, as in a test.
    NoLog,
}

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(error) => error.fmt(f),
            Self::NoLog => f.write_str("this process has no log whose level could be changed"),
        }
    }
}

/// Begins it, on standard error. A second one in one process (as in tests) leaves the first in place.
///
/// # Errors
/// The level is none.
pub fn start(settings: &LogSettings) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&settings.level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let (replace, begun): (Replace, _) = match settings.format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(move |filter| handle.reload(filter).is_ok()), builder.try_init())
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            (Box::new(move |filter| handle.reload(filter).is_ok()), builder.try_init())
        }
    };
    if begun.is_ok() {
        LOG.get_or_init(|| Log { replace, level: Mutex::new(settings.level.clone()) });
    }
    Ok(())
}

/// The level in force, as it was written; `None` without a log of ours.
pub fn level() -> Option<String> {
    LOG.get().map(|log| log.level.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Takes another level into force, as `log.level` of the bootstrap has it, until the process ends.
///
/// # Errors
/// It is none, and the level before stays.
pub fn set_level(level: &str) -> Result<(), LevelError> {
    let filter = EnvFilter::try_new(level).map_err(LevelError::Parse)?;
    let log = LOG.get().ok_or(LevelError::NoLog)?;
    let mut current = log.level.lock().unwrap_or_else(PoisonError::into_inner);
    if !(log.replace)(filter) {
        return Err(LevelError::NoLog);
    }
    level.clone_into(&mut current);
    Ok(())
}
