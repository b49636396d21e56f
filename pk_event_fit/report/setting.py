"""On what a sweep ran: the words that stand under each table, and those of the methodology."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .measures import Evidence

# They compute nothing.
TOOLS = {"hydra-core", "omegaconf", "pyyaml", "matplotlib", "tqdm", "wandb", "wandb-workspaces", "pk-event-fit"}
UNKNOWN = "not recorded"
UNSET = {"training.batch_size": "all subjects at once"}  # what a setting that is open means


def listed(names: Iterable[str]) -> str:
    """Names as a sentence has them: a, b and c."""
    *first, last = names or [""]
    return f"{', '.join(first)} and {last}" if first else last


def footnote(evidence: Evidence, precision: str | None = None) -> str:
    """Hardware, versions, threads and precision (the runs', where none is given), each as it differs between files."""
    told = _told(evidence)
    precision = evidence.numbers.name(precision) if precision else _each(evidence, told, "precision")
    machine = f"{_each(evidence, told, 'cpu')}, cores: {_each(evidence, told, 'cores')}"
    threads = f"threads: {_each(evidence, told, 'threads')}"
    kind = f"device: {_each(evidence, told, 'device')}, precision: {precision}"
    return f"{machine}, {threads}, {kind}. {versions(evidence)}."


def versions(evidence: Evidence, *, tools: bool = False) -> str:
    """Python and the libraries that compute, or all of them."""
    told = _told(evidence)
    found: dict[str, dict[str, None]] = {}
    for about in told:
        packages = about.get("packages")
        for name, version in (packages if isinstance(packages, dict) else {}).items():
            found.setdefault(str(name), {})[str(version)] = None
    words = [
        f"{name} {' or '.join(evidence.numbers.name(version) for version in found[name])}"
        for name in sorted(found)
        if tools or name not in TOOLS
    ]
    return ", ".join([f"Python {_each(evidence, told, 'python')}", *words])


def machine(evidence: Evidence) -> str:
    """Processor, cores and system."""
    told = _told(evidence)
    return ", ".join(f"{key}: {_each(evidence, told, key)}" for key in ("cpu", "cores", "threads", "system"))


def commits(evidence: Evidence) -> str:
    """Which code ran."""
    seen: dict[str, None] = {}
    for run in evidence.sweep.runs:
        about = run.provenance.get("git")
        if isinstance(about, dict) and about.get("commit"):
            changed = " with changes that were not committed" if about.get("dirty") else ""
            seen[evidence.numbers.name(about["commit"]) + changed] = None
    return " or ".join(seen) if seen else UNKNOWN


def value(evidence: Evidence, key: str) -> str:
    """A setting as text."""
    found = evidence.setting(key)
    if found is None:
        return UNSET.get(key, UNKNOWN)
    if isinstance(found, bool) or not isinstance(found, int | float | list):
        return evidence.numbers.name(found)
    if isinstance(found, list):
        return listed([_item(evidence, item) for item in found]) if found else "none"
    return _item(evidence, found)


def _item(evidence: Evidence, item: object) -> str:
    if isinstance(item, bool) or not isinstance(item, int | float):
        return evidence.numbers.name(item)
    # Tolerances are read as they are typed.
    return evidence.numbers.name(f"{item:g}") if isinstance(item, float) else evidence.numbers(item)


def dose_times(evidence: Evidence) -> list[float]:
    """When doses act, h."""
    times = evidence.setting("data.dose_times")
    return sorted(float(t) for t in times if isinstance(t, int | float)) if isinstance(times, list) else []


def clock(evidence: Evidence, interval: int) -> str:
    """An interval by its ends, h."""
    start, end = evidence.setting("data.start"), evidence.setting("data.end")
    times = dose_times(evidence)
    if not isinstance(start, int | float) or not isinstance(end, int | float):
        return f"interval {evidence.numbers(interval)}"
    cuts = [float(start), *(t for t in times if start < t < end), float(end)]
    if interval + 1 >= len(cuts):
        return f"interval {evidence.numbers(interval)}"
    return f"{evidence.numbers.time(cuts[interval])} to {evidence.numbers.time(cuts[interval + 1])} h"


def _told(evidence: Evidence) -> Sequence[dict]:
    """What runs and probes say of where they ran."""
    probes = [content for variants in evidence.sweep.probes.values() for content in variants.values()]
    found = [content.get("environment") for content in probes]
    return [run.provenance for run in evidence.sweep.runs if run.provenance] + [e for e in found if isinstance(e, dict)]


def _each(evidence: Evidence, told: Iterable[dict], key: str) -> str:
    """Every different value, told apart by `or`."""
    values = {str(about[key]): None for about in told if about.get(key) is not None}
    return " or ".join(evidence.numbers.name(value) for value in values) or UNKNOWN
