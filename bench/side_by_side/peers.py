"""The programs: two pairs of proxies and the backend, each pinned to its core and ended with the run."""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import time

from .certificates import spiffe_id
from .common import ALLOWED, BODY, TRUST_DOMAIN, Failure, first_line, read, split, write

PROXY_CPU, LOAD_CPU = "0", "1"
START_DEADLINE = 10.0  # seconds; all of these programs are ready well within one


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where everything is: a folder, and loopback addresses of this run's own."""

    folder: pathlib.Path
    network: str  # the first three octets

    def address(self, last, port):
        return f"{self.network}.{last}:{port}"

    def path(self, name):
        return str(self.folder / name)


@dataclasses.dataclass
class Pair:
    """Two running proxies, and how to talk to them."""

    name: str
    version: str
    notes: str
    client: subprocess.Popen
    server: subprocess.Popen
    entry: str  # host:port of the client side, plaintext
    door: str  # host:port of the server side, TLS
    alpn: list
    logs: list  # access logs, to be emptied now and then


def start_nginx(stack, layout, version=1):
    """One port speaks either HTTP/1.1 or, without TLS, HTTP/2."""
    listen = layout.address(3, 9080) + (" http2" if version == 2 else "")
    write(layout.path("nginx.conf"), NGINX.format(folder=layout.folder, listen=listen, body=BODY))
    command = ["nginx", "-p", str(layout.folder), "-e", layout.path("nginx.error"), "-c", layout.path("nginx.conf")]
    return start(stack, layout, "nginx", LOAD_CPU, command, [layout.address(3, 9080)])


NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  http2_max_concurrent_streams 1024;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen {listen};
    location / {{ default_type text/plain; return 200 "{body}"; }}
    location = /served {{ stub_status; }}
  }}
}}
"""


def start_haproxy(stack, layout, access_log):
    entry, door = layout.address(11, 18080), layout.address(12, 8443)
    # 2.6 reads no URI name out of a certificate. What it can: look for the bytes of that very name, tag and length
    # before it, once a connection.
    name = spiffe_id("frontend").encode()
    values = {
        "entry": entry, "door": door, "application": layout.address(3, 9080), "ca": layout.path("ca/ca.pem"),
        "certs": layout.path("certs"), "peer": (bytes([0x86, len(name)]) + name).hex(), "path": ALLOWED,
    }  # fmt: skip
    processes = {}
    for side, text, address in (("server", HAPROXY_SERVER, door), ("client", HAPROXY_CLIENT, entry)):
        file = layout.path(f"haproxy-{side}.cfg")
        write(file, HAPROXY_COMMON + (HAPROXY_LOG if access_log else "") + text.format(**values))
        command = ["haproxy", "-db", "-f", file]
        processes[side] = start(stack, layout, f"haproxy-{side}", PROXY_CPU, command, [address])
    return Pair(
        name="haproxy",
        version=first_line("haproxy", "-v"),
        notes=f"access log {'to a file in memory' if access_log else 'off'}; its client side checks the server's chain, "
        "not its name",
        entry=entry,
        door=door,
        alpn=["http/1.1"],
        logs=[layout.path(f"haproxy-{side}.log") for side in ("server", "client")] if access_log else [],
        **processes,
    )


HAPROXY_COMMON = """\
global
  nbthread 1
  maxconn 4096
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode http
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
"""

# Standard output is a file, see start().
HAPROXY_LOG = """\
  log stdout format raw daemon
  option httplog
"""

HAPROXY_CLIENT = """\
frontend outbound
  bind {entry}
  default_backend mesh
backend mesh
  server backend {door} ssl verify required ca-file {ca} crt {certs}/frontend-both.pem alpn http/1.1
"""

HAPROXY_SERVER = """\
frontend inbound
  bind {door} ssl crt {certs}/backend-both.pem ca-file {ca} verify required alpn http/1.1
  tcp-request session set-var(sess.frontend) bool(true) if {{ ssl_c_der,hex -m sub -i {peer} }}
  acl from_frontend var(sess.frontend) -m bool
  http-request deny deny_status 403 unless from_frontend METH_GET {{ path {path} }}
  default_backend application
backend application
  server application {application}
"""


def start_meshgate(stack, layout, binary, access_log, server=None, name="meshgate", more=None):
    """A pair; `more` is for both bootstraps, `server` for the server side's alone."""
    os.mkdir(layout.path("resources"))
    # Apart from what the proxies watch, as a log is in use.
    os.mkdir(layout.path("logs"))
    for resource in resources(layout):
        write(layout.path(f"resources/{resource['kind']}-{resource['metadata']['name']}.json"), json.dumps(resource))
    entry, door = layout.address(1, 18080), layout.address(2, 8080)
    outbound = [{"address": entry, "originalDestination": "none"}]
    inbound = [{"address": door, "originalDestination": door, "application": layout.address(3, 9080)}]
    logs = [layout.path(f"logs/access-{side}.log") for side in ("server", "client")] if access_log else []
    processes = {}
    for side, workload, address, listeners in (
        ("server", "backend", door, {"inbound": {"listeners": inbound}, "outbound": {"listeners": []}}),
        ("client", "frontend", entry, {"inbound": {"listeners": []}, "outbound": {"listeners": outbound}}),
    ):
        file = layout.path(f"meshgate-{side}.yaml")
        admin = {"address": layout.address(2 if side == "server" else 1, 15000)}
        log = {"path": layout.path(f"logs/access-{side}.log") if access_log else "off"}
        only = {**(more or {}), **(server or {} if side == "server" else {})}
        write(file, json.dumps({**bootstrap(workload), **listeners, "admin": admin, "accessLog": log, **only}))
        command = [binary, "run", "--bootstrap", file]
        processes[side] = start(stack, layout, f"meshgate-{side}", PROXY_CPU, command, [address])
    return Pair(
        name=name,
        version=first_line(binary, "--version"),
        notes=f"access log {'to a file in memory' if access_log else 'off'}",
        entry=entry,
        door=door,
        alpn=["istio-http/1.1", "istio", "http/1.1"],
        logs=logs,
        **processes,
    )


def bootstrap(name):
    """What both sides have in common; YAML that is also JSON."""
    return {
        "role": "sidecar",
        "trustDomain": TRUST_DOMAIN,
        "workload": {"name": f"{name}-1", "namespace": "default", "serviceAccount": name, "labels": {"app": name}},
        "identity": {
            "certificate": f"certs/{name}.pem", "key": f"certs/{name}-key.pem", "trustBundle": "ca/ca.pem",
        },
        "resources": {"directory": "resources"},
        "log": {"level": "warn"},
        "workers": 1,
    }  # fmt: skip


def resources(layout):
    """The backend service, and the policies of the access-control walk-through."""

    def resource(api, kind, name, **fields):
        labels = {"kubernetes.io/service-name": "backend"} if kind == "EndpointSlice" else {"app": "backend"}
        metadata = {"name": name, "namespace": "default", "labels": labels}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}

    address = f"{layout.network}.2"
    port = {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}
    pod = {"kind": "Pod", "name": "backend-1", "namespace": "default"}
    endpoint = {"addresses": [address], "conditions": {"ready": True}, "targetRef": pod}
    rule = {
        "from": [{"source": {"principals": [f"{TRUST_DOMAIN}/ns/default/sa/frontend"]}}],
        "to": [{"operation": {"methods": ["GET"], "paths": [ALLOWED]}}],
    }
    security = "security.istio.io/v1"
    selector = {"matchLabels": {"app": "backend"}}
    return [
        resource("v1", "Service", "backend",
                 spec={"clusterIP": "10.96.0.10", "selector": selector["matchLabels"], "ports": [port]}),
        resource("discovery.k8s.io/v1", "EndpointSlice", "backend-1", addressType="IPv4", endpoints=[endpoint],
                 ports=[{"name": "http", "port": 8080, "protocol": "TCP"}]),
        resource("v1", "Pod", "backend-1", spec={"serviceAccountName": "backend"},
                 status={"podIP": address, "podIPs": [{"ip": address}]}),
        resource(security, "PeerAuthentication", "default", spec={"mtls": {"mode": "STRICT"}}),
        resource(security, "AuthorizationPolicy", "allow-nothing", spec={}),
        resource(security, "AuthorizationPolicy", "allow-frontend-get-data",
                 spec={"selector": selector, "action": "ALLOW", "rules": [rule]}),
    ]  # fmt: skip


def start(stack, layout, name, cpu, command, addresses):
    """Starts a program on one CPU, sees to its end, and returns when it listens."""
    log = stack.enter_context(open(layout.path(f"{name}.log"), "ab"))
    process = subprocess.Popen(["taskset", "-c", cpu, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stack.callback(stop, process)
    deadline = time.monotonic() + START_DEADLINE
    for address in addresses:
        while not listens(address):
            ended = process.poll()
            if ended is not None or time.monotonic() > deadline:
                what = f"does not listen on {address}" if ended is None else f"ended with {ended}"
                raise Failure(f"{name} {what}:\n{read(layout.path(name + '.log'))[-2000:]}")
            time.sleep(0.05)
    return process


def stop(process):
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def listens(address):
    with contextlib.suppress(OSError), socket.create_connection(split(address), timeout=1):
        return True
    return False
