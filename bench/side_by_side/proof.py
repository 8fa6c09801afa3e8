"""Proof that a subject does its job: a proxy that checks nothing is fast."""

import socket
import ssl
import time

from .common import ALLOWED, BODY, HOST, OTHER, Failure, captured, say, split
from .processes import DOOR, START_DEADLINE


def prove(subject, job):
    """Allowed is answered by the application; another path, method, identity, and no certificate are not."""
    ask = plain_http2 if job.version == 2 else plain
    until_answered(subject, ask)
    if subject.peer and not subject.peer.refuses:
        say(f"{subject.name}: passes what there is")
        return
    expect(subject, "GET, another path", ask(subject.entry, "GET", OTHER)[0], (403,))
    expect(subject, "POST", ask(subject.entry, "POST", ALLOWED)[0], (403,))
    if subject.peer:
        if job.version == 1:  # the application speaks one version, and these clients HTTP/1.1
            expect(subject, "as frontend, past the client side", encrypted(subject, "frontend"), (200,))
        expect(subject, "as another service account", encrypted(subject, "other"), (403,))
        expect(subject, "without a certificate", encrypted(subject, None), subject.peer.stranger)
    say(f"{subject.name}: does its job")


def until_answered(subject, ask):
    """The other side's configuration may still be on its way."""
    deadline = time.monotonic() + START_DEADLINE
    while (got := ask(subject.entry, "GET", ALLOWED))[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    expect(subject, "GET, allowed", got[0], (200,))
    expect(subject, "GET, allowed: the application's answer", got[1][: len(BODY)] == BODY or len(got[1]) > len(BODY), (True,))


def expect(subject, what, got, wanted):
    if got not in wanted:
        raise Failure(f"{subject.name}: {what}: want {' or '.join(map(str, wanted))}, got {got}")


def plain(address, method, path):
    with socket.create_connection(split(address), timeout=5) as stream:
        return exchange(stream, method, path)


def plain_http2(address, method, path):
    url = f"http://{address}{path}"
    head = ["-H", f"Host: {HOST}", "-w", "%{http_code}", "--max-time", "5"]
    output = captured(["curl", "--silent", "--http2-prior-knowledge", "-X", method, *head, url]).stdout
    return (int(output[-3:]) or None if output[-3:].isdigit() else None, output[:-3])


def encrypted(subject, workload):
    """The status that a workload gets from the server side; None if it is refused before HTTP."""
    context = caller(subject.layout, workload, subject.peer.alpn)
    door = split(subject.layout.address(*DOOR))
    try:
        with socket.create_connection(door, timeout=5) as stream, context.wrap_socket(stream) as secure:
            return exchange(secure, "GET", ALLOWED)[0]
    except (ssl.SSLError, ConnectionError):
        return None


def caller(layout, workload, alpn):
    """TLS as this workload would speak it, or with no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the name is a URI, which this library does not compare
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(layout.path("ca/ca.pem"))
    context.set_alpn_protocols(list(alpn))
    if workload:
        context.load_cert_chain(layout.path(f"certs/{workload}-both.pem"))
    return context


def exchange(stream, method, path):
    """One request on a connection of its own: (status, body); the status is None when nothing came."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    stream.sendall(head.encode())
    parts = []
    while part := stream.recv(1024 * 1024):
        parts.append(part)
    head, _, body = b"".join(parts).decode("latin-1").partition("\r\n\r\n")
    words = head.split(" ", 2)
    return (int(words[1]) if len(words) > 1 else None, body)
