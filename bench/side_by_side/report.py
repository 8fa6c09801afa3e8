"""The report: tables for people, every figure for machines, and two plots."""

import datetime
import hashlib
import json
import math
import os
import pathlib
import platform
import re
import statistics

from . import quoted
from .common import ROOT, Failure, captured, first_line, read, say, write
from .measurement import QUIET
from .plot import chart
from .scenarios import Row

OUT = ROOT / "bench" / "out"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- written by {} --write-docs: begin -->", "<!-- end -->"
BUILT_FROM = ("Cargo.toml", "Cargo.lock", "identity", "policy", "config", "iptables", "proxy", "release")  # the binary
COLUMNS = ("meshgate", "envoy", "haproxy", "nginx", "floor")
BESIDE = ("envoy", "haproxy", "floor")  # whom ours is divided by


def write_report(options, programs, outcomes, failures, took, is_for_docs):
    """`outcomes`: scenario -> Outcome; `failures`: scenario -> why it has none. Prints the report, and writes it to bench/out/ and, if asked
    to, into the docs."""
    now = datetime.datetime.now(datetime.timezone.utc)
    facts = machine(options.peers, programs)
    rows = [row for outcome in outcomes.values() for row in outcome.rows]
    losses = where_we_lose(rows)
    plots = draw(outcomes)
    sections = [
        head(options, now, facts, outcomes, took),
        *([] if not failures else ["**Not measured**\n\n" + "\n".join(f"- {scenario}: {why.splitlines()[0]}" for scenario, why in failures.items())]),
        main_table(rows),
        *filter(None, [own_table(outcomes)]),
        "**Where we lose, or are not yet where we want to be** (medians of the rounds' ratios)\n\n" + "\n".join(losses or ["- nowhere in this run"]),
        *filter(None, (latencies(outcomes), policy_table(outcomes), gateway_tables(outcomes))),
        "**What a peer does less**\n\n" + "\n".join(less(outcomes)),
        "**The machine**\n\n" + "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        f"**Quoted, not measured here.** {quoted.WHERE}\n\n{quoted.TABLE.rstrip()}",
    ]
    text = "\n\n".join(sections) + "\n"
    OUT.mkdir(exist_ok=True)
    name = f"run-{now:%Y%m%d-%H%M%S}"
    document = {
        "time": now.isoformat(timespec="seconds"),
        "options": {**vars(options), "peers": [peer.name for peer in options.peers]},
        "machine": facts,
        "failures": failures,
        "rows": [vars(row) for row in rows],
        "rounds": {scenario: outcome.rounds for scenario, outcome in outcomes.items()},
    }
    write(OUT / f"{name}.json", json.dumps(document, indent=1) + "\n")
    write(OUT / f"{name}.md", text)
    for plot, drawn in plots.items():
        write(OUT / f"{name}-{plot}.svg", drawn)
    print(text)
    say(f"written to {OUT / name}.md, .json and .svg")
    if is_for_docs:
        into_docs(PAGE, "bench/run", text, plots)


def head(options, now, facts, outcomes, took):
    length = f"{options.rounds} rounds of {options.seconds} s, taking turns, medians (least to most of the rounds' own ratios)"
    busy = busy_scenarios(outcomes)
    quiet = "The machine was quiet." if not busy else (
        "**The machine was busy with other work:** " + ", ".join(f"{scenario} {cores:.2f}" for scenario, cores in busy.items())
        + " cores of it. Ratios and memory say something; microseconds do not."
    )  # fmt: skip
    return f"{now:%d %B %Y %H:%M} UTC, commit {facts['commit']}: {length}; {took / 60:.0f} minutes. {quiet}"


def busy_scenarios(outcomes):
    """The median of what others took, where it is more than a quiet machine has."""
    busy = {}
    for scenario, outcome in outcomes.items():
        seen = [figure["others_busy"] for figures in outcome.rounds.values() for own in figures.values()
                for figure in own if "others_busy" in figure]  # fmt: skip
        if seen and statistics.median(seen) > QUIET:
            busy[scenario] = statistics.median(seen)
    return busy


def main_table(rows):
    lines = [
        "| CPU time of all proxies measured, unless it says otherwise | | " + " | ".join(COLUMNS) + "".join(f" | of {peer}" for peer in BESIDE) + " | to reach |",
        "|---|---|" + "---:|" * (len(COLUMNS) + len(BESIDE) + 1),
    ]
    for row in rows:
        cells = [figure(row, name) for name in COLUMNS]
        cells[0] = f"**{cells[0]}**" if cells[0] != "-" else "-"
        cells += [ratio_cell(row, peer) for peer in BESIDE]
        cells.append(to_reach(row))
        lines.append(f"| {row.title} | {row.unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


def own_table(outcomes):
    """What of a row is not the kernel's, which is nearly the same for all who send as many messages: a proxy's own work."""
    lines = []
    for outcome in outcomes.values():
        for row in outcome.rows:
            rounds = outcome.rounds.get(row.title, {})
            if "meshgate" not in rounds or not row.unit.startswith("us"):
                continue
            own = {name: [each["cpu_us"] - each["kernel_us"] for each in figures] for name, figures in rounds.items()}
            one = Row(row.title, "us", own)
            kernel = statistics.median(each["kernel_us"] / each["cpu_us"] for each in rounds["meshgate"])
            cells = [figure(one, name) for name in COLUMNS] + [ratio_cell(one, peer) for peer in BESIDE]
            lines.append(f"| {row.title} | {' | '.join(cells)} | {100 * kernel:.0f} % |")
    if not lines:
        return None
    columns = [*COLUMNS, *(f"of {peer}" for peer in BESIDE), "the kernel's part of ours"]
    top = f"| outside the kernel, us | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}\n"
    return "**A proxy's own part**: of the rows above, what was not spent in the kernel\n\n" + top + "\n".join(lines)


def to_reach(row):
    """Shares of others', of whom the table has a column; where all machines are alike, the figure."""
    if row.target is not None:
        return f"{row.target:g}"
    return ", ".join(f"{row.reach[peer]:g} of {peer}" for peer in BESIDE if peer in row.reach) or "-"


def figure(row, name):
    return f"{statistics.median(row.values[name]):,.{row.digits}f}" if row.values.get(name) else "-"


def ratios(row, peer):
    """Round by round: what slows the machine for a while slows all of a round."""
    ours, theirs = row.values.get("meshgate"), row.values.get(peer)
    return [a / b for a, b in zip(ours, theirs, strict=True) if b > 0] if ours and theirs else []


def ratio_cell(row, peer):
    found = ratios(row, peer)
    if not found:
        return "-"
    spread = f" ({short(min(found))} to {short(max(found))})" if len(found) > 1 else ""
    return f"{short(statistics.median(found))}{spread}"


def short(ratio):
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def where_we_lose(rows):
    lines = []
    for row in rows:
        worse = []
        for peer in row.values:
            found = ratios(row, peer)
            # Nobody is to be faster than the floor unless a row says so.
            aim = row.reach.get(peer, 1 if peer != "floor" else math.inf)
            if peer != "meshgate" and found and statistics.median(found) > aim:
                sure = "" if min(found) > aim or len(found) == 1 else ", not in every round"
                wanted = f" ({aim:g} is to be reached)" if peer in row.reach else ""
                worse.append(f"{statistics.median(found):.2f} of {peer}{wanted}{sure}")
        ours = row.values.get("meshgate")
        if ours and row.target and statistics.median(ours) > row.target:
            worse.append(f"{figure(row, 'meshgate')} {row.unit} where {row.target:g} is to be reached")
        if worse:
            lines.append(f"- {row.title}: {'; '.join(worse)}")
    return lines


def latencies(outcomes):
    if "rate" not in outcomes:
        return None
    lines = ["| requests/s | pair | CPU us a request | p50 ms | p90 ms | p99 ms | p99.9 ms | answered/s | failed or not sent |", "|---:|---|" + "---:|" * 7]
    for rate, figures in sorted(outcomes["rate"].rounds.items(), key=lambda item: int(item[0])):
        for name, rounds in figures.items():
            cells = [f"{middle(rounds, 'cpu_us'):,.1f}"]
            cells += [f"{middle(rounds, key) / 1000:,.2f}" for key in ("p50_us", "p90_us", "p99_us", "p999_us")]
            cells.append(f"{middle(rounds, 'rate'):,.0f}")
            cells.append(str(sum(figure["failed"] + figure["unsent"] for figure in rounds)))
            lines.append(f"| {int(rate):,} | {name} | {' | '.join(cells)} |")
    return "**Latency at a rate**, from when a request was due (open loop)\n\n" + "\n".join(lines)


def policy_table(outcomes):
    tables = []
    for scenario in ("policies", "policies-same-caller"):
        if scenario in outcomes:
            rounds = outcomes[scenario].rounds
            lines = [f"| {scenario}, us a request | {' | '.join(f'{int(count):,}' for count in rounds)} |", "|---|" + "---:|" * len(rounds)]
            for name in next(iter(rounds.values())):
                cells = [f"{middle(figures[name], 'cpu_us'):,.1f}" for figures in rounds.values()]
                lines.append(f"| {name} | {' | '.join(cells)} |")
            tables.append("\n".join(lines))
    return "**Many policies**, server side, the one that matches last\n\n" + "\n\n".join(tables) if tables else None


def gateway_tables(outcomes):
    tables = []
    for scenario in ("gateway", "gateway-http2"):
        if scenario in outcomes:
            ((title, figures),) = outcomes[scenario].rounds.items()
            lines = [f"| {title} | client side | gateway | server side | all, us a request | of local | our gateway / this one |",
                     "|---|" + "---:|" * 6]  # fmt: skip
            lines += [gateway_line(name, rounds, figures) for name, rounds in figures.items()]
            tables.append("\n".join(lines))
    return "**Through a gateway**\n\n" + "\n\n".join(tables) if tables else None


def gateway_line(name, rounds, figures):
    cells = []
    for role in ("client", "gateway", "server"):
        own = [figure["by_role_us"].get(role) for figure in rounds]
        cells.append("-" if own[0] is None else f"{statistics.median(own):.1f}")
    cells.append(f"{middle(rounds, 'cpu_us'):.1f}")
    of_local = [one["cpu_us"] / local["cpu_us"] for one, local in zip(rounds, figures["local"], strict=True)]
    cells.append(f"{statistics.median(of_local):.2f}")
    gates = [ours["by_role_us"]["gateway"] / one["by_role_us"]["gateway"]
             for ours, one in zip(figures["meshgate"], rounds, strict=True) if "gateway" in one["by_role_us"]]  # fmt: skip
    cells.append(f"{statistics.median(gates):.2f}" if gates else "-")
    return f"| {name} | {' | '.join(cells)} |"


def middle(rounds, key):
    return statistics.median(figure[key] for figure in rounds)


def less(outcomes):
    """What each does less, once for all its forms."""
    said = {}
    for outcome in outcomes.values():
        for name, text in outcome.less.items():
            said.setdefault(name.split(" ")[0], text)
    return [f"- {name}: {text}" for name, text in said.items()] or ["- nothing"]


def draw(outcomes):
    plots = {}
    if "policies" in outcomes:
        rounds = outcomes["policies"].rounds
        names = next(iter(rounds.values()))
        series = {name: [(int(count), middle(figures[name], "cpu_us")) for count, figures in rounds.items()] for name in names}
        plots["policies"] = chart("Server side, CPU time a request by the number of policies", "policies, the matching one last", "us a request", series)
    if "rate" in outcomes:
        rounds = outcomes["rate"].rounds
        rates = sorted(rounds, key=int)
        series = {name: [(int(rate), middle(rounds[rate][name], "p99_us") / 1000) for rate in rates] for name in rounds[rates[0]]}
        plots["latency"] = chart("Latency through both sides, 99th percentile, by rate", "requests a second (open loop)", "ms", series)
    return plots


def machine(measured, programs):
    models = [line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if "model name" in line]
    memory = int(re.search(r"MemTotal:\s+(\d+) kB", read("/proc/meminfo"))[1]) / 1024**2
    commit = captured(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]).stdout.strip()
    committed = captured(["git", "-C", str(ROOT), "log", "-1", "--format=%ct", "--", *BUILT_FROM]).stdout.strip()
    binary = pathlib.Path(programs["meshgate"])
    sha256 = hashlib.sha256(binary.read_bytes()).hexdigest()
    built = datetime.datetime.fromtimestamp(binary.stat().st_mtime, datetime.timezone.utc)
    is_stale = committed.isdigit() and binary.stat().st_mtime < int(committed)
    return {
        "commit": commit + (", **but the binary is older than that**" if is_stale else ""),
        "machine": f"{os.cpu_count()} cores, {models[0] if models else '?'}, {platform.machine()}, {memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        **{peer.name: peer.version(programs) for peer in measured},
        "binary of meshgate": f"built {built:%d %B %Y %H:%M} UTC, SHA-256 {sha256[:16]}",
        "load": f"{first_line('wrk', '-v').partition(' [')[0]}, {first_line('h2load', '--version')}, meshgate-load; the application is nginx",
    }


def into_docs(page, command, text, plots):
    """Replaces what this command wrote into the page before, and its pictures beside it."""
    before, begin, rest = read(page).partition(BEGIN.format(command))
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Failure(f"{page} has no place between {BEGIN.format(command)} and {END}")
    pictures = []
    for plot, drawn in plots.items():
        file = page.with_name(f"{page.stem}-{plot}.svg")
        write(file, drawn)
        pictures.append(f"![{plot}]({file.name})")
    write(page, f"{before}{begin}\n\n{text}\n" + "\n".join([*pictures, ""]) + f"\n{end}{after}")
    say(f"written into {page}")
