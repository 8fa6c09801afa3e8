//! A gateway of another cluster that says what it is told to say.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::Response;
use meshgate::clusters::wire::{CONTENT_TYPE, HEARTBEAT, PATH};
use meshgate::sandbox::Sandbox;
use meshgate_identity::{ClusterRoots, Identity, Sources};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::pki::Authority;

/// Who gateways are.
pub(crate) const GATEWAY: &str = "spiffe://cluster.local/ns/meshgate-system/sa/meshgate-gateway";

/// Which cluster this is the gateway of.
pub(crate) const CLUSTER: &str = "default/default/default/cluster-1";

/// It runs for as long as it is kept.
pub(crate) struct FakeGateway {
    address: SocketAddr,
    inner: Rc<Inner>,
    accepting: RefCell<Option<JoinHandle<()>>>,
}

struct Inner {
    tls: TlsAcceptor,
    /// The line it says last; sessions say each at once.
    line: watch::Sender<String>,
    /// Sessions hear nothing any more, and nobody is told so.
    silent: watch::Sender<bool>,
    sessions: Cell<usize>,
    open: RefCell<Vec<JoinHandle<()>>>,
}

/// A service as a gateway lists it: its port is 80.
pub(crate) fn service(name: &str, ready: u32) -> Value {
    let ports =
        json!([{"port": 80, "name": "http", "appProtocol": "http", "path": format!("/{name}"), "ready": ready}]);
    json!({"namespace": "default", "name": name, "serviceAccountName": name, "ports": ports})
}

/// A line that lists services.
pub(crate) fn list(services: &[Value]) -> String {
    json!({"clusterKey": CLUSTER, "trustDomain": "cluster.local", "exports": services}).to_string()
}

impl FakeGateway {
    /// At an address, with a certificate for `id`, saying `line`.
    pub(crate) async fn start(sandbox: &Sandbox, address: SocketAddr, id: &str, line: String) -> Self {
        Self::of(&Authority::of(sandbox), sandbox, address, id, line).await
    }

    /// The same, with a certificate from this authority. Callers have theirs from the sandbox's all the same.
    pub(crate) async fn of(
        authority: &Authority,
        sandbox: &Sandbox,
        address: SocketAddr,
        id: &str,
        line: String,
    ) -> Self {
        let issued = authority.issue(id);
        let (certificate, key) = (sandbox.path("gateway.pem"), sandbox.path("gateway-key.pem"));
        let trust_bundle = sandbox.path("gateway-root.pem");
        fs::write(&certificate, issued.certificate_pem).unwrap();
        fs::write(&key, issued.key_pem).unwrap();
        fs::write(&trust_bundle, &authority.pem).unwrap();
        let callers = ClusterRoots { trust_domain: "cluster.local".parse().unwrap(), file: sandbox.path("ca/ca.pem") };
        let sources = Sources {
            id: id.parse().unwrap(),
            certificate,
            key,
            trust_bundle,
            federated: BTreeMap::new(),
            cluster: None,
            crl: Vec::new(),
            require_crl: false,
            clusters: BTreeMap::from([("default/default/default/callers".to_owned(), callers)]),
        };
        let tls = TlsAcceptor::from(Identity::load(&sources).unwrap().server_config());
        let inner = Inner {
            tls,
            line: watch::Sender::new(line),
            silent: watch::Sender::new(false),
            sessions: Cell::default(),
            open: RefCell::default(),
        };
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Self { address, inner: Rc::new(inner), accepting: RefCell::default() };
        gateway.accept(listener);
        gateway
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sessions that were made so far.
    pub(crate) fn sessions(&self) -> usize {
        self.inner.sessions.get()
    }

    /// Sessions that are open now.
    pub(crate) fn open(&self) -> usize {
        self.inner.open.borrow().iter().filter(|session| !session.is_finished()).count()
    }

    /// Says something else, in open sessions at once.
    pub(crate) fn say(&self, line: String) {
        self.inner.line.send_replace(line);
    }

    /// Whether it keeps quiet in open sessions and new ones.
    pub(crate) fn silence(&self, silent: bool) {
        self.inner.silent.send_replace(silent);
    }

    /// Breaks all sessions and listens no more.
    pub(crate) async fn stop(&self) {
        for task in self.accepting.take().into_iter().chain(self.inner.open.take()) {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again after [`FakeGateway::stop`].
    pub(crate) async fn resume(&self) {
        self.accept(TcpListener::bind(self.address).await.unwrap());
    }

    fn accept(&self, listener: TcpListener) {
        let inner = Rc::clone(&self.inner);
        let task = tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serving = Rc::clone(&inner);
                // Clients that go away in the middle are what some tests are about.
                let task = tokio::task::spawn_local(async move { drop(serving.serve(stream).await) });
                inner.open.borrow_mut().push(task);
            }
        });
        self.accepting.replace(Some(task));
    }
}

impl Drop for FakeGateway {
    fn drop(&mut self) {
        for task in self.accepting.take().into_iter().chain(self.inner.open.take()) {
            task.abort();
        }
    }
}

impl Inner {
    async fn serve(&self, stream: TcpStream) -> Result<(), Box<dyn std::error::Error>> {
        let stream = self.tls.accept(stream).await?;
        self.sessions.set(self.sessions.get() + 1);
        let mut connection = h2::server::handshake(stream).await?;
        let Some(request) = connection.accept().await else { return Ok(()) };
        let (request, respond) = request?;
        assert_eq!(request.uri().path(), PATH);
        tokio::select! {
            ended = self.talk(respond) => Ok(ended?),
            _ = connection.accept() => Ok(()),
        }
    }

    async fn talk(&self, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
        self.audible().await;
        let response = Response::builder().header("content-type", CONTENT_TYPE).body(()).unwrap();
        let mut body: SendStream<Bytes> = respond.send_response(response, false)?;
        let mut line = self.line.subscribe();
        line.mark_changed();
        loop {
            let changed = tokio::time::timeout(HEARTBEAT, line.changed()).await.is_ok();
            self.audible().await;
            let text = if changed { line.borrow_and_update().clone() } else { String::new() };
            body.send_data(Bytes::from(text + "\n"), false)?;
        }
    }

    async fn audible(&self) {
        self.silent.subscribe().wait_for(|silent| !silent).await.unwrap();
    }
}

/// For how long a test watches that something does not happen.
pub(crate) const A_WHILE: Duration = Duration::from_secs(3);
