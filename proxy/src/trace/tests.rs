use http::{HeaderName, HeaderValue};

use super::*;

fn tracer(sample: f64, queue: usize) -> (Tracer, mpsc::Receiver<Box<Span>>, Metrics) {
    let (sender, receiver) = mpsc::channel(queue);
    let metrics = Metrics::default();
    let settings = TracingSettings {
        endpoint: "http://localhost:4318/v1/traces".parse().unwrap(),
        protocol: meshgate_config::OtlpProtocol::HttpProtobuf,
        sample,
        service_name: None,
        headers: HeaderMap::new(),
        trust_bundle: None,
        timeout: std::time::Duration::from_secs(1),
        interval: std::time::Duration::from_secs(1),
        queue,
        batch: 2,
    };
    (Tracer::new(&settings, sender, Arc::default(), &metrics), receiver, metrics)
}

fn headers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
}

#[test]
fn the_callers_decision_is_followed_whatever_our_share_is() {
    for sample in [0.0, 0.5, 1.0] {
        let (tracer, ..) = tracer(sample, 8);
        for (name, no, yes) in [
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
            ("b3", "0", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"),
            (
                "b3",
                "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
                "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-d",
            ),
        ] {
            let before = headers(name, no);
            let mut after = before.clone();
            assert!(tracer.begin(&mut after).is_none(), "{name}: {no}");
            assert_eq!(before, after, "untouched");
            let mut after = headers(name, yes);
            let span = tracer.begin(&mut after).unwrap();
            assert_eq!(
                (span.trace, span.parent),
                (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, Some(0xb7ad_6b71_6920_3331))
            );
            let told = Caller::read(&after);
            assert_eq!((told.ids(), told.sampled()), (Some((span.trace, span.id)), Some(true)));
        }
    }
}

#[test]
fn who_brings_no_trace_begins_one_with_our_share_and_everybody_behind_hears_of_it() {
    let (all, ..) = tracer(1.0, 8);
    let mut request = HeaderMap::new();
    let span = all.begin(&mut request).unwrap();
    assert_eq!((span.parent, span.flags), (None, 1));
    assert_eq!(Caller::read(&request).ids(), Some((span.trace, span.id)));
    let (none, ..) = tracer(0.0, 8);
    let mut request = HeaderMap::new();
    assert!(none.begin(&mut request).is_none() && request.is_empty(), "whoever comes next may begin one");
    let mut undecided = headers("b3", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331");
    assert!(none.begin(&mut undecided).is_none());
    assert_eq!(Caller::read(&undecided).sampled(), None);
    let (some, ..) = tracer(0.25, 8);
    let mut begun = 0;
    for _ in 0..4000 {
        let mut request = HeaderMap::new();
        let span = some.begin(&mut request);
        assert_eq!(Caller::read(&request).sampled(), Some(span.is_some()), "{request:?}");
        begun += u32::from(span.is_some());
    }
    // Six standard deviations of a fair die.
    assert!((836..=1164).contains(&begun), "{begun}");
}

#[test]
fn a_trace_that_is_left_to_us_is_decided_by_its_number() {
    let (tracer, ..) = tracer(0.5, 8);
    for (text, expected) in [
        ("0af7651916cd43dd7fffffffffffffff-b7ad6b7169203331", true),
        ("0af7651916cd43dd8000000000000000-b7ad6b7169203331", false),
    ] {
        let mut request = headers("b3", text);
        assert_eq!(tracer.begin(&mut request).is_some(), expected, "{text}");
        assert_eq!(Caller::read(&request).sampled(), Some(expected));
    }
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let (tracer, mut queue, metrics) = tracer(1.0, 3);
    for _ in 0..5 {
        tracer.end(tracer.begin(&mut HeaderMap::new()).unwrap());
    }
    let dropped = metrics.spans.get_or_create(&ResultLabels { result: "queue_full" });
    assert_eq!(dropped.get(), 2);
    assert!(std::iter::from_fn(|| queue.try_recv().ok()).count() == 3);
}

#[test]
fn shares_are_parts_of_all_numbers() {
    assert_eq!((Share::of(0.0), Share::of(1e-30), Share::of(1.0)), (Share::None, Share::None, Share::All));
    assert_eq!(Share::of(0.5), Share::Below(1 << 63));
    assert!(Share::of(0.5).takes(u128::MAX << 64) && !Share::of(0.5).takes(1 << 63) && !Share::None.takes(0));
}
