//! Collects what is wrong, so that all of it is told at once.

use crate::model::Invalid;

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Invalid>);

impl Report {
    /// Adds one finding.
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Invalid { path: path.into(), message: message.into() });
    }

    /// The value, if nothing was found.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Vec<Invalid>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}
