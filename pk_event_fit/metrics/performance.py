"""Time and memory of the process that asks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def rss_mb() -> float | None:
    """Resident memory of this process now, MB (10^6 bytes); None where the system does not tell."""
    return _status("VmRSS")


def rss_peak_mb() -> float | None:
    """Its largest resident memory so far, MB; None where the system does not tell.

    Linux keeps two such figures. `getrusage` begins with the memory of the parent that started this process; the one
    read here does not.
    """
    if (peak := _status("VmHWM")) is not None:
        return peak
    try:
        import resource
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _status(key: str) -> float | None:
    path = Path("/proc/self/status")
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def step_times(seconds: Sequence[float]) -> dict[str, float | dict[str, float] | None]:
    """What the times of all iterations say.

    Args:
        seconds: Of each iteration, in order.

    Returns:
        `compile_s`, by how much the first iteration took longer than the median of the others (tracing, compiling and
        first allocations; None with fewer than two), `step_ms` of the others, and `training_s`, the sum of all.
    """
    first, rest = list(seconds[:1]), np.asarray(seconds[1:], np.float64)
    if not len(rest):
        return {"compile_s": None, "step_ms": None, "training_s": float(sum(first))}
    p10, median, p90 = (float(k) for k in np.percentile(rest, [10, 50, 90]))
    return {
        "compile_s": max(0.0, first[0] - median),
        "step_ms": {"median": 1e3 * median, "p10": 1e3 * p10, "p90": 1e3 * p90},
        "training_s": float(first[0] + rest.sum()),
    }
