//! What goes wrong meanwhile: policies rewritten, certificates rotated, applications killed.

use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use meshgate::sandbox::TRUST_DOMAIN;
use meshgate_identity::ca::{Authority, IssueOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::load::Tally;
use crate::setting::{BACKENDS, Setting};

/// How long a killed application is away.
const AWAY: Duration = Duration::from_millis(1500);

pub(crate) struct Faults {
    over: Rc<Cell<bool>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Faults {
    pub(crate) fn start(setting: &Rc<Setting>, tally: &Rc<Tally>) -> Self {
        let over = Rc::<Cell<bool>>::default();
        let again = |every: u64, fault: fn(&Setting, &Tally, u64) -> Option<Undo>| {
            let (setting, tally, over) = (Rc::clone(setting), Rc::clone(tally), Rc::clone(&over));
            tokio::task::spawn_local(async move {
                let mut number = 0;
                while !over.get() {
                    sleep(Duration::from_secs(every)).await;
                    number += 1;
                    if let Some(undo) = fault(&setting, &tally, number) {
                        sleep(AWAY).await;
                        undo(&setting, &tally, number);
                    }
                }
            })
        };
        let tasks = vec![again(1, policies), again(5, certificates), again(10, application)];
        Self { over, tasks }
    }

    pub(crate) async fn end(self) {
        self.over.set(true);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// What ends a fault that lasts.
type Undo = fn(&Setting, &Tally, u64);

/// One path is refused every other second; everything else stays allowed, each time by other words.
fn policies(setting: &Setting, tally: &Tally, number: u64) -> Option<Undo> {
    let policy = |name: &str, action: &str, rules: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{selector: {{matchLabels: {{app: echo}}}}, action: {action}, rules: {rules}}}\n---\n"
        )
    };
    let principal = format!("{TRUST_DOMAIN}/ns/default/sa/caller");
    let mut text = policy("callers", "ALLOW", &format!("[{{from: [{{source: {{principals: [\"{principal}\"]}}}}]}}]"));
    if number.is_multiple_of(2) {
        text += &policy("sometimes", "DENY", "[{to: [{operation: {paths: [\"/sometimes\"]}}]}]");
    }
    if number.is_multiple_of(3) {
        text +=
            &policy("nobody", "DENY", &format!("[{{when: [{{key: 'request.headers[x-{number}]', values: ['*']}}]}}]"));
    }
    setting.sandbox.write_resource("policies.yaml", &text).unwrap();
    tally.policies.set(number);
    None
}

/// Everybody gets a new certificate: the two files one after the other, so that for an instant they do not fit.
fn certificates(setting: &Setting, tally: &Tally, number: u64) -> Option<Undo> {
    let authority = Authority::open(&setting.sandbox.path("ca")).unwrap();
    for (name, account) in [("caller", "caller"), (BACKENDS[0], "echo"), (BACKENDS[1], "echo")] {
        let id = format!("spiffe://{TRUST_DOMAIN}/ns/default/sa/{account}").parse().unwrap();
        let issued = authority.issue(&IssueOptions::new(id)).unwrap();
        for (file, text) in
            [(format!("{name}.pem"), issued.certificate_pem), (format!("{name}-key.pem"), issued.key_pem)]
        {
            let path = setting.sandbox.path("identities").join(file);
            let staged = path.with_extension("staged");
            fs::write(&staged, text).unwrap();
            fs::rename(&staged, &path).unwrap();
        }
    }
    tally.rotations.set(number);
    None
}

/// One of the applications is killed, and comes back.
fn application(setting: &Setting, tally: &Tally, number: u64) -> Option<Undo> {
    let which = |number: u64| usize::from(number.is_multiple_of(2));
    setting.applications[which(number)].borrow_mut().kill();
    let now = Instant::now();
    // Requests have to be excused from now on, and not only when it is back.
    tally.killed.borrow_mut().push((now, now + AWAY));
    Some(|setting, tally, number| {
        setting.applications[usize::from(number.is_multiple_of(2))].borrow_mut().restart();
        if let Some(last) = tally.killed.borrow_mut().last_mut() {
            last.1 = Instant::now();
        }
    })
}
