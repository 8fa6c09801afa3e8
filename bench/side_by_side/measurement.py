"""Measurement: load, and what the kernel says it cost."""

import os
import time

from .common import ALLOWED, HOST, Failure, read, run, say
from .peers import LOAD_CPU

WARM_UP = 1  # seconds of load before each measurement, so that pools are full and code is paged in
QUIET = 0.1  # cores busy with other work beyond which a figure says more about the machine than about the proxies
TICKS = os.sysconf("SC_CLK_TCK")


def measure(arguments, pairs, nginx):
    """The figures of every round, by pair; who comes first rotates."""
    figures = {pair.name: [] for pair in pairs}
    for number in range(arguments.rounds):
        first = number % len(pairs)
        for pair in pairs[first:] + pairs[:first]:
            load(pair, WARM_UP, arguments.connections)
            figure = measure_once(pair, arguments, nginx)
            figures[pair.name].append(figure)
            for log in pair.logs:
                os.truncate(log, 0)  # a line a request: it is memory that they fill
            text = f"round {number + 1}, {pair.name}: {figure['cpu_us']:.2f} us, {figure['rps']:.0f} requests/s"
            if figure["others_busy"] > QUIET:
                text += f"; {figure['others_busy']:.2f} cores busy with other work"
            say(text)
    return figures


def measure_once(pair, arguments, nginx):
    def clocks():
        load_spent = cpu_seconds(nginx.pid) + os.times().children_user + os.times().children_system
        return time.monotonic(), cpu_seconds(pair.client.pid), cpu_seconds(pair.server.pid), load_spent, busy_seconds()

    before = clocks()
    requests, rps = load(pair, arguments.seconds, arguments.connections)
    wall, client, server, load_spent, busy = (b - a for a, b in zip(before, clocks(), strict=True))
    return {
        "cpu_us": 1e6 * (client + server) / requests,
        "client_cpu_us": 1e6 * client / requests,
        "server_cpu_us": 1e6 * server / requests,
        "requests": requests,
        "rps": rps,
        "core_busy": (client + server) / wall,
        "others_busy": max(0.0, busy - client - server - load_spent) / wall,
        "rss_mib": [rss_mib(process.pid) for process in (pair.client, pair.server)],
    }


def load(pair, seconds, connections):
    """Saturates a pair; (requests answered, requests a second). Anything but 2xx makes the round worthless."""
    url = f"http://{pair.entry}{ALLOWED}"
    shape = ["-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Host: {HOST}"]
    output = run("taskset", "-c", LOAD_CPU, "wrk", *shape, url)
    for line in output.splitlines():
        if "Non-2xx" in line or "Socket errors" in line:
            raise Failure(f"{pair.name}: wrk says: {line.strip()}")
    words = output.split()
    requests = int(words[words.index("requests") - 1]) if "requests" in words else 0
    if requests == 0:
        raise Failure(f"{pair.name}: wrk made no request:\n{output}")
    return requests, float(words[words.index("Requests/sec:") + 1])


def cpu_seconds(pid):
    """User and system time of a process: of all threads that it has, to the nanosecond (sched-stats of the kernel's documentation)."""
    threads = os.listdir(f"/proc/{pid}/task")
    return sum(int(read(f"/proc/{pid}/task/{thread}/schedstat").split()[0]) for thread in threads) / 1e9


def busy_seconds():
    """What all cores together spent on anything (proc(5), /proc/stat: all but idle and iowait; guests are in user)."""
    fields = [int(field) for field in read("/proc/stat").partition("\n")[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / TICKS


def rss_mib(pid):
    line = next(line for line in read(f"/proc/{pid}/status").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
