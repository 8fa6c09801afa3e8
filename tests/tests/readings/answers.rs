//! Answers, with any bytes.

use std::collections::BTreeMap;

use crate::dice::Dice;
use crate::reader::{Kind, READERS};
use crate::streams::Stream;
use crate::{generated, pipe, seed};

#[test]
fn an_answer_that_ends_as_it_should_has_one_reading() {
    let (count, seed) = (generated(6_000), seed());
    pipe::run(async {
        let mut dice = Dice::new(seed);
        let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
        for _ in 0..count {
            let stream = Stream::answer(&mut dice);
            let to_head = dice.one_in(6);
            let answer = pipe::answer(to_head, &stream.segments()).await;
            let what = || format!("to HEAD: {to_head}, {}: {answer:?}", stream.bytes.escape_ascii());
            let outcome = match &answer {
                None => "refused",
                Some((_, _, false)) => "broken off",
                Some((status, body, true)) => {
                    // Names with _ become others in servers only.
                    for reader in READERS.iter().filter(|reader| !reader.name.contains('_')) {
                        let read = reader.read(Kind::Answer { to_head }, &stream.bytes, 0);
                        let Ok(read) = read else { panic!("{} does not read it: {}", reader.name, what()) };
                        assert_eq!(
                            (&read.start[1], &read.body),
                            (&status.to_string().into_bytes(), body),
                            "{}: {}",
                            reader.name,
                            what()
                        );
                    }
                    "passed"
                }
            };
            *tally.entry(outcome).or_default() += 1;
        }
        println!("seed {seed}, {count} answers: {tally:?}");
        for kind in ["passed", "broken off", "refused"] {
            assert!(tally.get(kind).is_some_and(|times| *times > count / 200), "{kind}: {tally:?}");
        }
    });
}
