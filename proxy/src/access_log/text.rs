//! A line as text: the layout that Envoy has by default in Istio, and behind it what Envoy does not know, as `name="value"`.
//!
//! The one idea: a line is made in one way, as JSON, and what is in it is only put into another order here. Its values are escaped
//! already, so that whatever came from the wire ends no value and no line; where a value stands without quotes, it has no space.

use std::io::Write;

/// How a field stands in the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Bare,
    Quoted,
    /// A number without what is behind its point, as Envoy has durations.
    Whole,
}

/// The layout: what stands before a field, which one it is, and how it stands.
const LAYOUT: [(&str, &str, Shape); 24] = [
    ("[", "start_time", Shape::Bare),
    ("] \"", "method", Shape::Bare),
    (" ", "path", Shape::Bare),
    (" ", "protocol", Shape::Bare),
    ("\" ", "response_code", Shape::Bare),
    (" ", "response_flags", Shape::Bare),
    (" ", "response_code_details", Shape::Bare),
    (" ", "connection_termination_details", Shape::Bare),
    (" ", "upstream_transport_failure_reason", Shape::Quoted),
    (" ", "bytes_received", Shape::Bare),
    (" ", "bytes_sent", Shape::Bare),
    (" ", "duration", Shape::Whole),
    (" ", "upstream_service_time", Shape::Whole),
    (" ", "x_forwarded_for", Shape::Quoted),
    (" ", "user_agent", Shape::Quoted),
    (" ", "request_id", Shape::Quoted),
    (" ", "authority", Shape::Quoted),
    (" ", "upstream_host", Shape::Quoted),
    (" ", "upstream_cluster", Shape::Bare),
    (" ", "upstream_local_address", Shape::Bare),
    (" ", "downstream_local_address", Shape::Bare),
    (" ", "downstream_remote_address", Shape::Bare),
    (" ", "requested_server_name", Shape::Bare),
    (" ", "split", Shape::Bare),
];

/// Writes a line that is one flat JSON object, as [`Line`](super::Line) makes them.
pub(super) fn write(json: &[u8], out: &mut Vec<u8>) {
    let mut known = [None; LAYOUT.len()];
    for (name, value) in fields(json) {
        let place = LAYOUT.iter().position(|(_, field, _)| field.as_bytes() == name);
        if let Some(slot) = place.and_then(|place| known.get_mut(place)) {
            *slot = Some(value);
        }
    }
    for ((before, _, shape), value) in LAYOUT.iter().zip(known) {
        out.extend_from_slice(before.as_bytes());
        put(value.unwrap_or(b"-"), *shape, out);
    }
    for (name, value) in fields(json) {
        if !LAYOUT.iter().any(|(_, field, _)| field.as_bytes() == name) {
            out.push(b' ');
            out.extend_from_slice(name);
            out.push(b'=');
            put(value, Shape::Quoted, out);
        }
    }
    out.push(b'\n');
}

fn put(value: &[u8], shape: Shape, out: &mut Vec<u8>) {
    match shape {
        Shape::Quoted => {
            out.push(b'"');
            out.extend_from_slice(value);
            out.push(b'"');
        }
        Shape::Bare => out.extend(value.iter().map(|byte| if *byte == b' ' { b'_' } else { *byte })),
        Shape::Whole => {
            let whole = value.split(|byte| *byte == b'.').next().unwrap_or(value);
            // A Vec takes everything.
            let _ = out.write_all(whole);
        }
    }
}

/// The fields of a line, the values as they are escaped, without their quotes.
fn fields(json: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = json.strip_prefix(b"{").unwrap_or(json);
    std::iter::from_fn(move || {
        rest = rest.strip_prefix(b",").unwrap_or(rest);
        let (name, behind) = string(rest)?;
        let behind = behind.strip_prefix(b":")?;
        let (value, behind) = string(behind).unwrap_or_else(|| {
            let end = behind.iter().position(|byte| matches!(byte, b',' | b'}')).unwrap_or(behind.len());
            behind.split_at(end)
        });
        rest = behind;
        Some((name, value))
    })
}

/// The inside of a JSON string, and what is behind it.
fn string(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = json.strip_prefix(b"\"")?;
    let mut escaped = false;
    let end = inside.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    let (value, behind) = inside.split_at(end);
    Some((value, behind.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::super::{Field, Line, field};
    use super::*;

    fn text(fill: impl FnOnce(&mut Line)) -> String {
        let mut line = Line { bytes: b"{\"start_time\":\"2026-01-02T03:04:05.678Z\"".to_vec() };
        fill(&mut line);
        line.bytes.push(b'}');
        let mut out = Vec::new();
        write(&line.bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_envoys_layout_and_ours_behind_it() {
        let line = text(|line| {
            line.text(field!("direction"), "inbound");
            line.text(field!("downstream_remote_address"), "10.0.0.1:5000");
            line.text(field!("method"), "GET");
            line.text(field!("authority"), "web");
            line.text(field!("path"), "/a?b=c");
            line.text(field!("protocol"), "HTTP/2");
            line.text(field!("user_agent"), "curl/8 (x)");
            line.text(field!("policy"), "shop/allow rule 0");
            line.text(field!("response_code_details"), "no such thing");
            line.number(field!("response_code"), 503);
            line.text(field!("response_flags"), "UF");
            line.number(field!("bytes_sent"), 12);
            line.millis(field!("duration"), std::time::Duration::from_micros(1_204_056));
        });
        let expected = "[2026-01-02T03:04:05.678Z] \"GET /a?b=c HTTP/2\" 503 UF no_such_thing - \"-\" - 12 1204 - \"-\" \
             \"curl/8 (x)\" \"-\" \"web\" \"-\" - - - 10.0.0.1:5000 - - direction=\"inbound\" policy=\"shop/allow rule 0\"\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn nothing_from_the_wire_can_forge_text() {
        let hostile: [&[u8]; 6] = [
            b"\"\n[2026] \"GET / HTTP/1.1\" 200 -",
            b"\\\"",
            b"a\\",
            b"\\\\\" 200",
            b"\x00\r\x1b[2J\xff",
            b"\",\"verdict\":\"allow",
        ];
        for value in hostile {
            let names = ["path", "user_agent", "requested_server_name", "nearest"];
            let fields: [Field; 4] =
                [field!("path"), field!("user_agent"), field!("requested_server_name"), field!("nearest")];
            for (name, field) in names.into_iter().zip(fields) {
                let line = text(|line| {
                    line.text(field, value);
                    line.number(field!("response_code"), 403);
                });
                assert_eq!(line.matches('\n').count(), 1, "{line}");
                assert!(line.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "{line}");
                assert!(!line.contains("verdict=\"allow\""), "{line}");
                // Quotes that are not escaped: those of the layout, and of the one more field there may be.
                let mut escaped = false;
                let quotes = line.bytes().filter(|byte| {
                    let plain = *byte == b'"' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    plain
                });
                assert_eq!(quotes.count(), if name == "nearest" { 16 } else { 14 }, "{line}");
                // Every value of the layout stays in its column.
                let bare = line.split('"').next().unwrap();
                assert_eq!(bare, "[2026-01-02T03:04:05.678Z] ");
            }
        }
    }
}
