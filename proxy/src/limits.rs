//! How many downstream connections there may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Permits for connections, counted over all workers.
#[derive(Debug, Clone)]
pub struct Permits {
    used: Arc<AtomicUsize>,
    max: usize,
}

/// One connection's permit; gives itself back.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Permits {
    /// At most `max` at a time.
    pub fn new(max: usize) -> Self {
        Self { used: Arc::default(), max }
    }

    /// A permit, if one is left.
    pub fn take(&self) -> Option<Permit> {
        // Relaxed: the count guards no other memory.
        let taken = self.used.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(&self.used));
        (taken < self.max).then_some(permit)
    }

    /// Permits in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_beyond_the_maximum_and_takes_back() {
        let permits = Permits::new(2);
        let first = permits.take();
        let _second = permits.take();
        assert!(first.is_some());
        assert!(permits.take().is_none());
        assert_eq!(permits.used(), 2);
        drop(first);
        assert!(permits.take().is_some());
    }
}
