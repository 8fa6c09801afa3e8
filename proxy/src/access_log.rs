//! One line, of JSON or of text, at the end of each request or connection, written without ever holding up traffic.
//!
//! A line is begun when the facts are at hand (so nothing of the request is cloned for it), and finished when the exchange
//! ends. Finished lines gather in a buffer of the worker, which hands it to the writer thread when it is full or
//! 50 ms old. If the writer cannot keep up, lines are dropped and counted. Everything that came from the wire is
//! escaped, so that no request can forge a line.

mod choice;
mod line;
mod text;

use std::cell::{Cell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshgate_config::{AccessLog, LogFormat};
use rustix::fs::OFlags;
use rustix::io::ioctl_fionbio;
use time::OffsetDateTime;

use crate::metrics::Counter;
use crate::throttle;
use choice::Choice;
pub(crate) use line::field;
use line::three_digits;
pub use line::{Field, Line};

/// A buffer goes to the writer at this size: some two hundred lines, so that waking its thread costs little for each.
const FLUSH_BYTES: usize = 128 * 1024;

/// A line is never older than this when it goes to the writer.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// Buffers that may wait for the writer before lines are dropped: 8 MiB.
const QUEUE: usize = 64;

/// Emptied buffers on their way back from the writer to a worker, which it fills again.
const RETURNING: usize = 2;

/// Emptied line buffers kept for reuse.
const SPARE_LINES: usize = 64;

/// The writer thread; ends when every [`Sink`] is gone.
#[derive(Debug)]
pub struct Writer {
    sender: SyncSender<Batch>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Opens the file for appending and starts the thread.
    ///
    /// # Errors
    /// The operating system's, when the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = open(path)?;
        let (sender, receiver): (_, Receiver<Batch>) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || {
            let mut torn = false;
            for Batch { mut bytes, lines, dropped, empty } in receiver {
                if let Err((written, error)) = write_lines(&mut file, &bytes, &mut torn) {
                    dropped.inc_by(lines.saturating_sub(written));
                    if let Some(left_out) = throttle::admit() {
                        tracing::error!(%error, left_out, "cannot write the access log");
                    }
                }
                bytes.clear();
                // A worker that has enough of them, or has ended, needs no more.
                let _ = empty.try_send(bytes);
            }
        })?;
        Ok(Self { sender, thread })
    }

    /// A sink for one worker.
    pub fn sink(&self, dropped: Counter) -> Sink {
        Sink::new(Some(self.sender.clone()), dropped)
    }

    /// Waits until everything handed over is written. All sinks must be gone.
    pub fn close(self) {
        drop(self.sender);
        // A writer that panicked has nothing left to wait for.
        let _ = self.thread.join();
    }
}

/// Opens it for appending. A FIFO that nobody reads is refused, where a plain open waits for a reader, for as long as there is none.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    match OpenOptions::new().create(true).append(true).custom_flags(flags).open(path) {
        Ok(file) => {
            // What is read slowly is waited for, by the writer's thread.
            ioctl_fionbio(&file, false)?;
            Ok(file)
        }
        Err(error) if fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo()) => {
            Err(io::Error::new(error.kind(), format!("nobody reads this FIFO: {error}")))
        }
        Err(error) => Err(error),
    }
}

/// Writes whole lines; says how many it has written where it cannot write them all. A disk that was full in the middle of one has left
/// it `torn`: the next begins on a line of its own.
fn write_lines(file: &mut impl Write, mut bytes: &[u8], torn: &mut bool) -> Result<(), (u64, io::Error)> {
    let mut lines = 0;
    if *torn {
        file.write_all(b"\n").map_err(|error| (lines, error))?;
        *torn = false;
    }
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err((lines, io::ErrorKind::WriteZero.into())),
            Ok(written) => {
                let (gone, rest) = bytes.split_at_checked(written).unwrap_or((bytes, &[]));
                *torn = gone.last() != Some(&b'\n');
                bytes = rest;
                // All of them is what nobody asks for.
                if !bytes.is_empty() {
                    lines += gone.iter().filter(|byte| **byte == b'\n').count() as u64;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((lines, error)),
        }
    }
    Ok(())
}

/// Lines on their way to the file, and the way back for the buffer they are in.
#[derive(Debug)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    dropped: Counter,
    empty: SyncSender<Vec<u8>>,
}

/// A worker's end of the log.
#[derive(Debug)]
pub struct Sink {
    writer: Option<SyncSender<Batch>>,
    empty: SyncSender<Vec<u8>>,
    empties: Receiver<Vec<u8>>,
    buffer: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    spare: RefCell<Vec<Vec<u8>>>,
    clock: RefCell<Clock>,
    dropped: Counter,
    is_text: bool,
    choice: Choice,
}

impl Sink {
    /// A sink that makes no lines.
    pub fn off() -> Self {
        Self::new(None, Counter::default())
    }

    fn new(writer: Option<SyncSender<Batch>>, dropped: Counter) -> Self {
        let (empty, empties) = sync_channel(RETURNING);
        Self {
            writer,
            empty,
            empties,
            buffer: RefCell::default(),
            lines: Cell::new(0),
            spare: RefCell::default(),
            clock: RefCell::default(),
            dropped,
            is_text: false,
            choice: Choice::all(),
        }
    }

    /// The same, whose lines look like this, and of which these are written.
    pub fn shaped(mut self, settings: &AccessLog) -> Self {
        self.is_text = settings.format == LogFormat::Text;
        self.choice = Choice::of(settings);
        self
    }

    /// Begins a line with the time now and what `prefix` holds (see [`Line::prefix`]); `None` when the log is off.
    pub fn begin(&self, prefix: &[u8]) -> Option<Line> {
        self.writer.as_ref()?;
        let mut bytes = self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(512));
        self.clock.borrow_mut().write(SystemTime::now(), &mut bytes);
        bytes.extend_from_slice(prefix);
        Some(Line { bytes })
    }

    /// Whether the line of an exchange is to be ended that went wrong, or well; what is not is thrown away.
    pub fn takes(&self, went_wrong: bool) -> bool {
        self.choice.takes(went_wrong)
    }

    /// Throws a line away.
    pub fn discard(&self, mut line: Line) {
        line.bytes.clear();
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_LINES {
            spare.push(line.bytes);
        }
    }

    /// Ends a line. `sink` is the same sink, shared, so that a flush can be left behind for later.
    pub fn end<S: AsRef<Sink> + 'static>(sink: Rc<S>, mut line: Line) {
        let this = (*sink).as_ref();
        line.bytes.extend_from_slice(b"}\n");
        let (first, full) = {
            let mut buffer = this.buffer.borrow_mut();
            let first = buffer.is_empty();
            if this.is_text {
                text::write(&line.bytes, &mut buffer);
            } else {
                buffer.extend_from_slice(&line.bytes);
            }
            (first, buffer.len() >= FLUSH_BYTES)
        };
        this.lines.set(this.lines.get() + 1);
        this.discard(line);
        if full {
            this.flush();
        } else if first {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(FLUSH_AFTER).await;
                (*sink).as_ref().flush();
            });
        }
    }

    /// Hands over what has gathered.
    pub fn flush(&self) {
        let Some(writer) = self.writer.as_ref().filter(|_| !self.buffer.borrow().is_empty()) else { return };
        let fresh = self.empties.try_recv().unwrap_or_default();
        let (bytes, lines) = (self.buffer.replace(fresh), self.lines.replace(0));
        let batch = Batch { bytes, lines, dropped: self.dropped.clone(), empty: self.empty.clone() };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = writer.try_send(batch) {
            self.dropped.inc_by(lines);
        }
    }
}

impl Drop for Sink {
    /// The worker goes last, after the tasks that were cut have made their reports.
    fn drop(&mut self) {
        self.flush();
    }
}

/// Formats the beginning of lines, which is the time, once a second.
#[derive(Debug, Default)]
struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    fn write(&mut self, now: SystemTime, out: &mut Vec<u8>) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second || self.text.is_empty() {
            self.second = since.as_secs();
            self.text = format!("{{\"start_time\":\"{}.", timestamp(self.second));
        }
        out.extend_from_slice(self.text.as_bytes());
        let [a, b, c] = three_digits(since.subsec_millis());
        out.extend_from_slice(&[a, b, c, b'Z', b'"']);
    }
}

/// A time in RFC 3339, to the second.
pub fn rfc3339(at: SystemTime) -> String {
    let mut text = timestamp(at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
    text.push('Z');
    text
}

fn timestamp(second: u64) -> String {
    let at = i64::try_from(second).ok().and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok());
    let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    struct Disk(Vec<u8>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1 - self.0.len());
            self.0.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_by_a_full_disk_does_not_run_into_the_next() {
        let (mut disk, mut torn) = (Disk(Vec::new(), 9), false);
        let mut written = |disk: &mut Disk, lines| write_lines(disk, lines, &mut torn).map_err(|(written, _)| written);
        // Those that are there whole are not lost with the one that is not.
        assert_eq!(written(&mut disk, b"one\ntwo\nthree\nfour\n"), Err(2));
        assert_eq!(written(&mut disk, b"five\n"), Err(0));
        disk.1 = 100;
        assert_eq!(written(&mut disk, b"six\n"), Ok(()));
        assert_eq!(written(&mut disk, b"seven\n"), Ok(()));
        assert_eq!(disk.0, b"one\ntwo\nt\nsix\nseven\n");
    }

    #[test]
    fn a_pipe_whose_reader_is_slow_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        assert!(open(&path).unwrap_err().to_string().starts_with("nobody reads this FIFO: "));
        // Both ends, so that nobody waits for anybody yet.
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut file = open(&path).unwrap();
        // More than a pipe holds.
        let lines = b"a line\n".repeat(100_000);
        let writing =
            std::thread::spawn(move || write_lines(&mut file, &lines, &mut false).map_err(|(_, error)| error));
        let mut read = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(reader, 700_000), &mut read).unwrap();
        writing.join().unwrap().unwrap();
        assert_eq!(read.len(), 700_000);
    }

    #[test]
    fn time_is_rfc_3339() {
        let mut out = Vec::new();
        let mut clock = Clock::default();
        clock.write(UNIX_EPOCH + Duration::from_millis(1_700_000_000_042), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "{\"start_time\":\"2023-11-14T22:13:20.042Z\"");
    }
}
