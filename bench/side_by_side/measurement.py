"""Rounds: a load, and what the kernel says it cost whom."""

import math
import os
import pathlib
import time

from .common import Failure, read, say, write
from .peers import empty_logs
from .processes import served

QUIET = 0.1  # cores busy with other work beyond which a figure says more about the machine than about the proxies
SETTLE = 0.1  # seconds after a load until what it left behind has been done
TICKS = os.sysconf("SC_CLK_TCK")


def measure(options, subjects, load):
    """The figures of every round, by subject. They take turns, and who comes first rotates: what else the machine does meets all."""
    figures = {subject.name: [] for subject in subjects}
    for number in range(options.rounds):
        first = number % len(subjects)
        for subject in subjects[first:] + subjects[:first]:
            if number == 0:
                load(subject, options.warm_up)  # so that pools are full and code is paged in
            figure = measure_once(subject, load, options.seconds)
            figures[subject.name].append(figure)
            empty_logs(subject)
            text = f"  round {number + 1}, {subject.name}: {figure['cpu_us']:.1f} us, {figure['rate']:.1f}/s"
            if figure["others_busy"] > QUIET:
                text += f"; {figure['others_busy']:.2f} cores busy with other work"
            say(text)
    return figures


def measure_once(subject, load, seconds):
    """CPU time in microseconds a unit of the load, all proxies together and by role, how much of it in the kernel, and what the load says."""
    before = clocks(subject)
    found = load(subject, seconds)
    time.sleep(SETTLE)
    after = clocks(subject)
    wall, busy, beside = (after[key] - before[key] for key in ("wall", "busy", "beside"))
    by_role = {role: after[role] - before[role] for role in subject.proxies}
    spent = sum(by_role.values())
    if not found["units"]:
        raise Failure(f"{subject.name}: nothing was done")
    return {
        **found,
        "cpu_us": 1e6 * spent / found["units"],
        "kernel_us": 1e6 * spent * kernel_share(before, after) / found["units"],
        "by_role_us": {role: 1e6 * own / found["units"] for role, own in by_role.items()},
        "core_busy": spent / wall,
        "others_busy": max(0.0, busy - spent - beside) / wall,
        "rss_mib": {role: resident(process) for role, process in subject.proxies.items()},
    }


def slices(subjects, loads, count, seconds):
    """CPU time in microseconds a request, of each of so many slices, by subject. They take turns of a fraction of a second, so that
    what slows the machine meets neighbours alike; what a slice leaves behind is done before the next."""
    figures = {subject.name: [] for subject in subjects}
    for load in loads:
        load.pause()
    for number in range(count):
        turns = list(zip(subjects, loads, strict=True))
        for subject, load in turns if number % 2 == 0 else reversed(turns):
            before = spent(subject)
            load.go_on()
            time.sleep(seconds)
            load.pause()
            time.sleep(SETTLE)
            cpu, answered = (after - earlier for after, earlier in zip(spent(subject), before, strict=True))
            requests = answered - 1  # whoever asks how many is one of them
            if requests < 100:
                raise Failure(f"{subject.name}: {requests} requests in {seconds} s")
            figures[subject.name].append(1e6 * cpu / requests)
        if number % 10 == 0:
            for subject in subjects:
                empty_logs(subject)
            say(f"  slice {number} of {count}: " + ", ".join(f"{name} {took[-1]:.1f} us" for name, took in figures.items()))
    return figures


def spent(subject):
    """CPU seconds of the proxies, and how many requests the application has answered."""
    return sum(map(cpu_seconds, subject.proxies.values())), served(subject.layout)


def clocks(subject):
    """Seconds: of the wall, of each proxy, of what serves the measurement, and of all cores."""
    own = os.times()
    beside = own.user + own.system + own.children_user + own.children_system
    return {
        "wall": time.monotonic(),
        "busy": busy_seconds(),
        "beside": beside + sum(cpu_seconds(process) for process in subject.beside),
        "ticks": [sum(ticks) for ticks in zip(*map(user_and_kernel, subject.proxies.values()), strict=True)],
        **{role: cpu_seconds(process) for role, process in subject.proxies.items()},
    }


def kernel_share(before, after):
    """Of the proxies' time: in the kernel, on their behalf."""
    user, kernel = (later - earlier for earlier, later in zip(before["ticks"], after["ticks"], strict=True))
    return kernel / max(1, user + kernel)


def user_and_kernel(process):
    """Ticks of a process (proc(5), /proc/pid/stat, utime and stime): where the timer's interrupt found it, which is right over seconds."""
    return [int(field) for field in read(f"/proc/{process.pid}/stat").rpartition(")")[2].split()[11:13]]


def cpu_seconds(process):
    """User and system time of a process: of all threads that it has, to the nanosecond (sched-stats of the kernel's documentation)."""
    tasks = f"/proc/{process.pid}/task"
    return sum(int(read(f"{tasks}/{thread}/schedstat").split()[0]) for thread in os.listdir(tasks)) / 1e9


def waited_seconds(process):
    """How long the workers of one of ours were ready to run, and did not (the same, second field)."""
    tasks = pathlib.Path(f"/proc/{process.pid}/task")
    workers = [task for task in tasks.iterdir() if read(task / "comm").startswith("worker-")]
    return sum(int(read(task / "schedstat").split()[1]) for task in workers) / 1e9


def busy_seconds():
    """What all cores together spent on anything (proc(5), /proc/stat: all but idle and iowait; guests are in user)."""
    fields = [int(field) for field in read("/proc/stat").partition("\n")[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / TICKS


def resident(process):
    """MiB."""
    return status_mib(process, "VmRSS")


def begin_peak(process):
    """From here on `peak` is the most since now."""
    write(f"/proc/{process.pid}/clear_refs", "5")


def peak(process):
    """The most that was resident, in MiB."""
    return status_mib(process, "VmHWM")


def status_mib(process, name):
    line = next(line for line in read(f"/proc/{process.pid}/status").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def confidence(ordered):
    """Between which of these, sorted, the median of all that there could be is with 95 % confidence (order statistics: no shape assumed)."""
    count = len(ordered)
    apart = 1.96 * math.sqrt(count) / 2
    return ordered[max(0, math.floor(count / 2 - apart) - 1)], ordered[min(count - 1, math.ceil(count / 2 + apart))]


def at(ordered, share):
    """The value below which this share of them is."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
