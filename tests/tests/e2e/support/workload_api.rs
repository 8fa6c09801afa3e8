//! The server side of SPIFFE's Workload API, `FetchX509SVID` on a unix socket, as an agent would offer it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response, StatusCode};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::pki::{Authority, Credentials};

/// `X509SVIDResponse`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Answer {
    #[prost(message, repeated, tag = "1")]
    pub(crate) svids: Vec<Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) crl: Vec<Vec<u8>>,
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub(crate) federated_bundles: BTreeMap<String, Vec<u8>>,
}

/// `X509SVID`
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    hint: String,
}

/// An answer in which a workload has just been given a certificate.
pub(crate) fn answer(authority: &Authority, id: &str) -> Answer {
    Answer { svids: vec![svid(id, &authority.issue(id), authority)], ..Answer::default() }
}

impl Answer {
    /// Another root of our own trust domain beside the first identity's.
    pub(crate) fn append_root(&mut self, authority: &Authority) {
        self.svids[0].bundle.extend(der(&authority.pem));
    }
}

/// One identity of an answer.
pub(crate) fn svid(id: &str, credentials: &Credentials, authority: &Authority) -> Svid {
    let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes()).unwrap();
    Svid {
        spiffe_id: id.to_owned(),
        x509_svid: credentials.certificate.to_vec(),
        x509_svid_key: key.secret_der().to_vec(),
        bundle: der(&authority.pem),
        hint: "internal".to_owned(),
    }
}

/// A root as a bundle.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// A revocation list as one of an answer.
pub(crate) fn list_der(pem: &str) -> Vec<u8> {
    CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

/// Ends, with all calls, when it is dropped; the socket's file stays, as it does when an agent dies.
pub(crate) struct WorkloadApi {
    path: PathBuf,
    answers: watch::Sender<Option<Answer>>,
    serving: JoinHandle<()>,
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl WorkloadApi {
    /// Without an answer, it refuses as an agent does that knows no such workload.
    pub(crate) fn start(path: &Path, first: Option<Answer>) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let (answers, receiver) = watch::channel(first);
        let serving = tokio::task::spawn_local(async move {
            // Its calls end with it.
            let mut calls = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let receiver = receiver.clone();
                calls.spawn_local(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    let mut calls = tokio::task::JoinSet::new();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        calls.spawn_local(serve(request, respond, receiver.clone()));
                    }
                });
            }
        });
        Self { path: path.to_owned(), answers, serving }
    }

    /// Where it is, as SPIFFE writes it.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Sends this to everybody who is connected or will be.
    pub(crate) fn send(&self, answer: Answer) {
        self.answers.send_replace(Some(answer));
    }
}

async fn serve(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    mut answers: watch::Receiver<Option<Answer>>,
) {
    let security = request.headers().get("workload.spiffe.io").is_some_and(|value| value == "true");
    let known = request.uri().path() == "/SpiffeWorkloadAPI/FetchX509SVID";
    let status = match (security, known, answers.borrow().is_some()) {
        (false, ..) => Some(("3", "security header missing from request")),
        (_, false, _) => Some(("12", "no such method")),
        (.., false) => Some(("7", "no identity issued")),
        _ => None,
    };
    let head = Response::builder().status(StatusCode::OK).header("content-type", "application/grpc");
    if let Some((code, message)) = status {
        let head = head.header("grpc-status", code).header("grpc-message", message).body(()).unwrap();
        let _ = respond.send_response(head, true);
        return;
    }
    let Ok(mut body) = respond.send_response(head.body(()).unwrap(), false) else { return };
    loop {
        let message = answers.borrow_and_update().clone().unwrap_or_default().encode_to_vec();
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(message.len().try_into().unwrap());
        framed.put_slice(&message);
        // In two parts, cut in the prefix: messages are not frames.
        let rest = framed.split_off(3);
        for part in [framed, rest] {
            if body.send_data(part.freeze(), false).is_err() {
                return;
            }
        }
        if answers.changed().await.is_err() {
            let _ = body.send_trailers(HeaderMap::new());
            return;
        }
    }
}
