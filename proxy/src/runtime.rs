//! Threads: one worker each with a runtime of its own, as many as the CPU quota allows; the main thread keeps the admin
//! endpoint, signals and file watching, so that a wedged data path can still be looked at.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

/// A runtime for one thread, whose tasks need not be `Send`.
///
/// # Errors
/// The operating system's, when it gives no epoll instance.
pub fn local() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())
}

/// Starts a worker thread that runs `main` to its end.
///
/// # Errors
/// The operating system's, when it gives no thread.
pub fn spawn_worker<M, F>(index: usize, main: M) -> io::Result<JoinHandle<io::Result<()>>>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || local()?.block_on(main()))
}

/// How many workers: what the operator said, else the CPUs this process may use, limited by its cgroup's quota.
pub fn worker_count(configured: usize) -> usize {
    if configured > 0 {
        return configured;
    }
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    cgroup_quota(Path::new("/sys/fs/cgroup")).map_or(cpus, |quota| quota.min(cpus)).max(1)
}

/// CPUs of the cgroup's quota, rounded up; `None` without one. Version 2 has it in `cpu.max`, version 1 in two files.
fn cgroup_quota(root: &Path) -> Option<usize> {
    if let Ok(max) = fs::read_to_string(root.join("cpu.max")) {
        let (quota, period) = max.trim().split_once(' ')?;
        return cpus(quota, period);
    }
    let read = |name| fs::read_to_string(root.join("cpu").join(name)).ok();
    cpus(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
}

fn cpus(quota: &str, period: &str) -> Option<usize> {
    // "max", or -1 in version 1, do not parse: no quota.
    let (quota, period) = (quota.parse::<usize>().ok()?, period.parse::<usize>().ok()?);
    (period > 0).then(|| quota.div_ceil(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_kinds_of_cgroup_quota() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cgroup_quota(dir.path()), None);
        fs::create_dir(dir.path().join("cpu")).unwrap();
        fs::write(dir.path().join("cpu/cpu.cfs_quota_us"), "150000\n").unwrap();
        fs::write(dir.path().join("cpu/cpu.cfs_period_us"), "100000\n").unwrap();
        assert_eq!(cgroup_quota(dir.path()), Some(2));
        fs::write(dir.path().join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(cgroup_quota(dir.path()), None);
        fs::write(dir.path().join("cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(cgroup_quota(dir.path()), Some(1));
    }
}
