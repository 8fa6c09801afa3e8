use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;
const OURS: u64 = 0xabcd_ef01_2345_6789;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// What goes on as the next one's parent, when these lines came; in the order of the names.
fn written(lines: &[(&str, &str)], ours: Ours) -> Vec<(String, String)> {
    let mut headers = headers(lines);
    Caller::read(&headers).write(&mut headers, &ours);
    let mut all: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    all.sort();
    all
}

fn ours(trace: u128, parent: Option<u64>) -> Ours {
    Ours { trace, span: OURS, parent, sampled: true }
}

fn expect(lines: &[(&str, &str)], ours: Ours, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(written(lines, ours), expected, "{lines:?}");
}

/// Most of them are of the standard's own test suite (w3c/trace-context, `test/test.py`).
#[test]
fn a_traceparent_is_read_as_the_standard_says() {
    let all = |flags: &str| format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
    for (text, sampled) in [
        (all("01"), true),
        (all("00"), false),
        (all("03"), true),
        (all("ff"), true),
        (all("02"), false),
        (all("01").replacen("00-", "cc-", 1), true),
        (all("01").replacen("00-", "cc-", 1) + "-what-comes-later", true),
        (all("00").replacen("00-", "fe-", 1) + "-", false),
    ] {
        let caller = Caller::read(&headers(&[("traceparent", &text)]));
        assert_eq!((caller.ids(), caller.sampled()), (Some((TRACE, SPAN)), Some(sampled)), "{text}");
    }
    let good = all("01");
    for text in [
        String::new(),
        "-".repeat(55),
        "00".to_owned(),
        good[..54].to_owned(),
        good.clone() + "-",
        good.clone() + ".",
        good.clone() + "-00",
        good.replacen("00-", "ff-", 1),
        good.replacen("00-", ".0-", 1),
        good.replacen("00-", "000-", 1),
        good.replacen("00-", "0x-", 1),
        good.replacen("00-", "cc-", 1) + ".later",
        good.to_uppercase(),
        good.replace("4bf9", "4Bf9"),
        good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        good.replace("00f067aa0ba902b7", &"0".repeat(16)),
        good.replace("4bf9", ".bf9"),
        good.replace("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e47360"),
        good.replace("00f067aa0ba902b7", "00f067aa0ba902b70"),
        good.replace("-01", "-.1"),
        good.replace("-01", "-+1"),
        good.replace("-01", "-001"),
        good.replace('-', "_"),
        good.replace("-01", "-1-"),
        "0".repeat(60_000),
    ] {
        let caller = Caller::read(&headers(&[("traceparent", &text)]));
        assert_eq!((caller.ids(), caller.sampled()), (None, None), "{text}");
    }
    for lines in [&[][..], &[("traceparent", &*good), ("traceparent", &*good)]] {
        assert_eq!(Caller::read(&headers(lines)), Caller::default(), "{lines:?}");
    }
}

#[test]
fn b3_is_read_in_both_its_forms() {
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let both = format!("{trace}-{span}");
    for (lines, ids, sampled) in [
        (&[("b3", "0")][..], false, Some(false)),
        (&[("b3", "1")], false, Some(true)),
        (&[("b3", "d")], false, Some(true)),
        (&[("b3", &both)], true, None),
        (&[("b3", &format!("{both}-0"))], true, Some(false)),
        (&[("b3", &format!("{both}-1"))], true, Some(true)),
        (&[("b3", &format!("{both}-d"))], true, Some(true)),
        (&[("b3", &format!("{both}-1-05e3ac9a4f6e3b90"))], true, Some(true)),
        (&[("x-b3-sampled", "0")], false, Some(false)),
        (&[("x-b3-sampled", "true")], false, Some(true)),
        (&[("x-b3-flags", "1")], false, Some(true)),
        (&[("x-b3-traceid", trace), ("x-b3-spanid", span)], true, None),
        (&[("x-b3-traceid", trace), ("x-b3-spanid", span), ("x-b3-sampled", "false")], true, Some(false)),
        (&[("x-b3-traceid", trace), ("x-b3-spanid", span), ("x-b3-sampled", "1")], true, Some(true)),
        // One leads where they differ.
        (&[("b3", &format!("{both}-0")), ("x-b3-sampled", "1")], true, Some(false)),
        (&[("traceparent", &format!("00-{both}-00")), ("b3", "1")], true, Some(false)),
        (&[("traceparent", "nonsense"), ("b3", &format!("{both}-1"))], true, Some(true)),
    ] {
        let caller = Caller::read(&headers(lines));
        let expected = ids.then_some((TRACE, SPAN));
        assert_eq!((caller.ids(), caller.sampled()), (expected, sampled), "{lines:?}");
    }
    let short = Caller::read(&headers(&[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1")]));
    assert_eq!(short.ids(), Some((0xa3ce_929d_0e0e_4736, SPAN)));
}

#[test]
fn a_b3_that_is_none_counts_as_not_there() {
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let both = format!("{trace}-{span}");
    for text in [
        "",
        "2",
        "dd",
        "-",
        "--",
        "true",
        &format!("{both}-"),
        &format!("{both}-2"),
        &format!("{both}-1-"),
        &format!("{both}-1-0000000000000000"),
        &format!("{both}-1-{span}-1"),
        &format!("{both}x"),
        &format!("x{both}"),
        &format!("{}-{span}-1", "0".repeat(32)),
        &format!("{trace}-{}-1", "0".repeat(16)),
        &format!("{trace}0-{span}-1"),
        &format!("{}-{span}", &trace[1..]),
        &"0".repeat(60_000),
    ] {
        assert_eq!(Caller::read(&headers(&[("b3", text)])), Caller::default(), "{text}");
    }
    for lines in [
        &[("x-b3-traceid", trace)][..],
        &[("x-b3-spanid", span)],
        &[("x-b3-sampled", "d")],
        &[("x-b3-flags", "0")],
        &[("x-b3-traceid", trace), ("x-b3-spanid", trace)],
        &[("x-b3-traceid", trace), ("x-b3-traceid", trace), ("x-b3-spanid", span)],
        &[("x-b3-traceid", trace), ("x-b3-spanid", span), ("x-b3-sampled", "yes")],
        &[("b3", "1"), ("b3", "1")],
    ] {
        assert_eq!(Caller::read(&headers(lines)), Caller::default(), "{lines:?}");
    }
}

#[test]
fn the_forms_that_came_go_on_with_our_span() {
    let parent = Some(SPAN);
    expect(
        &[("traceparent", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-x"), ("tracestate", "a=1,b=2")],
        ours(TRACE, parent),
        &[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-abcdef0123456789-03"), ("tracestate", "a=1,b=2")],
    );
    expect(
        &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1-05e3ac9a4f6e3b90")],
        ours(TRACE, parent),
        &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-abcdef0123456789-1-00f067aa0ba902b7")],
    );
    expect(
        &[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-d")],
        ours(TRACE & u128::from(u64::MAX), parent),
        &[("b3", "a3ce929d0e0e4736-abcdef0123456789-d-00f067aa0ba902b7")],
    );
    expect(
        &[
            ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
            ("x-b3-spanid", "00f067aa0ba902b7"),
            ("x-b3-parentspanid", "05e3ac9a4f6e3b90"),
            ("x-b3-sampled", "true"),
        ],
        ours(TRACE, parent),
        &[
            ("x-b3-parentspanid", "00f067aa0ba902b7"),
            ("x-b3-sampled", "1"),
            ("x-b3-spanid", "abcdef0123456789"),
            ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ],
    );
    expect(
        &[("x-b3-flags", "1")],
        ours(TRACE, None),
        &[
            ("x-b3-flags", "1"),
            ("x-b3-spanid", "abcdef0123456789"),
            ("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ],
    );
    expect(&[("b3", "1")], ours(TRACE, None), &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-abcdef0123456789-1")]);
}

#[test]
fn one_of_another_trace_stays_and_one_of_the_same_goes_along() {
    let traceparent = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let out = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-abcdef0123456789-01");
    let other = ("b3", "4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-1");
    expect(&[traceparent, other], ours(TRACE, Some(SPAN)), &[other, out]);
    let same = ("b3", "a3ce929d0e0e4736-0000000000000001-1");
    expect(
        &[traceparent, same],
        ours(TRACE, Some(SPAN)),
        &[("b3", "a3ce929d0e0e4736-abcdef0123456789-1-00f067aa0ba902b7"), out],
    );
}

#[test]
fn a_trace_that_begins_is_written_as_w3c_and_has_nobodys_state() {
    let unsampled = Ours { sampled: false, ..ours(TRACE, None) };
    let nonsense = [("traceparent", "00-0-0-01"), ("traceparent", "x"), ("tracestate", "a=1"), ("tracestate", "b=1")];
    for lines in [&[][..], &nonsense, &[("tracestate", "a=1")]] {
        let out = "00-4bf92f3577b34da6a3ce929d0e0e4736-abcdef0123456789-01";
        expect(lines, ours(TRACE, None), &[("traceparent", out)]);
        expect(lines, unsampled, &[("traceparent", &out.replace("-01", "-00"))]);
    }
    // Left to us, and we said no: who comes next is not to be asked again.
    let undecided = ("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7");
    let said = format!("{}-0", undecided.1);
    expect(&[undecided], Ours { span: SPAN, ..unsampled }, &[("b3", &said)]);
}

#[test]
fn a_state_is_recorded_as_one_list_if_it_is_not_too_long() {
    let state = |lines: &[(&str, &str)]| state(&headers(lines));
    assert_eq!(state(&[]), None);
    assert_eq!(state(&[("tracestate", "a=1"), ("tracestate", "b=2")]).as_deref(), Some("a=1,b=2"));
    assert_eq!(state(&[("tracestate", "a=\u{e9}")]), None);
    assert_eq!(state(&[("tracestate", &"a".repeat(STATE_MAX))]), None);
    assert!(state(&[("tracestate", &"a".repeat(STATE_MAX - 1))]).is_some());
}

proptest! {
    #[test]
    fn whatever_comes_what_goes_on_is_read_as_what_was_written(
        lines in prop::collection::vec(("traceparent|tracestate|b3|x-b3-(traceid|spanid|sampled|flags|parentspanid)",
            prop_oneof!["[ -~]{0,80}", "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", "[0-9a-f]{16}|[0-9a-f]{32}",
                "([0-9a-f]{16}){1,2}-[0-9a-f]{16}(-[01d](-[0-9a-f]{16})?)?", "[01d]|true|false"]), 0..8),
        trace in 1..u128::MAX, span in 1..u64::MAX, sampled: bool,
    ) {
        let lines: Vec<_> = lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut headers = headers(&lines);
        let came = Caller::read(&headers);
        let trace = came.ids().map_or(trace, |(trace, _)| trace);
        let decision = came.sampled().unwrap_or(sampled);
        came.write(&mut headers, &Ours { trace, span, parent: came.ids().map(|(_, span)| span), sampled: decision });
        let goes = Caller::read(&headers);
        prop_assert_eq!(goes.ids(), Some((trace, span)));
        prop_assert_eq!(goes.sampled(), Some(decision));
    }
}
