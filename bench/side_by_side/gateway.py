"""Ways from a caller to a workload: straight in its own cluster, and through a gateway of another, ours or Envoy's."""

import dataclasses
import json
import os
import re
import time

from . import peers
from .certificates import spiffe_id
from .common import ALLOWED, BODY, HOST, OTHER, TRUST_DOMAIN, Failure, run, say, write
from .envoy import tls, typed
from .proof import plain

ENTRY, DOOR, GATE, ADMIN_GATE = (1, 18080), (2, 8080), (4, 15443), (4, 15000)
KEY = "default/default/default/cluster-2"
AUTHORITY = "backend.default.svc.clusterset.local:80"


@dataclasses.dataclass
class Way:
    """Running proxies in the order in which a request meets them."""

    name: str
    entry: str
    proxies: dict  # by role: client, gateway, server


def start_local(stack, layout, binary):
    """No gateway: client side, server side."""
    return Way("local", layout.address(*ENTRY), sidecars(stack, layout, binary, peers.resources(layout)))


def start_meshgate(stack, layout, binary):
    """Our gateway before the server side."""
    proxies = {"gateway": start_gateway(stack, layout, binary, KEY)}
    proxies.update(sidecars(stack, layout, binary, imported([(KEY, layout)])))
    return Way("meshgate", layout.address(*ENTRY), proxies)


def start_envoy_connect(stack, layout, binary, envoy):
    """Envoy in the place of our gateway: the same outer mutual TLS, CONNECT terminated, the same bytes on."""
    proxies = {"gateway": start_envoy(stack, layout, envoy, connect_listener(layout))}
    proxies.update(sidecars(stack, layout, binary, imported([(KEY, layout)])))
    return Way("envoy, CONNECT", layout.address(*ENTRY), proxies)


def start_envoy_passthrough(stack, layout, binary, envoy):
    """Envoy that looks at the server name and passes bytes: one cipher fewer, and it cannot know who calls."""
    proxies = {"gateway": start_envoy(stack, layout, envoy, passthrough_listener(layout))}
    # The same service, but at Envoy's address.
    there, here, port = f'"{layout.network}.{DOOR[0]}"', f'"{layout.network}.{GATE[0]}"', f'"port": {GATE[1]}'
    text = json.dumps(peers.resources(layout)).replace(there, here).replace(f'"port": {DOOR[1]}', port)
    proxies.update(sidecars(stack, layout, binary, json.loads(text)))
    return Way("envoy, SNI passthrough", layout.address(*ENTRY), proxies)


def sidecars(stack, layout, binary, of_client):
    """The two ends. `of_client` are the client side's resources."""
    server = start_server(stack, layout, binary)
    return {"server": server, "client": start_client(stack, layout, binary, of_client)}


def start_server(stack, layout, binary):
    door, application = layout.address(*DOOR), layout.address(3, 9080)
    inbound = {"listeners": [{"address": door, "originalDestination": door, "application": application}]}
    own = {"inbound": inbound, "outbound": {"listeners": []}, "admin": {"address": layout.address(2, 15000)}}
    return start_one(stack, layout, binary, "server", "backend", own, peers.resources(layout), door)


def start_client(stack, layout, binary, documents, key="default/default/default/local"):
    entry = layout.address(*ENTRY)
    outbound = {"listeners": [{"address": entry, "originalDestination": "none"}]}
    own = {"inbound": {"listeners": []}, "outbound": outbound, "admin": {"address": layout.address(1, 15000)}}
    own.update({"clusterKey": key, "multicluster": {"gatewayServiceAccount": "default/gateway"}})
    return start_one(stack, layout, binary, "client", "frontend", own, documents, entry)


def start_gateway(stack, layout, binary, key):
    gate = layout.address(*GATE)
    own = {"role": "gateway", "clusterKey": key, "gateway": {"listeners": [gate]}}
    own["admin"] = {"address": layout.address(*ADMIN_GATE)}
    documents = [*peers.resources(layout), export(), callers_policy()]
    return start_one(stack, layout, binary, "gateway", "gateway", own, documents, gate)


def start_one(stack, layout, binary, side, workload, own, documents, address):
    os.makedirs(layout.path(side), exist_ok=True)
    write(layout.path(f"{side}/all.yaml"), "\n---\n".join(map(json.dumps, documents)))
    file = layout.path(f"{side}.yaml")
    rest = {"resources": {"directory": side}, "accessLog": {"path": "off"}}
    write(file, json.dumps({**peers.bootstrap(workload), **own, **rest}))
    return peers.start(stack, layout, side, peers.PROXY_CPU, [binary, "run", "--bootstrap", file], [address])


def callers_policy():
    """Nothing else lets anybody through: allow-nothing is in force at the gateway, too."""
    spec = {
        "selector": {"matchLabels": {"app": "gateway"}},
        "action": "ALLOW",
        "rules": [{"from": [{"source": {"principals": [f"{TRUST_DOMAIN}/*"]}}]}],
    }
    metadata = {"name": "allow-callers", "namespace": "default"}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def export():
    rules = [{"portNumber": 80, "path": "/remote/backend", "pathType": "Prefix"}]
    return flomesh("ServiceExport", {"serviceAccountName": "backend", "rules": rules})


def imported(clusters):
    """The service as the importing cluster has it: what is behind the gateway of each (key, layout)."""
    endpoints = []
    for key, layout in clusters:
        host, port = f"{layout.network}.{GATE[0]}", GATE[1]
        target = {"host": host, "ip": host, "port": port, "path": "/remote/backend"}
        endpoints.append({"clusterKey": key, "target": target})
    ports = [{"name": "http", "port": 80, "protocol": "TCP", "endpoints": endpoints}]
    targets = [{"clusterKey": key} for key, _ in clusters]
    return [
        flomesh("ServiceImport", {"type": "ClusterSetIP", "serviceAccountName": "backend", "ports": ports}),
        flomesh("GlobalTrafficPolicy", {"lbType": "ActiveActive", "targets": targets}),
    ]


def flomesh(kind, spec):
    metadata = {"name": "backend", "namespace": "default"}
    return {"apiVersion": "flomesh.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def start_envoy(stack, layout, envoy, listener):
    host, port = layout.address(*DOOR).rsplit(":", 1)
    endpoint = {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
    load = {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [endpoint]}]}
    cluster = {"name": "backend", "type": "STATIC", "connect_timeout": "5s", "load_assignment": load}
    file = layout.path("envoy.json")
    write(file, json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}}))
    command = [envoy, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--config-path", file]
    return peers.start(stack, layout, "envoy", peers.PROXY_CPU, command, [layout.address(*GATE)])


def gate(layout):
    host, port = layout.address(*GATE).rsplit(":", 1)
    return {"socket_address": {"address": host, "port_value": int(port)}}


def connect_listener(layout):
    upgrade = {"upgrade_type": "CONNECT", "connect_config": {}}
    route = {"match": {"connect_matcher": {}}, "route": {"cluster": "backend", "timeout": "0s", "upgrade_configs": [upgrade]}}
    host = {"name": "exports", "domains": [AUTHORITY], "routes": [route]}
    manager = typed(
        "http",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gateway",
        codec_type="HTTP2",
        http2_protocol_options={"allow_connect": True},
        upgrade_configs=[{"upgrade_type": "CONNECT"}],
        http_filters=[typed("rbac", "filters.http.rbac.v3.RBAC", rules=callers()), typed("router", "filters.http.router.v3.Router")],
        route_config={"virtual_hosts": [host]},
    )
    return {"name": "gateway", "address": gate(layout), "filter_chains": [{"transport_socket": tls(layout, "gateway", ["istio-h2", "h2"]), "filters": [manager]}]}


def callers():
    """What callers_policy() says to our gateway: who calls, and whether they may."""
    principal = {"authenticated": {"principal_name": {"prefix": f"spiffe://{TRUST_DOMAIN}/"}}}
    return {"action": "ALLOW", "policies": {"mesh": {"permissions": [{"any": True}], "principals": [principal]}}}


def passthrough_listener(layout):
    proxy = typed("tcp", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="gateway", cluster="backend")
    chain = {"filter_chain_match": {"server_names": [HOST]}, "filters": [proxy]}
    inspector = typed("inspector", "filters.listener.tls_inspector.v3.TlsInspector")
    return {"name": "gateway", "address": gate(layout), "listener_filters": [inspector], "filter_chains": [chain]}


def issue(layout, binary):
    out = ["--out", layout.path("certs"), "--name", "gateway"]
    run(binary, "ca", "issue", "--dir", layout.path("ca"), "--id", spiffe_id("gateway"), *out)


def prove(way):
    """Allowed is answered by the application, and the far side still tells who calls and what they may."""
    deadline = time.monotonic() + peers.START_DEADLINE
    while plain(way.entry, "GET", ALLOWED) != (200, BODY):
        if time.monotonic() > deadline:
            raise Failure(f"{way.name}: want 200, got {plain(way.entry, 'GET', ALLOWED)[0]}")
        time.sleep(0.05)
    for method, path in (("GET", OTHER), ("POST", ALLOWED)):
        status = plain(way.entry, method, path)[0]
        if status != 403:
            raise Failure(f"{way.name}: {method} {path}: want 403, got {status}")
    say(f"{way.name}: does its job")


def load(way, seconds, connections, version):
    """Saturates a way; requests answered. Anything but 2xx makes the round worthless."""
    shape = ["-t1", f"-c{connections}", f"-D{seconds}", "-H", f":authority: {HOST}"]
    if version == 1:
        shape.append("--h1")
    output = run("taskset", "-c", peers.LOAD_CPU, "h2load", *shape, f"http://{way.entry}{ALLOWED}")
    numbers = counts(output)
    if numbers["2xx"] and not numbers["failed"] + numbers["errored"] + numbers["timeout"]:
        return numbers["2xx"]
    raise Failure(f"{way.name}: h2load says:\n{output}")


def counts(output):
    """What h2load counted, by its own words."""
    # Only where it sums up; while it runs it counts clients in the same words.
    lines = "\n".join(re.findall(r"^(?:requests|status codes): .*$", output, re.MULTILINE))
    found = re.findall(r"(\d+) (total|succeeded|failed|errored|timeout|2xx|4xx|5xx)", lines)
    numbers = {name: int(number) for number, name in found}
    if len(numbers) < 8:
        raise Failure(f"h2load says:\n{output}")
    return numbers
