"""The floor: a relay that reads nothing (bench/floor). What kernel and cipher alone cost on this machine, in these minutes."""

from ..common import HOST
from ..processes import APPLICATION, DOOR, ENTRY
from . import Peer


def client(layout, _):
    return command(layout, "client", "frontend", ENTRY, DOOR)


def server(layout, _):
    return command(layout, "server", "backend", DOOR, APPLICATION)


def command(layout, side, workload, listen, to):
    certificate, key = (layout.path(f"certs/{workload}{end}.pem") for end in ("", "-key"))
    return [layout.programs["floor"], side, layout.address(*listen), layout.address(*to), certificate, key, layout.path("ca/ca.pem"), HOST]


def log(layout, side):
    return layout.path(f"floor-{side}.access")


PEER = Peer(
    name="floor",
    version=lambda _: "bench/floor: tokio, rustls, aws-lc-rs as Cargo.lock has them",
    client=client,
    server=server,
    less=lambda _: "a relay of bytes: no request is read, nobody is refused, no log; connections are not kept for others",
    log=log,
    refuses=False,
)
