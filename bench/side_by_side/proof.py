"""Proof that a pair does its job: a proxy that checks nothing is fast."""

import socket
import ssl
import time

from .common import ALLOWED, BODY, HOST, OTHER, Failure, split
from .peers import START_DEADLINE


def prove(layout, pair):
    def expect(what, got, wanted):
        if got != wanted:
            raise Failure(f"{pair.name}: {what}: want {wanted}, got {got}")

    deadline = time.monotonic() + START_DEADLINE
    while plain(pair.entry, "GET", ALLOWED)[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.05)  # the other side's configuration may still be on its way
    expect("GET, allowed", plain(pair.entry, "GET", ALLOWED), (200, BODY))
    expect("GET, another path", plain(pair.entry, "GET", OTHER)[0], 403)
    expect("POST", plain(pair.entry, "POST", ALLOWED)[0], 403)
    expect("as frontend, past the client side", encrypted(layout, pair, "frontend"), 200)
    expect("as another service account", encrypted(layout, pair, "other"), 403)
    expect("without a certificate", encrypted(layout, pair, None), None)


def plain(address, method, path):
    with socket.create_connection(split(address), timeout=5) as stream:
        return exchange(stream, method, path)


def encrypted(layout, pair, workload):
    """The status that a workload gets from the server side; None if it is refused before HTTP."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the name is a URI, which this library does not compare
    context.load_verify_locations(layout.path("ca/ca.pem"))
    context.set_alpn_protocols(pair.alpn)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if workload:
        context.load_cert_chain(layout.path(f"certs/{workload}-both.pem"))
    try:
        with socket.create_connection(split(pair.door), timeout=5) as stream, context.wrap_socket(stream) as secure:
            return exchange(secure, "GET", ALLOWED)[0]
    except (ssl.SSLError, ConnectionError):
        return None


def exchange(stream, method, path):
    """One request on a connection of its own: (status, body); the status is None when nothing came."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    stream.sendall(head.encode())
    answer = b""
    while part := stream.recv(65536):
        answer += part
    head, _, body = answer.decode("latin-1").partition("\r\n\r\n")
    words = head.split(" ", 2)
    return (int(words[1]) if len(words) > 1 else None, body)
