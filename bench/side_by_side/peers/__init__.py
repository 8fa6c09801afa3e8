"""The proxies that are compared: each a module that configures its client and its server side for a Job, and nothing else.

    plaintext -> client side -> mutual TLS 1.3, no resumption -> server side -> application

A server side checks the caller's SPIFFE name, the method and the path, and refuses what no policy lets in. What a peer cannot do of
that is what its module says in `less`.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable

from ..common import ALLOWED, Failure
from ..processes import DOOR, ENTRY, LOAD_CPU, PROXY_CPU, start


@dataclasses.dataclass(frozen=True)
class Job:
    """What a proxy is to do."""

    version: int = 1  # of HTTP, on all three legs
    tunnel: bool = False  # the client side passes bytes on: a connection in is a mutual TLS session out
    policies: tuple = (("allow-frontend-get-data", "frontend", ALLOWED),)  # (name, service account, path to GET) of each
    form: str = ""  # of the policies, where a peer has two
    access_log: bool = True
    workers: int = 1
    connections: int = 4096  # at a time
    settings: dict = dataclasses.field(default_factory=dict)  # of our bootstraps, by side: what they have besides


@dataclasses.dataclass(frozen=True)
class Peer:
    """How one is started. A command is made by (layout, job), with its files written."""

    name: str
    version: Callable  # (programs) -> text
    client: Callable
    server: Callable
    less: Callable  # (job) -> what it does less than the others, or nothing
    log: Callable  # (layout, side) -> where its access log is
    alpn: tuple = ("http/1.1",)
    # What a caller without a certificate gets: nothing, or a status from before any policy.
    stranger: tuple = (None,)
    versions: tuple = (1, 2)
    refuses: bool = True  # whoever no policy lets in; what does not is no proxy, and stands beside them as a measure

    def start_client(self, stack, layout, job, cpu=PROXY_CPU):
        return start(stack, layout, f"{self.name}-client", cpu, self.client(layout, job), [layout.address(*ENTRY)])

    def start_server(self, stack, layout, job):
        return start(stack, layout, f"{self.name}-server", PROXY_CPU, self.server(layout, job), [layout.address(*DOOR)])


@dataclasses.dataclass
class Subject:
    """What is measured: running proxies, and how to talk to them."""

    name: str
    layout: object
    entry: str  # host:port of plaintext
    proxies: dict  # by role, in the order in which a request meets them
    beside: list  # processes that serve the measurement: their time is neither a proxy's nor a stranger's
    peer: Peer | None = None
    logs: list = dataclasses.field(default_factory=list)  # access logs, to be emptied now and then
    less: str = ""


def find(names):
    """The peers of these names, ours first."""
    from . import envoy, floor, haproxy, meshgate, nginx

    known = {module.PEER.name: module.PEER for module in (meshgate, envoy, haproxy, nginx, floor)}
    if unknown := [name for name in names if name not in known]:
        raise Failure(f"no peer {', '.join(unknown)}; there are {', '.join(known)}")
    return [peer for name, peer in known.items() if name in names]


def start_pair(stack, peer, layout, job, application):
    """Both sides, of one kind."""
    proxies = {"server": peer.start_server(stack, layout, job), "client": peer.start_client(stack, layout, job)}
    sides = ("server", "client") if job.access_log else ()
    return Subject(
        name=peer.name,
        layout=layout,
        entry=layout.address(*ENTRY),
        proxies={"client": proxies["client"], "server": proxies["server"]},
        beside=[application],
        peer=peer,
        logs=[peer.log(layout, side) for side in sides],
        less=peer.less(job),
    )


def start_server_alone(stack, peer, layout, job, application, caller):
    """The server side; before it, as everybody's caller, `caller`'s client side, on the core of the load."""
    name = f"{peer.name} ({job.form})" if job.form else peer.name
    server = peer.start_server(stack, layout, job)
    client = caller.start_client(stack, layout, dataclasses.replace(job, access_log=False), cpu=LOAD_CPU)
    logs = [peer.log(layout, "server")] if job.access_log else []
    return Subject(name, layout, layout.address(*ENTRY), {"server": server}, [application, client], peer, logs, peer.less(job))


def empty_logs(subject):
    """A line a request: it is memory that they fill."""
    for log in subject.logs:
        with contextlib.suppress(FileNotFoundError):
            os.truncate(log, 0)
