"""Instructions of fixed work, as callgrind counts them: how many, and whose.

Two counts of one binary differ by less than a hundredth, whatever else the machine does. They depend on the compiler and on the CPU that
callgrind pretends to be, which has no more than its host: `cpu` says which. Each byte of a `rep movsb`, which copies of some KiB are
made with, counts as an instruction.
"""

import collections
import platform
import re

from .common import Failure, read

# What of a CPU valgrind shows to programs where the host has it, and they choose their code by.
EXTENSIONS = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "rdrand", "rdseed"}

ROWS = 25  # functions, of which the last is below a hundredth of the whole


def command(out, *options):
    """What comes before a program's own words; dumps are `out` with a number behind."""
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *options]


def cpu():
    """What counts can be compared between."""
    flags = re.search(r"^flags\s*:(.*)$", read("/proc/cpuinfo"), re.MULTILINE)
    return " ".join([platform.machine(), *sorted(EXTENSIONS & set(flags[1].split() if flags else ()))])


def by_function(dump):
    """Function -> instructions of its own. (The format is Valgrind's manual's, "Callgrind Format Specification".)"""
    names, own, current, is_of_call = {}, collections.Counter(), None, False
    for line in read(dump).splitlines():
        if found := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?$", line):
            kind, number, name = found.groups()
            if name:
                names[number] = name
            if kind == "fn":
                current = number
        elif line.startswith("calls="):
            is_of_call = True  # the next line has what the callee took, which the callee's own lines have too
        elif current and re.match(r"[0-9+*-]", line):
            if not is_of_call:
                own[current] += int(line.rpartition(" ")[2])
            is_of_call = False
    if not own:
        raise Failure(f"callgrind counted nothing: {read(dump)[:500]}")
    merged = collections.Counter()
    for number, count in own.items():
        merged[names.get(number, number)] += count
    return merged


def top(functions, units):
    """The functions that take most, for people."""
    total = sum(functions.values())
    lines = [f"{count / units:12,.0f} {100 * count / total:5.1f} % {name[:160]}" for name, count in functions.most_common(ROWS)]
    return "\n".join(lines)
