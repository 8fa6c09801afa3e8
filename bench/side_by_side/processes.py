"""Programs: where they listen, on which core, that each is ended with the run, and the application behind all proxies."""

import contextlib
import dataclasses
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

from . import certificates
from .common import ALLOWED, BODY, Failure, read, split, write

PROXY_CPU, LOAD_CPU = "0", "1"
START_DEADLINE = 60.0  # seconds; ten thousand policies take a while to read, and all else is ready well within one

# (last octet, port) of plaintext into the client side, of TLS into the server side, of the application, of a gateway, and where each
# proxy of ours is asked for its metrics.
ENTRY, DOOR, APPLICATION, GATE = (1, 18080), (2, 8080), (3, 9080), (4, 15443)
ADMIN = {"client": (1, 15000), "server": (2, 15000), "gateway": (4, 15000)}

BLOB_MIB = 100  # of the application's large answer


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where everything of one subject is: a folder, loopback addresses of its own, and the programs by name."""

    folder: pathlib.Path
    network: str  # the first three octets
    programs: dict

    def address(self, last, port):
        return f"{self.network}.{last}:{port}"

    def path(self, name):
        return str(self.folder / name)


class World:
    """A folder in memory with one CA; ended, with all that was started in it, when its stack is."""

    def __init__(self, stack, programs):
        scratch = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshgate-bench-", dir=scratch)))
        self.programs = programs
        self.number = 0
        certificates.make(str(self.folder), programs["meshgate"])

    def layout(self, name):
        """A place of its own, with the CA and the certificates of all."""
        self.number += 1
        folder = self.folder / f"{self.number}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}"
        folder.mkdir()
        for shared in ("ca", "certs"):
            (folder / shared).symlink_to(self.folder / shared)
        # Two runs at a time have addresses of their own.
        network = f"127.{2 + os.getpid() % 250}.{self.number % 256}"
        return Layout(folder, network, self.programs)

    def remove(self, layout):
        shutil.rmtree(layout.folder, ignore_errors=True)


def start_application(stack, layout, version=1, is_blob=False):
    """nginx that answers everything with 1 KiB, or with BLOB_MIB, and /served with what it has served. One port speaks either HTTP/1.1 or, without TLS, HTTP/2."""
    listen = layout.address(*APPLICATION) + (" http2" if version == 2 else "")
    answer = f'default_type text/plain; return 200 "{BODY}";'
    if is_blob:
        with open(layout.path("blob"), "wb") as file:
            file.write(os.urandom(1024 * 1024) * BLOB_MIB)
        answer = f"rewrite ^ /blob break; root {layout.folder}; sendfile on; tcp_nopush on;"
    write(layout.path("nginx.conf"), NGINX.format(folder=layout.folder, listen=listen, answer=answer, allowed=ALLOWED))
    command = ["nginx", "-p", str(layout.folder), "-e", layout.path("nginx.error"), "-c", layout.path("nginx.conf")]
    return start(stack, layout, "application", LOAD_CPU, command, [layout.address(*APPLICATION)])


NGINX = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  http2_max_concurrent_streams 1024;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen {listen};
    location / {{ {answer} }}
    location = /served {{ stub_status; }}
  }}
}}
"""


def served(layout):
    """How many requests the application has answered (nginx's stub_status), this one among them."""
    with urllib.request.urlopen(f"http://{layout.address(*APPLICATION)}/served", timeout=5) as answer:
        return int(answer.read().split()[9])


def start(stack, layout, name, cpu, command, addresses, patience=START_DEADLINE):
    """Starts a program on one CPU, sees to its end, and returns when it listens, which must be within this many seconds."""
    log = stack.enter_context(open(layout.path(f"{name}.log"), "ab"))
    process = subprocess.Popen(["taskset", "-c", cpu, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stack.callback(stop, process)
    deadline = time.monotonic() + patience
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


def raise_file_limit(files):
    """What is started from here on may have as many files as anyone may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < files:
        raise Failure(f"{files} files are needed at a time, and {hard} are allowed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
