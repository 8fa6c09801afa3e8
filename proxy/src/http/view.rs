//! A request as policies and routes see it: as it will be forwarded.

use std::net::IpAddr;

use http::Request;
use http::uri::PathAndQuery;
use meshgate_policy::RequestView;

use crate::http::headers;

/// What there is to see of a sanitised request, but for its token; `remote_ip` is the client's address.
pub fn of<'a, B>(request: &'a Request<B>, scheme: &'a str, remote_ip: IpAddr) -> RequestView<'a> {
    RequestView {
        method: request.method().as_str(),
        path: request.uri().path(),
        path_and_query: request.uri().path_and_query().map_or("/", PathAndQuery::as_str),
        host: headers::host(request).unwrap_or_default(),
        scheme,
        headers: request.headers(),
        token: None,
        remote_ip,
    }
}
