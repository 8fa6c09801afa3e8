"""Envoy: as istiod would configure it for this job, without the filters that are there for other jobs."""

import dataclasses
import json

from ..common import HOST, TRUST_DOMAIN, first_line, read, spiffe_id, split, write
from ..processes import ADMIN, APPLICATION, DOOR, ENTRY
from . import Peer


def client(layout, job):
    listener = listener_at(layout.address(*ENTRY), [traffic(layout, "client", job, [])])
    upstream = tls(layout, "frontend", ["h2" if job.version == 2 else "http/1.1"], {"exact": spiffe_id("backend")}, upstream=True)
    return command(layout, "client", listener, cluster(layout.address(*DOOR), job, transport_socket=upstream))


def server(layout, job):
    rbac = typed("rbac", "filters.http.rbac.v3.RBAC", **(tree(job) if job.form == "matcher tree" else rules(job)))
    trusted = tls(layout, "backend", ["h2", "http/1.1"], {"prefix": f"spiffe://{TRUST_DOMAIN}/"})
    filters = [traffic(layout, "server", dataclasses.replace(job, tunnel=False), [rbac])]
    return command(layout, "server", listener_at(layout.address(*DOOR), filters, trusted), cluster(layout.address(*APPLICATION), job))


def command(layout, side, listener, upstream):
    file = layout.path(f"envoy-{side}.json")
    static = {"listeners": [listener], "clusters": [upstream]}
    admin = {"address": socket_address(layout.address(*ADMIN[side]))}
    write(file, json.dumps({"static_resources": static, "admin": admin}))
    return [
        layout.programs["envoy"], "--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--config-path", file,
    ]  # fmt: skip


def listener_at(address, filters, transport_socket=None):
    chain = {"filters": filters}
    if transport_socket:
        chain["transport_socket"] = transport_socket
    return {"name": "listener", "address": socket_address(address), "filter_chains": [chain]}


def traffic(layout, side, job, filters):
    """The network filter: HTTP with these filters of HTTP, or bytes."""
    logs = []
    if job.access_log:
        logs = [typed("log", "access_loggers.file.v3.FileAccessLog", path=log(layout, side))]
    if job.tunnel:
        return typed("tcp", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=side, cluster="upstream", access_log=logs)
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}
    return typed(
        "http",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=side,
        access_log=logs,
        normalize_path=True,
        merge_slashes=True,
        http_filters=[*filters, typed("router", "filters.http.router.v3.Router")],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    )


def cluster(address, job, **more):
    endpoint = {"endpoint": {"address": socket_address(address)}}
    made = {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
        # As Istio has it: nothing is refused here for want of connections.
        "circuit_breakers": {"thresholds": [{"max_connections": 2**31, "max_pending_requests": 2**31, "max_requests": 2**31}]},
        **more,
    }
    if job.version == 2:
        kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        options = {"@type": f"type.googleapis.com/{kind}", "explicit_http_config": {"http2_protocol_options": {}}}
        made["typed_extension_protocol_options"] = {kind: options}
    return made


def tls(layout, name, protocols, trusted, upstream=False):
    """Mutual TLS as a workload, with whom `trusted` matches; nothing is resumed."""
    own = {"certificate_chain": f"certs/{name}.pem", "private_key": f"certs/{name}-key.pem"}
    common = {
        "alpn_protocols": protocols,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{key: {"inline_string": read(layout.path(file))} for key, file in own.items()}],
        "validation_context": {
            "trusted_ca": {"inline_string": read(layout.path("ca/ca.pem"))},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": trusted}],
        },
    }
    if upstream:
        kind, more = "UpstreamTlsContext", {"sni": HOST, "max_session_keys": 0}
    else:
        kind, more = "DownstreamTlsContext", {"require_client_certificate": True}
        more.update({"disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True})
    return typed("tls", f"transport_sockets.tls.v3.{kind}", common_tls_context=common, **more)


def rules(job):
    """The policies, as istiod writes them."""
    return {"rules": {"action": "ALLOW", "policies": dict(map(rbac, job.policies))}}


def rbac(policy):
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


def tree(job):
    """The same as look-ups: by path, then by caller, then by method. Istio does not write it so."""
    allow = {"action": {"name": "allow", "typed_config": {
        "@type": "type.googleapis.com/envoy.config.rbac.v3.Action", "name": "allow", "action": "ALLOW"}}}  # fmt: skip
    methods = {"matcher": matcher(header(":method"), {"GET": allow})}
    uri_san = {"@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput"}
    paths = {}
    for _, account, path in job.policies:
        paths.setdefault(path, {})[spiffe_id(account)] = methods
    return {"matcher": matcher(header(":path"), {path: {"matcher": matcher(uri_san, callers)} for path, callers in paths.items()})}


def matcher(wanted, matches):
    kind = {"name": "input", "typed_config": wanted}
    return {"matcher_tree": {"input": kind, "exact_match_map": {"map": matches}}}


def header(name):
    return {"@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": name}


def typed(name, kind, **fields):
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **fields}}


def socket_address(address):
    host, port = split(address)
    return {"socket_address": {"address": host, "port_value": port}}


def log(layout, side):
    return layout.path(f"envoy-{side}.access")


def less(_):
    return "without the filters of metrics, metadata exchange, CORS and faults that istiod adds; its own counters are on"


PEER = Peer(
    name="envoy",
    version=lambda programs: first_line(programs["envoy"], "--version").rpartition("version: ")[2],
    client=client,
    server=server,
    less=less,
    log=log,
)
