"""Memory: of a process before its first connection, and of each connection that rests after one request."""

import contextlib
import socket
import time
from concurrent import futures

from .common import ALLOWED, BODY, HOST, Failure, split
from .measurement import resident
from .processes import DOOR, ENTRY
from .proof import caller

AT_ONCE = 32  # connections being opened at a time
PATIENCE = 60.0  # seconds; a proxy in callgrind on a busy machine takes some
REQUEST = f"GET {ALLOWED} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def measure(side, subjects, connections, settle):
    """By subject: MiB resident before, after some requests; KiB for each connection; MiB when all have ended. All rest at the same time."""
    figures = {}
    with contextlib.ExitStack() as stack:
        for subject in subjects:
            figures[subject.name] = {"before_mib": resident(subject.proxies[side])}
            hold(stack, subject, side, connections)
        time.sleep(settle)
        for subject in subjects:
            own = figures[subject.name]
            own["connection_kib"] = 1024 * (resident(subject.proxies[side]) - own["before_mib"]) / connections
    time.sleep(settle / 2)
    for subject in subjects:
        figures[subject.name]["after_mib"] = resident(subject.proxies[side])
    return figures


def hold(stack, subject, side, connections):
    """So many connections, each after one request, for as long as the stack lasts."""
    if side == "server":
        address, context = split(subject.layout.address(*DOOR)), caller(subject.layout, "frontend", subject.peer.alpn)
    else:
        address, context = split(subject.layout.address(*ENTRY)), None

    def open_one(_):
        connection = connect(context, address)
        request(connection, subject.name)
        return connection

    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        resting = list(pool.map(open_one, range(connections)))
    for connection in resting:
        stack.enter_context(connection)
    return resting


def connect(context, address, source=None):
    """A connection, in TLS if there is a context; from this address, where it matters."""
    plain = socket.create_connection(address, timeout=PATIENCE, source_address=(source, 0) if source else None)
    return context.wrap_socket(plain) if context else plain


def request(connection, name):
    """A whole answer, and nothing after it."""
    connection.sendall(REQUEST)
    answer = connection.recv(65536)
    while b"\r\n\r\n" not in answer or len(answer.partition(b"\r\n\r\n")[2]) < len(BODY):
        piece = connection.recv(65536)
        if not piece:
            break
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise Failure(f"{name} answers {answer[:200]}")
