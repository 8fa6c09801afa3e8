"""The report: a table for people, and every figure for machines."""

import datetime
import json
import os
import pathlib
import platform
import statistics

from .common import first_line, read, say, write
from .measurement import QUIET

OUT = pathlib.Path(__file__).resolve().parent.parent / "out"


def write_report(arguments, figures, pairs):
    facts = machine()
    medians = {name: {key: median(rounds, key) for key in MEDIANS} for name, rounds in figures.items()}
    ratios = {name: ratio(rounds, figures.get("haproxy")) for name, rounds in figures.items()}
    rows = [row(pair, figures[pair.name], medians, ratios) for pair in pairs]
    shape = f"{arguments.connections} connections, {arguments.rounds} rounds of {arguments.seconds} s, medians"
    lines = [
        f"HTTP/1.1 keep-alive, saturated, 1 KiB, through a pair with mutual TLS 1.3 (P-256): {shape}.",
        "",
        "| pair | CPU us a request | least to most | of HAProxy "
        "| client side | server side | requests/s | core busy | RSS MiB |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        *(f"- {pair.name}: {pair.version}; {pair.notes}" for pair in pairs),
        *(f"- {name}: {fact}" for name, fact in facts.items()),
    ]
    others = max(own["others_busy"] for own in medians.values())
    if others > QUIET:
        lines.append(f"- NOT QUIET: {others:.2f} cores were busy with other work; measure again")
    text = "\n".join(lines) + "\n"
    OUT.mkdir(exist_ok=True)
    name = f"pair-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    described = {pair.name: {"version": pair.version, "notes": pair.notes} for pair in pairs}
    options = {key: str(value) if value is not None else None for key, value in vars(arguments).items()}
    document = {"options": options, "machine": facts, "pairs": described, "medians": medians}
    document.update({"of_haproxy": ratios, "rounds": figures})
    write(OUT / f"{name}.json", json.dumps(document, indent=2) + "\n")
    write(OUT / f"{name}.md", text)
    print(text)
    say(f"written to {OUT / name}.json and .md")


MEDIANS = ("cpu_us", "client_cpu_us", "server_cpu_us", "rps", "core_busy", "others_busy")


def median(rounds, key):
    return statistics.median(figure[key] for figure in rounds)


def ratio(rounds, peers):
    """The median of the rounds' own ratios: what slows the machine for a while slows both pairs of a round."""
    if not peers:
        return None
    return statistics.median(own["cpu_us"] / peer["cpu_us"] for own, peer in zip(rounds, peers, strict=True))


def row(pair, rounds, medians, ratios):
    own = medians[pair.name]
    spread = [figure["cpu_us"] for figure in rounds]
    of_haproxy = "-" if ratios[pair.name] is None else f"{ratios[pair.name]:.2f}"
    rss = " + ".join(f"{mib:.0f}" for mib in rounds[-1]["rss_mib"])
    return (
        f"| {pair.name} | **{own['cpu_us']:.1f}** | {min(spread):.1f} to {max(spread):.1f} | {of_haproxy} "
        f"| {own['client_cpu_us']:.1f} | {own['server_cpu_us']:.1f} | {own['rps']:.0f} "
        f"| {own['core_busy']:.2f} | {rss} |"
    )


def machine():
    models = [line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if "model name" in line]
    return {
        "machine": f"{os.cpu_count()} cores, {models[0] if models else '?'}, {platform.machine()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "nginx": first_line("nginx", "-v"),
        "wrk": first_line("wrk", "-v"),
    }
