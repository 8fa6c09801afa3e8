//! Requests over HTTP/2, with any fields and frames, to an application that speaks HTTP/1: nothing else is read so differently.

mod call;
mod pipe;
mod reader;
mod wire;

use std::collections::BTreeMap;

use meshgate_policy::normalize::Level;

use self::call::{Call, End, Field};
use self::pipe::{Outcome, Record};
use self::reader::Meaning;
use self::wire::Ended;
use crate::dice::Dice;
use crate::reader::{Kind, READERS};
use crate::{generated, levels, seed};

/// The name of the field that says which request it is.
const NUMBER: &str = "x-number";

/// An answer's body that nobody but the application has.
const SERVED: &str = "served";

/// Requests that are under way at once, of the hundred that may be.
const TOGETHER: usize = 24;

/// Requests of one connection, as long as it lasts.
const OF_A_CONNECTION: usize = 240;

#[test]
fn what_passes_of_http_2_has_one_reading_and_goes_out_as_it_was_read() {
    let (count, seed) = (generated(6_000), seed());
    crate::pipe::run(async {
        let mut dice = Dice::new(seed);
        let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
        let mut done = 0;
        while done < count {
            let calls: Vec<Call> = (0..OF_A_CONNECTION.min(count - done)).map(|_| Call::thrown(&mut dice)).collect();
            let outcomes = pipe::requests(Level::MergeSlashes, &mut dice, &calls, TOGETHER).await;
            assert_eq!(outcomes.len(), calls.len());
            for (call, outcome) in calls.iter().zip(&outcomes) {
                *tally.entry(judge(call, outcome)).or_default() += 1;
            }
            done += calls.len();
        }
        println!("seed {seed}, {done} requests over HTTP/2: {tally:?}");
        for kind in ["passed", "broken off", "refused", "refused by the library"] {
            assert!(tally.get(kind).is_some_and(|times| *times > count / 200), "{kind}: {tally:?}");
        }
    });
}

/// What became of one request, which is as it should be.
fn judge(call: &Call, outcome: &Outcome) -> &'static str {
    let what = || format!("{}: {}", written(call), shown(outcome));
    let Some(record) = &outcome.record else {
        assert_ne!(outcome.ended, Some(Ended::Answered), "answered, and by nobody: {}", what());
        assert!(!call.plain, "nothing is wrong with it: {}", what());
        return if outcome.ended.is_none() { "ended its connection" } else { "refused by the library" };
    };
    if !record.answered.get() {
        assert_ne!(outcome.ended, Some(Ended::Answered), "answered, and not by the application: {}", what());
        assert!(!call.plain, "nothing is wrong with it: {}", what());
        // By nobody's reading is what went out a whole request; but who has all that was announced does not know of what comes
        // behind it: more than that, trailers that are none, a reset.
        let announced = call.values("content-length").next().is_some();
        for reader in READERS.iter().filter(|reader| !reader.name.contains("length")) {
            let read = reader.read(Kind::Request, &record.sent.borrow(), 0);
            let whole = announced && read.as_ref().is_ok_and(|read| call.body().starts_with(&read.body));
            assert!(read.is_err() || whole, "{}: whole upstream although broken off: {}", reader.name, what());
        }
        return if record.refused { "refused" } else { "broken off" };
    }
    if call.end == End::Reset {
        let announced = call.values("content-length").next().is_some();
        assert!(announced, "answered, and it never ended: {}", what());
        return "taken back when it was whole";
    }
    if outcome.ended == Some(Ended::Reset) {
        let announced = call.values("content-length").next().is_some() && reader::strict(call).is_none();
        assert!(announced, "answered, and its client was not told: {}", what());
        return "answered by its length, and reset for what came behind it";
    }
    let (call, how) = match reader::strict(call) {
        None => (&reader::left_by_the_library(call), "passed without what was malformed"),
        Some(_) => (call, "passed"),
    };
    let Some(meaning) = reader::strict(call) else { panic!("passed, and by the letter there is none: {}", what()) };
    if let Some(dissenter) = reader::dissenter(call, &meaning) {
        panic!("read differently by one who {dissenter}: {}", what());
    }
    assert_eq!(outcome.ended, Some(Ended::Answered), "the answer went elsewhere: {}", what());
    goes_out_as_read(call, &meaning, record, &what);
    how
}

fn goes_out_as_read(call: &Call, meaning: &Meaning, record: &Record, what: &dyn Fn() -> String) {
    let target = levels::path(&meaning.target, levels::Level::MergeSlashes);
    assert_eq!(
        (Some(&record.target), &record.method, &record.host),
        (target.as_ref(), &meaning.method, &meaning.host),
        "judged otherwise: {}",
        what()
    );
    let sent = record.sent.borrow();
    for reader in READERS {
        let read = reader.read(Kind::Request, &sent, 0);
        let Ok(read) = read else { panic!("{} does not read what went out ({read:?}): {}", reader.name, what()) };
        assert_eq!(read.end, sent.len(), "{}: something behind what went out: {}", reader.name, what());
        assert_eq!(read.start[..2], [record.method.clone(), record.target.clone()], "{}: {}", reader.name, what());
        assert_eq!(read.hosts, std::slice::from_ref(&meaning.host), "{}: {}", reader.name, what());
        assert_eq!(read.body, meaning.body, "{}: {}", reader.name, what());
    }
    let lines = lines(&sent);
    let came =
        |line: &Field| call.fields.contains(line) || [b"cookie".as_slice(), b"host"].contains(&line.0.as_slice());
    for line in &lines {
        let frames = line.0 == b"content-length" && line.1 == meaning.body.len().to_string().as_bytes()
            || line.0 == b"transfer-encoding" && line.1 == b"chunked";
        assert!(came(line) || frames, "a line that nobody sent, {}: {}", line.0.escape_ascii(), what());
    }
    for name in ["x", "x-y"] {
        let goes = lines.iter().filter(|line| line.0 == name.as_bytes()).map(|line| line.1.as_slice());
        assert!(goes.eq(call.values(name)), "other lines of {name}: {}", what());
    }
}

/// The fields of a head.
fn lines(sent: &[u8]) -> Vec<Field> {
    let end = sent.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let text = sent[..end].to_vec();
    let mut lines = Vec::new();
    for line in text.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':').unwrap();
        lines.push((line[..colon].to_vec(), line[colon + 1..].trim_ascii().to_vec()));
    }
    lines
}

fn written(call: &Call) -> String {
    let field = |(name, value): &Field| format!("{}={:?}", name.escape_ascii(), value.escape_ascii().to_string());
    let fields: Vec<String> = call.fields.iter().map(field).collect();
    let data: Vec<String> = call.data.iter().map(|piece| piece.escape_ascii().to_string()).collect();
    let trailers: Vec<String> = call.trailers.iter().flatten().map(field).collect();
    format!("{fields:?}, data {data:?}, trailers {trailers:?}, ends {:?}, cut: {}", call.end, call.cut)
}

fn shown(outcome: &Outcome) -> String {
    let Some(record) = &outcome.record else { return format!("{:?}, nothing came through", outcome.ended) };
    let texts = [&record.method, &record.target, &record.host].map(|text| text.escape_ascii().to_string());
    let sent = record.sent.borrow().escape_ascii().to_string();
    format!("{:?}, {texts:?}, answered: {}, sent {sent}", outcome.ended, record.answered.get())
}
