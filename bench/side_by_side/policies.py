"""Many policies, of which the last by name is the one that lets the caller in."""

from .common import ALLOWED


def policies(count, same_caller=False):
    """(name, service account, path) of each: every one for another caller, or all of them for the one that calls."""
    others = ((f"p{n:06}", "frontend" if same_caller else f"client-{n}", f"/service-{n}/data") for n in range(count - 1))
    return (*others, ("z", "frontend", ALLOWED))
