//! Requests at a rate: what a caller waits who does not wait for others.
//!
//! Each request has a moment at which it is due, and its latency is counted from there, not from when it could be sent. A generator that
//! sends the next request when the last one is answered asks least of a proxy when that is slowest, and measures what is left
//! (coordinated omission). Here a connection that is late stays late for those behind it, and they say so.
//!
//! HTTP/1.1, plain, kept connections, GET. A connection is a thread: with some hundred of them that costs less than a runtime whose
//! clock ticks in milliseconds. It measures; it does not saturate: wrk does.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "threads that block, and real time: that is what it is for"
)]

mod arguments;
mod connection;
mod tally;

use std::fs::File;
use std::io::{BufWriter, Error, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arguments::Arguments;
use connection::Connection;
use tally::Tally;

/// After the last request was due: what was not answered by then never is.
const GRACE: Duration = Duration::from_secs(2);

/// Until all threads are there.
const HEAD_START: Duration = Duration::from_millis(20);

/// Bytes; a thread keeps its buffer on the heap.
const STACK: usize = 64 * 1024;

fn main() -> ExitCode {
    match Arguments::from_words(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "meshgate-load: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    // Threads take this from the one that starts them. The kernel may otherwise wake a sleeper 50 us late to save itself a timer; where
    // it cannot be changed, all latencies are that much longer.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
    let begin = Instant::now() + HEAD_START;
    let begin_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + HEAD_START;
    let tally = thread::scope(|scope| {
        let threads = (0..arguments.connections).map(|number| {
            let builder = thread::Builder::new().stack_size(STACK);
            builder.spawn_scoped(scope, move || ask(arguments, number, begin))
        });
        // All are started before the first is waited for.
        let threads: Vec<_> = threads.collect::<Result<_, Error>>().map_err(|error| error.to_string())?;
        let mut all = Tally::default();
        for thread in threads {
            all.add(thread.join().map_err(|_| "a connection's thread panicked")?);
        }
        Ok::<_, String>(all)
    })?;
    if let Some(path) = &arguments.each {
        let written = File::create(path).and_then(|file| {
            let mut out = BufWriter::new(file);
            tally.write(&mut out)?;
            out.flush()
        });
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let line = tally.json(arguments.seconds, begin_unix);
    writeln!(std::io::stdout(), "{line}").map_err(|error| error.to_string())
}

/// Every n-th request, n being the number of connections, from the one with this `number` on.
fn ask(arguments: &Arguments, number: usize, begin: Instant) -> Tally {
    let mut connection = Connection::new(arguments);
    let mut tally = Tally::default();
    let requests = (arguments.rate * arguments.seconds) as usize;
    let last = begin + Duration::from_secs_f64(arguments.seconds) + GRACE;
    for request in (number..requests).step_by(arguments.connections) {
        let due = begin + Duration::from_secs_f64(request as f64 / arguments.rate);
        let now = Instant::now();
        if now > last {
            tally.unsent += 1;
            continue;
        }
        thread::sleep(due.saturating_duration_since(now));
        match connection.ask() {
            Ok(200..=299) => tally.answered(due.saturating_duration_since(begin), due.elapsed()),
            Ok(_) | Err(_) => tally.failed += 1,
        }
    }
    tally
}
