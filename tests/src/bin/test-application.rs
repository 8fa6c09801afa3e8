//! The application of a pod in the kernel tests. It knows nothing of the mesh: plain sockets, no proxy setting.
//!
//! ```text
//! test-application serve NAME http=ADDRESS tcp=ADDRESS udp=ADDRESS...   answers until it is killed
//! test-application call ADDRESS LINE                        one TCP conversation in which the server speaks first
//! test-application say ADDRESS LINE                         one in which the client does
//! test-application datagram ADDRESS LINE                    a datagram, and its answer
//! test-application ping IP                                  an ICMP echo; fails without an answer
//! test-application stray IP ADDRESS ADDRESS                 a TCP segment of no connection to each, from IP; who resets it first
//! ```
//!
//! An HTTP answer is the application's name, the address that its caller came from, and the request's head. On a TCP port
//! name and address come as a greeting, before the caller has said anything; then every line is echoed until the caller
//! has ended, and a farewell follows. A datagram is answered with name and address, and itself.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Longer than any answer takes: a conversation that hangs is a test that failed, and not one that never ends.
const PATIENCE: Duration = Duration::from_secs(10);

type Serve = fn(&str, &TcpStream) -> io::Result<()>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["serve", name, ref ports @ ..] => serve(name, ports),
        ["call", address, line] => Ok(call(address, line)?),
        ["say", address, line] => Ok(say(address, line)?),
        ["datagram", address, line] => Ok(datagram(address.parse()?, line)?),
        ["ping", address] => Ok(ping(address.parse()?)?),
        ["stray", from, first, second] => Ok(stray(from.parse()?, [first.parse()?, second.parse()?])?),
        _ => {
            Err("usage: test-application serve NAME http=ADDRESS... | call, say or datagram ADDRESS LINE | ping IP"
                .into())
        }
    }
}

fn serve(name: &str, ports: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut listening = Vec::new();
    for port in ports {
        if let Some(address) = port.strip_prefix("udp=") {
            let (socket, name) = (UdpSocket::bind(address)?, name.to_owned());
            listening.push(thread::spawn(move || while answer_datagram(&socket, &name).is_ok() {}));
            continue;
        }
        let (serve, address): (Serve, _) = match port.split_once('=') {
            Some(("http", address)) => (http, address),
            Some(("tcp", address)) => (tcp, address),
            _ => return Err(format!("{port}: none of http=ADDRESS, tcp=ADDRESS and udp=ADDRESS").into()),
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

/// Speaks first, and hears whatever comes until the far side ends, however it does.
#[allow(clippy::disallowed_methods, reason = "as of call")]
fn say(address: &str, line: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Who has closed it already need not be told.
    let _ = writeln!(stream, "{line}").and_then(|()| stream.shutdown(Shutdown::Write));
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
        _ => io::stdout().write_all(&said),
    }
}

/// More than any datagram of the tests.
const DATAGRAM: usize = 1024;

fn answer_datagram(socket: &UdpSocket, name: &str) -> io::Result<()> {
    let mut datagram = [0; DATAGRAM];
    let (length, peer) = socket.recv_from(&mut datagram)?;
    let said = String::from_utf8_lossy(datagram.get(..length).unwrap_or_default()).into_owned();
    socket.send_to(format!("name: {name}\npeer: {}\necho: {said}\n", peer.ip().to_canonical()).as_bytes(), peer)?;
    Ok(())
}

fn datagram(address: SocketAddr, line: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(SocketAddr::new(unspecified(address.ip()), 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // From nobody but the one that was asked.
    socket.connect(address)?;
    socket.send(line.as_bytes())?;
    let mut answer = [0; DATAGRAM];
    let length = socket.recv(&mut answer)?;
    io::stdout().write_all(answer.get(..length).unwrap_or_default())
}

fn unspecified(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// As users without rights may, by the kernel's own kind of socket for it: it fills in checksum and identifier, and gives nobody else's
/// answers.
fn ping(address: IpAddr) -> io::Result<()> {
    let (domain, protocol, request) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = UdpSocket::from(Socket::new(domain, Type::DGRAM, Some(protocol))?);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(SocketAddr::new(address, 0))?;
    socket.send(&[request, 0, 0, 0, 0, 0, 0, 1])?;
    socket.recv(&mut [0; DATAGRAM]).map(drop)
}

/// A SYN with an ACK, which answers nothing.
fn stray(from: Ipv4Addr, to: [SocketAddrV4; 2]) -> io::Result<()> {
    let socket = UdpSocket::from(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?);
    socket.set_read_timeout(Some(PATIENCE))?;
    for address in to {
        socket.send_to(&segment(from, address), address)?;
    }
    let mut packet = [0; DATAGRAM];
    loop {
        let (_, sender) = socket.recv_from(&mut packet)?;
        let header = usize::from(packet.first().unwrap_or(&0) & 0xf) * 4;
        let is_reset = packet.get(header + 13).is_some_and(|flags| flags & RESET != 0);
        if let Some(address) = to.iter().find(|address| is_reset && IpAddr::V4(*address.ip()) == sender.ip()) {
            println!("{}", address.ip());
            return Ok(());
        }
    }
}

const SYN_ACK: u8 = 0x12;
const RESET: u8 = 0x04;

/// A TCP header, and nothing in it that matters but its flags and its checksum (RFC 9293, 3.1).
fn segment(from: Ipv4Addr, to: SocketAddrV4) -> Vec<u8> {
    const FROM_PORT: u16 = 40000;
    const PROTOCOL_AND_LENGTH: [u8; 4] = [0, 6, 0, 20];
    let header = |checksum: u16| {
        let mut header = [FROM_PORT.to_be_bytes(), to.port().to_be_bytes()].concat();
        // Sequence, acknowledged, header of five words, flags, window.
        header.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, SYN_ACK, 0xff, 0xff]);
        header.extend([checksum.to_be_bytes(), [0; 2]].concat());
        header
    };
    let summed = [&from.octets()[..], &to.ip().octets(), &PROTOCOL_AND_LENGTH, &header(0)].concat();
    let (words, _) = summed.as_chunks::<2>();
    let sum = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    header(!u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or_default())
}
