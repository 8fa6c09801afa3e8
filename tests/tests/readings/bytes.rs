//! Every byte, in every part of a head.

use meshgate_policy::normalize::Level;

use crate::pipe;
use crate::reader::is_token;

/// Sends a head with this in a place, and says what passed: method, target, host, and the bytes that went out.
async fn passed(head: &[u8]) -> Option<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let outcome = pipe::requests(Level::None, &[head]).await;
    let text = String::from_utf8_lossy(&outcome.answers).into_owned();
    let what = head.escape_ascii();
    let passed: Vec<_> = outcome.passed.into_iter().filter(|passed| !passed.refused).collect();
    match passed.as_slice() {
        [] => {
            assert!(text.starts_with("HTTP/1.1 400 "), "{what}: {text}");
            assert_eq!(text.matches("HTTP/1.1").count(), 1, "{what}: {text}");
            None
        }
        [one] => Some((one.method.clone(), one.target.clone(), one.sent.clone())),
        more => panic!("{what}: {more:?}"),
    }
}

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

#[test]
fn in_a_method() {
    pipe::run(async {
        for byte in 0..=u8::MAX {
            for method in [vec![byte], [b"G", [byte].as_slice(), b"T"].concat(), [b"GET", [byte].as_slice()].concat()] {
                let head = [&method, b" / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice()].concat();
                // One line end before a request is an old client's.
                if [b"\n".as_slice(), b"\r"].contains(&&*method) {
                    assert_eq!(passed(&head).await, None, "{byte:#x}");
                    continue;
                }
                let expected = is_token(byte).then_some(method);
                assert_eq!(passed(&head).await.map(|(method, ..)| method), expected, "{byte:#x}");
            }
        }
    });
}

#[test]
fn in_a_target() {
    pipe::run(async {
        for byte in 0..=u8::MAX {
            for target in [
                [b"/", [byte].as_slice()].concat(),
                [b"/a", [byte].as_slice(), b"b"].concat(),
                [b"/?", [byte].as_slice()].concat(),
            ] {
                let head = [b"GET ", target.as_slice(), b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
                let got = passed(&head).await.map(|(_, target, _)| target);
                match got {
                    Some(got) => {
                        assert_eq!(got, target, "{byte:#x}");
                        assert!(byte.is_ascii_graphic() && byte != b'#', "{byte:#x}");
                    }
                    // Some that may stand in no URI are refused, which is well.
                    None => {
                        assert!(!byte.is_ascii_alphanumeric() && !b"-._~!$&'()*+,;=:@%/?".contains(&byte), "{byte:#x}");
                    }
                }
            }
        }
    });
}

#[test]
fn in_a_name() {
    pipe::run(async {
        for byte in 0..=u8::MAX {
            for name in [vec![byte], [b"x", [byte].as_slice(), b"y"].concat(), [b"x", [byte].as_slice()].concat()] {
                // Two fields, or an empty name.
                let is_split = byte == b':';
                let head = [b"GET / HTTP/1.1\r\nhost: a\r\n", name.as_slice(), b": v\r\n\r\n"].concat();
                let got = passed(&head).await;
                let passes = is_token(byte) || (is_split && name.len() > 1);
                assert_eq!(got.is_some(), passes, "{byte:#x} in {}", name.escape_ascii());
                if let Some((.., sent)) = got {
                    let line = [name.to_ascii_lowercase().as_slice(), b": v\r\n"].concat();
                    assert!(is_split || contains(&sent, &line), "{byte:#x}: {}", sent.escape_ascii());
                }
            }
        }
    });
}

#[test]
fn in_a_value() {
    pipe::run(async {
        for byte in 0..=u8::MAX {
            for value in [vec![byte], [b"a", [byte].as_slice(), b"b"].concat(), [b"a", [byte].as_slice()].concat()] {
                let head = [b"GET / HTTP/1.1\r\nhost: a\r\nx: ", value.as_slice(), b"\r\nlast: z\r\n\r\n"].concat();
                let got = passed(&head).await;
                let passes = byte == b'\t' || !byte.is_ascii_control();
                assert_eq!(got.is_some(), passes, "{byte:#x} in {}", value.escape_ascii());
                if let Some((.., sent)) = got {
                    let trimmed = value.trim_ascii();
                    let line = [b"x: ", trimmed, b"\r\n"].concat();
                    assert!(contains(&sent, &line), "{byte:#x}: {}", sent.escape_ascii());
                }
            }
        }
    });
}
