//! Tokens that have been found good, so that a client that shows the same one again does not cost a signature.
//!
//! Found by their full text, forgotten when configuration or keys change. Whether a token is still good in time is asked each time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::jwt::rule::Verified;

/// Tokens that are remembered for each rule, before all are forgotten.
const TOKENS_MAX: usize = 1024;

/// Bytes of a token that is remembered: with [`TOKENS_MAX`] a bound for memory.
const TOKEN_BYTES_MAX: usize = 4096;

/// The good tokens of one worker. The default remembers none.
#[derive(Debug, Default)]
pub struct VerifiedTokens {
    stamp: (u64, u64),
    by_rule: Vec<HashMap<Box<[u8]>, Arc<Verified>>>,
}

impl VerifiedTokens {
    /// Forgets everything if configuration or keys are of another generation than before.
    pub(super) fn keep_if(&mut self, stamp: (u64, u64)) {
        if self.stamp != stamp {
            self.by_rule.clear();
            self.stamp = stamp;
        }
    }

    pub(super) fn known(&self, rule: usize, token: &[u8]) -> Option<&Arc<Verified>> {
        self.by_rule.get(rule)?.get(token)
    }

    pub(super) fn learn(&mut self, rule: usize, token: &[u8], verified: &Arc<Verified>) {
        if token.len() > TOKEN_BYTES_MAX {
            return;
        }
        if self.by_rule.len() <= rule {
            self.by_rule.resize_with(rule + 1, HashMap::new);
        }
        let Some(tokens) = self.by_rule.get_mut(rule) else { return };
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(token.into(), Arc::clone(verified));
    }
}
