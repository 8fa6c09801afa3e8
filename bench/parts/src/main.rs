//! What the parts of a request's way cost, one at a time: told apart, decided, chosen, cleaned, moved, borrowed.
//!
//! The one idea: a part is a name and a closure that does one unit of work with the product's own code, and whoever measures calls that
//! closure. Criterion calls it for the time; `bench/instructions` has it called in callgrind, and counts. Two ways of measuring never
//! measure two things.
//!
//! ```text
//! meshgate-parts [FILTER]           times, by criterion
//! meshgate-parts --list             the names
//! meshgate-parts --count [NAME...]  some units of each, inside of the function `counted`
//! ```
//!
//! Sockets, TLS and HTTP's parsing are in none of it: `bench/run` and the whole binary's counts have those.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what is measured was written here")]

mod copy;
mod decide;
mod detect;
mod headers;
#[path = "../../../policy/tests/large/mod.rs"]
mod large;
mod pick;
mod pool;

use std::env;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Enough that what is drawn at random, and what happens every so often, is even.
const UNITS: usize = 2_000;

/// As many as callgrind does in a second or so, where a unit is a million instructions.
const UNITS_OF_MUCH: usize = 10;

/// Units before what is counted: nothing is done for the first time.
const WARM_UP: usize = 20;

/// One unit of work.
type Work = Box<dyn FnMut()>;

/// Something to measure.
struct Part {
    name: String,
    /// How often it is done to be counted.
    units: usize,
    /// Makes what the work needs, which is not measured.
    prepare: Box<dyn Fn() -> Work>,
}

impl Part {
    fn new(name: impl Into<String>, prepare: impl Fn() -> Work + 'static) -> Self {
        Self { name: name.into(), units: UNITS, prepare: Box::new(prepare) }
    }

    /// The same, done less often: it is much.
    fn few(self) -> Self {
        Self { units: UNITS_OF_MUCH, ..self }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--list"] => all().iter().try_for_each(|part| writeln!(stdout(), "{}", part.name)).map_err(|e| e.to_string()),
        ["--count", names @ ..] => count(names),
        [] => time(""),
        [filter] if !filter.starts_with('-') => time(filter),
        _ => Err("there are [FILTER], --list, and --count [NAME...]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(stderr(), "meshgate-parts: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> Vec<Part> {
    [detect::parts(), decide::parts(), pick::parts(), headers::parts(), copy::parts(), pool::parts()]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(feature = "criterion")]
fn time(filter: &str) -> Result<(), String> {
    use std::time::Duration;

    let mut criterion = criterion::Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .without_plots();
    for part in all().iter().filter(|part| part.name.contains(filter)) {
        let mut work = (part.prepare)();
        criterion.bench_function(&part.name, |bench| bench.iter(&mut work));
    }
    Ok(())
}

#[cfg(not(feature = "criterion"))]
fn time(_: &str) -> Result<(), String> {
    Err("built without criterion, which takes the times".into())
}

fn count(names: &[&str]) -> Result<(), String> {
    let all = all();
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|part| part.name != **name)) {
        return Err(format!("no part {unknown}"));
    }
    for part in all.iter().filter(|part| names.is_empty() || names.contains(&part.name.as_str())) {
        let mut work = (part.prepare)();
        (0..WARM_UP).for_each(|_| work());
        counted(&mut work, part.units);
        writeln!(stdout(), "counted {} {}", part.name, part.units).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// callgrind counts what happens between its beginning and its end, so it must be there to be found.
#[inline(never)]
fn counted(work: &mut Work, units: usize) {
    for _ in 0..units {
        work();
    }
}
