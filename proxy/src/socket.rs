//! Socket options, and nothing else touches them: listeners that share a port between workers, connections that notice a
//! dead far side, and the source address that the redirection rules know.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

/// Connections that the kernel has completed and no worker has accepted yet. Linux caps it at `net.core.somaxconn` (4096 by
/// default), which is also as much as a burst may queue before clients see a delay.
const BACKLOG: i32 = 4096;

/// First probe after this much silence, then every [`KEEPALIVE_INTERVAL`], [`KEEPALIVE_RETRIES`] times: a peer whose host has
/// vanished is noticed in 40 s rather than in the kernel's two hours. Accepted and dialled connections alike.
///
/// There is no `TCP_USER_TIMEOUT` beside it: Linux ends by it also a connection whose far side is well and just takes nothing for
/// a while, which is for `timeouts.stream` to judge, and lets it override these probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Inbound connections to the application come from this address, so that the redirection rules can tell them from what
/// the application sends itself (`ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN`).
pub const INBOUND_SOURCE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
/// As [`INBOUND_SOURCE_V4`], for IPv6.
pub const INBOUND_SOURCE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// Where a connection to the application at `address` comes from.
pub fn inbound_source(address: IpAddr) -> IpAddr {
    if address.is_ipv4() { INBOUND_SOURCE_V4 } else { INBOUND_SOURCE_V6 }
}

/// Binds a listener; with `shared`, other workers may bind the same address and the kernel spreads connections over them.
///
/// # Errors
/// The operating system's, most often that the port is in use or privileged.
pub fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // One listener, one family: a v4 listener beside it would otherwise clash, and peers would appear v4-mapped.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Lets a listener take connections to addresses that are not its own, as rules with TPROXY hand them to it: nothing about them is
/// translated, so that they are going where their local address says.
///
/// # Errors
/// The operating system's: `EPERM` without `CAP_NET_RAW` and without `CAP_NET_ADMIN`.
pub fn make_transparent(listener: &std::net::TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    match listener.local_addr()? {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// Starts to listen on a socket made by [`bind`]: from here on connections are completed, and wait until they are accepted. They have
/// `TCP_NODELAY` and keepalive from their first moment on, because Linux gives them all of their listener's: five calls that
/// need not be made for each.
///
/// # Errors
/// The operating system's.
pub fn listen(socket: &std::net::TcpListener) -> io::Result<()> {
    let socket = SockRef::from(socket);
    configure(&socket)?;
    socket.listen(BACKLOG)
}

/// Whether a socket listens.
///
/// # Errors
/// The operating system's.
pub fn is_listener(socket: &std::net::TcpListener) -> io::Result<bool> {
    SockRef::from(socket).is_listener()
}

/// Options every connection has, accepted or made.
fn configure(socket: &SockRef<'_>) -> io::Result<()> {
    // Requests and answers are written whole; waiting to fill a segment would only add latency.
    socket.set_tcp_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&probes.with_retries(KEEPALIVE_RETRIES))
}

/// Connects, from `source` if given. The deadline is the caller's.
///
/// # Errors
/// The operating system's.
pub async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source.filter(|source| source.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    configure(&SockRef::from(&stream))?;
    Ok(stream)
}

/// The address before redirection, as the kernel's connection tracking remembers it (`SO_ORIGINAL_DST`), with v4-mapped
/// addresses turned into IPv4.
///
/// # Errors
/// `ENOENT` or `ENOPROTOOPT` when the connection was not redirected or the kernel has no connection tracking.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let address = match stream.local_addr()?.ip().to_canonical() {
        IpAddr::V4(_) => socket.original_dst_v4()?,
        IpAddr::V6(_) => socket.original_dst_v6()?,
    };
    let address = address.as_socket().ok_or_else(|| io::Error::other("original destination is not an IP address"))?;
    Ok(canonical(address))
}

/// The same address with v4-mapped IPv6 turned into IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_connections_have_the_options_of_their_listener() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), true).unwrap();
        listen(&listener).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (client, accepted) = tokio::join!(connect(listener.local_addr().unwrap(), None), listener.accept());
        for stream in [client.unwrap(), accepted.unwrap().0] {
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
        }
    }
}
