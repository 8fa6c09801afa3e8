"""Certificates: P-256, SPIFFE names, one CA for both pairs."""

import os

from .common import TRUST_DOMAIN, WORKLOADS, read, run, write


def make(layout, binary):
    if binary:
        run(binary, "ca", "init", "--dir", layout.path("ca"), "--trust-domain", TRUST_DOMAIN)
        os.mkdir(layout.path("certs"))
        for name in WORKLOADS:
            out = ["--out", layout.path("certs"), "--name", name]
            run(binary, "ca", "issue", "--dir", layout.path("ca"), "--id", spiffe_id(name), *out)
    else:
        openssl_certificates(layout)
    for name in WORKLOADS:  # HAProxy wants both in one file
        both = read(layout.path(f"certs/{name}.pem")) + read(layout.path(f"certs/{name}-key.pem"))
        write(layout.path(f"certs/{name}-both.pem"), both)


def openssl_certificates(layout):
    """What `meshgate ca` makes, without meshgate: for HAProxy alone."""
    for folder in ("ca", "certs"):
        os.mkdir(layout.path(folder))
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca, ca_key = layout.path("ca/ca.pem"), layout.path("ca/ca-key.pem")
    extensions = ["-addext", f"subjectAltName=URI:spiffe://{TRUST_DOMAIN}", "-addext", "keyUsage=critical,keyCertSign"]
    root = ["-x509", "-days", "1", "-subj", "/O=mesh", *extensions]
    run("openssl", "req", *root, *new_key, "-keyout", ca_key, "-out", ca)
    for name in WORKLOADS:
        key, request, leaf = (layout.path(f"certs/{name}{end}") for end in ("-key.pem", ".csr", ".pem"))
        run("openssl", "req", *new_key, "-subj", "/O=mesh", "-keyout", key, "-out", request)
        write(layout.path("leaf.cnf"), LEAF_EXTENSIONS.format(id=spiffe_id(name)))
        signer = ["-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "1"]
        run("openssl", "x509", "-req", "-in", request, *signer, "-extfile", layout.path("leaf.cnf"), "-out", leaf)


LEAF_EXTENSIONS = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = critical, URI:{id}
"""


def spiffe_id(name):
    return f"spiffe://{TRUST_DOMAIN}/ns/default/sa/{name}"
