use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// Long enough for any machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// As good as never.
const NEVER: Duration = Duration::from_secs(3600);

struct Watching {
    _watcher: Watcher,
    changes: Receiver<()>,
}

impl Watching {
    /// Watches by notifications alone, or by polling alone.
    fn start(paths: &[&Path], by_polling: bool) -> Watching {
        let (sender, changes) = mpsc::channel();
        let paths = paths.iter().map(|path| path.to_path_buf()).collect();
        let on_change = move || {
            // Sent to a test that is over: nobody is left to tell.
            let _ = sender.send(());
        };
        let watcher = if by_polling {
            Watcher::with(paths, Notifier::none, Duration::from_millis(20), on_change)
        } else {
            Watcher::with(paths, Notifier::new, NEVER, on_change)
        };
        Watching { _watcher: watcher.unwrap(), changes }
    }

    fn assert_notices(&self, what: &str) {
        assert!(self.changes.recv_timeout(PATIENCE).is_ok(), "{what} was not noticed");
        self.settle();
    }

    /// Until nothing more comes of what was done before.
    fn settle(&self) {
        while self.changes.recv_timeout(4 * QUIET).is_ok() {}
    }
}

/// Lays `text` out as the kubelet lays out a ConfigMap, and swaps it in.
fn swap_config_map(folder: &Path, version: &str, text: &str) {
    let data = folder.join(format!("..{version}"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a.yaml"), text).unwrap();
    symlink(format!("..{version}"), folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[test]
fn notices_writes_renames_and_removals() {
    for by_polling in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, "1").unwrap();
        for path in [folder.path(), &file] {
            let watching = Watching::start(&[path], by_polling);
            fs::write(&file, "22").unwrap();
            watching.assert_notices("a write");
            fs::write(folder.path().join("new"), "3").unwrap();
            fs::rename(folder.path().join("new"), &file).unwrap();
            watching.assert_notices("a rename");
            fs::remove_file(&file).unwrap();
            watching.assert_notices("a removal");
            fs::write(&file, "4").unwrap();
            watching.assert_notices("a file made again");
        }
    }
}

#[test]
fn notices_the_swap_of_a_config_map() {
    for by_polling in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        swap_config_map(folder.path(), "v1", "one");
        symlink("..data/a.yaml", &file).unwrap();
        for (path, version) in [(folder.path(), "v2"), (&file, "v3")] {
            let watching = Watching::start(&[path], by_polling);
            // Of the same size, and within one tick of the clock of the same age.
            swap_config_map(folder.path(), version, "two");
            watching.assert_notices("the swap");
        }
    }
}

#[test]
fn notices_a_folder_made_again_and_what_comes_into_subfolders() {
    for by_polling in [false, true] {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("resources");
        let watching = Watching::start(&[&folder], by_polling);
        fs::create_dir(&folder).unwrap();
        watching.assert_notices("a new folder");
        fs::write(folder.join("a.yaml"), "1").unwrap();
        watching.assert_notices("a file in it");
        fs::remove_dir_all(&folder).unwrap();
        watching.assert_notices("its removal");
        fs::create_dir(&folder).unwrap();
        watching.assert_notices("its return");
        fs::create_dir(folder.join("sub")).unwrap();
        watching.assert_notices("a subfolder");
        fs::write(folder.join("sub/b.yaml"), "1").unwrap();
        watching.assert_notices("a file in the subfolder");
    }
}

#[test]
fn its_own_reading_and_strangers_in_the_same_folder_are_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, "1").unwrap();
    let watching = Watching::start(&[&file], false);
    fs::read(&file).unwrap();
    fs::read_dir(folder.path()).unwrap().count();
    fs::write(folder.path().join("access.log"), "a line").unwrap();
    assert!(watching.changes.recv_timeout(AT_MOST).is_err());
}

#[test]
fn many_changes_in_a_row_are_few_reports() {
    let folder = tempfile::tempdir().unwrap();
    let watching = Watching::start(&[folder.path()], false);
    for i in 0..200 {
        fs::write(folder.path().join(format!("{i}.yaml")), "1").unwrap();
    }
    watching.changes.recv_timeout(PATIENCE).unwrap();
    let mut reports = 1;
    while watching.changes.recv_timeout(AT_MOST).is_ok() {
        reports += 1;
    }
    assert!(reports < 20, "{reports}");
}

#[test]
fn a_panic_of_the_callback_does_not_end_the_watch() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, changes) = mpsc::channel();
    let mut calls = 0;
    let _watcher = Watcher::start(vec![folder.path().to_path_buf()], move || {
        calls += 1;
        sender.send(calls).unwrap();
        assert!(calls > 1, "the first call panics");
    })
    .unwrap();
    fs::write(folder.path().join("a"), "1").unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE), Ok(1));
    fs::write(folder.path().join("a"), "2").unwrap();
    assert_eq!(changes.recv_timeout(PATIENCE), Ok(2));
}

#[test]
fn dropping_it_ends_the_thread() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, changes) = mpsc::channel::<()>();
    let watcher = Watcher::start(vec![folder.path().to_path_buf()], move || sender.send(()).unwrap()).unwrap();
    drop(watcher);
    assert_eq!(changes.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
}
