"""Loads, on the core of the load: what is asked of a subject for so many seconds, and what came of it.

Each returns what the CPU time is divided by (`units`) and what else it knows. Anything but the answer that is wanted makes a round
worthless.
"""

import json
import pathlib
import re
import signal
import subprocess
import sys

from .common import ALLOWED, HOST, Failure, read, run, split, write
from .measurement import at
from .processes import DOOR, LOAD_CPU, stop

TOO_LONG = "30s"  # wrk gives up on an answer after that; by itself after two seconds, which a peer with 10,000 policies may take
DAY = 86400  # seconds: of a load that is ended when it is no longer wanted
GIB = 1024**3

# wrk rounds what it says.
EXACTLY = """\
done = function(summary)
  local e = summary.errors
  io.write(string.format("exactly %d %d %d %d\\n", summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def saturated(subject, seconds, connections, *headers):
    """HTTP/1.1, as fast as it goes, by wrk."""
    requests, _, took = wrk(subject, seconds, connections, *headers)
    return {"units": requests, "rate": requests / took}


def new_connections(subject, seconds, connections):
    """The same, with a connection for each request."""
    return saturated(subject, seconds, connections, "-H", "Connection: close")


def downloads(subject, seconds, connections):
    """Large answers; what is counted is GiB, whole answers or not."""
    _, size, took = wrk(subject, seconds, connections)
    return {"units": size / GIB, "rate": size / GIB / took}


def wrk(subject, seconds, connections, *more):
    return summed_up(subject, run(*wrk_command(subject, seconds, connections, *more)))


def wrk_command(subject, seconds, connections, *more):
    script = subject.layout.path("exactly.lua")
    write(script, EXACTLY)
    shape = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", TOO_LONG, "-s", script, "-H", f"Host: {HOST}", *more]
    return ["taskset", "-c", LOAD_CPU, "wrk", *shape, f"http://{subject.entry}{ALLOWED}"]


def summed_up(subject, output):
    """Requests, bytes and seconds that wrk says there were."""
    found = re.search(r"^exactly (\d+) (\d+) (\d+) (\d+)$", output, re.MULTILINE)
    requests, size, duration, errors = map(int, found.groups()) if found else (0, 0, 0, 1)
    if errors or not size:
        raise Failure(f"{subject.name}: wrk says:\n{output}")
    return requests, size, duration / 1e6


class Paused:
    """The load of `saturated`, which goes on where it was left: it costs nothing to begin, and every slice of it is as warm as the last."""

    def __init__(self, subject, connections, stack):
        self.subject = subject
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(wrk_command(subject, DAY, connections), **pipes)
        stack.callback(self.end)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def end(self):
        """Sees that nothing failed in all that time."""
        if self.process.returncode is not None:
            return
        self.go_on()  # first: of a stopped process any thread may get the signal, and it is for the one that waits for the end
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=30)
        summed_up(self.subject, output)


def saturated_http2(subject, seconds, connections, streams):
    """HTTP/2, without TLS, as fast as it goes, by h2load."""
    shape = ["-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", "-H", f":authority: {HOST}"]
    output = run("taskset", "-c", LOAD_CPU, "h2load", *shape, f"http://{subject.entry}{ALLOWED}")
    # Only where it sums up; while it runs it counts clients in the same words.
    lines = "\n".join(re.findall(r"^(?:requests|status codes): .*$", output, re.MULTILINE))
    counts = {name: int(number) for number, name in re.findall(r"(\d+) (failed|errored|timeout|2xx)", lines)}
    answered = counts.pop("2xx", 0)
    if len(counts) != 3 or any(counts.values()) or not answered:
        raise Failure(f"{subject.name}: h2load says:\n{output}")
    return {"units": answered, "rate": answered / seconds}


def at_rate(subject, seconds, connections, rate, may_fail=False):
    """HTTP/1.1 at so many requests a second, whatever becomes of them: latencies count from when a request was due.

    Where a rate is more than a subject can do, some may fail: they are as late as the last that was answered, at least.
    """
    found = start_at_rate(subject.layout, subject.entry, seconds, connections, rate)()
    if (found["failed"] and not may_fail) or not found["answered"]:
        raise Failure(f"{subject.name}: {found['failed']} requests failed at {rate} a second")
    return {**found, "units": found["answered"], "rate": found["answered"] / seconds}


def start_at_rate(layout, entry, seconds, connections, rate, stack=None, each=None):
    """The same in the background; returns what waits for its end and says what was found. In a file `each`, where one is named, are the
    answers, see `answers`."""
    shape = ["--rate", str(rate), "--seconds", str(seconds), "--connections", str(connections)]
    shape += ["--each", each] if each else []
    command = [layout.programs["load"], "--address", entry, "--host", HOST, "--path", ALLOWED, *shape]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(["taskset", "-c", LOAD_CPU, *command], **pipes)
    if stack:
        stack.callback(stop, process)

    def end():
        output, _ = process.communicate(timeout=seconds + 30)
        if process.returncode != 0:
            raise Failure(f"the load ended with {process.returncode}")
        return json.loads(output)

    return end


def answers(found, each):
    """When each answered request was due (seconds since 1970), and its latency in milliseconds."""
    lines = (line.split() for line in read(each).splitlines())
    return [(found["begin_unix"] + int(due) / 1e6, int(took) / 1000) for due, took in lines]


def start_http2_at_rate(layout, entry, seconds, connections, rate, stack, host=HOST):
    """The same over HTTP/2, by h2load: a request waits as long as its connection waits for another's answer, and its latency counts from
    when it was sent."""
    log = layout.path("h2load.tsv")
    pathlib.Path(log).unlink(missing_ok=True)  # h2load would add to it
    shape = ["-t1", f"-c{connections}", "-m1", f"--rps={rate / connections}", f"-D{seconds}", f"--log-file={log}"]
    command = ["taskset", "-c", LOAD_CPU, "h2load", *shape, "-H", f":authority: {host}", f"http://{entry}{ALLOWED}"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, **pipes)
    stack.callback(stop, process)

    def end():
        output, _ = process.communicate(timeout=seconds + 60)
        total = re.search(r"^requests: (\d+) total", output, re.MULTILINE)
        lines = [line.split("\t") for line in read(log).splitlines()]
        took = sorted(int(micros) for _, status, micros in lines if status == "200")
        if not total or not took:
            raise Failure(f"h2load says:\n{output}")
        times = {"p50_us": at(took, 0.5), "p99_us": at(took, 0.99), "max_us": took[-1]}
        return {"answered": len(took), "failed": int(total[1]) - len(took), "unsent": 0, **times}

    return end


CALLERS = 4  # processes, each of which makes one handshake after the other


def handshakes(subject, seconds, group="X25519", rate=0):
    """Full mutual TLS handshakes with the server side, and no request; at most so many a second, if a rate is given."""
    file = pathlib.Path(__file__).with_name("handshakes.py")
    door = ":".join(map(str, split(subject.layout.address(*DOOR))))
    alpn = ",".join(subject.peer.alpn)
    words = [str(subject.layout.folder), door, alpn, group, str(seconds), str(rate / CALLERS)]
    command = ["taskset", "-c", LOAD_CPU, sys.executable, str(file), *words]
    callers = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) for _ in range(CALLERS)]
    found = [tuple(map(int, one.communicate()[0].split())) for one in callers]
    done, failed = sum(done for done, _ in found), sum(failed for _, failed in found)
    if failed or not done:
        raise Failure(f"{subject.name}: {failed} of {done} handshakes failed")
    return {"units": done, "rate": done / seconds}
