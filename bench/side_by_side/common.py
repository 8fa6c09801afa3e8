"""What all benchmarks use: the setting's names, programs, files, and how a script begins and ends."""

import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# What is asked for, and what the policies allow.
HOST = "backend.default.svc.cluster.local"
ALLOWED = "/api/v1/data"
OTHER = "/api/v1/other"
BODY = "0123456789abcdef" * 64

TRUST_DOMAIN = "cluster.local"
WORKLOADS = ("frontend", "backend", "other", "gateway")


class Failure(Exception):
    """Something that makes the measurement worthless; the message says what."""


def spiffe_id(account):
    return f"spiffe://{TRUST_DOMAIN}/ns/default/sa/{account}"


def split(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def run(*command):
    result = captured(command)
    if result.returncode != 0:
        raise Failure(f"{' '.join(command)}: exit {result.returncode}:\n{result.stdout[-2000:]}")
    return result.stdout


def first_line(*command):
    """What a program says of its version, on whichever stream and with whichever exit code."""
    return captured(command).stdout.strip().partition("\n")[0]


def captured(command):
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run(command, text=True, check=False, **streams)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def say(text):
    print(text, file=sys.stderr, flush=True)


def add_binary(parser):
    what = "the meshgate to measure (default target/release/meshgate)"
    parser.add_argument("--binary", type=pathlib.Path, default=TARGET / "release" / "meshgate", help=what)


def positive(text):
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def script(main):
    """Runs `main`, so that what it started is also ended when it is."""
    # Debian keeps nginx and haproxy where only root's PATH looks.
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except Failure as failure:
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
