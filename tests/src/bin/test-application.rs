//! The application of a pod in the kernel tests. It knows nothing of the mesh: plain sockets, no proxy setting.
//!
//! ```text
//! test-application serve NAME http=ADDRESS tcp=ADDRESS...   answers until it is killed
//! test-application call ADDRESS LINE                        one TCP conversation in which the server speaks first
//! ```
//!
//! An HTTP answer is the application's name, the address that its caller came from, and the request's head. On a TCP port
//! name and address come as a greeting, before the caller has said anything; then every line is echoed until the caller
//! has ended, and a farewell follows.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Longer than any answer takes: a conversation that hangs is a test that failed, and not one that never ends.
const PATIENCE: Duration = Duration::from_secs(10);

type Serve = fn(&str, &TcpStream) -> io::Result<()>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["serve", name, ref ports @ ..] => serve(name, ports),
        ["call", address, line] => Ok(call(address, line)?),
        _ => Err("usage: test-application serve NAME http=ADDRESS tcp=ADDRESS... | call ADDRESS LINE".into()),
    }
}

fn serve(name: &str, ports: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut listening = Vec::new();
    for port in ports {
        let (serve, address): (Serve, _) = match port.split_once('=') {
            Some(("http", address)) => (http, address),
            Some(("tcp", address)) => (tcp, address),
            _ => return Err(format!("{port}: neither http=ADDRESS nor tcp=ADDRESS").into()),
        };
        let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
        let name = name.to_owned();
        listening.push(thread::spawn(move || accept(&listener, &name, serve)));
    }
    // Whoever started this waits for the line, and then knows that every port is there.
    println!("listening");
    for thread in listening {
        let _ = thread.join();
    }
    Ok(())
}

fn accept(listener: &TcpListener, name: &str, serve: Serve) {
    while let Ok((stream, _)) = listener.accept() {
        let name = name.to_owned();
        // How a caller's connection ends is the caller's affair.
        thread::spawn(move || serve(&name, &stream));
    }
}

/// HTTP/1.1 with bodies of a stated length, which is what curl sends and the proxy passes on.
fn http(name: &str, stream: &TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        let mut length = 0;
        loop {
            let start = head.len();
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            let line = head.get(start..).unwrap_or_default().trim_end();
            if line.is_empty() {
                break;
            }
            if let Some((field, value)) = line.split_once(':')
                && field.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let body = format!("name: {name}\npeer: {peer}\n\n{}\n", head.trim_end());
        let mut stream = stream;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    }
}

fn tcp(name: &str, stream: &TcpStream) -> io::Result<()> {
    let mut writer = stream;
    writeln!(writer, "name: {name}\npeer: {}", stream.peer_addr()?.ip().to_canonical())?;
    for line in BufReader::new(stream).lines() {
        writeln!(writer, "echo: {}", line?)?;
    }
    writeln!(writer, "farewell")
}

/// Says nothing before it has been greeted, and goes on listening after it has said its last.
#[allow(clippy::disallowed_methods, reason = "this is no worker: it has one connection and nothing else to do")]
fn call(address: &str, line: &str) -> io::Result<()> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream);
    let mut said = String::new();
    let greeted = reader.read_line(&mut said);
    greeted.map_err(|error| io::Error::new(error.kind(), format!("not greeted within {PATIENCE:?}: {error}")))?;
    if said.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed without a greeting"));
    }
    writeln!(&stream, "{line}")?;
    stream.shutdown(Shutdown::Write)?;
    reader.read_to_string(&mut said)?;
    io::stdout().write_all(said.as_bytes())
}
