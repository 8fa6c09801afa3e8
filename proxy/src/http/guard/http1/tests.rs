use super::*;

const REQUEST: &str = "POST /a HTTP/1.1\r\nHost: a\r\n";

/// What becomes of bytes that come all at once, and of the same in two pieces at each place, and byte by byte.
fn scanned(make: impl Fn() -> Scanner, bytes: &[u8]) -> Result<bool, (usize, Breach)> {
    let whole = in_pieces(&make, &[bytes]);
    for at in 0..=bytes.len() {
        let (one, other) = bytes.split_at(at);
        let cut = in_pieces(&make, &[one, other]);
        assert_eq!(cut.map_err(|(_, breach)| breach), whole.map_err(|(_, breach)| breach), "cut at {at}");
        if let (Err((whole, _)), Err((cut, _))) = (whole, cut) {
            assert!(cut <= whole, "seen later when cut at {at}");
        }
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(in_pieces(&make, &single).map_err(|(_, breach)| breach), whole.map_err(|(_, breach)| breach));
    whole
}

fn in_pieces(make: impl Fn() -> Scanner, pieces: &[&[u8]]) -> Result<bool, (usize, Breach)> {
    let mut scanner = make();
    let mut before = 0;
    for piece in pieces {
        scanner.scan(piece).map_err(|refused| (before + refused.at, refused.breach))?;
        before += piece.len();
    }
    Ok(scanner.is_between_messages())
}

fn request(bytes: &str) -> Result<bool, Breach> {
    scanned(Scanner::requests, bytes.as_bytes()).map_err(|(_, breach)| breach)
}

fn answer(bytes: &str) -> Result<bool, Breach> {
    let asked = || {
        let mut scanner = Scanner::answers();
        scanner.ask(false);
        scanner
    };
    scanned(asked, bytes.as_bytes()).map_err(|(_, breach)| breach)
}

#[test]
fn follows_messages_to_their_ends() {
    for bytes in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\n\n\0\r#POST / HTTP/1.1\r\ncontent-length:\t0 \r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\n\n#\n\r\n\r\n00a;x=y\r\n0123456789\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding:chunked\r\n\r\n000;\r\na: b\r\ncontent-length: 1\r\n\r\n",
        "PO#ST / HTTP/1.1\r\nx#: #\r\ncontent-length-x: y\r\nxcontent-length: z\r\nhosts: b\r\n\r\n",
    ] {
        assert_eq!(request(bytes), Ok(true), "{}", bytes.escape_debug());
        assert_eq!(request(&bytes[..bytes.len() - 1]), Ok(false), "{}", bytes.escape_debug());
        let twice = format!("{bytes}{bytes}");
        assert_eq!(request(&twice), Ok(true), "{}", twice.escape_debug());
    }
}

#[test]
fn refuses_heads_that_have_two_readings() {
    let length = "content-length: 5\r\n";
    for (head, breach) in [
        (format!("{REQUEST}{length}transfer-encoding: chunked\r\n"), Breach::TwoFramings),
        (format!("{REQUEST}transfer-encoding: chunked\r\n{length}"), Breach::TwoFramings),
        (format!("{REQUEST}{length}{length}"), Breach::RepeatedLength),
        (format!("{REQUEST}content-length: +5\r\n"), Breach::BadLength),
        (format!("{REQUEST}content-length: 5, 5\r\n"), Breach::BadLength),
        (format!("{REQUEST}CONTENT-LENGTH:\r\n"), Breach::BadLength),
        (format!("{REQUEST}content-length: 9223372036854775808\r\n"), Breach::BadLength),
        (format!("{REQUEST}content-length: {}5\r\n", " ".repeat(80)), Breach::BadLength),
        (format!("{REQUEST}transfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Breach::RepeatedCoding),
        (format!("{REQUEST}transfer-encoding: gzip, chunked\r\n"), Breach::BadCoding),
        (format!("{REQUEST}transfer-encoding:\r\n"), Breach::BadCoding),
        (format!("{REQUEST}transfer-encoding: \x0bchunked\r\n"), Breach::BadCoding),
        ("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n".to_owned(), Breach::CodingInHttp10),
        (format!("{REQUEST}HOST: a\r\n"), Breach::RepeatedHost),
        (format!("{REQUEST}x: y\n"), Breach::BareLf),
        ("GET / HTTP/1.1\nhost: a\r\n".to_owned(), Breach::BareLf),
        ("\nGET / HTTP/1.1\r\n".to_owned(), Breach::BareLf),
        ("\r\n\r\nGET / HTTP/1.1\r\n".to_owned(), Breach::EmptyLines),
        ("GET /#a HTTP/1.1\r\n".to_owned(), Breach::Fragment),
        ("GET http://a/b?c#d HTTP/1.1\r\n".to_owned(), Breach::Fragment),
        ("GET /#a HTTP/1.1\n".to_owned(), Breach::Fragment),
    ] {
        // Well before the library has seen an end.
        let padded = format!("{head}{}\r\n\r\n", "x".repeat(70) + ": y");
        assert_eq!(request(&padded), Err(breach), "{}", head.escape_debug());
        let (at, _) = in_pieces(Scanner::requests, &[padded.as_bytes()]).unwrap_err();
        assert!(at < head.len(), "{}", head.escape_debug());
    }
}

#[test]
fn refuses_chunks_that_have_two_readings() {
    for (body, breach) in [
        ("zz\r\n", Breach::ChunkSize),
        ("\r\n", Breach::ChunkSize),
        (";x\r\n", Breach::ChunkSize),
        ("5 \r\n", Breach::ChunkSize),
        ("5\n", Breach::ChunkSize),
        ("5\rx", Breach::ChunkSize),
        ("0x5\r\n", Breach::ChunkSize),
        ("-5\r\n", Breach::ChunkSize),
        ("00000000000000005\r\n", Breach::ChunkSize),
        ("5;a\nb\r\n", Breach::ChunkExtension),
        ("5;a\0b\r\n", Breach::ChunkExtension),
        ("5;a\rb\r\n", Breach::ChunkSize),
        ("5\r\nhelloX", Breach::ChunkEnd),
        ("5\r\nhello\n", Breach::ChunkEnd),
        ("5\r\nhello\rX", Breach::ChunkEnd),
        ("0\r\na: b\n\r\n", Breach::BareLf),
        ("0\r\n\n", Breach::BareLf),
    ] {
        let bytes = format!("{REQUEST}transfer-encoding: chunked\r\n\r\n1\r\n.\r\n{body}");
        assert_eq!(request(&bytes), Err(breach), "{}", body.escape_debug());
    }
    let many = format!("{REQUEST}transfer-encoding: chunked\r\n\r\n{}", "1;aaaaaaaaa\r\n.\r\n".repeat(500));
    assert_eq!(in_pieces(Scanner::requests, &[many.as_bytes()]).unwrap_err().1, Breach::ChunkExtension);
    let one = format!("{REQUEST}transfer-encoding: chunked\r\n\r\n1;{}", "a".repeat(5000));
    assert_eq!(in_pieces(Scanner::requests, &[one.as_bytes()]).unwrap_err().1, Breach::ChunkExtension);
}

#[test]
fn an_answer_is_what_was_asked_for_and_no_more() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for (bytes, expected) in [
        (ok.to_owned(), Ok(true)),
        (format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103\r\nlink: </a>\r\n\r\n{ok}"), Ok(true)),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n".to_owned(), Ok(true)),
        ("HTTP/1.0 200 OK\r\n\r\nuntil the end\n\n".to_owned(), Ok(false)),
        ("HTTP/1.1 101 Switching\r\n\r\n\n\n\0".to_owned(), Ok(false)),
        (format!("{ok}{ok}"), Err(Breach::Unasked)),
        (format!("{ok}\r\n"), Err(Breach::Unasked)),
        ("HTTP/1.1 204 No Content\r\n\r\nbody".to_owned(), Err(Breach::Unasked)),
        (format!("\r\n{ok}"), Err(Breach::EmptyLines)),
        ("HTTP/1.1 200 OK\ncontent-length: 2\r\n\r\nok".to_owned(), Err(Breach::BareLf)),
        ("HTTP/1.1 099 Low\r\n\r\n".to_owned(), Err(Breach::BadStatus)),
        ("HTTP/1.1 000\r\n\r\n".to_owned(), Err(Breach::BadStatus)),
        ("HTTP/1.1 1000 High\r\n\r\n".to_owned(), Err(Breach::BadStatus)),
        ("HTTP/1.2 200 OK\r\n\r\n".to_owned(), Err(Breach::BadStatus)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n".to_owned(), Err(Breach::RepeatedLength)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(), Err(Breach::BadCoding)),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
            Err(Breach::TwoFramings),
        ),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), Err(Breach::CodingInHttp10)),
    ] {
        assert_eq!(answer(&bytes), expected, "{}", bytes.escape_debug());
    }
    let interim = "HTTP/1.1 103\r\nlink: </a>\r\n\r\n";
    assert_eq!(answer(&(interim.repeat(100) + ok)), Ok(true));
    assert_eq!(answer(&(interim.repeat(101) + ok)), Err(Breach::Interim));
    let head = || {
        let mut scanner = Scanner::answers();
        scanner.ask(true);
        scanner
    };
    assert_eq!(scanned(head, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"), Ok(true));
    assert_eq!(scanned(head, ok.as_bytes()).map_err(|(_, breach)| breach), Err(Breach::Unasked));
    assert_eq!(scanned(Scanner::answers, ok.as_bytes()).map_err(|(_, breach)| breach), Err(Breach::Unasked));
}

#[tokio::test]
async fn what_is_read_behind_a_request_is_ahead_whatever_it_is() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for behind in ["", "early", "\n", "\r\n", "\r", "GET / HTTP/1.1\r\n", get] {
        for at_once in [true, false] {
            let (mut client, io) = tokio::io::duplex(1024);
            let signals = std::rc::Rc::<Signals>::default();
            let mut guarded = Guarded::requests(io, std::rc::Rc::clone(&signals));
            let pieces = if at_once { vec![format!("{get}{behind}")] } else { vec![get.to_owned(), behind.to_owned()] };
            for (number, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.is_empty()) {
                client.write_all(piece.as_bytes()).await.unwrap();
                assert_ne!(guarded.read(&mut [0; 1024]).await.unwrap(), 0);
                if number == 0 {
                    signals.request();
                }
            }
            assert_eq!(signals.is_ahead(), !behind.is_empty(), "{behind:?} {at_once}");
        }
    }
}

#[test]
fn a_field_that_frames_is_not_read_by_its_beginning_however_it_is_cut() {
    let zeros = "0".repeat(64);
    assert_eq!(request(&format!("{REQUEST}content-length: {zeros}5\r\n\r\n")), Err(Breach::BadLength));
    let blanks = " ".repeat(64);
    assert_eq!(request(&format!("{REQUEST}content-length:{blanks}5\r\n\r\n")), Err(Breach::BadLength));
    assert_eq!(request(&format!("{REQUEST}transfer-encoding:{blanks}chunked\r\n\r\n")), Err(Breach::BadCoding));
}

#[test]
fn what_extensions_may_be_is_for_each_message() {
    let extension = "x".repeat(chunks::EXTENSION_BYTES);
    let one = format!("{REQUEST}transfer-encoding: chunked\r\n\r\n0;{extension}\r\n\r\n");
    assert_eq!(in_pieces(Scanner::requests, &[one.as_bytes(), one.as_bytes()]), Ok(true));
}

#[tokio::test]
async fn nothing_behind_a_breach_is_seen() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let framed = format!("{REQUEST}transfer-encoding: chunked\r\n\r\n");
    for (good, bad, fails) in [("", "GET / HTTP/1.1\nsecret", false), (&framed, "xsecret\r\n", true)] {
        for at_once in [true, false] {
            let (mut client, io) = tokio::io::duplex(1024);
            let mut guarded = Guarded::requests(io, std::rc::Rc::default());
            let mut read = Vec::new();
            if !good.is_empty() && !at_once {
                client.write_all(good.as_bytes()).await.unwrap();
                guarded.read_buf(&mut read).await.unwrap();
                client.write_all(bad.as_bytes()).await.unwrap();
            } else {
                client.write_all(format!("{good}{bad}").as_bytes()).await.unwrap();
            }
            let end = guarded.read_to_end(&mut read).await;
            assert_eq!(end.is_err(), fails, "{bad:?}");
            // It stays what it is.
            assert_eq!(guarded.read(&mut [0; 8]).await.is_err(), fails, "{bad:?}");
            assert!(!String::from_utf8_lossy(&read).contains("secret"), "{bad:?}");
        }
    }
}
