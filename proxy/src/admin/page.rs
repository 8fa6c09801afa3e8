//! `GET /`: the live page for browsers, a list of what there is for everybody else.
//!
//! The page is one file that asks nobody else for anything. It holds no data: it gets that from [`super::events`], as text. Its policy
//! (Content Security Policy, level 3) lets run what was built in, known by its hash, and nothing else; and strings do not become
//! markup (Trusted Types), so that a mistake in the page stays a mistake.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body_util::Full;

const MARKUP: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str =
    concat!(include_str!("page/graph.js"), include_str!("page/refusals.js"), include_str!("page/page.js"));

/// The page and its policy.
static PAGE: LazyLock<(Bytes, Option<HeaderValue>)> = LazyLock::new(|| {
    let page = MARKUP.replace("/*style*/", STYLE).replace("/*script*/", SCRIPT);
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    (page.into(), HeaderValue::try_from(policy).ok())
});

/// What else a browser is told of it.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Whether who asks is a browser.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    all.flat_map(|accept| accept.split(','))
        .any(|range| range.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html")))
}

/// The page.
pub(super) fn answer() -> Response<Full<Bytes>> {
    let (page, policy) = &*PAGE;
    let mut response = Response::new(Full::from(page.clone()));
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(policy) = policy {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_nobody_else_for_anything() {
        let (page, policy) = &*PAGE;
        let page = std::str::from_utf8(page).unwrap();
        assert!(policy.is_some() && page.contains(SCRIPT) && page.contains(STYLE));
        assert!(!page.contains("/*script*/") && !page.contains("/*style*/"));
        let outside = page.replace("http://www.w3.org/2000/svg", "");
        for forbidden in [
            "http:",
            "https:",
            "//cdn",
            "@import",
            "url(",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " onclick=",
            " style=",
        ] {
            assert!(!outside.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn browsers_get_the_page_and_scripts_the_list() {
        let wanted = |accept: &'static str| {
            is_wanted(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert!(wanted("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
        assert!(!wanted("*/*") && !wanted("text/plain") && !is_wanted(&HeaderMap::new()));
    }
}
