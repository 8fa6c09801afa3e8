"""The scenarios: which subjects do which job, under which load, and which figure of it counts."""

import contextlib
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable

from . import gateway, load, memory, peers
from .common import Failure, say
from .measurement import measure, resident
from .peers import Job
from .policies import policies
from .processes import raise_file_limit, start_application
from .proof import prove

RATE = 2000  # requests a second where CPU time and latency at a rate are compared
HOLD = 500  # handshakes a second


@dataclasses.dataclass
class Row:
    """One line of the table: a figure of every round, by subject; less is better."""

    title: str
    unit: str
    values: dict
    digits: int = 1
    target: float | None = None  # what ours is to reach, where that is the same on every machine
    reach: dict = dataclasses.field(default_factory=dict)  # the same as a share of a peer's, by peer, where it is not


@dataclasses.dataclass
class Outcome:
    """What a scenario came to."""

    rows: list
    rounds: dict = dataclasses.field(default_factory=dict)  # every figure of every round, by what was measured and by subject
    less: dict = dataclasses.field(default_factory=dict)  # what a subject does less than ours


@dataclasses.dataclass(frozen=True)
class Scenario:
    title: str
    measure: Callable  # (world, options) -> Outcome
    is_default: bool = True


def pair(title, reach, a_load, job=Job(), unit="us a request", factor=1.0, digits=1, is_blob=False, has_floor=True):
    """Both sides of each peer, one figure."""

    def measured(world, options):
        with contextlib.ExitStack() as stack:
            subjects = pairs(stack, world, options, job, is_blob, has_floor=has_floor)
            rounds = measure(options, subjects, a_load)
            row = Row(title, unit, values(rounds, "cpu_us", factor), digits, reach=reach)
            return Outcome([row], {title: rounds}, less_of(subjects))

    return Scenario(title, measured)


def proxies(options, has_floor):
    """Who takes part; the floor does only where it moves the same bytes over as many connections."""
    return [peer for peer in options.peers if peer.refuses or has_floor]


def pairs(stack, world, options, job, is_blob=False, is_proven=True, has_floor=False):
    subjects = []
    for peer in proxies(options, has_floor):
        if job.version in peer.versions:
            layout = world.layout(peer.name)
            stack.callback(world.remove, layout)
            application = start_application(stack, layout, job.version, is_blob)
            subjects.append(peers.start_pair(stack, peer, layout, job, application))
            if is_proven:
                prove(subjects[-1], job)
    return subjects


def servers(stack, world, options, job, forms=None, has_floor=False):
    """The server sides alone, in each of the forms that a peer has its policies in; their caller is HAProxy's client side."""
    (caller,) = peers.find(["haproxy"])
    subjects = []
    for peer in proxies(options, has_floor):
        for form in (forms or {}).get(peer.name, ("",)):
            layout = world.layout(f"{peer.name}-{form}")
            stack.callback(world.remove, layout)
            application = start_application(stack, layout)
            of_form = dataclasses.replace(job, form=form)
            subjects.append(peers.start_server_alone(stack, peer, layout, of_form, application, caller))
            prove(subjects[-1], of_form)
    return subjects


def values(rounds, key, factor=1.0):
    return {name: [factor * figure[key] for figure in figures] for name, figures in rounds.items()}


def less_of(subjects):
    return {subject.name: subject.less for subject in subjects if subject.less}


# What ours is to take of theirs: our aims and their figures on one quiet machine (`quoted`), divided.
AT_RATE = {"envoy": 0.18, "haproxy": 0.70, "nginx": 0.94, "floor": 1.23}


def at_rates(world, options):
    """CPU time and latency at one rate, in all rounds; latency at others, in a few."""
    with contextlib.ExitStack() as stack:
        subjects = pairs(stack, world, options, Job(), has_floor=True)

        def at(rate, rounds):
            say(f"  {rate} requests a second")
            few = dataclasses.replace(options, rounds=rounds)
            return measure(few, subjects, functools.partial(load.at_rate, connections=64, rate=rate, may_fail=rate != RATE))

        rounds = {str(RATE): at(RATE, options.rounds)}
        for rate in options.rates:
            rounds.setdefault(str(rate), None)
            rounds[str(rate)] = rounds[str(rate)] or at(rate, min(options.rounds, 3))
        own = rounds[str(RATE)]
        rows = [
            Row(f"HTTP/1.1 keep-alive, 64 connections, {RATE:,} requests/s", "us a request", values(own, "cpu_us"), reach=AT_RATE),
            Row(f"latency at {RATE:,} requests/s, median", "ms", values(own, "p50_us", 1e-3), 2),
            Row(f"latency at {RATE:,} requests/s, 99 %", "ms", values(own, "p99_us", 1e-3), 2),
        ]
        return Outcome(rows, rounds, less_of(subjects))


def server_alone(title, reach, a_load, is_default=True):
    def measured(world, options):
        with contextlib.ExitStack() as stack:
            subjects = servers(stack, world, options, Job(), has_floor=True)
            rounds = measure(options, subjects, a_load)
            row = Row(title, "us each", values(rounds, "cpu_us"), reach=reach)
            return Outcome([row], {title: rounds}, less_of(subjects))

    return Scenario(title, measured, is_default)


def hold(world, options):
    """Ours alone: so many handshakes a second, without one that fails."""
    ours = dataclasses.replace(options, peers=[peer for peer in options.peers if peer.name == "meshgate"], rounds=1)
    with contextlib.ExitStack() as stack:
        rounds = measure(ours, servers(stack, world, ours, Job()), functools.partial(load.handshakes, rate=HOLD))
        for figure in rounds["meshgate"]:
            if figure["rate"] < 0.95 * HOLD:
                raise Failure(f"{figure['rate']:.0f} handshakes a second where {HOLD} were asked for")
        return Outcome([Row(f"{HOLD} handshakes a second", "us each", values(rounds, "cpu_us"))], {"hold": rounds})


# What a peer has its policies in besides a list, in the order of the table.
FORMS = {"envoy": ("", "matcher tree"), "haproxy": ("", "map")}


def many_policies(same_caller, is_default=True):
    title = "policies, all for the one caller" if same_caller else "policies"

    def measured(world, options):
        few = dataclasses.replace(options, rounds=options.policy_rounds, seconds=min(options.seconds, 2))
        rounds, less = {}, {}
        for count in options.policies:
            say(f"  {count} policies")
            with contextlib.ExitStack() as stack:
                job = Job(policies=policies(count, same_caller), access_log=False)
                subjects = servers(stack, world, few, job, FORMS)
                rounds[str(count)] = measure(few, subjects, functools.partial(load.saturated, connections=8))
                less.update(less_of(subjects))
        least, most = str(min(options.policies)), str(max(options.policies))
        what = f"server side with {max(options.policies):,} policies{' for one caller' if same_caller else ''}"
        rows = [Row(what, "us a request", values(rounds[most], "cpu_us"))]
        growth = {}
        for name, figures in rounds[most].items():
            one = statistics.median(figure["cpu_us"] for figure in rounds[least][name])
            growth[name] = [figure["cpu_us"] / one for figure in figures]
        rows.append(Row(f"{what}, of what it takes with {least}", "times", growth, 2, 1.05))
        return Outcome(rows, rounds, less)

    return Scenario(title, measured, is_default)


def resting(world, options):
    """Memory; there are no rounds of it: it does not depend on what else the machine does."""
    connections = options.resting
    raise_file_limit(len(options.peers) * connections + 4096)
    job = Job(connections=connections + 4096, access_log=False)
    found, less = {}, {}
    for side in ("server", "client"):
        with contextlib.ExitStack() as stack:
            subjects = pairs(stack, world, options, job, is_proven=False)
            time.sleep(1)
            before = {subject.name: resident(subject.proxies[side]) for subject in subjects}
            for subject in subjects:
                prove(subject, job)
            found[side] = memory.measure(side, subjects, connections, options.settle)
            for name, mib in before.items():
                found[side][name]["process_mib"] = mib
            less.update(less_of(subjects))

    def of(side, key):
        return {name: [figure[key]] for name, figure in found[side].items()}

    rows = [
        Row("memory of a process before its first request", "MiB", of("server", "process_mib"), target=8),
        Row(f"each of {connections:,} resting mutual TLS connections into the server side", "KiB", of("server", "connection_kib"), target=14),
        Row("process when they have ended", "MiB", of("server", "after_mib")),
        Row(f"each of {connections:,} resting plaintext connections into the client side", "KiB", of("client", "connection_kib"), target=4),
    ]
    return Outcome(rows, {side: {name: [figure] for name, figure in own.items()} for side, own in found.items()}, less)


def gateways(version):
    """Ways to the same workload with the same sidecars; what stands between them differs."""
    title = f"another cluster, HTTP/{'1.1' if version == 1 else version}"

    def measured(world, options):
        names = {peer.name for peer in options.peers}
        if "meshgate" not in names:
            raise Failure("the way through a gateway is one of our sidecars'")
        starts = [gateway.start_local, gateway.start_meshgate]
        if "envoy" in names:
            starts += [gateway.start_envoy_connect, gateway.start_envoy_passthrough]
        with contextlib.ExitStack() as stack:
            subjects = []
            for begin in starts:
                layout = world.layout(begin.__name__)
                stack.callback(world.remove, layout)
                application = start_application(stack, layout, version)
                subjects.append(begin(stack, layout, application))
                prove(subjects[-1], Job(version=version))
            a_load = functools.partial(load.saturated, connections=64)
            if version == 2:
                a_load = functools.partial(load.saturated_http2, connections=8, streams=32)
            rounds = measure(options, subjects, a_load)
        return Outcome(gateway_rows(title, rounds), {title: rounds})

    return Scenario(title, measured)


def gateway_rows(title, rounds):
    """The gateway alone, and its caller's side; Envoy's place in the table is that of what terminates the same tunnels."""
    places = {"meshgate": "meshgate", "envoy": "envoy, CONNECT", "envoy, SNI passthrough": "envoy, SNI passthrough"}
    rows = []
    for role, what in (("gateway", "the gateway alone"), ("client", "its caller's side")):
        own = {
            place: [figure["by_role_us"][role] for figure in rounds[way]]
            for place, way in places.items()
            if way in rounds and (role == "gateway" or place == "meshgate")
        }
        rows.append(Row(f"{title}: {what}", "us a request", own))
    return rows


SCENARIOS = {
    "pair": pair("HTTP/1.1 keep-alive, 64 connections, saturated", {"envoy": 0.25, "haproxy": 0.70, "nginx": 0.60, "floor": 1.3}, functools.partial(load.saturated, connections=64)),
    "rate": Scenario("HTTP/1.1 keep-alive, 64 connections, at a rate", at_rates),
    "http2": pair(
        "HTTP/2, 8 connections x 32 streams, saturated",
        {"envoy": 0.27, "haproxy": 0.99, "floor": 1.85},
        functools.partial(load.saturated_http2, connections=8, streams=32),
        Job(version=2),
    ),
    "connections": pair(
        "a new plaintext connection a request, upstream pooled",
        {"envoy": 0.28, "haproxy": 0.88, "nginx": 0.70},
        functools.partial(load.new_connections, connections=64),
        has_floor=False,
    ),
    "handshakes-pair": pair(
        "a full mutual handshake a request, client side passes TCP",
        {"envoy": 0.75, "haproxy": 0.34, "nginx": 0.43, "floor": 1.08},
        functools.partial(load.new_connections, connections=16),
        Job(tunnel=True),
    ),
    "handshakes": server_alone(
        "server side alone, full mutual handshake, no request",
        {"envoy": 0.69, "haproxy": 0.27, "nginx": 0.28, "floor": 1.06},
        load.handshakes,
    ),
    "server": server_alone(
        "server side alone, mutual TLS keep-alive, 32 connections",
        {"envoy": 0.35, "haproxy": 0.62, "nginx": 0.67, "floor": 0.73},
        functools.partial(load.saturated, connections=32),
    ),
    "downloads": pair(
        "100 MiB downloads, 4 at a time",
        {"envoy": 0.85, "haproxy": 0.45, "nginx": 0.35, "floor": 0.81},
        functools.partial(load.downloads, connections=4),
        unit="CPU s a GiB",
        factor=1e-6,
        digits=2,
        is_blob=True,
    ),
    "memory": Scenario("memory", resting),
    "policies": many_policies(same_caller=False),
    "gateway": gateways(1),
    "gateway-http2": gateways(2),
    # Only where they are asked for by name.
    "policies-same-caller": many_policies(same_caller=True, is_default=False),
    "handshakes-p256": server_alone(
        "server side alone, full mutual handshake with P-256", {}, functools.partial(load.handshakes, group="P-256"), False
    ),
    "handshakes-hold": Scenario(f"{HOLD} handshakes a second", hold, False),
}
