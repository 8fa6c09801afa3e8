//! The process's own log: how it begins, and how its level is changed while it runs.
//!
//! The one idea: a process has one log, so what changes its level is kept once, beside it. What is not logged costs what it did
//! without that: each place in the code remembers that nobody listens, until the level changes.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};

use meshgate_config::{LogFormat, LogSettings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

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
    Parse(String, ParseError),
    /// A word that is no level. The library would take it for a part of the program that is to say everything, and all else would be silent.
    Word(String),
    /// This process has no log of ours, as in a test.
    NoLog,
}

impl std::error::Error for LevelError {}

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parse(level, error) => write!(f, "`{level}` is no level: {error}"),
            Self::Word(word) => {
                write!(f, "`{word}` is no level: expected {LEVELS}, or for a part of it such as meshgate=debug")
            }
            Self::NoLog => f.write_str("this process has no log whose level could be changed"),
        }
    }
}

/// Says it to people.
const LEVELS: &str = "error, warn, info, debug, trace or off";

/// The filter of a level as it is written: `info`, `info,meshgate=debug`.
fn filter(level: &str) -> Result<EnvFilter, LevelError> {
    let is_level = |word: &str| word.is_empty() || word.parse::<LevelFilter>().is_ok();
    let words = level.split(',').map(str::trim).filter(|word| !word.contains(['[', ']', '{', '}', '"']));
    let words = words.map(|word| word.rsplit_once('=').map_or(word, |(_, level)| level));
    match words.into_iter().find(|word| !is_level(word)) {
        Some(word) => Err(LevelError::Word(word.to_owned())),
        None => EnvFilter::try_new(level).map_err(|error| LevelError::Parse(level.to_owned(), error)),
    }
}

/// Whether a level can be taken.
///
/// # Errors
/// It is none.
pub fn check(level: &str) -> Result<(), LevelError> {
    filter(level).map(drop)
}

/// Begins it, on standard error. A second one in one process (as in tests) leaves the first in place.
///
/// # Errors
/// The level is none.
pub fn start(settings: &LogSettings) -> Result<(), LevelError> {
    let filter = filter(&settings.level)?;
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
    let filter = filter(level)?;
    let log = LOG.get().ok_or(LevelError::NoLog)?;
    let mut current = log.level.lock().unwrap_or_else(PoisonError::into_inner);
    if !(log.replace)(filter) {
        return Err(LevelError::NoLog);
    }
    level.clone_into(&mut current);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_not_taken_for_one() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,meshgate=debug",
            "meshgate::http=trace",
            "info,h2=off",
            "warn,meshgate[x]=debug",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for wrong in ["loud", "info,meshgate", "verbose,info", "meshgate=loud"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
        for wrong in ["info,loud", "info,meshgate=loud"] {
            let said = filter(wrong).unwrap_err().to_string();
            assert!(said.starts_with("`loud` is no level: expected error, warn"), "{said}");
        }
        let said = filter("info,meshgate[=debug").unwrap_err().to_string();
        assert!(said.starts_with("`info,meshgate[=debug` is no level: "), "{said}");
    }
}
