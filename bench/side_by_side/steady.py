"""Requests at a steady rate, whether answers come or not, as long as one of the connections has nothing to wait for: h2load, with the time
that each of them took."""

import contextlib
import os
import subprocess

from . import gateway, peers
from .common import ALLOWED, HOST, Failure, read


class Steady:
    """A load that runs until its time is over."""

    def __init__(self, stack, log, entry, rate, seconds, connections=40, version=1, host=HOST):
        self.log = log
        with contextlib.suppress(FileNotFoundError):
            os.remove(log)  # h2load would add to it
        protocol = ["--h1"] if version == 1 else []
        shape = ["-t1", f"-c{connections}", "-m1", f"--rps={rate / connections}", f"-D{seconds}", f"--log-file={log}"]
        command = ["h2load", *protocol, *shape, "-H", f":authority: {host}", f"http://{entry}{ALLOWED}"]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.seconds = seconds
        self.process = subprocess.Popen(command, text=True, **streams)
        stack.callback(peers.stop, self.process)

    def end(self):
        """What became of the requests: how many there were, how many failed, and how long they took in milliseconds, sorted."""
        output, _ = self.process.communicate(timeout=self.seconds + 60)
        numbers = gateway.counts(output)
        took = []
        for line in read(self.log).splitlines():
            _, status, micros = line.split("\t")
            if status == "200":
                took.append(int(micros) / 1000)
        if not took:
            raise Failure(f"nothing was answered:\n{output}")
        return numbers["total"], numbers["total"] - numbers["2xx"], sorted(took)


def at(took, share):
    return took[min(int(len(took) * share), len(took) - 1)]
