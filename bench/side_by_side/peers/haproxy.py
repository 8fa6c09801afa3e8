"""HAProxy, as far as 2.6 can do the job."""

from ..common import HOST, first_line, spiffe_id, write
from ..processes import APPLICATION, DOOR, ENTRY
from . import Peer


def client(layout, job):
    return command(layout, "client", job, TUNNEL if job.tunnel else CLIENT)


def server(layout, job):
    return command(layout, "server", job, SERVER)


def command(layout, side, job, text):
    # 2.6 reads no URI name out of a certificate. What it can: look for the bytes of that very name, tag and length before it, once a
    # connection.
    name = spiffe_id("frontend").encode()
    values = {
        "ca": layout.path("ca/ca.pem"), "certs": layout.path("certs"), "peer": (bytes([0x86, len(name)]) + name).hex(),
        "entry": layout.address(*ENTRY), "door": layout.address(*DOOR), "application": layout.address(*APPLICATION),
        "proto": " proto h2" if job.version == 2 else "", "alpn": "h2" if job.version == 2 else "http/1.1",
        "host": HOST, "allow": allow(layout, job),
    }  # fmt: skip
    file = layout.path(f"haproxy-{side}.cfg")
    common = COMMON.format(threads=job.workers, connections=job.connections)
    write(file, common + (LOG if job.access_log else "") + text.format(**values))
    return ["haproxy", "-db", "-f", file]


COMMON = """\
global
  nbthread {threads}
  maxconn {connections}
  no strict-limits
  tune.ssl.cachesize 0
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
  ssl-default-server-options ssl-min-ver TLSv1.3 no-tls-tickets
  ssl-default-bind-curves X25519:P-256
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
"""

# Standard output is a file.
LOG = """\
  log stdout format raw daemon
"""

CLIENT = """\
frontend outbound
  option httplog
  bind {entry}{proto}
  default_backend mesh
backend mesh
  server backend {door} ssl verify required verifyhost {host} ca-file {ca} crt {certs}/frontend-both.pem alpn {alpn}
"""

TUNNEL = """\
frontend outbound
  mode tcp
  option tcplog
  bind {entry}
  default_backend mesh
backend mesh
  mode tcp
  server backend {door} ssl no-ssl-reuse verify required verifyhost {host} ca-file {ca} crt {certs}/frontend-both.pem
"""

SERVER = """\
frontend inbound
  option httplog
  bind {door} ssl crt {certs}/backend-both.pem ca-file {ca} verify required alpn h2,http/1.1
  tcp-request session set-var(sess.account) str(frontend) if {{ ssl_c_der,hex -m sub -i {peer} }}
{allow}
  http-request deny deny_status 403
  default_backend application
backend application
  server application {application}{proto}
"""


def allow(layout, job):
    """A line for each policy, or with `map` one look-up for all."""
    if job.form != "map":
        return "\n".join(f"  http-request allow if {{ var(sess.account) -m str {account} }} METH_GET {{ path {path} }}" for _, account, path in job.policies)
    table = layout.path("policies.map")
    write(table, "".join(f"{account}:GET:{path} yes\n" for _, account, path in job.policies))
    request = "var(sess.account),concat(:,txn.method),concat(:,txn.path)"
    return "\n".join([
        "  http-request set-var(txn.method) method",
        "  http-request set-var(txn.path) path",
        f"  http-request allow if {{ {request},map({table},no) -m str yes }}",
    ])  # fmt: skip


def less(job):
    sides = "looks for the bytes of the caller's name in its certificate (2.6 reads no URI name), once a connection"
    return f"{sides}; of the server its client side checks a DNS name, not the SPIFFE name; no path is normalised"


PEER = Peer(
    name="haproxy",
    version=lambda programs: first_line("haproxy", "-v"),
    client=client,
    server=server,
    less=less,
    log=lambda layout, side: layout.path(f"haproxy-{side}.log"),
)
