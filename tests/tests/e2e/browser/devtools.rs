//! A headless Chromium, and as much of its DevTools protocol as the tests need: JSON in a websocket (RFC 6455) on loopback.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meshgate::sandbox::{PATIENCE, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What Debian and others call it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

const FLAGS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-port=0",
    // Whatever it has in mind to ask somebody else has no address.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.*",
    "about:blank",
];

/// The browser with one page; killed when dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
    stream: TcpStream,
    session: Option<String>,
    next: u64,
    events: Vec<Value>,
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

impl Browser {
    /// Starts one; `None`, with a word, where there is none and none has to be.
    pub(crate) async fn start() -> Option<Self> {
        let Some(program) = find() else {
            let must = std::env::var_os("CI").is_some() && std::env::var_os("MESHGATE_NO_BROWSER").is_none();
            assert!(!must, "no Chromium: install Debian's chromium");
            eprintln!("*** SKIPPED: no Chromium on the PATH: nobody has looked at the live page ***");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new(program)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = profile.path().join("DevToolsActivePort");
        let (port, path) = until("Chromium", async || active(&file)).await.unwrap();
        let stream = connect(port, &path).await;
        let mut browser = Self { child, _profile: profile, stream, session: None, next: 0, events: Vec::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach).await;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        Some(browser)
    }

    pub(crate) async fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
    }

    /// Calls a method, and keeps the events that come meanwhile.
    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        send(&mut self.stream, message.to_string().as_bytes()).await;
        let answer = async {
            loop {
                let said = receive(&mut self.stream).await;
                if said["id"] == self.next {
                    return said;
                }
                self.events.push(said);
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("{method}: no answer"));
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", params).await;
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, expression: &str) {
        let begun = tokio::time::Instant::now();
        // What is not there yet is not true yet.
        let tried = format!("(() => {{ try {{ return Boolean({expression}); }} catch {{ return false; }} }})()");
        while self.value(&tried).await != true {
            if begun.elapsed() > PATIENCE {
                let page = self.value("document.body.innerText").await;
                panic!("not within {PATIENCE:?}: {expression}; the page: {page}; {:#?}", self.complaints());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// What the page or the browser found wrong: exceptions, errors on the console, violations of the page's policy.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        let is_wrong = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] != "log",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        self.events.iter().filter(is_wrong).collect()
    }

    /// What the page has asked for.
    pub(crate) fn requested(&self) -> Vec<&str> {
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        requests.filter_map(|event| event["params"]["request"]["url"].as_str()).collect()
    }

    /// What has happened so far is forgotten.
    pub(crate) fn forget(&mut self) {
        self.events.clear();
    }

    /// How large its window is.
    pub(crate) async fn size(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700 });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Which colours its user prefers.
    pub(crate) async fn colours(&mut self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Keeps a picture of the whole page where `MESHGATE_SHOTS` says; it is for people, and nothing is compared with it.
    pub(crate) async fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("MESHGATE_SHOTS") else { return };
        let picture = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end with it. That it has ended by itself is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port and the path that the browser has written down.
fn active(file: &Path) -> Option<(u16, String)> {
    let text = std::fs::read_to_string(file).ok()?;
    let (port, path) = text.split_once('\n')?;
    Some((port.parse().ok()?, path.trim().to_owned())).filter(|(_, path)| !path.is_empty())
}

async fn connect(port: u16, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let hello = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(hello.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// One text frame, masked by zeros, which changes nothing.
async fn send(stream: &mut TcpStream, text: &[u8]) {
    let mut frame = vec![0x81, 0x80 | 127];
    frame.extend_from_slice(&(text.len() as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text);
    stream.write_all(&frame).await.unwrap();
}

/// The next message.
async fn receive(stream: &mut TcpStream) -> Value {
    let mut message = Vec::new();
    loop {
        let (first, second) = (stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap());
        let length = match second & 0x7f {
            126 => u64::from(stream.read_u16().await.unwrap()),
            127 => stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let begin = message.len();
        message.resize(begin + usize::try_from(length).unwrap(), 0);
        stream.read_exact(&mut message[begin..]).await.unwrap();
        match first {
            0x81 | 0x80 => return serde_json::from_slice(&message).unwrap(),
            0x01 | 0x00 => {}
            // Pings and the like.
            _ => message.truncate(begin),
        }
    }
}
