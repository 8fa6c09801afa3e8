//! What goes wrong meanwhile: policies rewritten, certificates rotated, applications killed.

use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use meshgate::sandbox::TRUST_DOMAIN;
use meshgate_identity::ca::{Authority, IssueOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::profile::Profile;
use crate::setting::{ACCOUNTS, BACKENDS, Setting};
use crate::tally::{Kill, Tally};

/// How long a killed application is away.
const AWAY: Duration = Duration::from_millis(1500);

pub(crate) struct Faults {
    over: Rc<Cell<bool>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Faults {
    pub(crate) fn start(setting: &Rc<Setting>, tally: &Rc<Tally>, profile: &Profile) -> Self {
        let over = Rc::<Cell<bool>>::default();
        let again = |every: Duration, fault: fn(&Setting, &Tally, u64)| {
            let (setting, tally, over) = (Rc::clone(setting), Rc::clone(tally), Rc::clone(&over));
            tokio::task::spawn_local(async move {
                let mut number = 0;
                while !over.get() {
                    sleep(every).await;
                    if tally.faulty.get() {
                        number += 1;
                        fault(&setting, &tally, number);
                    }
                }
            })
        };
        let (kept, told, stop, every) = (Rc::clone(setting), Rc::clone(tally), Rc::clone(&over), profile.kills);
        let killing = tokio::task::spawn_local(async move {
            let mut number = 0;
            while !stop.get() {
                sleep(every).await;
                if told.faulty.get() {
                    number += 1;
                    application(&kept, &told, number % BACKENDS.len()).await;
                }
            }
        });
        let times = tokio::task::spawn_local(quiet_times(Rc::clone(tally), Rc::clone(&over), *profile));
        let tasks = vec![again(profile.policies, policies), again(profile.certificates, certificates), killing, times];
        Self { over, tasks }
    }

    pub(crate) async fn end(self) {
        self.over.set(true);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Says when things go wrong, and when not: at first, and again.
async fn quiet_times(tally: Rc<Tally>, over: Rc<Cell<bool>>, profile: Profile) {
    loop {
        let began = Instant::now();
        sleep(profile.quiet).await;
        tally.faulty.set(true);
        while profile.again.is_none_or(|again| began.elapsed() < again) {
            if over.get() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
        tally.faulty.set(false);
    }
}

/// One path is refused four times of eight; everything else stays allowed, each time by other words.
pub(crate) fn policies(setting: &Setting, tally: &Tally, number: u64) {
    let policy = |name: &str, action: &str, rules: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{selector: {{matchLabels: {{app: echo}}}}, action: {action}, rules: {rules}}}\n---\n"
        )
    };
    let principal = format!("{TRUST_DOMAIN}/ns/default/sa/caller");
    let mut text = policy("callers", "ALLOW", &format!("[{{from: [{{source: {{principals: [\"{principal}\"]}}}}]}}]"));
    let denied = number % 8 >= 4;
    if denied {
        text += &policy("sometimes", "DENY", "[{to: [{operation: {paths: [\"/sometimes\"]}}]}]");
    }
    // Always of the same header: of a request in progress nothing is known of a header that no policy had asked for when it came,
    // and then it is rather ended than let go on.
    text +=
        &policy("nobody", "DENY", &format!("[{{when: [{{key: 'request.headers[x-nobody]', values: ['{number}']}}]}}]"));
    setting.sandbox.write_resource("policies.yaml", &text).unwrap();
    tally.denied.borrow_mut().push((Instant::now(), denied));
    tally.policies.set(number);
}

/// Everybody gets a new certificate: the two files one after the other, so that for an instant they do not fit.
fn certificates(setting: &Setting, tally: &Tally, number: u64) {
    let authority = Authority::open(&setting.sandbox.path("ca")).unwrap();
    for (name, account) in ACCOUNTS {
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
}

/// One of the applications is killed, and comes back.
async fn application(setting: &Setting, tally: &Tally, which: usize) {
    tally.kills.borrow_mut().push(Kill { began: Instant::now(), dead: None, back: None });
    let kill = |change: fn(&mut Kill)| tally.kills.borrow_mut().last_mut().map(change);
    let killer = setting.applications[which].borrow_mut().killer();
    killer.await;
    kill(|kill| kill.dead = Some(Instant::now()));
    sleep(AWAY).await;
    setting.applications[which].borrow_mut().restart();
    kill(|kill| kill.back = Some(Instant::now()));
}
