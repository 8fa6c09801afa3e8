//! `meshgate top`, in a pipe and on a terminal.

use std::process::Command;

use http::Method;
use meshgate::sandbox::{request, until};
use meshgate_tests::run;
use serde_json::Value;
use tempfile::TempDir;

use super::meshgate;
use crate::support::app::App;
use crate::support::mesh::{BACKEND, Mesh, policy};

/// A pair of sidecars of which one has called the other, and was refused once.
async fn pair() -> (App, Mesh) {
    let app = App::ok().await;
    let mesh = Mesh::of(app.address()).await;
    mesh.policies(&policy("none", "DENY", "[{to: [{operation: {paths: [/secret]}}]}]")).await;
    for path in ["/", "/", "/secret"] {
        request(mesh.frontend.outbound(), BACKEND, Method::GET, path).await;
    }
    until("the edge", async || {
        let page: Value = serde_json::from_str(&mesh.backend().admin_page("/edges").await?).ok()?;
        (page["edges"][0]["requests"]["total"] == 3).then_some(())
    })
    .await
    .unwrap();
    (app, mesh)
}

#[test]
fn top_writes_who_talks_to_whom_and_who_was_refused_into_a_pipe() {
    run(async {
        let (_app, mesh) = pair().await;
        let (dir, admin) = (TempDir::new().unwrap(), mesh.backend().admin().to_string());
        let (status, text, errors) = meshgate(dir.path(), &["top", "--once", "--admin", &admin]);
        assert_eq!((status, errors.as_str()), (0, ""), "{text}");
        let edge = text.lines().find(|line| line.contains(BACKEND) && line.contains("frontend")).unwrap();
        let words: Vec<_> = edge.split_whitespace().collect();
        assert_eq!(words[2..5], ["-", "66.7", "yes"], "{text}");
        assert_eq!(words[words.len() - 2..], ["1", "3"], "{text}");
        let refusal = text.lines().find(|line| line.contains("403 RBAC")).unwrap();
        for part in ["default/none rule 0", "sa/frontend", "GET /secret"] {
            assert!(refusal.contains(part), "{part}: {text}");
        }
        assert!(text.contains("spiffe://cluster.local/ns/default/sa/backend") && !text.contains('\x1b'), "{text}");
        // Without a terminal there is no other way, and it says so.
        let (status, _, errors) = meshgate(dir.path(), &["top", "--admin", &format!("http://{admin}/")]);
        assert!(status == 0 && errors.contains("no terminal"), "{errors}");
        let (status, json, errors) = meshgate(dir.path(), &["top", "--output", "json", "--admin", &admin]);
        assert_eq!((status, errors.as_str()), (0, ""));
        let state: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(state["edges"]["edges"][0]["requests"]["refused"], 1, "{json}");
        let (status, text, errors) = meshgate(dir.path(), &["top", "--once", "--admin", "127.0.0.1:1"]);
        assert!((status, text.as_str()) == (2, "") && errors.contains("127.0.0.1:1"), "{errors}");
        let (status, _, errors) = meshgate(dir.path(), &["top", "--interval", "100ms"]);
        assert!(status == 2 && errors.contains("each second"), "{errors}");
    });
}

/// Runs the command on a terminal of 100 columns, presses a key or sends a signal once it has drawn, and says what came, how it
/// ended, and whether the terminal is as it was.
const TERMINAL: &str = r#"
import fcntl, json, os, pty, select, signal, struct, sys, termios, time
program, admin, how = sys.argv[1:]
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
before = termios.tcgetattr(slave)
child = os.fork()
if child == 0:
    os.close(master)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in range(3):
        os.dup2(slave, number)
    os.environ["TERM"] = "xterm-256color"
    os.environ.pop("NO_COLOR", None)
    os.execv(program, [program, "top", "--admin", admin])
seen, asked, end, during = b"", False, time.time() + 60, None
status = None
while time.time() < end:
    if select.select([master], [], [], 0.05)[0]:
        seen += os.read(master, 65536)
    if not asked and seen.count(b"WHO TALKS TO WHOM") >= 2:
        during = termios.tcgetattr(slave)
        asked = True
        if how == "q": os.write(master, b"q")
        elif how == "interrupt": os.write(master, b"\x03")
        else: os.kill(child, signal.SIGTERM)
    if status is None:
        pid, code = os.waitpid(child, os.WNOHANG)
        if pid: status = os.waitstatus_to_exitcode(code)
    elif not select.select([master], [], [], 0.05)[0]:
        break
if status is None: os.kill(child, signal.SIGKILL)
print(json.dumps({"seen": seen.decode("utf-8", "replace"), "status": status, "asked": asked,
    "raw": during is not None and not during[3] & termios.ECHO, "restored": termios.tcgetattr(slave) == before}))
"#;

#[test]
fn top_has_a_screen_of_its_own_and_leaves_the_terminal_as_it_was() {
    run(async {
        let (_app, mesh) = pair().await;
        let admin = mesh.backend().admin().to_string();
        for how in ["q", "interrupt", "terminate"] {
            let mut command = Command::new("python3");
            command.args(["-c", TERMINAL]).arg(crate::binary()).args([&admin, how]);
            let output = command.output().unwrap();
            let seen: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
            let text = seen["seen"].as_str().unwrap();
            assert_eq!((&seen["status"], &seen["asked"]), (&0.into(), &true.into()), "{how}: {seen:#}");
            assert_eq!((&seen["raw"], &seen["restored"]), (&true.into(), &true.into()), "{how}: {seen:#}");
            assert!(text.starts_with("\u{1b}[?1049h") && text.contains("\u{1b}[?25h\u{1b}[?1049l"), "{how}: {text:?}");
            assert!(text.contains("default/none rule 0") && text.contains("\u{1b}[31m"), "{how}: {text:?}");
        }
    });
}
