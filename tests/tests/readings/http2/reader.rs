//! What a request over HTTP/2 says: by the letter of RFC 9113, to servers that look less closely, and as the text that a careless
//! gateway makes of it.

use super::call::{Call, End, Field};
use crate::reader::{Kind, READERS, is_token};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) method: Vec<u8>,
    /// Without a fragment: the library below the product cuts it off before anybody sees it.
    pub(super) target: Vec<u8>,
    pub(super) host: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// By the letter (sections 8.1 to 8.3); what may stand in names and values, in RFC 9110, section 5.
pub(super) fn strict(call: &Call) -> Option<Meaning> {
    let (pseudo, fields): (Vec<&Field>, Vec<&Field>) = call.fields.iter().partition(|field| field.0.starts_with(b":"));
    let in_order = call.fields.iter().take(pseudo.len()).all(|field| field.0.starts_with(b":"));
    let one = |name: &str| match call.values(name).collect::<Vec<_>>().as_slice() {
        [one] => Some(one.to_vec()),
        _ => None,
    };
    let known: [&[u8]; 4] = [b":method", b":scheme", b":authority", b":path"];
    let (method, scheme, target) = (one(":method")?, one(":scheme")?, without_fragment(&one(":path")?));
    let hosts: Vec<&[u8]> = call.values("host").collect();
    let host = match (one(":authority"), hosts.as_slice()) {
        (Some(authority), []) => authority,
        (Some(authority), [host]) if authority == *host => authority,
        (None, [host]) if call.values(":authority").next().is_none() => host.to_vec(),
        _ => return None,
    };
    let valid = in_order
        && pseudo.iter().all(|field| known.contains(&field.0.as_slice()))
        && fields.iter().all(|field| is_valid(field))
        && call.trailers.iter().flatten().all(is_valid)
        && fields.iter().all(|(name, value)| name != b"te" || value == b"trailers")
        && !method.is_empty()
        && method.iter().copied().all(is_token)
        && method != b"CONNECT"
        && [b"http".as_slice(), b"https"].contains(&scheme.to_ascii_lowercase().as_slice())
        && (target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS"))
        && host.iter().all(|byte| byte.is_ascii_graphic() && !b"/@?#\\\"<>^`{|}".contains(byte))
        && call.end != End::Reset;
    let body = call.body();
    let fits = match call.values("content-length").collect::<Vec<_>>().as_slice() {
        [] => true,
        [length] => length.iter().all(u8::is_ascii_digit) && number(length) == Some(body.len()),
        _ => false,
    };
    (valid && fits).then_some(Meaning { method, target, host, body })
}

/// What is left of a request that the library below the product (h2 0.4) lets through although it is malformed: what made it so is
/// left out, and nobody sees more of it than this, neither policies nor the application. It takes no notice of pseudo fields in
/// trailers, nor of a scheme beside Host instead of an authority; and where a block of fields is cut into frames within a field, it forgets what was wrong with those before the cut.
pub(super) fn left_by_the_library(call: &Call) -> Call {
    let mut left = call.clone();
    let forgotten = |name: &[u8]| call.cut && (name.is_empty() || OF_CONNECTION.contains(&name));
    let (mut seen, mut behind) = (Vec::<Vec<u8>>::new(), false);
    left.fields.retain(|(name, value)| {
        let is_pseudo = name.starts_with(b":");
        let again = call.cut && is_pseudo && (behind || seen.contains(name));
        let left_out = again || forgotten(name) || (call.cut && name == b"te" && value != b"trailers");
        behind |= !is_pseudo && !left_out;
        seen.push(name.clone());
        !left_out
    });
    if left.values(":authority").next().is_none() {
        left.fields.iter_mut().filter(|field| field.0 == b":scheme").for_each(|field| field.1 = b"http".to_vec());
    }
    if let Some(trailers) = &mut left.trailers {
        trailers.retain(|(name, _)| !name.starts_with(b":") && !forgotten(name));
    }
    left
}

const OF_CONNECTION: [&[u8]; 5] = [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"];

fn is_valid((name, value): &Field) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !name.is_empty()
        && name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase())
        && !OF_CONNECTION.contains(&name.as_slice())
        && value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
        && !is_blank(value.first())
        && !is_blank(value.last())
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A leniency: how a server takes a list of fields, and what is left of the body.
type Leniency = (&'static str, fn(&mut Call));

/// Those that other servers have been found to have; each makes of a request what it takes it for.
const LENIENCIES: [Leniency; 7] = [
    ("takes the last of each pseudo field", |call| {
        for name in [":method", ":scheme", ":authority", ":path"] {
            let last = call.values(name).last().map(<[u8]>::to_vec);
            keep_one(call, name, last);
        }
    }),
    ("takes the first of each pseudo field", |call| {
        for name in [":method", ":scheme", ":authority", ":path"] {
            let first = call.values(name).next().map(<[u8]>::to_vec);
            keep_one(call, name, first);
        }
    }),
    ("prefers host", |call| {
        if let Some(host) = call.values("host").last().map(<[u8]>::to_vec) {
            keep_one(call, ":authority", Some(host));
        }
    }),
    ("takes names in any case", |call| call.fields.iter_mut().for_each(|field| field.0.make_ascii_lowercase())),
    ("takes off blanks", |call| {
        for field in &mut call.fields {
            *field = (field.0.trim_ascii().to_vec(), field.1.trim_ascii().to_vec());
        }
    }),
    ("takes _ for -", |call| {
        let names = call.fields.iter_mut().map(|field| &mut field.0);
        names.flatten().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
        // Of the fields of a connection only one frames; the others say nothing to a server.
        call.fields.retain(|field| !OF_CONNECTION.contains(&&*field.0) || field.0 == b"transfer-encoding");
    }),
    ("merges trailers", |call| {
        // Those that the product lets go on: whatever frames or routes is taken out of them.
        let framing: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"content_length"];
        let trailers = call.trailers.take().unwrap_or_default();
        call.fields.extend(trailers.into_iter().filter(|field| !framing.contains(&field.0.as_slice())));
    }),
];

fn keep_one(call: &mut Call, name: &str, value: Option<Vec<u8>>) {
    call.fields.retain(|field| field.0 != name.as_bytes());
    call.fields.splice(0..0, value.map(|value| (name.as_bytes().to_vec(), value)));
}

/// Who reads the request as something else than this.
pub(super) fn dissenter(call: &Call, meaning: &Meaning) -> Option<String> {
    for (name, leniency) in LENIENCIES {
        let mut taken = call.clone();
        leniency(&mut taken);
        let read = strict(&taken);
        if read.as_ref() != Some(meaning) {
            return Some(format!("{name}: {read:?}"));
        }
    }
    let text = text(call, meaning);
    for reader in READERS {
        let read = reader.read(Kind::Request, &text, 0);
        let same = read.as_ref().is_ok_and(|read| {
            let [method, target, _] = &read.start;
            let hosts = std::slice::from_ref(&meaning.host);
            (method, target, &read.body) == (&meaning.method, &meaning.target, &meaning.body)
                && read.hosts == hosts
                && read.end == text.len()
        });
        if !same {
            return Some(format!("as text, {}: {read:?} of {}", reader.name, text.escape_ascii()));
        }
    }
    None
}

/// What a gateway makes of it that writes down whatever it gets.
fn text(call: &Call, meaning: &Meaning) -> Vec<u8> {
    let path = without_fragment(call.values(":path").next().unwrap_or_default());
    let mut text = [&meaning.method, b" ".as_slice(), &path, b" HTTP/1.1\r\nhost: ", &meaning.host, b"\r\n"].concat();
    let line =
        |text: &mut Vec<u8>, (name, value): &Field| text.extend([name, b": ".as_slice(), value, b"\r\n"].concat());
    let regular = call.fields.iter().filter(|field| !field.0.starts_with(b":") && field.0 != b"host");
    regular.for_each(|field| line(&mut text, field));
    if call.values("content-length").next().is_some() {
        return [text, b"\r\n".to_vec(), call.body()].concat();
    }
    text.extend(b"transfer-encoding: chunked\r\n\r\n");
    for piece in call.data.iter().filter(|piece| !piece.is_empty()) {
        text.extend([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
    }
    text.extend(b"0\r\n");
    call.trailers.iter().flatten().for_each(|field| line(&mut text, field));
    [text, b"\r\n".to_vec()].concat()
}

fn without_fragment(target: &[u8]) -> Vec<u8> {
    let cut = target.split(|byte| *byte == b'#').next().unwrap_or_default();
    if cut.is_empty() && !target.is_empty() { b"/".to_vec() } else { cut.to_vec() }
}
