//! What can go wrong between the command line and the printed text.

use std::io;

use crate::options::OptionsError;

/// A failure of the `iptables` subcommand.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict each other or would leave the mesh open.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The output could not be written.
    #[error("cannot write the rules: {0}")]
    Write(#[from] io::Error),
}
