//! Probes of the application that the admin endpoint carries out in the kubelet's place: `appProbes`.
//!
//! The one idea: the kubelet has no identity, so what it asks the application directly is refused wherever the mesh holds. It asks the
//! admin endpoint instead, which asks the application what stands here and nothing else.
//!
//! Keys and fields are those of Istio's `ISTIO_KUBE_APP_PROBERS`, whose fields are those of a Kubernetes probe.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;

use super::validate::Validator;
use super::{Inbound, Outbound, Role};
use crate::yaml;

/// Pods of more than 32 containers with all three probes are none that anybody runs.
const MOST: usize = 96;

/// Bytes of a probe's path, and of the names and values of its header fields together: what servers take in a request's head by
/// default is twice as much.
const PATH_MOST: usize = 2048;
const HEADERS_MOST: usize = 4096;

/// Seconds. One that waits longer than an hour is a mistake.
const TIMEOUT_MOST: u32 = 3600;

/// What the path of a probe begins with; after it come the container and one of [`KINDS`].
const PREFIX: &str = "/app-health/";

/// Liveness, readiness, startup, as Istio names them in paths.
const KINDS: [&str; 3] = ["livez", "readyz", "startupz"];

/// Header fields that say how a message is framed or what becomes of the connection.
const FRAMING: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// One probe of the application, at the pod's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppProbe {
    /// Where the application listens; not zero.
    pub port: u16,
    /// From connecting to the answer's head; greater than zero.
    pub timeout: Duration,
    /// What is asked there.
    pub check: AppCheck,
}

/// How a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppCheck {
    /// A `GET` in plaintext; its answer's status counts.
    HttpGet {
        /// What is asked for.
        path: PathAndQuery,
        /// Beside what every request has; `host` takes the place of the address.
        headers: HeaderMap,
    },
    /// That a connection is accepted counts.
    TcpSocket,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAppProbe {
    http_get: Option<RawHttpGet>,
    tcp_socket: Option<RawTcpSocket>,
    timeout_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawHttpGet {
    path: Option<String>,
    port: u16,
    #[serde(default)]
    http_headers: Vec<RawHeader>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeader {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTcpSocket {
    port: u16,
}

impl AppProbe {
    /// Reads probes as the variable `MESHGATE_APP_PROBES` holds them, in JSON: by the path under which the admin endpoint has each.
    ///
    /// # Errors
    /// The first thing that is wrong, in words.
    pub fn read(json: &str) -> Result<BTreeMap<String, AppProbe>, String> {
        let probes = raw(json)?.into_iter().map(|(path, raw)| probe(&path, &raw).map(|probe| (path, probe)));
        let probes: BTreeMap<_, _> = probes.collect::<Result<_, String>>()?;
        few(probes.len())?;
        Ok(probes)
    }
}

/// What the variable holds, checked as far as it can be without the rest of the bootstrap.
pub(super) fn from_variable(json: &str) -> Result<BTreeMap<String, RawAppProbe>, String> {
    AppProbe::read(json)?;
    raw(json)
}

fn raw(json: &str) -> Result<BTreeMap<String, RawAppProbe>, String> {
    match yaml::documents(json).as_slice() {
        [document] => {
            let problem = |error: yaml::YamlError| {
                let field = error.field.map(|field| format!("{field}: ")).unwrap_or_default();
                format!("{field}{}", error.message)
            };
            document.check().and_then(|()| document.parse()).map_err(problem)
        }
        _ => Err("is not one JSON object".to_owned()),
    }
}

/// Checks those of the file or the variable. None may be of the proxy's own ports: the admin endpoint would wait for itself, and the
/// listeners would take it for a caller.
pub(super) fn app_probes(
    v: &mut Validator<'_>,
    raw: &BTreeMap<String, RawAppProbe>,
    role: Role,
    admin: Option<SocketAddr>,
    (inbound, outbound): (&Inbound, &Outbound),
) -> BTreeMap<String, AppProbe> {
    if role == Role::Gateway && !raw.is_empty() {
        v.fail("appProbes", "a gateway stands beside no application");
    }
    if let Err(message) = few(raw.len()) {
        v.fail("appProbes", message);
    }
    let inbound = inbound.listeners.iter().map(|listener| listener.address);
    let outbound = outbound.listeners.iter().map(|listener| listener.address);
    let own: Vec<u16> = inbound.chain(outbound).chain(admin).map(|address| address.port()).collect();
    let mut probes = BTreeMap::new();
    for (path, raw) in raw {
        match probe(path, raw) {
            Ok(probe) if own.contains(&probe.port) => {
                v.fail("appProbes", format!("{path}: port {} is the proxy's own", probe.port));
            }
            Ok(probe) => drop(probes.insert(path.clone(), probe)),
            Err(message) => v.fail(&format!("appProbes[{path}]"), message),
        }
    }
    probes
}

fn few(count: usize) -> Result<(), String> {
    if count > MOST {
        return Err(format!("{count} are too many: the most is {MOST}"));
    }
    Ok(())
}

fn probe(path: &str, raw: &RawAppProbe) -> Result<AppProbe, String> {
    if !is_path(path) {
        return Err(format!("`{path}` is not {PREFIX}, the name of a container, and one of /{}", KINDS.join(", /")));
    }
    let timeout = raw.timeout_seconds.unwrap_or(1);
    if !(1..=TIMEOUT_MOST).contains(&timeout) {
        return Err(format!("timeoutSeconds: {timeout} is not from 1 to {TIMEOUT_MOST}"));
    }
    let (port, check) = match (&raw.http_get, &raw.tcp_socket) {
        (Some(get), None) => (get.port, http_get(get)?),
        (None, Some(socket)) => (socket.port, AppCheck::TcpSocket),
        _ => return Err("expected either httpGet or tcpSocket".to_owned()),
    };
    if port == 0 {
        return Err("port 0 is none".to_owned());
    }
    Ok(AppProbe { port, timeout: Duration::from_secs(timeout.into()), check })
}

/// A container's name is a DNS label.
fn is_path(path: &str) -> bool {
    let Some((container, kind)) = path.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')) else { return false };
    let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&container.len()) && container.bytes().all(is_label) && KINDS.contains(&kind)
}

fn http_get(raw: &RawHttpGet) -> Result<AppCheck, String> {
    let written = raw.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    if written.len() > PATH_MOST {
        return Err(format!("httpGet.path: has {} bytes, and may have {PATH_MOST}", written.len()));
    }
    let path = written.parse::<PathAndQuery>().ok().filter(|_| written.starts_with('/'));
    let path = path.ok_or_else(|| format!("httpGet.path: `{written}` is not a path that begins with /"))?;
    let mut headers = HeaderMap::new();
    let mut size = 0;
    for RawHeader { name, value } in &raw.http_headers {
        let field = |why: &str| format!("httpGet.httpHeaders: `{name}` {why}");
        let parsed = HeaderName::try_from(name.as_str()).map_err(|_| field("is not the name of a header field"))?;
        let content = HeaderValue::try_from(value.as_str()).map_err(|_| field("has a value that no field can have"))?;
        if FRAMING.contains(&parsed) {
            return Err(field("would change how the request is framed"));
        }
        if parsed == header::HOST && headers.contains_key(header::HOST) {
            return Err(field("is there twice"));
        }
        size += name.len() + value.len();
        headers.append(parsed, content);
    }
    if size > HEADERS_MOST {
        return Err(format!("httpGet.httpHeaders: have {size} bytes, and may have {HEADERS_MOST}"));
    }
    Ok(AppCheck::HttpGet { path, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_as_kubernetes_writes_them() {
        let probes = AppProbe::read(
            r#"{"/app-health/app/livez":{"httpGet":{"path":"/h?a=b","port":80,"httpHeaders":[{"name":"Host","value":"x"}]},"timeoutSeconds":3},
            "/app-health/db/startupz":{"tcpSocket":{"port":5432}}}"#,
        )
        .unwrap();
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("x"))]);
        let check = AppCheck::HttpGet { path: "/h?a=b".parse().unwrap(), headers };
        assert_eq!(probes["/app-health/app/livez"], AppProbe { port: 80, timeout: Duration::from_secs(3), check });
        let socket = AppProbe { port: 5432, timeout: Duration::from_secs(1), check: AppCheck::TcpSocket };
        assert_eq!(probes["/app-health/db/startupz"], socket);
    }

    #[test]
    fn what_is_no_probe_is_refused() {
        for (path, probe, expected) in [
            ("/app-health/app/up", r#"{"tcpSocket":{"port":1}}"#, "is not /app-health/"),
            ("/app-health/../livez", r#"{"tcpSocket":{"port":1}}"#, "is not /app-health/"),
            ("/metrics", r#"{"tcpSocket":{"port":1}}"#, "is not /app-health/"),
            ("/app-health/a/livez", "{}", "expected either"),
            ("/app-health/a/livez", r#"{"tcpSocket":{"port":1},"httpGet":{"port":1}}"#, "expected either"),
            ("/app-health/a/livez", r#"{"tcpSocket":{"port":0}}"#, "port 0"),
            ("/app-health/a/livez", r#"{"tcpSocket":{"port":1,"host":"10.0.0.1"}}"#, "host"),
            ("/app-health/a/livez", r#"{"httpGet":{"port":1,"host":"10.0.0.1"}}"#, "host"),
            ("/app-health/a/livez", r#"{"tcpSocket":{"port":1},"timeoutSeconds":0}"#, "timeoutSeconds"),
            ("/app-health/a/livez", r#"{"httpGet":{"port":1,"path":"http://10.0.0.1/"}}"#, "begins with /"),
            ("/app-health/a/livez", r#"{"httpGet":{"port":1,"path":"/a b"}}"#, "begins with /"),
            (
                "/app-health/a/livez",
                r#"{"httpGet":{"port":1,"httpHeaders":[{"name":"Transfer-Encoding","value":"chunked"}]}}"#,
                "framed",
            ),
            (
                "/app-health/a/livez",
                r#"{"httpGet":{"port":1,"httpHeaders":[{"name":"x","value":"a\r\nb: c"}]}}"#,
                "no field can have",
            ),
        ] {
            let error = AppProbe::read(&format!("{{\"{path}\":{probe}}}")).unwrap_err();
            assert!(error.contains(expected), "{path} {probe}: {error}");
        }
        let long =
            format!(r#"{{"/app-health/a/livez":{{"httpGet":{{"port":1,"path":"/{}"}}}}}}"#, "a".repeat(PATH_MOST));
        assert!(AppProbe::read(&long).unwrap_err().contains("may have 2048"));
        let one = |number| format!(r#""/app-health/c{number}/livez":{{"tcpSocket":{{"port":1}}}}"#);
        let many = format!("{{{}}}", (0..=MOST).map(one).collect::<Vec<_>>().join(","));
        assert!(AppProbe::read(&many).unwrap_err().contains("97 are too many"));
    }
}
