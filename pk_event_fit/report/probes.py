"""The probes of a sweep: measurements in processes of their own, one file for each probe and variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..store import read_npz
from .files import LARGEST, read_json
from .shapes import HEAD, NEEDED, SHAPES

PLAIN_ONLY = ("precision", "stability", "repeat")  # compiled variants do not take these
STATUSES = ("completed", "failed", "unsupported")


class Curve(NamedTuple):
    """One subject around the first dose.

    Attributes:
        times: h, `[N]`; the time of a dose may stand there twice, before it and after.
        predicted: mg, `[N, D]`.
        exact: mg, `[N, D]`.
    """

    times: np.ndarray
    predicted: np.ndarray
    exact: np.ndarray


def read_probes(
    folder: Path, plan: Mapping[str, Any] | None, variants: Sequence[str], problems: list[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Every probe that was planned or is there, by probe and variant.

    Args:
        folder: Of the sweep.
        plan: Its plan, if any.
        variants: Of the sweep.
        problems: Gains a sentence for each file, or part of one, that is missing, damaged or failed.

    Returns:
        The files' contents; of a file that is missing or damaged, `status` and `error` alone.
    """
    planned = (plan or {}).get("probes") or []
    problems += [f"plan.json: there is no probe {probe}" for probe in planned if probe not in SHAPES]
    contents: dict[str, dict[str, dict[str, Any]]] = {}
    for probe in SHAPES:
        there = _variants(folder / "probes" / probe)
        strange = [name for name in there if name not in variants]
        problems += [f"probes/{probe}/{name}.json: is of no variant of this sweep" for name in strange]
        due = [name for name in variants if probe in planned and not (_compiled(name) and probe in PLAIN_ONLY)]
        names = [name for name in variants if name in due or name in there]
        if names:
            contents[probe] = {name: _read(folder, f"probes/{probe}/{name}.json", problems) for name in names}
    if "speed" in planned:
        _look_at_exact(folder, problems)
    return contents


def _look_at_exact(folder: Path, problems: list[str]) -> None:
    """The exact gradient, without which no other's error can be told."""
    name = "probes/exact.json"
    try:
        content = read_json(folder / name, HEAD) or {"status": "missing"}
    except DataError as error:
        content = {"status": f"damaged ({error})"}
    if content.get("status") != "completed":
        why = (content.get("error") or {}).get("message") or content.get("status")
        problems.append(f"{name}: errors of gradients have nothing to be measured against: {why}")


def _compiled(variant: str) -> bool:
    return variant.endswith("-compiled")


def _variants(folder: Path) -> list[str]:
    try:
        return sorted(path.stem for path in folder.iterdir() if path.suffix == ".json")
    except OSError:
        return []


def _read(folder: Path, name: str, problems: list[str]) -> dict[str, Any]:
    probe, variant = Path(name).parent.name, Path(name).stem
    try:
        content = read_json(folder / name, {**HEAD, **SHAPES[probe]})
        if content is not None:
            _check(content, probe, variant)
    except DataError as error:
        problems.append(f"{name}: {error}; none of its numbers is used")
        return {"status": "damaged", "error": {"type": "DataError", "message": f"{name} {error}"}}
    if content is None:
        problems.append(f"{name}: is missing; the probe was killed or never ran")
        return {"status": "missing", "error": {"type": "missing", "message": "it never ran or was killed"}}
    if content["status"] == "failed":
        problems.append(f"{name}: failed: {(content.get('error') or {}).get('message') or 'it does not say why'}")
    problems += [f"{name}: {part}" for part in _failed_parts(content)]
    for part in [*(content.get("modes") or {}).values(), *(content.get("points") or [])]:
        for key in [key for key, value in (part or {}).items() if value == []]:
            del part[key]  # a time that was never taken
    if probe == "stability" and content["status"] == "completed":
        try:
            read_curves(folder, variant)
        except DataError as error:
            problems.append(f"{Path(name).with_suffix('.npz')}: {str(error).rpartition('.npz: ')[2]}; it is not drawn")
    return content


def _check(content: Mapping[str, Any], probe: str, variant: str) -> None:
    if content.get("status") not in STATUSES:
        raise DataError(f"status is none of {', '.join(STATUSES)}")
    for key, wanted in (("probe", probe), ("variant", variant)):
        if content.get(key) not in (None, wanted):
            raise DataError(f"is of the {key} {content[key]}")
    if content["status"] == "completed" and not content.get(NEEDED[probe]):
        raise DataError(f"says completed, and has no {NEEDED[probe]}")


def _failed_parts(content: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each gradient mode, tolerance or treatment that failed on its own."""
    parts = {f"{mode} gradient": part for mode, part in (content.get("modes") or {}).items()}
    parts |= {f"rtol={part.get('rtol')}": part for part in content.get("points") or []}
    for field, treatments in (content.get("fields") or {}).items():
        parts |= {f"{field} field, {treatment}": part for treatment, part in (treatments or {}).items()}
    for where, part in parts.items():
        if part and part.get("status") == "failed":
            yield f"{where} failed: {part.get('error') or 'it does not say why'}"


def read_curves(folder: Path, variant: str) -> dict[str, Curve]:
    """The curves beside a stability probe, by field and treatment: `true.restart` and the like.

    Treatments that meet the dose as an infusion have times and an exact course of their own, `.infusion`.

    Raises:
        DataError: There is no such file, it is damaged, or holds something else.
    """
    path = folder / "probes" / "stability" / f"{variant}.npz"
    arrays, _ = read_npz(path)
    curves = {}
    for name, array in arrays.items():
        field, _, treatment = name.partition(".")
        if field in ("times", "exact"):
            continue
        infused = ".infusion" if treatment != "restart" and "times.infusion" in arrays else ""
        times, exact = arrays.get(f"times{infused}"), arrays.get(f"exact.{field}{infused}")
        if times is None or exact is None:
            raise DataError(f"{path}: has no times or no exact course for {name!r}")
        curve = Curve(times, array, exact)
        if times.ndim != 1 or len(times) < 2 or exact.ndim != 2 or not exact.shape[1] or exact.shape != array.shape:
            raise DataError(f"{path}: {name!r} and its exact course are not amounts over its times")
        if len(exact) != len(times) or not all(part.dtype.kind == "f" for part in curve):
            raise DataError(f"{path}: {name!r} and its exact course are not amounts over its times")
        if not all((abs(part) <= LARGEST).all() for part in curve) or (np.diff(times) < 0).any():
            raise DataError(f"{path}: {name!r} is not finite, or its times run backwards")
        curves[name] = curve
    return curves
