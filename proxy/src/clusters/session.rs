//! One session with a gateway: asks what it exports, and hears it out until it breaks or falls silent.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use meshgate_config::GatewayAddress;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};

use super::lines::Lines;
use super::list::List;
use super::wire::{CONTENT_TYPE, HEARTBEAT, LINE_MAX, PATH};
use crate::error::{ErrorKind, ProxyError};

/// Nothing for so long: nobody is there. Two heartbeats may be lost in a busy network, and a second is for a slow one.
pub(super) const SILENCE: Duration = HEARTBEAT.saturating_mul(2).saturating_add(Duration::from_secs(1));

/// A gateway that answers at all answers the request itself within this.
const ANSWER: Duration = Duration::from_secs(3);

/// From the beginning of a line to its end. Whoever sends a byte now and then is not heard out.
const LINE: Duration = Duration::from_secs(30);

/// Between two lines that are looked at: each is the whole list, which takes its time to read, and whoever sends more is not worth
/// the time of the others.
const PACE: Duration = Duration::from_millis(100);

/// A gateway that does not know what it is asked is asked again after this long: it may have been replaced by a newer one.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// What is asked for; whom we ask is said by the certificate, not by a name.
const ASKED: &str = "https://gateway";

/// Why a gateway could not be asked, or is not to be listened to.
#[derive(Debug)]
pub(super) struct Failure {
    /// For the metric.
    pub(super) reason: &'static str,
    /// For the log and the operator.
    pub(super) text: String,
    /// It is somebody else: trying again at once would find the same.
    pub(super) is_refusal: bool,
}

/// What is heard in a session.
#[derive(Debug)]
pub(super) enum Heard {
    /// The gateway is there.
    Heartbeat,
    /// All that it exports to us.
    List(List),
    /// It answers, but does not say what it exports.
    Mute(String),
}

impl Failure {
    fn new(reason: &'static str, text: impl fmt::Display) -> Self {
        Self { reason, text: text.to_string(), is_refusal: false }
    }

    fn refusal(reason: &'static str, text: impl fmt::Display) -> Self {
        Self { is_refusal: true, ..Self::new(reason, text) }
    }

    fn silent(wait: Duration) -> Self {
        Self::new("silent", format_args!("nothing heard for {wait:?}"))
    }
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        match error.kind {
            ErrorKind::GatewayTls => Self::refusal("identity", error),
            ErrorKind::Loop => Self::refusal("loop", error),
            _ => Self::new("unreachable", error),
        }
    }
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        match error.is_io() {
            true => Self::new("broken", error),
            false => Self::new("protocol", error),
        }
    }
}

/// Listens for as long as there is something to hear. Ends without a failure when the gateway is to be asked anew, because it
/// did not know what it was asked.
pub(super) async fn listen<S>(stream: S, gateway: &GatewayAddress, heard: impl FnMut(Heard)) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut settings = client::Builder::new();
    settings.enable_push(false).max_header_list_size(16 * 1024).initial_window_size(256 * 1024);
    let (sender, connection) = settings.handshake(stream).await?;
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange(sender, gateway, heard));
    tokio::select! {
        biased;
        ended = exchange.as_mut() => ended,
        ended = connection.as_mut() => match ended {
            // What came with the end may still be heard.
            Ok(()) => exchange.await,
            Err(error) => Err(error.into()),
        },
    }
}

async fn exchange(
    sender: SendRequest<Bytes>,
    gateway: &GatewayAddress,
    mut heard: impl FnMut(Heard),
) -> Result<(), Failure> {
    let answer = async {
        let mut sender = sender.ready().await?;
        let (response, _) = sender.send_request(request(), true)?;
        response.await
    };
    let response = timeout(ANSWER, answer).await.map_err(|_| Failure::silent(ANSWER))??;
    if let Some(why) = objection(&response)? {
        heard(Heard::Mute(why));
        sleep(ASK_AGAIN).await;
        return Ok(());
    }
    let mut body = response.into_body();
    let mut lines = Lines::new(LINE_MAX);
    let mut begun = Instant::now();
    loop {
        let piece = next(&mut body).await?;
        let ended = lines.push(&piece).map_err(|error| Failure::new("list", error))?;
        if !ended.is_empty() || !lines.is_within() {
            begun = Instant::now();
        }
        if begun.elapsed() > LINE {
            return Err(Failure::new("list", format_args!("a line that does not end within {LINE:?}")));
        }
        // Of lists that come together the last is the one that holds.
        let list = ended.iter().rfind(|line| !line.trim_ascii().is_empty());
        if let Some(line) = list.or(ended.last()) {
            let list = List::read(line, gateway).map_err(|error| Failure::refusal("list", error))?;
            heard(list.map_or(Heard::Heartbeat, Heard::List));
            sleep(PACE).await;
        }
    }
}

fn request() -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_2;
    // Two constants make an address.
    *request.uri_mut() = format!("{ASKED}{PATH}").parse().unwrap_or_default();
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(CONTENT_TYPE));
    request
}

/// Why this is no answer to listen to, from a gateway that is well all the same.
fn objection(response: &Response<RecvStream>) -> Result<Option<String>, Failure> {
    let status = response.status();
    if status.is_server_error() {
        return Err(Failure::new("status", format_args!("it answers {status}")));
    }
    if status != StatusCode::OK {
        return Ok(Some(format!("does not say what it exports: it answers {status}")));
    }
    let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_list =
        content_type.split(|byte| *byte == b';').next().map(<[u8]>::trim_ascii) == Some(CONTENT_TYPE.as_bytes());
    Ok((!is_list).then(|| format!("does not say what it exports: no {CONTENT_TYPE}")))
}

async fn next(body: &mut RecvStream) -> Result<Bytes, Failure> {
    let piece = timeout(SILENCE, body.data()).await.map_err(|_| Failure::silent(SILENCE))?;
    match piece {
        Some(Ok(piece)) => {
            body.flow_control().release_capacity(piece.len())?;
            Ok(piece)
        }
        Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
            Err(Failure::new("broken", "it has ended the session"))
        }
        Some(Err(error)) => Err(error.into()),
        None => Err(Failure::new("broken", "it has ended its answer")),
    }
}

#[cfg(test)]
mod tests {
    use h2::server;
    use tokio::io::duplex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_repeats_its_list_without_end_is_read_at_a_pace() {
        let (near, far) = duplex(64 * 1024);
        let gateway = GatewayAddress {
            cluster: "default/default/default/cluster-1".parse().unwrap(),
            host: "192.0.2.1".into(),
            ip: None,
            port: 15443,
            identity: "spiffe://cluster.local/ns/meshgate-system/sa/meshgate-gateway".parse().unwrap(),
        };
        let flood = async {
            let mut connection = server::handshake(far).await.unwrap();
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let answer = Response::builder().header(header::CONTENT_TYPE, CONTENT_TYPE).body(()).unwrap();
            let mut body = respond.send_response(answer, false).unwrap();
            let line =
                r#"{"clusterKey":"default/default/default/cluster-1","trustDomain":"cluster.local","exports":[]}"#;
            let send = async {
                loop {
                    body.reserve_capacity(16 * 1024);
                    let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
                    if room >= 16 * 1024 {
                        let lines = format!("{line}\n").repeat(100) + &"\n".repeat(1000);
                        body.send_data(lines.into(), false).unwrap();
                    }
                }
            };
            tokio::join!(send, async { while connection.accept().await.is_some() {} });
        };
        let mut heard = 0;
        tokio::select! {
            () = flood => {}
            ended = listen(near, &gateway, |_| heard += 1) => panic!("{ended:?}"),
            () = sleep(Duration::from_secs(10)) => {}
        }
        assert!((10..=101).contains(&heard), "{heard}");
    }
}
