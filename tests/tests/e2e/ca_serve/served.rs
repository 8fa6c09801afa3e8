//! `meshgate ca serve` as a process, whose tokens are signed here, and a client that may ask it for anything.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};
use meshgate::sandbox::{Answer, Sandbox, request, until};
use prost::Message;
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::jwt::issuer::{ISSUER, Issuer, now};
use crate::support::client::{handshake, tls};
use crate::support::pki::{Credentials, uri};

const PORT: u16 = 15012;
const ADMIN: u16 = 15014;

/// What its certificate is for.
pub(super) const NAME: &str = "istiod.istio-system.svc";

/// The method.
pub(super) const PATH: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// `IstioCertificateRequest`
#[derive(Clone, PartialEq, Message)]
pub(super) struct CertificateRequest {
    #[prost(string, tag = "1")]
    pub(super) csr: String,
    #[prost(int64, tag = "3")]
    pub(super) validity_duration: i64,
}

/// `IstioCertificateResponse`
#[derive(Clone, PartialEq, Message)]
pub(super) struct CertificateResponse {
    #[prost(string, repeated, tag = "1")]
    pub(super) cert_chain: Vec<String>,
}

/// The sandbox's authority, served; it is killed when dropped.
pub(super) struct CaServer {
    child: Child,
    address: IpAddr,
    folder: PathBuf,
    arguments: Vec<String>,
    issuer: Issuer,
}

impl Drop for CaServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl CaServer {
    /// Starts it with these options besides, and waits until it is ready.
    pub(super) async fn start(sandbox: &mut Sandbox, options: &[&str]) -> Self {
        let mut server = Self::stopped(sandbox, options);
        server.restart().await;
        server
    }

    /// One that is yet to be started.
    pub(super) fn stopped(sandbox: &mut Sandbox, options: &[&str]) -> Self {
        let (address, folder, issuer) = (sandbox.next_address(), sandbox.path("."), Issuer::new("k1"));
        let jwks = folder.join("jwks.json");
        fs::write(&jwks, issuer.jwks()).unwrap();
        let (listen, admin) = (SocketAddr::new(address, PORT).to_string(), SocketAddr::new(address, ADMIN).to_string());
        let dir = folder.join("ca").display().to_string();
        let jwks = jwks.display().to_string();
        let own = ["ca", "serve", "--dir", &dir, "--listen", &listen, "--admin", &admin, "--dns", NAME];
        let tokens = ["--token-jwks", &jwks, "--token-issuer", ISSUER];
        let arguments = own.iter().chain(&tokens).chain(options).map(|&text| text.to_owned()).collect();
        // Nobody is there yet, and that is what a process is that has ended.
        let child = Command::new("true").spawn().unwrap();
        Self { child, address, folder, arguments, issuer }
    }

    /// Starts it again, with the authority that is in another folder of the sandbox's.
    pub(super) async fn restart_in(&mut self, dir: &str) {
        let at = self.arguments.iter().position(|argument| argument == "--dir").unwrap();
        self.arguments[at + 1] = self.folder.join(dir).display().to_string();
        self.restart().await;
    }

    /// Starts it again as the manifest in `deploy` does, but for where files and ports are.
    pub(super) async fn restart_as_deployed(&mut self) {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/authority/authority.yaml");
        let text = fs::read_to_string(manifest).unwrap();
        let args = text.split_once("        args:\n").unwrap().1.split_once("        ports:").unwrap().0;
        let here = self.folder.display().to_string();
        let places = [
            ("/var/lib/meshgate/ca", format!("{here}/ca")),
            ("/var/lib/meshgate/journal", here.clone()),
            ("/var/lib/meshgate/tokens", here),
            ("0.0.0.0", self.address.to_string()),
        ];
        let placed = |word: &str| places.iter().fold(word.to_owned(), |word, (there, here)| word.replace(there, here));
        self.arguments = args.lines().filter_map(|line| line.trim().strip_prefix("- ")).map(placed).collect();
        self.restart().await;
    }

    /// Starts it again where it was.
    pub(super) async fn restart(&mut self) {
        self.kill();
        let log = File::options().create(true).append(true).open(self.folder.join("ca.log")).unwrap();
        let mut command = Command::new(crate::binary());
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = command.spawn().unwrap();
        let ready =
            until("the authority to be ready", async || self.page("/ready").await.filter(|page| page == "ready\n"));
        if let Err(error) = ready.await {
            panic!("{error}: {}", self.log());
        }
    }

    pub(super) fn kill(&mut self) {
        // One that has ended already cannot be killed, and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits for that.
    pub(super) async fn terminate(&mut self) -> std::process::ExitStatus {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
        let child = &mut self.child;
        until("the authority's end", async || child.try_wait().unwrap()).await.unwrap()
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }

    /// A page of its admin endpoint, whatever its status.
    pub(super) async fn page(&self, path: &str) -> Option<String> {
        match request(SocketAddr::new(self.address, ADMIN), "ca", Method::GET, path).await {
            Answer::Http { body, .. } => Some(body),
            _ => None,
        }
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("ca.log")).unwrap_or_default()
    }

    /// What it has issued.
    pub(super) fn journal(&self) -> Vec<Value> {
        let at = self.arguments.iter().position(|argument| argument == "--dir").unwrap();
        let text = fs::read_to_string(Path::new(&self.arguments[at + 1]).join("issued.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `identity.ca` of a workload that has a token of this service account.
    pub(super) fn fields(&self, account: &str) -> String {
        let file = self.token_file(account);
        fs::write(&file, self.token(account, json!({}))).unwrap();
        format!("address: \"{}\", serverName: {NAME}, tokenFile: {}", self.address(), file.display())
    }

    pub(super) fn token_file(&self, account: &str) -> PathBuf {
        self.folder.join(format!("{account}.token"))
    }

    /// A token of a service account in namespace `default`, with these claims besides.
    pub(super) fn token(&self, account: &str, more: Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "aud": ["istio-ca"], "exp": now() + 3600,
            "sub": format!("system:serviceaccount:default:{account}"),
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.issuer.token("RS256", &claims)
    }

    /// A connection, with this certificate.
    pub(super) async fn open(&self, credentials: Option<&Credentials>) -> Result<Open, String> {
        let config = Arc::new(tls(credentials, "h2"));
        let stream = handshake(self.address(), &config).await.map_err(|error| error.to_string())?;
        let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| error.to_string())?;
        let connection = tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(Open { sender, connection })
    }

    /// Asks on a connection of its own; the status, and what came with it.
    pub(super) async fn ask(&self, asked: &Asked<'_>) -> Result<CertificateResponse, String> {
        self.open(asked.credentials).await?.ask(asked).await
    }
}

/// An open connection.
pub(super) struct Open {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Open {
    /// Waits until it is closed.
    pub(super) async fn closed(&mut self) {
        (&mut self.connection).await.unwrap();
    }

    /// Asks; the status, and what came with it.
    pub(super) async fn ask(&mut self, asked: &Asked<'_>) -> Result<CertificateResponse, String> {
        let text = |error: h2::Error| error.to_string();
        let mut sender = self.sender.clone().ready().await.map_err(text)?;
        let mut request = Request::post(format!("https://{NAME}{}", asked.path));
        for value in &asked.authorization {
            request = request.header("authorization", value);
        }
        let request = request.header("content-type", asked.kind).header("te", "trailers").body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).map_err(text)?;
        // Who refuses early does not take the rest.
        let _ = body.send_data(asked.body.clone(), asked.ends);
        let response = response.await.map_err(text)?;
        if response.status() != 200 {
            return Err(response.status().to_string());
        }
        if let Some(status) = status(response.headers()) {
            return Err(status);
        }
        let mut body = response.into_body();
        let mut received = BytesMut::new();
        while let Some(chunk) = body.data().await {
            received.extend(chunk.map_err(text)?);
        }
        let end = status(&body.trailers().await.map_err(text)?.unwrap()).unwrap();
        assert_eq!(end, "0 ");
        Ok(CertificateResponse::decode(received.freeze().slice(5..)).unwrap())
    }
}

fn status(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    Some(format!("{} {}", text("grpc-status")?, text("grpc-message").unwrap_or_default()))
}

/// What is asked.
#[derive(Clone)]
pub(super) struct Asked<'a> {
    pub(super) path: &'a str,
    pub(super) kind: &'a str,
    pub(super) authorization: Vec<String>,
    pub(super) credentials: Option<&'a Credentials>,
    pub(super) body: Bytes,
    pub(super) ends: bool,
}

impl Asked<'_> {
    /// By a token, for a request that names nobody.
    pub(super) fn by(token: &str) -> Self {
        let authorization = vec![format!("Bearer {token}")];
        Asked {
            path: PATH,
            kind: "application/grpc",
            authorization,
            credentials: None,
            body: message(&csr(&[]), 0),
            ends: true,
        }
    }
}

/// A request for these URIs, with a key of its own.
pub(super) fn csr(uris: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|text| -> SanType { uri(text) }).collect();
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

/// The call's message behind its prefix.
pub(super) fn message(csr: &str, seconds: i64) -> Bytes {
    framed(&CertificateRequest { csr: csr.to_owned(), validity_duration: seconds }.encode_to_vec())
}

/// Whatever it is, behind a prefix.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len().try_into().unwrap());
    framed.put_slice(message);
    framed.freeze()
}

/// Runs `meshgate ca` to its end.
pub(super) fn ca(arguments: &[&str], files: &[&Path]) {
    let output = Command::new(crate::binary()).arg("ca").args(arguments).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
