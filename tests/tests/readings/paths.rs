//! Paths: every escape alone and in pairs, at every level. What is judged is what goes out, and reads the same once more.

use meshgate_policy::normalize::Level;

use crate::dice::Dice;
use crate::levels::{self, path};
use crate::{pipe, seed};

/// For each level; the second is asked for with `MESHGATE_GENERATED`.
const FEW: usize = 1_500;

const LEVELS: [(Level, levels::Level); 4] = [
    (Level::None, levels::Level::None),
    (Level::Base, levels::Level::Base),
    (Level::MergeSlashes, levels::Level::MergeSlashes),
    (Level::DecodeAndMergeSlashes, levels::Level::DecodeAndMergeSlashes),
];

#[test]
fn what_is_judged_of_a_path_is_what_goes_out() {
    let all = mutations();
    assert!(all.len() > 100_000, "{}", all.len());
    let mut dice = Dice::new(seed());
    let wanted: Vec<&String> = match std::env::var_os("MESHGATE_GENERATED") {
        Some(_) => all.iter().collect(),
        None => (0..FEW).map(|_| &all[dice.below(all.len())]).collect(),
    };
    pipe::run(async {
        for (level, plain) in LEVELS {
            let (mut passed, mut refused) = (0, 0);
            for some in wanted.chunks(50) {
                let bytes: String = some.iter().map(|path| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).collect();
                let outcome = pipe::requests(level, &[bytes.as_bytes()]).await;
                let mut got = outcome.passed.into_iter().filter(|passed| !passed.refused);
                let answers = String::from_utf8_lossy(&outcome.answers);
                let statuses: Vec<&str> = answers.matches("HTTP/1.1 200").collect();
                let mut seen = 0;
                for (path, answer) in some.iter().zip(answers.split("HTTP/1.1 ").skip(1)) {
                    seen += 1;
                    if !answer.starts_with("200") {
                        refused += 1;
                        continue;
                    }
                    passed += 1;
                    let got = got.next().expect("as many as were answered");
                    judge(plain, path, &got.target, &got.sent);
                }
                assert_eq!((seen, got.count()), (some.len(), 0), "{level:?}: {} served", statuses.len());
            }
            println!("{level:?}: {passed} passed, {refused} refused");
            assert!(passed > refused, "{level:?}: {passed} passed, {refused} refused");
        }
    });
}

fn judge(level: levels::Level, sent: &str, judged: &[u8], upstream: &[u8]) {
    let target = upstream.split(|byte| *byte == b' ').nth(1).unwrap();
    assert_eq!(target, judged, "{sent} at {level:?}: judged as something else than what goes out");
    assert_eq!(path(sent.as_bytes(), level).as_deref(), Some(judged), "{sent} at {level:?}");
    assert_eq!(path(judged, level).as_deref(), Some(judged), "{sent} at {level:?}: reads otherwise once more");
}

/// `%00` to `%ff` alone, beside each of `.`, `/` and `\`, and beside each other.
fn mutations() -> Vec<String> {
    let escapes: Vec<String> = (0..=u8::MAX).map(|byte| format!("%{byte:02x}")).collect();
    let mut all = Vec::new();
    for (index, one) in escapes.iter().enumerate() {
        let upper = one.to_ascii_uppercase();
        for one in [one, &upper] {
            for frame in
                ["/X", "/X/", "/a/X", "/aX", "/X/b", "/a/X/b", "/a/bXc/d", "/aX/b", "/a/Xb", "/a?X", "/./X", "/a//X"]
            {
                all.push(frame.replace('X', one));
            }
            for other in [".", "/", "\\", "..", ";", "%", "%2", "%2e", "%2f", "%5c", "%25"] {
                for frame in ["/XY/b", "/a/XY/b", "/a/YX", "/a/YXY/b", "/YXb", "/a/XYX/../b"] {
                    all.push(frame.replace('X', one).replace('Y', other));
                }
            }
        }
        for other in &escapes {
            all.push(format!("/{}/{one}{other}/b", index % 7));
        }
    }
    all
}
