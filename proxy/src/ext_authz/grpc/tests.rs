//! The bytes here were made, and are read, by Envoy's own definitions: `xds-protos` for Python, serialised with
//! `deterministic=True`.

use std::time::Duration;

use http_body_util::Full;

use super::*;

const REQUEST: &str = "
0a86030a410a100a0e120831302e302e302e3118c0b802222d7370696666653a2f2f636c75737465722e6c6f63616c2f6e732f64656661
756c742f73612f66726f6e74656e64123f0a0f0a0d120831302e302e302e3218903f222c7370696666653a2f2f636c75737465722e6c6f
63616c2f6e732f64656661756c742f73612f6261636b656e6422ec010a080880e2cfaa06100512df010a03722d311204504f53541a1a0a
0a3a617574686f72697479120c6261636b656e643a383038301a0f0a073a6d6574686f641204504f53541a0f0a053a7061746812062f61
3f623d631a100a073a736368656d65120568747470731a220a19782d656e766f792d617574682d7061727469616c2d626f647912056661
6c73651a0c0a05782d6f6e651203312c321a0d0a05782d7261771204636166211a130a0c782d726571756573742d69641203722d312206
2f613f623d632a0c6261636b656e643a383038303205687474707348035208485454502f312e315a0361626362110a0f6261636b656e64
2e64656661756c74";

const ALLOWED: &str = "
0a001a9d0112110a0f0a06782d757365721205616c69636512120a0c0a07782d67726f757012016112020801120f0a0b0a06782d6c6174
651201311801120d0a090a04782d6966120131180312100a0e0a053a7061746812052f6576696c120e0a0c0a07782d62797465731a01ff
1a0a0a080a016112031a01622a08782d736563726574320d0a0b0a06782d7365656e1201313a060a016b12017642056465627567";

const DENIED: &str = "
0a06080712026e6f12730a03089103121b0a190a107777772d61757468656e7469636174651205426173696312130a110a0a7365742d63
6f6f6b69651203613d3112170a110a0a7365742d636f6f6b69651203623d321202080112180a160a0e636f6e74656e742d6c656e677468
1204393939391a07676f2061776179";

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed.into()
}

#[test]
fn a_check_is_what_envoys_definitions_say() {
    let peer = "spiffe://cluster.local/ns/default/sa/frontend".parse().unwrap();
    let subject = Subject {
        peer: Some(&peer),
        source: ([10, 0, 0, 1], 40000).into(),
        destination: ([10, 0, 0, 2], 8080).into(),
        sni: Some("backend.default"),
    };
    let request = Request::post("/a?b=c")
        .header("host", "backend:8080")
        .header("x-one", "1")
        .header("x-one", "2")
        .header("x-request-id", "r-1")
        .header("x-raw", HeaderValue::from_bytes(b"caf\xe9").unwrap())
        .body(Full::<Bytes>::from("abc"));
    let shown = Shown { data: Bytes::from_static(b"abc"), whole: true };
    let http = http_request(&subject, &request.unwrap(), Some(&shown), None);
    let now = UNIX_EPOCH + Duration::new(1_700_000_000, 5);
    let own = "spiffe://cluster.local/ns/default/sa/backend".to_owned();
    let check = proto::CheckRequest { attributes: Some(attributes(&subject, own, Some(http), now)) };
    assert_eq!(check.encode_to_vec(), bytes(REQUEST));
}

#[test]
fn a_yes_is_read_with_its_changes() {
    let answer = read(framed(&bytes(ALLOWED)));
    let Ok(Answer::Allow(changes)) = answer else { panic!("{answer:?}") };
    let headers: Vec<_> = changes.headers.iter().map(|change| (change.name.as_str(), change.how)).collect();
    let expected = [
        ("x-user", How::Replace),
        ("x-group", How::AppendIfPresent),
        ("x-late", How::AddIfAbsent),
        ("x-if", How::ReplaceIfPresent),
        // Not `:path`: it is no header.
        ("x-bytes", How::Replace),
    ];
    assert_eq!(headers, expected);
    assert_eq!(changes.headers[4].value.as_bytes(), b"\xff");
    assert_eq!(changes.remove, ["x-secret"]);
    assert_eq!(changes.downstream[0].name, "x-seen");
    assert_eq!(changes.query_set, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(changes.query_remove, ["debug"]);
    // gRPC's and protocol buffers' way of saying OK is to say nothing.
    assert!(matches!(read(framed(b"")), Ok(Answer::Allow(_))));
}

#[test]
fn a_no_is_read_with_what_the_caller_is_told() {
    let Ok(Answer::Deny(refusal)) = read(framed(&bytes(DENIED))) else { panic!("not a no") };
    assert_eq!((refusal.status.as_u16(), refusal.body.as_ref()), (401, b"go away".as_slice()));
    let headers: Vec<_> =
        refusal.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("www-authenticate", "Basic"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]);
    // A code without words is a no as well, and so is one with a yes beside it.
    for (status, answer) in [(b"\x0a\x02\x08\x07".as_slice(), b"".as_slice()), (b"\x0a\x02\x08\x10", b"\x1a\x00")] {
        let Ok(Answer::Deny(refusal)) = read(framed(&[status, answer].concat())) else { panic!("not a no") };
        assert_eq!(refusal.status, StatusCode::FORBIDDEN);
    }
    let informational = b"\x0a\x02\x08\x07\x12\x04\x0a\x02\x08\x65";
    let Ok(Answer::Deny(refusal)) = read(framed(informational)) else { panic!("not a no") };
    assert_eq!(refusal.status, StatusCode::FORBIDDEN, "101 is no refusal");
}

#[test]
fn what_is_not_one_message_is_no_answer() {
    let whole = framed(&bytes(ALLOWED));
    let mut compressed = whole.to_vec();
    compressed[0] = 1;
    for (wrong, framed) in [
        ("nothing", Bytes::new()),
        ("half a prefix", whole.slice(..3)),
        ("half a message", whole.slice(..40)),
        ("two messages", [whole.clone(), whole.clone()].concat().into()),
        ("compressed", compressed.into()),
        ("no protocol buffer", framed(b"\xff\xff\xff")),
    ] {
        assert!(matches!(read(framed), Err(Failure::Answer(_))), "{wrong}");
    }
}

/// An answer with one field of headers, and the names and values in it.
fn with_headers<'a>(field: u32, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> proto::CheckResponse {
    let option = |(key, value): (&str, &[u8])| proto::HeaderValueOption {
        header: Some(proto::Header {
            key: key.to_owned(),
            value: String::new(),
            raw_value: Bytes::copy_from_slice(value),
        }),
        ..Default::default()
    };
    let options: Vec<_> = headers.map(option).collect();
    let mut response = proto::CheckResponse::default();
    match field {
        2 => response.ok_response = Some(proto::OkHttpResponse { headers: options, ..Default::default() }),
        6 => {
            let ok = proto::OkHttpResponse { response_headers_to_add: options, ..Default::default() };
            response.ok_response = Some(ok);
        }
        _ => {
            response.status = Some(proto::Status { code: 7 });
            response.denied_response = Some(proto::DeniedHttpResponse { headers: options, ..Default::default() });
        }
    }
    response
}

#[test]
fn a_yes_with_a_header_that_cannot_be_set_is_no_yes() {
    for (key, value) in [("x-role", b"user\r\nx-evil: 1".as_slice()), ("x-role", b"\0"), ("x role", b"1"), ("", b"1")] {
        for field in [2, 6] {
            let message = with_headers(field, [("x-user", b"alice".as_slice()), (key, value)].into_iter());
            let answer = read(framed(&message.encode_to_vec()));
            assert!(matches!(answer, Err(Failure::Answer(_))), "{field} {key:?} {value:?}: {answer:?}");
        }
        let message = with_headers(0, [("x-why", b"no".as_slice()), (key, value)].into_iter());
        let Ok(Answer::Deny(refusal)) = read(framed(&message.encode_to_vec())) else { panic!("not a no") };
        assert_eq!(refusal.headers.len(), 1, "a no stays one");
    }
}

#[test]
fn more_headers_than_a_message_can_hold_end_no_connection() {
    let names: Vec<String> = (0..26_000).map(|number| format!("{number:x}")).collect();
    let all = || names.iter().map(|name| (name.as_str(), b"".as_slice()));
    assert!(matches!(read(framed(&with_headers(2, all()).encode_to_vec())), Err(Failure::Answer(_))));
    assert!(matches!(read(framed(&with_headers(0, all()).encode_to_vec())), Ok(Answer::Deny(_))));
}
