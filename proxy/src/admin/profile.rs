//! `GET /debug/pprof/profile?seconds=N`: where the process spends its time, as the protocol buffer that `go tool pprof` and its like
//! read (github.com/google/pprof, `proto/profile.proto`). Only in builds with the feature `pprof`.
//!
//! The profiler interrupts whatever runs [`FREQUENCY`] times in each second of CPU time and looks at its stack. One profile is taken
//! at a time, on a thread of its own: names are looked up there as well, which takes longer than a probe would wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use pprof::{ProfilerGuardBuilder, Report, Symbol};
use prost::Message;
use tokio::sync::oneshot;

use super::{TEXT, text};

/// Where it is.
pub(super) const PATH: &str = "/debug/pprof/profile";

/// Samples a second: a prime, so that what happens every ten milliseconds is not always or never seen.
const FREQUENCY: i32 = 99;

/// Unless said otherwise.
const SECONDS: u64 = 10;

/// At most: each sample is kept until the end.
const SECONDS_MAX: u64 = 30;

/// What of it is not looked into, because a stack cannot be walked from there while it is interrupted.
const BLIND: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// There is one profiler in a process.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the profiler back.
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        (!TAKEN.swap(true, Ordering::Acquire)).then_some(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// How long an answer takes besides what any other does.
pub(super) fn time(path: &str) -> Duration {
    if path == PATH { Duration::from_secs(2 * SECONDS_MAX) } else { Duration::ZERO }
}

/// Answers when the time is over.
pub(super) async fn answer(query: &str) -> Response<Full<Bytes>> {
    let Some(seconds) = seconds(query) else {
        return text(StatusCode::BAD_REQUEST, TEXT, format!("expected ?seconds=, from 1 to {SECONDS_MAX}\n"));
    };
    let Some(turn) = Turn::take() else {
        return text(StatusCode::CONFLICT, TEXT, "a profile is being taken already\n".to_owned());
    };
    let (done, profile) = oneshot::channel();
    let work = move || {
        // Whoever has gone does not stop it: it has its turn until it is done.
        let _ = done.send(taken(Duration::from_secs(seconds)));
        drop(turn);
    };
    let spawned = std::thread::Builder::new().name("profile".to_owned()).spawn(work);
    let failed = |error: String| text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("no profile: {error}\n"));
    match (spawned, profile.await) {
        (Ok(_), Ok(Ok(profile))) => {
            let mut response = Response::new(Full::from(profile));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
        (Ok(_), Ok(Err(error))) => failed(error),
        (Ok(_), Err(_)) => failed("it broke off".to_owned()),
        (Err(error), _) => failed(error.to_string()),
    }
}

fn seconds(query: &str) -> Option<u64> {
    match query.strip_prefix("seconds=") {
        None => query.is_empty().then_some(SECONDS),
        Some(seconds) => seconds.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds)),
    }
}

#[allow(clippy::disallowed_methods, reason = "on a thread of its own, which has nothing else to do")]
fn taken(time: Duration) -> Result<Vec<u8>, String> {
    let builder = ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&BLIND);
    let guard = builder.build().map_err(|error| error.to_string())?;
    std::thread::sleep(time);
    let report = guard.report().build().map_err(|error| error.to_string())?;
    Ok(Writer::default().profile(&report).encode_to_vec())
}

/// Puts a profile together: what is the same is written once.
#[derive(Default)]
struct Writer {
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<Vec<(u64, i64)>, u64>,
}

impl Writer {
    fn profile(mut self, report: &Report) -> Profile {
        // The first one has to be the empty one.
        self.string("");
        let nanoseconds = 1_000_000_000 / i64::from(FREQUENCY);
        let (samples, count, cpu, unit) =
            (self.string("samples"), self.string("count"), self.string("cpu"), self.string("nanoseconds"));
        let (of_samples, of_time) = (ValueType { kind: samples, unit: count }, ValueType { kind: cpu, unit });
        self.profile.sample_type = vec![of_samples, of_time];
        self.profile.period_type = Some(of_time);
        self.profile.period = nanoseconds;
        self.profile.duration_nanos = i64::try_from(report.timing.duration.as_nanos()).unwrap_or(i64::MAX);
        let began = report.timing.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.profile.time_nanos = i64::try_from(began.as_nanos()).unwrap_or(i64::MAX);
        let thread = self.string("thread");
        for (frames, count) in &report.data {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            let location_id = frames.frames.iter().map(|symbols| self.location(symbols)).collect();
            let label = vec![Label { key: thread, text: self.string(&frames.thread_name_or_id()) }];
            let value = vec![count, count.saturating_mul(nanoseconds)];
            self.profile.sample.push(Sample { location_id, value, label });
        }
        self.profile
    }

    /// A place in the code: with what was inlined there, the innermost first.
    fn location(&mut self, symbols: &[Symbol]) -> u64 {
        let lines: Vec<_> = symbols.iter().map(|symbol| (self.function(symbol), i64::from(symbol.lineno()))).collect();
        if let Some(known) = self.locations.get(&lines) {
            return *known;
        }
        let id = self.profile.location.len() as u64 + 1;
        let line = lines.iter().map(|(function_id, line)| FunctionLine { function_id: *function_id, line: *line });
        self.profile.location.push(Location { id, line: line.collect() });
        self.locations.insert(lines, id);
        id
    }

    fn function(&mut self, symbol: &Symbol) -> u64 {
        let (name, filename) = (self.string(&symbol.name()), self.string(&symbol.filename()));
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.profile.function.push(Function { id, name, system_name: name, filename });
        }
        id
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(known) = self.strings.get(text) {
            return *known;
        }
        let index = i64::try_from(self.profile.string_table.len()).unwrap_or(i64::MAX);
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), index);
        index
    }
}

/// `perftools.profiles.Profile`; names are indices of its table of strings.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<FunctionLine>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct FunctionLine {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::*;

    #[inline(never)]
    fn something_that_takes_time(end: &AtomicBool) {
        let mut sum = 0_u64;
        while !end.load(Ordering::Relaxed) {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
    }

    #[tokio::test]
    async fn a_profile_names_what_took_the_time_and_there_is_one_at_a_time() {
        assert_eq!((seconds(""), seconds("seconds=30")), (Some(SECONDS), Some(30)));
        for wrong in ["seconds=0", "seconds=31", "seconds=", "second=1", "seconds=-1"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
        assert_eq!(answer("seconds=0").await.status(), StatusCode::BAD_REQUEST);
        let end = Arc::new(AtomicBool::new(false));
        let busy = std::thread::spawn({
            let end = Arc::clone(&end);
            move || something_that_takes_time(&end)
        });
        let (profile, second) = tokio::join!(answer("seconds=2"), answer("seconds=1"));
        end.store(true, Ordering::Relaxed);
        busy.join().unwrap();
        assert_eq!((profile.status(), second.status()), (StatusCode::OK, StatusCode::CONFLICT));
        let bytes = profile.into_body().collect().await.unwrap().to_bytes();
        let profile = Profile::decode(bytes).unwrap();
        let text = |index: i64| &*profile.string_table[usize::try_from(index).unwrap()];
        assert_eq!(
            (text(0), text(profile.sample_type[1].kind), text(profile.sample_type[1].unit)),
            ("", "cpu", "nanoseconds")
        );
        let samples: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
        assert!(samples > 5, "{samples}");
        let named = profile.function.iter().any(|function| text(function.name).contains("something_that_takes_time"));
        assert!(named, "{:?}", profile.string_table);
        let all = |id: &u64| (1..=profile.location.len() as u64).contains(id);
        assert!(profile.sample.iter().all(|sample| sample.location_id.iter().all(all)));
    }
}
