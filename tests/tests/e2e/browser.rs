//! The live page in a real browser: what it shows, that it is live, and that nothing from the wire becomes a part of it.

mod devtools;

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use meshgate::sandbox::{PodSpec, Sidecar, request};
use meshgate_tests::run;
use tokio::task::JoinHandle;

use self::devtools::Browser;
use super::support::app::App;
use super::support::mesh::{BACKEND, Mesh, Spec, policy};

/// What would run if it were taken for markup.
const HOSTILE: &str = "<img src=x onerror=window.hacked=1>";

const FRONTEND: &str = "frontend.default.svc.cluster.local";

/// Callers of all sorts: two with an identity, one of which has hostile labels, and one without.
struct Town {
    mesh: Mesh,
    other: Sidecar,
    _app: App,
    traffic: JoinHandle<()>,
}

impl Drop for Town {
    fn drop(&mut self) {
        self.traffic.abort();
    }
}

async fn town() -> Town {
    let app = App::ok().await;
    let mut spec = Spec::of(&[app.address()]);
    spec.frontend_application = Some(app.address());
    let mut mesh = Mesh::start(spec).await;
    let address = mesh.sandbox.next_address();
    let pod = PodSpec {
        name: "other".to_owned(),
        service_account: "other".to_owned(),
        app: "other".to_owned(),
        ..PodSpec::default()
    };
    let mut other = mesh.sandbox.start(&pod, address).await.unwrap();
    // Who runs it is told by the labels of its pod.
    let file = other.bootstrap().to_owned();
    let text = std::fs::read_to_string(&file).unwrap();
    let labels = format!("labels: {{batch.kubernetes.io/job-name: \"{HOSTILE}\", ");
    std::fs::write(&file, text.replace("labels: {", &labels)).unwrap();
    other.restart().await.unwrap();
    mesh.policies(&policy("none", "DENY", "[{to: [{operation: {paths: [/secret*]}}]}]")).await;
    let backend = mesh.backend();
    let traffic = keep_calling([
        (mesh.frontend.outbound(), BACKEND),
        (mesh.frontend.outbound(), BACKEND),
        (other.outbound(), BACKEND),
        (backend.inbound(), BACKEND),
        (backend.outbound(), FRONTEND),
    ]);
    Town { mesh, other, _app: app, traffic }
}

/// Some requests a second, until it is aborted.
fn keep_calling(ways: [(SocketAddr, &'static str); 5]) -> JoinHandle<()> {
    tokio::task::spawn_local(async move {
        for (way, service) in ways.into_iter().cycle() {
            request(way, service, Method::GET, "/api/v1/data").await;
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    })
}

/// What is true of the page whatever was done on it: nothing ran that came from outside, nothing went wrong, nobody else was asked.
async fn is_unharmed(browser: &mut Browser, origin: &str) {
    assert_eq!(browser.value("typeof window.hacked").await, "undefined");
    assert_eq!(browser.value("document.images.length").await, 0);
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
    let elsewhere = |url: &&str| !url.starts_with(origin) && !url.starts_with("data:") && *url != "about:blank";
    let requested = browser.requested();
    assert!(!requested.is_empty() && !requested.into_iter().any(|url| elsewhere(&url)), "{:?}", browser.requested());
}

#[test]
fn the_live_page_shows_who_talks_to_whom_and_each_refusal_with_its_policy() {
    run(async {
        let Some(mut browser) = Browser::start().await else { return };
        let town = town().await;
        let origin = format!("http://{}/", town.mesh.backend().admin());
        browser.size(1200, 900).await;
        browser.colours("light").await;
        browser.open(&origin).await;
        // Who calls, and who is called.
        browser.until("document.querySelectorAll('#edges tbody tr').length >= 4").await;
        let text = |selector: &str| format!("document.querySelector('{selector}').textContent");
        for shown in ["frontend", "backend-0", "unknown caller"] {
            browser.until(&format!("{}.includes('{shown}')", text("#graph"))).await;
        }
        assert_eq!(browser.value("document.querySelectorAll('#graph .edge.secure[d*=C]').length").await, 3);
        assert_eq!(browser.value("document.querySelectorAll('#graph .edge.plaintext[d*=C]').length").await, 1);
        let row =
            "[...document.querySelectorAll('#edges tbody tr')].find((row) => row.textContent.includes('frontend'))";
        assert!(browser.value(&format!("{row}.textContent")).await.as_str().unwrap().contains("mutual TLS"));
        // A refusal is there without a reload, and is told to who only hears the page.
        browser.value("window.marker = 1").await;
        let frontend = town.mesh.frontend.outbound();
        assert_eq!(
            request(frontend, BACKEND, Method::GET, "/secret?token=abc").await.to_string(),
            "403 RBAC: access denied"
        );
        browser.until(&format!("{}.includes('GET /secret')", text("#refusals"))).await;
        let refusals = browser.value(&text("#refusals")).await;
        let refusals = refusals.as_str().unwrap();
        assert!(refusals.contains("default/none rule 0") && refusals.contains("default/frontend"), "{refusals}");
        assert!(!refusals.contains("abc"), "what a query holds is nobody's: {refusals}");
        browser.until(&format!("{}.includes('Refused: default/frontend, GET /secret')", text("#announce"))).await;
        assert_eq!(browser.value("window.marker").await, 1);
        // Why, asked of the policies in force.
        browser.value("document.querySelector('#refusals button').click()").await;
        browser.until(&format!("{}.includes('default/none')", text("#refusals pre"))).await;
        browser.picture("refusal.png").await;
        // What is open stays open when more comes, and when the window changes.
        request(town.other.outbound(), BACKEND, Method::GET, "/secret/2").await;
        browser.until("document.querySelectorAll('#refusals li').length === 2").await;
        assert_eq!(browser.value("document.querySelectorAll('#refusals [aria-expanded=true]').length").await, 1);
        // The same again is counted, not listed.
        for _ in 0..2 {
            request(town.other.outbound(), BACKEND, Method::GET, "/secret/2").await;
        }
        browser.until(&format!("{}.includes('3 times since')", text("#refusals"))).await;
        assert_eq!(browser.value("document.querySelectorAll('#refusals li').length").await, 2);
        // A root is no warning until its end is as near as the alerts have it, however long it lasted.
        let root = |days: u32| {
            format!(
                "Object.assign(state.certs.roots[0], {{ seconds_left: {days} * 86400, seconds_in_all: 3650 * 86400 }}); showCerts(); \
                 document.querySelectorAll('#certs progress')[1].className"
            )
        };
        for (days, class) in [(1000, ""), (31, ""), (29, "warn"), (2, "bad")] {
            assert_eq!(browser.value(&root(days)).await, class, "{days}");
        }
        // Which root the connections rest on.
        assert!(browser.value(&text("#certs")).await.as_str().unwrap().contains("open connections rest on it"));
        assert_eq!(browser.value("document.getElementById('broken').hidden").await, true);
        browser.value("document.querySelector('#refusals [aria-expanded=true]').click()").await;
        browser.picture("light.png").await;
        is_unharmed(&mut browser, &origin).await;
    });
}

#[test]
fn what_comes_from_the_wire_or_a_file_is_text_on_the_live_page() {
    run(async {
        let Some(mut browser) = Browser::start().await else { return };
        let town = town().await;
        let origin = format!("http://{}/", town.mesh.backend().admin());
        browser.size(1200, 900).await;
        browser.colours("dark").await;
        let shows = |selector: &str| format!("document.querySelector('{selector}').textContent.includes('{HOSTILE}')");
        // A name, on its own proxy's page.
        let elsewhere = format!("http://{}/", town.other.admin());
        browser.open(&elsewhere).await;
        browser.until(&shows("#edges")).await;
        is_unharmed(&mut browser, &elsewhere).await;
        browser.forget();
        browser.open(&origin).await;
        // A path, in so far as a request can have it at all; and who asked.
        request(
            town.other.outbound(),
            BACKEND,
            Method::GET,
            "/secret/\"img{alert(1)}%3Cimg%20src=x%20onerror=alert(1)%3E",
        )
        .await;
        browser
            .until("document.querySelector('#refusals').textContent.includes('%22img%7Balert(1)%7D%3Cimg%20src=x')")
            .await;
        browser.value("document.querySelector('#refusals button').click()").await;
        browser.until("document.querySelector('#refusals pre').textContent.length > 20").await;
        // A file that cannot be read.
        let broken = policy("broken", &format!("\"{HOSTILE}\""), "[{}]");
        town.mesh.sandbox.write_resource("broken.yaml", &broken).unwrap();
        browser.until(&shows("#problems")).await;
        assert_eq!(
            browser.value("document.querySelector('#problems').textContent.includes('broken.yaml:')").await,
            true
        );
        // At the top as well, from where it is one step to it.
        assert_eq!(
            browser.value("document.getElementById('broken').textContent").await,
            "1 problem in the configuration"
        );
        browser.picture("dark.png").await;
        is_unharmed(&mut browser, &origin).await;
        // Even a page with a mistake in it could not make markup of a string.
        let mistake =
            "(() => { try { document.body.innerHTML = '<img>'; return 'made'; } catch { return 'refused'; } })()";
        assert_eq!(browser.value(mistake).await, "refused");
    });
}

#[test]
fn the_live_page_fits_a_phone() {
    run(async {
        let Some(mut browser) = Browser::start().await else { return };
        let town = town().await;
        let origin = format!("http://{}/", town.mesh.backend().admin());
        browser.size(360, 740).await;
        browser.colours("light").await;
        browser.open(&origin).await;
        request(
            town.other.outbound(),
            BACKEND,
            Method::GET,
            "/secret/with/a/rather/long/path/that/has/no/end/in/sight",
        )
        .await;
        browser.until("document.querySelectorAll('#refusals li').length === 1").await;
        browser.until("document.querySelectorAll('#edges tbody tr').length >= 4").await;
        browser.value("document.querySelector('#refusals button').click()").await;
        browser.until("document.querySelector('#refusals pre').textContent.length > 20").await;
        let widest = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)";
        assert_eq!(browser.value(widest).await, 360);
        // Fingers are wider than pointers.
        assert_eq!(
            browser
                .value("[...document.querySelectorAll('button')].every((one) => one.hidden || one.offsetHeight >= 40)")
                .await,
            true
        );
        browser.picture("phone.png").await;
        is_unharmed(&mut browser, &origin).await;
    });
}

fn host(number: usize) -> String {
    format!("service-{number}.default.svc.cluster.local")
}

const SHOWN: &str = "[...document.querySelectorAll('#edges tbody tr')].filter((one) => one.offsetHeight > 0)";

/// The page of one that calls a service that rests, and more of them than there is room for, which have nobody to answer.
async fn crowd(browser: &mut Browser) -> (App, Mesh) {
    let app = App::ok().await;
    let mesh = Mesh::of(app.address()).await;
    mesh.get("/").await;
    let service = |number| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: service-{number}, namespace: default}}\n\
             spec: {{ports: [{{name: http, port: 80}}]}}\n---\n"
        )
    };
    mesh.sandbox.write_resource("many.yaml", &(0..20).map(service).collect::<String>()).unwrap();
    mesh.frontend.until_metric("mesh_config_generation", |generation| generation >= 2.0).await.unwrap();
    browser.size(1200, 900).await;
    browser.colours("light").await;
    browser.open(&format!("http://{}/", mesh.frontend.admin())).await;
    browser.until("document.getElementById('live').textContent === 'Live'").await;
    for number in 0..20 {
        request(mesh.frontend.outbound(), &host(number), Method::GET, "/").await;
    }
    browser.until("document.querySelectorAll('#edges tbody tr').length === 21").await;
    (app, mesh)
}

#[test]
fn of_many_edges_those_that_matter_now_are_shown_first() {
    run(async {
        let Some(mut browser) = Browser::start().await else { return };
        let _crowd = crowd(&mut browser).await;
        let matter = format!("{SHOWN}.every((one) => one.textContent.includes('service-'))");
        browser.until(&format!("{SHOWN}.length === 12 && {matter}")).await;
        assert_eq!(browser.value("document.querySelectorAll('#graph .node:not(.own)').length").await, 12);
        let more = "document.getElementById('graph-more').textContent";
        assert!(browser.value(more).await.as_str().unwrap().starts_with("9 more"));
        browser.picture("many.png").await;
        browser.value("document.getElementById('all-edges').click()").await;
        assert_eq!(browser.value(&format!("{SHOWN}.length")).await, 21);
    });
}

#[test]
fn a_picture_that_is_held_or_of_a_lost_proxy_can_be_shown_whole_and_stays() {
    run(async {
        let Some(mut browser) = Browser::start().await else { return };
        let (_app, mut mesh) = crowd(&mut browser).await;
        let click = |id: &str| format!("document.getElementById('{id}').click()");
        let live = "document.getElementById('live').textContent";
        let picture =
            "[...document.querySelectorAll('#edges tbody td, #graph text')].map((one) => one.textContent).join()";
        let counted = "state.edges.edges.map((edge) => edge.requests.total).join()";
        // More rows of it are shown and nothing else changes, however much happens.
        browser.value(&click("pause")).await;
        let held = browser.value(picture).await;
        browser.value(&format!("window.reached = {counted}")).await;
        for number in 0..20 {
            request(mesh.frontend.outbound(), &host(number), Method::GET, "/").await;
        }
        browser.until(&format!("window.reached !== {counted}")).await;
        browser.value(&click("all-edges")).await;
        assert_eq!(browser.value(&format!("{SHOWN}.length")).await, 21);
        assert_eq!(browser.value(picture).await, held);
        browser.value(&click("pause")).await;
        assert_ne!(browser.value(picture).await, held);
        assert_eq!(browser.value(live).await, "Live");
        // The same of the last picture of a proxy that is lost; and what was held is let go.
        browser.value(&click("pause")).await;
        mesh.frontend.kill();
        browser.until(&format!("{live}.startsWith('Not connected, all of this is of ')")).await;
        browser.value(&click("all-edges")).await;
        assert_eq!(browser.value(&format!("{SHOWN}.length")).await, 12);
        browser.value(&click("pause")).await;
        assert_eq!(browser.value("document.getElementById('pause').getAttribute('aria-pressed')").await, "false");
        assert!(browser.value(live).await.as_str().unwrap().starts_with("Not connected"));
        assert!(!format!("{:?}", browser.complaints()).contains("TypeError"), "{:#?}", browser.complaints());
    });
}

#[test]
fn many_refusals_are_shown_when_somebody_asks_for_them() {
    run(async {
        let Some(mut browser) = Browser::start().await else { return };
        let town = town().await;
        let origin = format!("http://{}/", town.mesh.backend().admin());
        browser.size(360, 740).await;
        browser.colours("light").await;
        // By as many rules: of what one of them refuses a caller few are kept.
        let rule = |number: usize| format!("{{to: [{{operation: {{paths: [/secret/{number}]}}}}]}}");
        let rules = (0..30).map(rule).collect::<Vec<_>>().join(", ");
        town.mesh.policies(&policy("none", "DENY", &format!("[{rules}]"))).await;
        for number in 0..30 {
            request(town.other.outbound(), BACKEND, Method::GET, &format!("/secret/{number}")).await;
        }
        browser.open(&origin).await;
        let shown = "[...document.querySelectorAll('#refusals > li')].filter((one) => one.offsetHeight > 0).length";
        let all = "document.getElementById('all-refusals')";
        browser.until("document.querySelectorAll('#refusals > li').length >= 30").await;
        assert_eq!(browser.value(shown).await, 10);
        assert!(browser.value(&format!("{all}.textContent")).await.as_str().unwrap().starts_with("Show all 3"));
        browser.picture("few.png").await;
        // By the keyboard, as whoever has no pointer.
        browser.value(&format!("{all}.focus()")).await;
        for kind in ["keyDown", "keyUp"] {
            let key = serde_json::json!({"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
            browser.call("Input.dispatchKeyEvent", key).await;
        }
        browser.until(&format!("{shown} >= 30")).await;
        assert_eq!(browser.value(&format!("{all}.getAttribute('aria-expanded')")).await, "true");
        // What somebody has opened stays when the others go.
        browser.value("document.querySelectorAll('#refusals button')[20].click()").await;
        browser.value(&format!("{all}.click()")).await;
        browser.until(&format!("{shown} === 11")).await;
        // A port is never alone on a line.
        let lines = "[...document.querySelectorAll('.port')].every((one) => one.getClientRects().length === 1)";
        browser.until("document.querySelectorAll('.port').length > 0").await;
        assert_eq!(browser.value(lines).await, true);
        browser.picture("phone-endpoints.png").await;
        is_unharmed(&mut browser, &origin).await;
    });
}
