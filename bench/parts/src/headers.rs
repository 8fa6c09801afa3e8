//! Heads made fit to be judged and forwarded.

use std::hint::black_box;

use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use meshgate::http::headers::{ClientCert, sanitise_request, sanitise_response};
use meshgate_policy::normalize::Level;

use crate::{Part, Work};

/// What a browser sends with a page's request for data.
const BROWSER: &[(&str, &str)] = &[
    ("host", "shop.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json, text/plain, */*"),
    ("accept-language", "en-GB,en;q=0.8,de;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example/basket"),
    ("cookie", "session=0f8fad5bd9cb469fa165708628b0f2b7; theme=dark; consent=necessary"),
    ("x-requested-with", "XMLHttpRequest"),
    ("sec-fetch-dest", "empty"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "same-origin"),
    ("if-none-match", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
    ("x-forwarded-for", "203.0.113.7"),
    ("x-request-id", "6f1c8d0e-2f0b-4a52-9d3c-5b0d9a3f7e61"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
];

/// What a program sends.
const MINIMAL: &[(&str, &str)] = &[("host", "backend.default")];

/// What an application answers a browser.
const ANSWER: &[(&str, &str)] = &[
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "1024"),
    ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
    ("server", "application"),
    ("cache-control", "private, max-age=60"),
    ("etag", "\"33a64df551425fcc55e4d42a148795d9f25f89d4\""),
    ("vary", "accept-encoding"),
    ("set-cookie", "session=0f8fad5bd9cb469fa165708628b0f2b7; Path=/; HttpOnly"),
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
];

pub(crate) fn parts() -> Vec<Part> {
    vec![
        Part::new("headers/request/browser", || request(BROWSER)),
        Part::new("headers/request/minimal", || request(MINIMAL)),
        Part::new("headers/response/browser", || response(ANSWER)),
        Part::new("headers/response/minimal", || response(&[("content-length", "1024")])),
    ]
}

fn request(fields: &[(&'static str, &'static str)]) -> Work {
    let mut request = Request::get("/api/v1/data?page=2").body(()).unwrap();
    *request.headers_mut() = map(fields);
    Box::new(move || {
        of_this_hop(request.headers_mut());
        sanitise_request(black_box(&mut request), Level::Base, ClientCert::Remove).unwrap();
    })
}

fn response(fields: &[(&'static str, &'static str)]) -> Work {
    let mut response = Response::new(());
    *response.headers_mut() = map(fields);
    Box::new(move || {
        of_this_hop(response.headers_mut());
        sanitise_response(black_box(&mut response));
    })
}

/// All that is taken away of these heads, so that there is something to take away each time.
fn of_this_hop(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}
