use super::*;

/// How a try ended, where a request goes then that may be sent again, and where one goes whose method is not idempotent.
const AGAIN: [(Ended, Option<Next>, Option<Next>); 11] = [
    (Ended::Unsent, Some(Next::Another), Some(Next::Another)),
    (Ended::Unprocessed, Some(Next::AnotherConnection), Some(Next::AnotherConnection)),
    (Ended::Unreached, Some(Next::Another), Some(Next::Another)),
    (Ended::Lost { reused: true }, Some(Next::AnotherConnection), None),
    (Ended::Lost { reused: false }, Some(Next::Another), None),
    (Ended::TimedOut, Some(Next::Another), None),
    (Ended::Garbled, None, None),
    (Ended::Answered(200), None, None),
    (Ended::Answered(404), None, None),
    (Ended::Answered(499), None, None),
    (Ended::Answered(503), None, None),
];

#[test]
fn what_is_kept_may_be_sent_again_wherever_there_was_no_answer_and_nobody_has_looked_at_it_or_may_twice() {
    for (ended, idempotent, other) in AGAIN {
        assert_eq!(ended.next(Repeat::Always, false), idempotent, "{ended:?}");
        for fail_over in [false, true] {
            assert_eq!(ended.next(Repeat::Unseen, fail_over), other, "{ended:?}");
        }
    }
}

#[test]
fn what_is_not_kept_goes_on_only_where_nothing_was_sent() {
    for (ended, next, _) in AGAIN {
        for fail_over in [false, true] {
            let expected = next.filter(|_| ended == Ended::Unsent);
            assert_eq!(ended.next(Repeat::Never, fail_over), expected, "{ended:?}");
        }
    }
}

#[test]
fn an_answer_is_asked_for_elsewhere_only_where_the_server_failed_and_the_route_fails_over() {
    for status in [200, 301, 404, 429, 499] {
        assert_eq!(Ended::Answered(status).next(Repeat::Always, true), None, "{status}");
    }
    for status in [500, 502, 503, 504, 599] {
        assert_eq!(Ended::Answered(status).next(Repeat::Always, true), Some(Next::AnotherCluster), "{status}");
        assert_eq!(Ended::Answered(status).next(Repeat::Always, false), None, "{status}");
        assert_eq!(Ended::Answered(status).next(Repeat::Unseen, true), None, "{status}");
    }
    assert_eq!(Ended::Garbled.next(Repeat::Always, true), None);
}

#[test]
fn only_what_is_idempotent_is_sent_again_whatever_became_of_it_and_nothing_that_waits_for_somebodys_leave() {
    let none = HeaderMap::new();
    let mut waits = HeaderMap::new();
    waits.insert(header::EXPECT, "100-continue".parse().unwrap());
    let methods = [
        (["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"], Repeat::Always),
        (["POST", "PATCH", "CONNECT", "PURGE", "get", "LOCK"], Repeat::Unseen),
    ];
    for (methods, repeat) in methods {
        for method in methods {
            assert_eq!(may_repeat(&method.parse().unwrap(), &none), repeat, "{method}");
            assert_eq!(may_repeat(&method.parse().unwrap(), &waits), Repeat::Never, "{method}");
        }
    }
}

#[test]
fn a_caller_is_told_the_worst_of_all_tries_and_nothing_of_one_that_may_still_be_at_work() {
    for (ended, told) in [
        (Ended::Unsent, Some(Unserved::Unreached)),
        (Ended::Unprocessed, Some(Unserved::Unreached)),
        (Ended::Unreached, Some(Unserved::Unreached)),
        (Ended::Lost { reused: true }, Some(Unserved::Lost)),
        (Ended::Lost { reused: false }, Some(Unserved::Lost)),
        (Ended::TimedOut, None),
        (Ended::Garbled, None),
        (Ended::Answered(503), None),
    ] {
        assert_eq!(ended.unserved(), told, "{ended:?}");
        assert_eq!(worst(Some(Unserved::Unreached), ended), told, "{ended:?}");
        assert_eq!(worst(Some(Unserved::Lost), ended), told.map(|_| Unserved::Lost), "{ended:?}");
        assert_eq!(worst(None, ended), None, "{ended:?}");
    }
}
