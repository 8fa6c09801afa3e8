"""What all parts of the benchmark use: the scenario, and programs and files."""

import subprocess
import sys

# What is asked for, and what the policies allow.
HOST = "backend.default.svc.cluster.local"
ALLOWED = "/api/v1/data"
OTHER = "/api/v1/other"
BODY = "0123456789abcdef" * 64

TRUST_DOMAIN = "cluster.local"
WORKLOADS = ("frontend", "backend", "other")


class Failure(Exception):
    """Something that makes the measurement worthless; the message says what."""


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
