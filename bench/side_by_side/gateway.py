"""Ways from a caller to a workload: straight in its own cluster, and through a gateway of another, ours or Envoy's."""

import json

from .common import HOST, TRUST_DOMAIN, split
from .peers import Job, Subject, envoy, meshgate
from .processes import APPLICATION, DOOR, ENTRY, GATE, PROXY_CPU, start

KEY = "default/default/default/cluster-2"
OWN_KEY = "default/default/default/local"
AUTHORITY = "backend.default.svc.clusterset.local:80"
JOB = Job(access_log=False)


def start_local(stack, layout, application):
    """No gateway: client side, server side."""
    return way("local", layout, application, sidecars(stack, layout, meshgate.resources(layout)))


def start_meshgate(stack, layout, application):
    """Our gateway before the server side."""
    gate = start_gateway(stack, layout, KEY)
    return way("meshgate", layout, application, {"gateway": gate, **sidecars(stack, layout, imported([(KEY, layout)]))})


def start_envoy_connect(stack, layout, application):
    """Envoy in the place of our gateway: the same outer mutual TLS, CONNECT terminated, the same bytes on."""
    gate = start_envoy(stack, layout, connect_listener(layout))
    return way("envoy, CONNECT", layout, application, {"gateway": gate, **sidecars(stack, layout, imported([(KEY, layout)]))})


def start_envoy_passthrough(stack, layout, application):
    """Envoy that looks at the server name and passes bytes: one cipher fewer, and it cannot know who calls."""
    gate = start_envoy(stack, layout, passthrough_listener(layout))
    # The same service, but at Envoy's address.
    there, here = (f'"{layout.network}.{place[0]}"' for place in (DOOR, GATE))
    text = json.dumps(meshgate.resources(layout)).replace(there, here)
    text = text.replace(f'"port": {DOOR[1]}', f'"port": {GATE[1]}')
    return way("envoy, SNI passthrough", layout, application, {"gateway": gate, **sidecars(stack, layout, json.loads(text))})


def way(name, layout, application, proxies):
    ordered = {role: proxies[role] for role in ("client", "gateway", "server") if role in proxies}
    return Subject(name, layout, layout.address(*ENTRY), ordered, [application])


def sidecars(stack, layout, of_client):
    """The two ends. `of_client` are the client side's resources."""
    return {"server": start_server(stack, layout), "client": start_client(stack, layout, of_client)}


def start_server(stack, layout):
    door = layout.address(*DOOR)
    inbound = {"listeners": [{"address": door, "originalDestination": door, "application": layout.address(*APPLICATION)}]}
    own = {"inbound": inbound, "outbound": {"listeners": []}}
    return start_one(stack, layout, "server", "backend", own, meshgate.resources(layout), DOOR)


def start_client(stack, layout, documents, key=OWN_KEY, **more):
    outbound = {"listeners": [{"address": layout.address(*ENTRY), "originalDestination": "none"}]}
    own = {"inbound": {"listeners": []}, "outbound": outbound, "clusterKey": key, **more}
    own["multicluster"] = {"gatewayServiceAccount": "default/gateway"}
    return start_one(stack, layout, "client", "frontend", own, documents, ENTRY)


def start_gateway(stack, layout, key):
    own = {"role": "gateway", "clusterKey": key, "gateway": {"listeners": [layout.address(*GATE)]}}
    documents = [*meshgate.resources(layout), export(), callers_policy()]
    return start_one(stack, layout, "gateway", "gateway", own, documents, GATE)


def start_one(stack, layout, side, workload, own, documents, place):
    command = meshgate.command(layout, side, workload, own, documents, JOB)
    return start(stack, layout, side, PROXY_CPU, command, [layout.address(*place)])


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
        host, port = split(layout.address(*GATE))
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


def start_envoy(stack, layout, listener):
    command = envoy.command(layout, "gateway", {**listener, "address": envoy.socket_address(layout.address(*GATE))},
                            envoy.cluster(layout.address(*DOOR), JOB))  # fmt: skip
    return start(stack, layout, "envoy", PROXY_CPU, command, [layout.address(*GATE)])


def connect_listener(layout):
    upgrade = {"upgrade_type": "CONNECT", "connect_config": {}}
    route = {"match": {"connect_matcher": {}}, "route": {"cluster": "upstream", "timeout": "0s", "upgrade_configs": [upgrade]}}
    rbac = envoy.typed("rbac", "filters.http.rbac.v3.RBAC", rules=callers())
    manager = envoy.typed(
        "http",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gateway",
        codec_type="HTTP2",
        http2_protocol_options={"allow_connect": True},
        upgrade_configs=[{"upgrade_type": "CONNECT"}],
        http_filters=[rbac, envoy.typed("router", "filters.http.router.v3.Router")],
        route_config={"virtual_hosts": [{"name": "exports", "domains": [AUTHORITY], "routes": [route]}]},
    )
    secure = envoy.tls(layout, "gateway", ["istio-h2", "h2"], {"prefix": f"spiffe://{TRUST_DOMAIN}/"})
    return {"name": "gateway", "filter_chains": [{"transport_socket": secure, "filters": [manager]}]}


def callers():
    """What callers_policy() says to our gateway: who calls, and whether they may."""
    principal = {"authenticated": {"principal_name": {"prefix": f"spiffe://{TRUST_DOMAIN}/"}}}
    return {"action": "ALLOW", "policies": {"mesh": {"permissions": [{"any": True}], "principals": [principal]}}}


def passthrough_listener(_):
    proxy = envoy.typed("tcp", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="gateway", cluster="upstream")
    chain = {"filter_chain_match": {"server_names": [HOST]}, "filters": [proxy]}
    inspector = envoy.typed("inspector", "filters.listener.tls_inspector.v3.TlsInspector")
    return {"name": "gateway", "listener_filters": [inspector], "filter_chains": [chain]}
