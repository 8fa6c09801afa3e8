//! Notices that files may have changed, and says so once things are quiet.
//!
//! The one idea: two ways of noticing that do not trust each other. The system's notifications are quick but get lost
//! (NFS, overflowing queues, a directory that was deleted and made again); every two seconds the files' fingerprints are
//! compared as well, which misses nothing for longer than that.
//!
//! Watched are directories, not files: a mounted ConfigMap changes by the swap of a link (`..data`), most editors write
//! a new file and rename it. It reads no file; whether anything really changed is for the caller's reload to find out.

mod arm;
mod fingerprint;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use arm::Notifier;
use fingerprint::Fingerprint;

/// Between comparisons of fingerprints. Kubernetes itself takes up to a minute to bring a changed ConfigMap to the
/// node; what the poll adds to that does not matter, nor does a `stat` of a few files every two seconds.
const POLL: Duration = Duration::from_secs(2);

/// Without a notification for this long, a writer is taken to be done.
const QUIET: Duration = Duration::from_millis(50);

/// Changes are reported after this long even when notifications keep coming.
const AT_MOST: Duration = Duration::from_millis(500);

/// Why files cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The system has no thread to give.
    #[error("the thread that watches files cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Watches paths until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    signal: Signal,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Calls `on_change` on a thread of its own when one of `paths`, or what it holds if it is a directory (immediate
    /// subdirectories included), may have changed. Changes after the return of `start` are not missed. Paths need not
    /// exist yet.
    ///
    /// Without the system's notifications (no inotify instance left, say) it goes on by polling alone.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(paths: Vec<PathBuf>, on_change: impl FnMut() + Send + 'static) -> Result<Watcher, WatchError> {
        Watcher::with(paths, Notifier::new, POLL, on_change)
    }

    fn with(
        paths: Vec<PathBuf>,
        notifier: impl FnOnce(Arc<[PathBuf]>, Signal) -> Notifier,
        poll: Duration,
        on_change: impl FnMut() + Send + 'static,
    ) -> Result<Watcher, WatchError> {
        let paths: Arc<[PathBuf]> = paths.into();
        let (wake, woken) = mpsc::sync_channel(1);
        let signal = Signal { wake, state: Arc::default() };
        let mut notifier = notifier(paths.clone(), signal.clone());
        notifier.arm();
        let fingerprint = Fingerprint::of(&paths);
        let state = signal.state.clone();
        let task = Task { paths, notifier, fingerprint, woken, state, poll };
        let thread = thread::Builder::new().name("file-watch".to_owned()).spawn(move || task.run(on_change))?;
        Ok(Watcher { signal, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.signal.state.stopped.store(true, Ordering::Release);
        self.signal.wake();
        // Dropped by its own callback it cannot wait for itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            // A panic of the thread has been logged where it happened.
            let _ = thread.join();
        }
    }
}

/// Wakes the thread. Any number of wakings are one: the queue holds a single token.
#[derive(Clone, Debug)]
struct Signal {
    wake: SyncSender<()>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    stopped: AtomicBool,
    /// A notification named one of the paths, so that the fingerprint need not be asked.
    touched: AtomicBool,
}

impl Signal {
    fn wake(&self) {
        // Full means that a waking is on its way already.
        let _ = self.wake.try_send(());
    }

    fn touched(&self) {
        self.state.touched.store(true, Ordering::Release);
        self.wake();
    }
}

struct Task {
    paths: Arc<[PathBuf]>,
    notifier: Notifier,
    fingerprint: Fingerprint,
    woken: Receiver<()>,
    state: Arc<State>,
    poll: Duration,
}

impl Task {
    fn run(mut self, mut on_change: impl FnMut()) {
        loop {
            match self.woken.recv_timeout(self.poll) {
                Ok(()) => self.wait_until_quiet(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.state.stopped.load(Ordering::Acquire) {
                return;
            }
            let touched = self.state.touched.swap(false, Ordering::AcqRel);
            // Armed before the fingerprint is taken, so that nothing falls between the two.
            self.notifier.arm();
            let fingerprint = Fingerprint::of(&self.paths);
            if touched || fingerprint != self.fingerprint {
                self.fingerprint = fingerprint;
                // Were this thread to end, the process would run on with old certificates and policies, silently.
                if catch_unwind(AssertUnwindSafe(&mut on_change)).is_err() {
                    tracing::error!("reloading changed files panicked; watching goes on");
                }
            }
        }
    }

    fn wait_until_quiet(&self) {
        let deadline = Instant::now() + AT_MOST;
        while !self.state.stopped.load(Ordering::Acquire) {
            let left = deadline.saturating_duration_since(Instant::now()).min(QUIET);
            if left.is_zero() || self.woken.recv_timeout(left).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
