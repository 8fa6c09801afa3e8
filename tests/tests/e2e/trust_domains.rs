//! Two meshes, each with a trust domain and a root of its own, and a call from the one into the other.

use std::net::SocketAddr;

use http::Method;
use meshgate::sandbox::{Application, POD_PORT, PodSpec, Sandbox, Sidecar, answer_text, request, until};
use rustls::AlertDescription;
use tokio::sync::mpsc::unbounded_channel;

use crate::reload::sessions::server;
use crate::support::backend::{mtls, pod, policy, status};
use crate::support::client::{Client, MESH_HTTP1, alert, tls};
use crate::support::mesh::logged;
use crate::support::pki::Authority;
use crate::support::wire::Wire;

const HOME: &str = "home.example";
const AWAY: &str = "away.example";
const HOST: &str = "backend.default";
const FRONTEND: &str = "spiffe://home.example/ns/default/sa/frontend";

/// A caller in one trust domain, and what it calls in another, behind a gateway.
struct Two {
    home: Sandbox,
    away: Sandbox,
    frontend: Sidecar,
    /// Another caller at home, of account `stranger`.
    stranger: Sidecar,
    backend: Sidecar,
    _gateway: Sidecar,
    _application: Application,
}

impl Two {
    /// The backend lets in whom `principals` (YAML) names.
    async fn start(principals: &str) -> Self {
        let [mut home, mut away] = Sandbox::in_domains(crate::binary(), [("home", HOME), ("away", AWAY)]).unwrap();
        let tunnels = SocketAddr::new(away.next_address(), 15443);
        home.know(&away, Some(tunnels));
        away.know(&home, None);
        let address = away.next_address();
        let rules = format!(
            "{{selector: {{matchLabels: {{app: backend}}}}, rules: [{{from: [{{source: {{principals: {principals}}}}}]}}]}}"
        );
        let known = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: backend, namespace: default}}\n\
             spec: {{clusterIP: 10.96.0.10, selector: {{app: backend}}, ports: [{{name: http, port: 80, targetPort: {POD_PORT}}}]}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: backend, namespace: default, labels: {{app: backend}}}}\n\
             spec: {{serviceAccountName: backend}}\nstatus: {{podIP: {address}}}\n---\n\
             apiVersion: flomesh.io/v1alpha1\nkind: ServiceExport\nmetadata: {{name: backend, namespace: default}}\n\
             spec: {{serviceAccountName: backend, rules: [{{portNumber: 80, path: /backend, pathType: Prefix}}]}}\n"
        );
        let resources = [known, mtls("STRICT"), policy("callers", &rules)].join("---\n");
        away.write_resource("resources.yaml", &resources).unwrap();
        home.write_resource("resources.yaml", &imported(tunnels)).unwrap();
        let application = Application::start(answer_text("away")).await.unwrap();
        let spec = PodSpec { application: Some(application.address()), ..pod("backend") };
        let backend = away.start(&spec, address).await.unwrap();
        let spec = PodSpec {
            namespace: "meshgate-system".to_owned(),
            service_account: "meshgate-gateway".to_owned(),
            gateway: vec![tunnels],
            ..pod("gateway")
        };
        let gateway = away.start(&spec, tunnels.ip()).await.unwrap();
        let [one, other] = [home.next_address(), home.next_address()];
        let frontend = home.start(&pod("frontend"), one).await.unwrap();
        let stranger = home.start(&pod("stranger"), other).await.unwrap();
        Self { home, away, frontend, stranger, backend, _gateway: gateway, _application: application }
    }

    /// What a caller gets, once it knows the way.
    async fn answered(caller: &Sidecar) -> u16 {
        let answer = async || {
            let status = status(&request(caller.outbound(), HOST, Method::GET, "/").await);
            (status != 503).then_some(status)
        };
        until("the way to the other trust domain", answer).await.unwrap()
    }
}

/// What home is told of the service.
fn imported(gateway: SocketAddr) -> String {
    let (ip, port) = (gateway.ip(), gateway.port());
    format!(
        "apiVersion: flomesh.io/v1alpha1\nkind: ServiceImport\nmetadata: {{name: backend, namespace: default}}\n\
         spec:\n  serviceAccountName: backend\n  ports:\n  - port: 80\n    protocol: TCP\n    endpoints:\n    \
         - {{clusterKey: default/default/default/away, target: {{host: {ip}, ip: {ip}, port: {port}, path: /backend}}}}\n---\n\
         apiVersion: flomesh.io/v1alpha1\nkind: GlobalTrafficPolicy\nmetadata: {{name: backend, namespace: default}}\n\
         spec: {{lbType: ActiveActive, targets: [{{clusterKey: default/default/default/away}}]}}\n"
    )
}

#[test]
fn a_caller_of_one_trust_domain_is_let_in_by_its_principal_in_another_and_nobody_else_is() {
    meshgate_tests::run(async {
        let two = Two::start("[home.example/ns/default/sa/frontend]").await;
        assert_eq!(Two::answered(&two.frontend).await, 200);
        let line = logged(&two.backend, |line| line["response_code"] == 200).await;
        assert_eq!(line["peer"], FRONTEND, "{line}");
        assert_eq!(Two::answered(&two.stranger).await, 403);
        let line = logged(&two.backend, |line| line["response_code"] == 403).await;
        assert_eq!(line["peer"], "spiffe://home.example/ns/default/sa/stranger", "{line}");
        // The account of that name at the service's own home is another one.
        let own = Authority::of(&two.away).issue("spiffe://away.example/ns/default/sa/frontend");
        let mut client = Client::mesh(two.backend.inbound(), &own).await;
        assert_eq!(client.get("/").await.unwrap().0, 403);
    });
}

#[test]
fn neither_trust_domains_authority_can_make_an_identity_of_the_other() {
    meshgate_tests::run(async {
        // Whoever comes in may ask.
        let two = Two::start("[\"*\"]").await;
        assert_eq!(Two::answered(&two.frontend).await, 200);
        let (home, away) = (Authority::of(&two.home), Authority::of(&two.away));
        for forged in [
            home.issue("spiffe://away.example/ns/default/sa/frontend"),
            away.issue(FRONTEND),
            Authority::new(HOME).issue(FRONTEND),
        ] {
            let alert = alert(two.backend.inbound(), tls(Some(&forged), MESH_HTTP1)).await;
            assert_eq!(alert, Ok(AlertDescription::CertificateUnknown));
            assert!(
                !two.backend.access_log().iter().any(|line| line["response_code"] == 200 && line["peer"] != FRONTEND)
            );
        }
    });
}

/// What a caller gets when at the service's address somebody else has begun to serve, who has the right name: from home's authority when it
/// is `forged`, else from the service's own.
async fn answered_by(forged: bool) -> (u16, Two) {
    let mut two = Two::start("[home.example/ns/default/sa/frontend]").await;
    assert_eq!(Two::answered(&two.frontend).await, 200);
    let authority = Authority::of(if forged { &two.home } else { &two.away });
    let shown = authority.issue("spiffe://away.example/ns/default/sa/backend");
    two.backend.kill();
    server(two.backend.inbound(), &shown, unbounded_channel().0).await;
    let mut caller = Wire::connect(two.frontend.outbound()).await;
    caller.send(format!("GET /again HTTP/1.1\r\nhost: {HOST}\r\n\r\n")).await;
    (caller.head().await.unwrap().status(), two)
}

#[test]
fn nothing_is_sent_to_a_server_whose_name_in_the_other_trust_domain_home_vouches_for() {
    meshgate_tests::run(async {
        let (status, two) = answered_by(true).await;
        assert_eq!(status, 503);
        let line = logged(&two.frontend, |line| line["path"] == "/again").await;
        assert!(line.to_string().contains("away.example"), "{line}");
    });
}

#[test]
fn a_server_that_the_other_trust_domain_vouches_for_is_talked_to() {
    meshgate_tests::run(async {
        assert_eq!(answered_by(false).await.0, 200);
    });
}
