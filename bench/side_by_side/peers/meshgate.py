"""meshgate: one bootstrap file a side, and the resources that both read."""

import dataclasses
import json
import os

from ..common import TRUST_DOMAIN, first_line, write
from ..processes import ADMIN, APPLICATION, DOOR, ENTRY
from . import Job, Peer

SERVICE_ADDRESS = "10.96.0.10"


def client(layout, job):
    # What is no HTTP says nothing of where it goes.
    destination = f"{SERVICE_ADDRESS}:80" if job.tunnel else "none"
    outbound = {"listeners": [{"address": layout.address(*ENTRY), "originalDestination": destination}]}
    own = {"inbound": {"listeners": []}, "outbound": outbound}
    return command(layout, "client", "frontend", own, resources(layout, job), job)


def server(layout, job):
    door = layout.address(*DOOR)
    inbound = {"listeners": [{"address": door, "originalDestination": door, "application": layout.address(*APPLICATION)}]}
    own = {"inbound": inbound, "outbound": {"listeners": []}}
    # Whatever the client side makes of it, what comes out of TLS is HTTP.
    return command(layout, "server", "backend", own, resources(layout, dataclasses.replace(job, tunnel=False)), job)


def command(layout, side, workload, own, documents, job):
    """Writes what one proxy reads; `own` is what its bootstrap has besides what all have."""
    os.makedirs(layout.path(side), exist_ok=True)
    os.makedirs(layout.path("logs"), exist_ok=True)  # apart from what the proxies watch, as a log is in use
    write(layout.path(f"{side}/all.yaml"), "\n---\n".join(map(json.dumps, documents)))
    file = layout.path(f"{side}.yaml")
    rest = {
        "resources": {"directory": side},
        "admin": {"address": layout.address(*ADMIN[side])},
        "accessLog": {"path": log(layout, side) if job.access_log else "off"},
        "workers": job.workers,
    }
    write(file, json.dumps({**bootstrap(workload), **rest, **own, **job.settings.get(side, {})}))
    return [layout.programs["meshgate"], "run", "--bootstrap", file]


def bootstrap(name):
    """What all sides have in common; YAML that is also JSON."""
    return {
        "role": "sidecar",
        "trustDomain": TRUST_DOMAIN,
        "workload": {"name": f"{name}-1", "namespace": "default", "serviceAccount": name, "labels": {"app": name}},
        "identity": {
            "certificate": f"certs/{name}.pem", "key": f"certs/{name}-key.pem", "trustBundle": "ca/ca.pem",
        },
        "log": {"level": "warn"},
    }  # fmt: skip


def log(layout, side):
    return layout.path(f"logs/access-{side}.log")


def resources(layout, job=Job()):
    """The backend service, and the job's policies beside the one that lets nobody in."""

    def resource(api, kind, name, **fields):
        labels = {"kubernetes.io/service-name": "backend"} if kind == "EndpointSlice" else {"app": "backend"}
        metadata = {"name": name, "namespace": "default", "labels": labels}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}

    address, port_name = layout.address(*DOOR).partition(":")[0], "tcp" if job.tunnel else "http"
    port = {"name": port_name, "port": 80, "targetPort": DOOR[1], "protocol": "TCP"}
    pod = {"kind": "Pod", "name": "backend-1", "namespace": "default"}
    endpoint = {"addresses": [address], "conditions": {"ready": True}, "targetRef": pod}
    security = "security.istio.io/v1"
    selector = {"matchLabels": {"app": "backend"}}
    return [
        resource("v1", "Service", "backend",
                 spec={"clusterIP": SERVICE_ADDRESS, "selector": selector["matchLabels"], "ports": [port]}),
        resource("discovery.k8s.io/v1", "EndpointSlice", "backend-1", addressType="IPv4", endpoints=[endpoint],
                 ports=[{"name": port_name, "port": DOOR[1], "protocol": "TCP"}]),
        resource("v1", "Pod", "backend-1", spec={"serviceAccountName": "backend"},
                 status={"podIP": address, "podIPs": [{"ip": address}]}),
        resource(security, "PeerAuthentication", "default", spec={"mtls": {"mode": "STRICT"}}),
        resource(security, "AuthorizationPolicy", "allow-nothing", spec={}),
        *(resource(security, "AuthorizationPolicy", name, spec={"selector": selector, "action": "ALLOW", "rules": [rule(*rest)]})
          for name, *rest in job.policies),
    ]  # fmt: skip


def rule(account, path):
    source = {"principals": [f"{TRUST_DOMAIN}/ns/default/sa/{account}"]}
    return {"from": [{"source": source}], "to": [{"operation": {"methods": ["GET"], "paths": [path]}}]}


PEER = Peer(
    name="meshgate",
    version=lambda programs: first_line(programs["meshgate"], "--version"),
    client=client,
    server=server,
    less=lambda job: "",
    log=log,
    alpn=("istio-http/1.1", "istio", "http/1.1"),
)
