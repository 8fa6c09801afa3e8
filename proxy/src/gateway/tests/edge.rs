//! A gateway and a caller's worker in one process: real sockets and certificates, a root for each of the two clusters.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use meshgate_config::{
    Balancer, Bootstrap, ConfigStore, Endpoint, EndpointIdentity, Export, ExportedPort, Exports, GatewayAddress,
    ServicePort, Snapshot, Spread,
};
use meshgate_identity::ca::{self, Authority, InitOptions, IssueOptions};
use meshgate_identity::{Identity, IdentityStore, Reload, SpiffeId};
use meshgate_policy::ObjectName;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Duration, Instant};

use crate::access_log::{Sink, Writer};
use crate::connection::Direction;
use crate::drain::{self, Controller, Phase};
use crate::error::ProxyError;
use crate::gateway::{self};
use crate::http::pool::Via;
use crate::jwks;
use crate::listen::accept_loop;
use crate::orig_dst::OwnAddresses;
use crate::readiness::Readiness;
use crate::sessions;
use crate::tunnel::Far;
use crate::tunnel::{TunnelStream, pool};
use crate::worker::{Shared, Worker, WorkerRef};

pub(crate) const ONE: &str = "default/default/default/one";
pub(crate) const TWO: &str = "default/default/default/two";
pub(crate) const GATEWAY: &str = "spiffe://td/ns/edge/sa/gateway";
pub(crate) const WEB: &str = "spiffe://td/ns/web/sa/web";
pub(crate) const CART: &str = "spiffe://td/ns/shop/sa/cart";

/// One process's worker, and what steers it.
pub(crate) struct Process {
    pub(crate) worker: WorkerRef,
    pub(crate) config: watch::Sender<Arc<Snapshot>>,
    pub(crate) drain: Controller,
    pub(crate) log: Option<std::path::PathBuf>,
    identity: IdentityStore,
}

pub(crate) struct Edge {
    dir: tempfile::TempDir,
    pub(crate) gateway: Process,
    pub(crate) caller: Process,
    pub(crate) address: SocketAddr,
    /// Connections that the gateway has accepted.
    pub(crate) accepted: Rc<Cell<usize>>,
}

impl Edge {
    /// With more lines for the gateway's bootstrap file, below `gateway:`.
    pub(crate) async fn new(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (cluster, pods) in [("one", &[GATEWAY, CART][..]), ("two", &[WEB])] {
            let folder = dir.path().join(cluster);
            fs::create_dir_all(folder.join("resources")).unwrap();
            let authority = ca::init(&folder.join("ca"), &InitOptions::new("td".parse().unwrap())).unwrap();
            pods.iter().for_each(|id| issue(&folder, &authority, id));
        }
        let gateway = process(&dir.path().join("one"), GATEWAY, &format!("role: gateway\ngateway:\n{settings}"), "two");
        let caller = process(&dir.path().join("two"), WEB, "role: sidecar\n", "one");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Rc::new(Cell::new(0));
        let counted = Rc::clone(&accepted);
        let serve = move |worker, stream, connection| {
            counted.set(counted.get() + 1);
            async move { gateway::serve(&worker, stream, connection).await }
        };
        let worker = Rc::clone(&gateway.worker);
        spawn_local(accept_loop(worker, listener, Direction::Gateway, Phase::Draining, serve));
        spawn_local(sessions::keep(Rc::clone(&gateway.worker)));
        spawn_local(sessions::keep(Rc::clone(&caller.worker)));
        Self { dir, gateway, caller, address, accepted }
    }

    /// A certificate of a cluster's authority, and the identity that it makes.
    pub(crate) fn identity(&self, cluster: &str, id: &str) -> Arc<Identity> {
        let folder = self.dir.path().join(cluster);
        let authority = Authority::open(&folder.join("ca")).unwrap();
        if !folder.join(format!("{}.pem", file(id))).exists() {
            issue(&folder, &authority, id);
        }
        let other = if cluster == "one" { "two" } else { "one" };
        Arc::new(identity(&bootstrap(&folder, id, "role: sidecar\n", other)))
    }

    pub(crate) fn gateway_address(&self) -> Arc<GatewayAddress> {
        Arc::new(GatewayAddress {
            cluster: ONE.parse().unwrap(),
            host: "127.0.0.1".into(),
            ip: Some(self.address.ip()),
            port: self.address.port(),
            identity: GATEWAY.parse().unwrap(),
        })
    }

    pub(crate) fn via(&self, name: &str) -> Via {
        Via {
            far: Far::Gateway(self.gateway_address()),
            authority: format!("{name}.shop.svc.clusterset.local:80").into(),
        }
    }

    /// A tunnel to an exported service, as a sidecar opens it.
    pub(crate) async fn open(&self, name: &str) -> Result<TunnelStream, ProxyError> {
        pool::open(&self.caller.worker, &self.via(name), Instant::now() + Duration::from_secs(10)).await
    }

    /// Puts exports in force: their names, their endpoints, and the clusters that may call them.
    pub(crate) fn export(&self, exports: &[(&str, &[SocketAddr], &[&str])]) {
        let mut snapshot = read(&self.dir.path().join("one"), GATEWAY);
        snapshot.generation = self.gateway.config.borrow().generation + 1;
        let exports = exports.iter().map(|(name, endpoints, targets)| Arc::new(export(name, endpoints, targets)));
        snapshot.exports = Exports::new(exports.collect());
        self.gateway.config.send_replace(Arc::new(snapshot));
        self.gateway.worker.changes.announce();
    }

    /// Writes resources of the gateway's cluster; they are in force with the next exports.
    pub(crate) fn resources(&self, yaml: &str) {
        fs::write(self.dir.path().join("one/resources/all.yaml"), yaml).unwrap();
    }

    /// Puts other roots into a cluster's bundle, and has one of the two processes read them.
    pub(crate) fn roots(&self, cluster: &str, change: impl FnOnce(&str) -> String, reader: &Process) {
        let file = self.dir.path().join(cluster).join("ca/ca.pem");
        let pem = fs::read_to_string(&file).unwrap();
        fs::write(&file, change(&pem)).unwrap();
        assert_eq!(reader.identity.reload().unwrap(), Reload::Published);
    }

    /// A root of a cluster of the mesh that nobody has heard of.
    pub(crate) fn another_root(&self) -> String {
        let folder = self.dir.path().join("another");
        ca::init(&folder, &InitOptions::new("td".parse().unwrap())).unwrap();
        fs::read_to_string(folder.join("ca.pem")).unwrap()
    }

    /// A cluster's root.
    pub(crate) fn root(&self, cluster: &str) -> String {
        fs::read_to_string(self.dir.path().join(cluster).join("ca/ca.pem")).unwrap()
    }

    /// The lines of the gateway's access log.
    pub(crate) async fn logged(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let path = self.gateway.log.as_ref().unwrap();
        for _ in 0..1000 {
            let text = fs::read_to_string(path).unwrap();
            let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            if let Some(line) = lines.find(|line| wanted(line)) {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no such line: {}", fs::read_to_string(path).unwrap());
    }
}

fn export(name: &str, endpoints: &[SocketAddr], targets: &[&str]) -> Export {
    let service = ObjectName { namespace: "shop".into(), name: name.into() };
    let endpoint = |address: &SocketAddr| {
        let identity = EndpointIdentity::Mesh(CART.parse().unwrap());
        Arc::new(Endpoint { address: *address, workload: None, identity, in_reach: true, tunnels: false, remote: None })
    };
    let port = ServicePort {
        service: service.clone(),
        host: format!("{name}.shop.svc.cluster.local"),
        port: 80,
        name: Some("http".into()),
        app_protocol: meshgate_config::AppProtocol::Http,
        endpoints: endpoints.iter().map(endpoint).collect(),
        not_ready: 0,
        spread: Spread::default(),
        balancer: Balancer::RoundRobin,
        split: None,
    };
    Export {
        service,
        service_account: "cart".into(),
        target_clusters: targets.iter().map(|key| key.parse().unwrap()).collect(),
        ports: vec![ExportedPort { port: Arc::new(port), path: format!("/{name}"), exact: false }],
        session_sticky: false,
        balancer: Balancer::RoundRobin,
        path_rewrite: None,
    }
}

fn file(id: &str) -> String {
    id.rsplit('/').next().unwrap().to_owned()
}

fn issue(folder: &Path, authority: &Authority, id: &str) {
    let issued = authority.issue(&IssueOptions::new(id.parse::<SpiffeId>().unwrap())).unwrap();
    ca::write_svid(folder, &file(id), &issued).unwrap();
}

fn bootstrap(folder: &Path, id: &str, role: &str, other: &str) -> Bootstrap {
    let (own, account) = (folder.file_name().unwrap().to_str().unwrap(), file(id));
    let namespace = id.split('/').nth(4).unwrap();
    let text = format!(
        "{role}clusterKey: default/default/default/{own}\ntrustDomain: td\n\
         workload: {{name: {account}, namespace: {namespace}, serviceAccount: {account}}}\n\
         identity: {{certificate: {account}.pem, key: {account}-key.pem, trustBundle: ca/ca.pem}}\n\
         resources: {{directory: resources}}\n\
         multicluster: {{clusters: [{{clusterKey: default/default/default/{other}, trustBundle: ../{other}/ca/ca.pem}}]}}\n"
    );
    let path = folder.join(format!("{account}.yaml"));
    fs::write(&path, text).unwrap();
    Bootstrap::load(&path, []).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn identity(bootstrap: &Bootstrap) -> Identity {
    Identity::load(&bootstrap.identity_sources().unwrap()).unwrap()
}

/// What is in force by the resources on disk.
fn read(folder: &Path, id: &str) -> Snapshot {
    let bootstrap = Bootstrap::load(&folder.join(format!("{}.yaml", file(id))), []).unwrap();
    let store = ConfigStore::open(&bootstrap).unwrap();
    let snapshot = store.current();
    drop(store);
    Arc::into_inner(snapshot).unwrap()
}

fn process(folder: &Path, id: &str, role: &str, other: &str) -> Process {
    let bootstrap = bootstrap(folder, id, role, other);
    let (config, snapshots) = watch::channel(Arc::new(read(folder, id)));
    let identity = IdentityStore::open(bootstrap.identity_sources().unwrap()).unwrap();
    let (controller, drain) = drain::channel();
    let shared = Arc::new(Shared::new(bootstrap, OwnAddresses::default(), Readiness::new([])));
    let (_, keys) = jwks::channel(&shared, jwks::Client::new(None).unwrap());
    let log = folder.join(format!("{}.access.log", file(id)));
    let sink = Writer::open(&log).unwrap().sink(shared.metrics.access_log_dropped.clone());
    let worker: Rc<Worker> = Rc::new(Worker::new(shared, snapshots, identity.subscribe(), keys, sink, None, drain));
    let _: &Sink = &worker.access_log;
    Process { worker, config, drain: controller, log: Some(log), identity }
}

/// The gateway that a way goes through.
pub(crate) fn gateway_of(via: &mut Via) -> &mut GatewayAddress {
    match &mut via.far {
        Far::Gateway(gateway) => Arc::make_mut(gateway),
        Far::Workload { .. } => panic!("no way through a gateway"),
    }
}
