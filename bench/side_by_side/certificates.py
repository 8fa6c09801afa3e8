"""Certificates by `meshgate ca`: P-256, SPIFFE names, one CA for all.

The backend's has a DNS name as well: it is all that HAProxy and nginx can check of a server.
"""

import os

from .common import HOST, TRUST_DOMAIN, WORKLOADS, read, run, spiffe_id, write


def make(folder, binary):
    """In `ca/` and `certs/` of the folder."""
    ca, certs = os.path.join(folder, "ca"), os.path.join(folder, "certs")
    run(binary, "ca", "init", "--dir", ca, "--trust-domain", TRUST_DOMAIN)
    os.mkdir(certs)
    for name in WORKLOADS:
        more = ["--dns", HOST] if name == "backend" else []
        run(binary, "ca", "issue", "--dir", ca, "--id", spiffe_id(name), "--out", certs, "--name", name, *more)
        # HAProxy wants both in one file.
        both = read(f"{certs}/{name}.pem") + read(f"{certs}/{name}-key.pem")
        write(f"{certs}/{name}-both.pem", both)
