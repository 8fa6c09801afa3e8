//! Both sides, asked the same.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;

use meshgate::sandbox::{PodSpec, Sandbox, Sidecar};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::call::{Call, Outcome, SEEN_PATH};
use crate::envoy::{Envoy, Identity, Listener};
use crate::people::People;
use crate::policies::{APP, Authentication, Document, PROVIDER, resources};
use crate::profile::Profile;
use crate::support::app::{App, Local};
use crate::support::pki::Authority;
use crate::support::wire::Wire;

/// So many sets go to one sidecar, one after the other; sidecars work side by side.
const SETS_A_SIDECAR: usize = 40;

const GENERATION: &str = "mesh_config_generation";
const PROBLEMS: &str = "mesh_config_problems";

/// Policies, and the calls that are made while they are in force.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) profile: Profile,
    pub(crate) documents: Vec<Document>,
    /// What tokens are read by.
    pub(crate) authentication: Option<Authentication>,
    /// Whom CUSTOM policies ask: where it listens.
    pub(crate) provider: Option<SocketAddr>,
    pub(crate) calls: Vec<Call>,
}

impl Set {
    /// More lines for our bootstrap file.
    fn bootstrap(&self) -> String {
        let provider = self.provider.map(|address| {
            format!(
                "extensionProviders: [{{name: {PROVIDER}, envoyExtAuthzHttp: {{service: {}, port: {}, \
                 includeRequestHeadersInCheck: [x-say], headersToUpstreamOnAllow: [x-from-provider]}}}}]\n",
                address.ip(),
                address.port()
            )
        });
        self.profile.bootstrap() + &provider.unwrap_or_default()
    }
}

/// What came of one call.
#[derive(Debug)]
pub(crate) struct Verdicts {
    pub(crate) set: Rc<Set>,
    pub(crate) call: Call,
    pub(crate) envoy: Outcome,
    pub(crate) ours: Outcome,
}

impl Verdicts {
    pub(crate) fn agree(&self) -> bool {
        self.envoy == self.ours
    }
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdicts { set, call, envoy, ours } = self;
        writeln!(f, "{call}\n  Envoy: {envoy}\n  ours:  {ours}\n  {:?}", set.profile)?;
        for Document { namespace, name, dry_run, spec } in &set.documents {
            let dry = if *dry_run { ", dry run" } else { "" };
            writeln!(f, "  {namespace}/{name}{dry}: {spec}")?;
        }
        Ok(())
    }
}

/// Makes every call of every set to both, in the sets' order.
pub(crate) async fn compare(binary: &Path, sets: Vec<Set>) -> Vec<Verdicts> {
    let home = Sandbox::new(crate::binary()).unwrap();
    let people = Rc::new(People::of(&home));
    let sets: Vec<_> = sets.into_iter().map(Rc::new).collect();
    let envoy = Rc::new(start_envoy(binary, &home, &sets).await);
    let application = Rc::new(application().await);
    let numbered: Vec<_> = sets.into_iter().enumerate().collect();
    let mut shards = Vec::new();
    for same in numbered.chunk_by(|(_, one), (_, next)| one.bootstrap() == next.bootstrap()) {
        for sets in same.chunks(SETS_A_SIDECAR) {
            let sandbox = beside(&home);
            let (people, envoy, application) = (Rc::clone(&people), Rc::clone(&envoy), Rc::clone(&application));
            let sets = sets.to_vec();
            let shard = Shard { sandbox, people, envoy, application, sets };
            shards.push(tokio::task::spawn_local(shard.run()));
        }
    }
    let mut verdicts = Vec::new();
    for shard in shards {
        let shard: JoinHandle<Vec<Verdicts>> = shard;
        verdicts.extend(shard.await.unwrap());
    }
    verdicts
}

/// Two listeners for every set: one that speaks HTTP, one for bytes.
async fn start_envoy(binary: &Path, home: &Sandbox, sets: &[Rc<Set>]) -> Envoy {
    let backend = Authority::of(home).issue("spiffe://cluster.local/ns/default/sa/backend");
    let roots_pem = Authority::of(home).pem;
    let (certificate_pem, key_pem) = (backend.certificate_pem, backend.key_pem);
    let identity = Identity { certificate_pem, key_pem, roots_pem };
    let both = |set| [false, true].map(|tcp| listener(set, tcp));
    let listeners: Vec<_> = sets.iter().map(Rc::as_ref).flat_map(both).collect();
    Envoy::start(binary, &home.path("."), &identity, &listeners).await
}

fn listener(set: &Set, tcp: bool) -> Listener<'_> {
    Listener { set, tcp }
}

/// Another sandbox of the same authority.
fn beside(home: &Sandbox) -> Sandbox {
    let sandbox = Sandbox::new(crate::binary()).unwrap();
    for file in ["ca/ca.pem", "ca/ca-key.pem"] {
        fs::copy(home.path(file), sandbox.path(file)).unwrap();
    }
    sandbox
}

/// Some sets of one profile, and a sidecar for them.
struct Shard {
    sandbox: Sandbox,
    people: Rc<People>,
    envoy: Rc<Envoy>,
    application: Rc<App>,
    sets: Vec<(usize, Rc<Set>)>,
}

impl Shard {
    async fn run(mut self) -> Vec<Verdicts> {
        let mut verdicts = Vec::new();
        let sidecar = self.start().await;
        for (place, (index, set)) in self.sets.iter().enumerate() {
            if place > 0 {
                let before = sidecar.metric(GENERATION).await.unwrap();
                self.sandbox
                    .write_resource("set.yaml", &resources(&set.documents, set.authentication.as_ref(), *index))
                    .unwrap();
                sidecar.until_metric(GENERATION, |now| now > before).await.unwrap();
            }
            let problems = sidecar.metric(PROBLEMS).await;
            assert_eq!(problems, Some(0.0), "{:?}\n{}", set.documents, sidecar.output());
            for call in &set.calls {
                let envoy = self.envoy.address(2 * index + usize::from(call.is_tcp()));
                let (envoy, ours) =
                    tokio::join!(call.make(&self.people, envoy), call.make(&self.people, sidecar.inbound()));
                verdicts.push(Verdicts { set: Rc::clone(set), call: call.clone(), envoy, ours });
            }
        }
        verdicts
    }

    async fn start(&mut self) -> Sidecar {
        let (index, set) = &self.sets[0];
        self.sandbox
            .write_resource("set.yaml", &resources(&set.documents, set.authentication.as_ref(), *index))
            .unwrap();
        let spec = PodSpec {
            name: APP.to_owned(),
            service_account: APP.to_owned(),
            app: APP.to_owned(),
            application: Some(self.application.address()),
            federated: Profile::federated(),
            bootstrap: set.bootstrap(),
            ..PodSpec::default()
        };
        let address = self.sandbox.next_address();
        self.sandbox.start(&spec, address).await.unwrap()
    }
}

/// Tells every request its path, and sends other bytes back.
async fn application() -> App {
    App::tcp(async |stream| {
        let mut start = [0; 3];
        // What is there at once: both protocols' first bytes come in one piece.
        let _ = stream.peek(&mut start).await;
        if start == *b"PRI" {
            serve_http2(stream).await;
        } else {
            serve(Wire::over(stream)).await;
        }
    })
    .await
}

async fn serve(mut wire: Wire) {
    while let Some(message) = wire.head().await {
        let start = &message.start;
        let answer = match start.rsplit_once(" HTTP/1.1") {
            Some(_) => format!("HTTP/1.1 200 OK\r\n{SEEN_PATH}: {}\r\ncontent-length: 0\r\n\r\n", message.target()),
            None => format!("{start}\r\n\r\n"),
        };
        if !wire.try_send(answer).await {
            return;
        }
    }
}

async fn serve_http2(stream: TcpStream) {
    let service = hyper::service::service_fn(async |request: http::Request<hyper::body::Incoming>| {
        let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
        let response = http::Response::builder().header(SEEN_PATH, path);
        response.body(http_body_util::Empty::<bytes::Bytes>::new())
    });
    let stream = hyper_util::rt::TokioIo::new(stream);
    // How a client's connection ends is the client's affair.
    let _ = hyper::server::conn::http2::Builder::new(Local).serve_connection(stream, service).await;
}
