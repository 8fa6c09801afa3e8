"""Many policies: what they are, in Istio's words and in Envoy's, and one server-side proxy that has them in force."""

import json
import os
import time

from . import peers
from .certificates import spiffe_id
from .common import ALLOWED, OTHER, TRUST_DOMAIN, Failure, first_line, write
from .envoy import tls, typed
from .proof import plain

ENTRY, DOOR, APPLICATION = (1, 18080), (2, 8080), (3, 9080)
DEADLINE = 60.0  # seconds; ten thousand policies take a while to read


def policies(count, same_caller):
    """(name, service account, path) of each; the last by name is the one that lets the caller in."""
    others = [(f"p{n:06}", "frontend" if same_caller else f"client-{n}", f"/service-{n}/data") for n in range(count - 1)]
    return [*others, ("z", "frontend", ALLOWED)]


def start_meshgate(stack, layout, binary, all_policies):
    os.mkdir(layout.path("resources"))
    strict = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
              "metadata": {"name": "default", "namespace": "default"}, "spec": {"mtls": {"mode": "STRICT"}}}  # fmt: skip
    documents = [strict, *map(istio, all_policies)]
    write(layout.path("resources/policies.yaml"), "\n---\n".join(map(json.dumps, documents)))
    door = layout.address(*DOOR)
    inbound = [{"address": door, "originalDestination": door, "application": layout.address(*APPLICATION)}]
    listeners = {"inbound": {"listeners": inbound}, "outbound": {"listeners": []}}
    rest = {"admin": {"address": layout.address(2, 15000)}, "accessLog": {"path": "off"}}
    file = layout.path("meshgate.yaml")
    write(file, json.dumps({**peers.bootstrap("backend"), **listeners, **rest}))
    return behind_haproxy(stack, layout, "meshgate", first_line(binary, "--version"), [binary, "run", "--bootstrap", file])


def start_envoy(stack, layout, binary, all_policies):
    file = layout.path("envoy.json")
    write(file, json.dumps(envoy_config(layout, all_policies)))
    command = [binary, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--config-path", file]
    return behind_haproxy(stack, layout, "envoy", first_line(binary, "--version"), command)


def behind_haproxy(stack, layout, name, version, command):
    """The proxy, and HAProxy before it, whose affair the client's side of mutual TLS is."""
    server = peers.start(stack, layout, name, peers.PROXY_CPU, command, [layout.address(*DOOR)])
    entry, door = layout.address(*ENTRY), layout.address(*DOOR)
    values = {"entry": entry, "door": door, "ca": layout.path("ca/ca.pem"), "certs": layout.path("certs")}
    file = layout.path("haproxy.cfg")
    write(file, peers.HAPROXY_COMMON + peers.HAPROXY_CLIENT.format(**values))
    client = peers.start(stack, layout, "haproxy", peers.LOAD_CPU, ["haproxy", "-db", "-f", file], [entry])
    return peers.Pair(name, version, "", client, server, entry, door, [], [])


def prove(pair):
    deadline = time.monotonic() + DEADLINE
    while plain(pair.entry, "GET", ALLOWED)[0] != 200:
        if time.monotonic() > deadline:
            raise Failure(f"{pair.name} does not let the caller in")
        time.sleep(0.05)
    for method, path in (("GET", OTHER), ("POST", ALLOWED)):
        status = plain(pair.entry, method, path)[0]
        if status != 403:
            raise Failure(f"{pair.name}: {method} {path}: want 403, got {status}")


def istio(policy):
    name, account, path = policy
    source = {"principals": [f"{TRUST_DOMAIN}/ns/default/sa/{account}"]}
    rule = {"from": [{"source": source}], "to": [{"operation": {"methods": ["GET"], "paths": [path]}}]}
    metadata = {"name": name, "namespace": "default"}
    spec = {"action": "ALLOW", "rules": [rule]}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def rbac(policy):
    """The same, as istiod writes it."""
    name, account, path = policy
    method = {"header": {"name": ":method", "string_match": {"exact": "GET"}}}
    paths = {"url_path": {"path": {"exact": path}}}
    principal = {"authenticated": {"principal_name": {"exact": spiffe_id(account)}}}
    return f"ns[default]-policy[{name}]-rule[0]", {
        "permissions": [{"and_rules": {"rules": [any_rule(paths), any_rule(method)]}}],
        "principals": [{"and_ids": {"ids": [{"or_ids": {"ids": [principal]}}]}}],
    }


def any_rule(rule):
    return {"or_rules": {"rules": [rule]}}


def envoy_config(layout, all_policies):
    """Envoy as a sidecar's inbound side with these ALLOW policies: mutual TLS at DOOR, the application behind it."""
    filters = [
        typed("rbac", "filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": dict(map(rbac, all_policies))}),
        typed("router", "filters.http.router.v3.Router"),
    ]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "application", "timeout": "0s"}}
    manager = typed(
        "http",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="inbound",
        normalize_path=True,
        merge_slashes=True,
        http_filters=filters,
        route_config={"virtual_hosts": [{"name": "inbound", "domains": ["*"], "routes": [route]}]},
    )
    listener = {
        "name": "inbound",
        "address": socket_address(layout, DOOR),
        "filter_chains": [{"transport_socket": tls(layout, "backend", ["http/1.1"]), "filters": [manager]}],
    }
    endpoint = {"endpoint": {"address": socket_address(layout, APPLICATION)}}
    cluster = {
        "name": "application",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "application", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def socket_address(layout, place):
    host, port = layout.address(*place).rsplit(":", 1)
    return {"socket_address": {"address": host, "port_value": int(port)}}
