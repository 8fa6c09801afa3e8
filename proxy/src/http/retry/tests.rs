use super::*;

const GET_AGAIN: [(Ended, Option<Next>); 10] = [
    (Ended::Unsent, Some(Next::Another)),
    (Ended::Unprocessed, Some(Next::AnotherConnection)),
    (Ended::Lost { reused: true }, Some(Next::AnotherConnection)),
    (Ended::Lost { reused: false }, Some(Next::Another)),
    (Ended::TimedOut, Some(Next::Another)),
    (Ended::Garbled, None),
    (Ended::Answered(200), None),
    (Ended::Answered(404), None),
    (Ended::Answered(499), None),
    (Ended::Answered(503), None),
];

#[test]
fn what_is_kept_may_be_sent_again_wherever_there_was_no_answer() {
    for (ended, next) in GET_AGAIN {
        assert_eq!(ended.next(true, false), next, "{ended:?}");
    }
}

#[test]
fn what_is_not_kept_goes_on_only_where_nothing_was_sent() {
    for (ended, next) in GET_AGAIN {
        for fail_over in [false, true] {
            let expected = next.filter(|_| ended == Ended::Unsent);
            assert_eq!(ended.next(false, fail_over), expected, "{ended:?}");
        }
    }
    assert_eq!(Ended::Answered(503).next(false, true), None);
}

#[test]
fn an_answer_is_asked_for_elsewhere_only_where_the_server_failed_and_the_route_fails_over() {
    for status in [200, 301, 404, 429, 499] {
        assert_eq!(Ended::Answered(status).next(true, true), None, "{status}");
    }
    for status in [500, 502, 503, 504, 599] {
        assert_eq!(Ended::Answered(status).next(true, true), Some(Next::AnotherCluster), "{status}");
        assert_eq!(Ended::Answered(status).next(true, false), None, "{status}");
    }
    assert_eq!(Ended::Garbled.next(true, true), None);
}

#[test]
fn only_what_is_idempotent_and_waits_for_nobodys_leave_is_kept() {
    let none = HeaderMap::new();
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert!(may_be_kept(&method.parse().unwrap(), &none), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "PURGE", "get"] {
        assert!(!may_be_kept(&method.parse().unwrap(), &none), "{method}");
    }
    let mut waits = HeaderMap::new();
    waits.insert(header::EXPECT, "100-continue".parse().unwrap());
    assert!(!may_be_kept(&Method::PUT, &waits));
}
