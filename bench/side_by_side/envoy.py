"""Envoy: where it is, and what its configurations have in common."""

import glob
import os
import shutil

from .common import TRUST_DOMAIN, Failure, read


def find_envoy(target):
    """Where the tests look too."""
    wheel = glob.glob(str(target / "ci-tools/lib/python*/site-packages/envoy/_bin/envoy"))
    found = os.environ.get("MESHGATE_ENVOY") or next(iter(wheel), None) or shutil.which("envoy")
    if not found:
        raise Failure("there is no Envoy; CONTRIBUTING.md says how to get it")
    return found


def tls(layout, name, protocols):
    """Mutual TLS as a workload, for whoever in the trust domain calls."""
    own = {"certificate_chain": f"certs/{name}.pem", "private_key": f"certs/{name}-key.pem"}
    common = {
        "alpn_protocols": protocols,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{key: {"inline_string": read(layout.path(file))} for key, file in own.items()}],
        "validation_context": {
            "trusted_ca": {"inline_string": read(layout.path("ca/ca.pem"))},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": f"spiffe://{TRUST_DOMAIN}/"}}],
        },
    }
    kind = "transport_sockets.tls.v3.DownstreamTlsContext"
    return typed("tls", kind, require_client_certificate=True, common_tls_context=common)


def typed(name, kind, **fields):
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **fields}}
