"""Regimens as they are written in YAML: a list of entries, each a dose, an infusion, a course of them, or a reset.

    - {time: 0, amount: 100, compartment: 1, every: 12, count: 6, steady_state: true}
    - {time: 24, amount: 200, duration: 2, compartment: 2}
    - {reset: 48}

With `duration` (h) or `rate` (mg/h) an entry is an infusion. What the keys mean is said by `Dose`, `Infusion` and
`Reset` in `records`. Nothing here reads a file.
"""

from __future__ import annotations

import contextlib
import reprlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..compartments import Kinetics
from ..errors import ConfigError
from ..records import Dose, Event, Infusion, Reset, records

KEYS = ("time", "amount", "duration", "rate", "compartment", "every", "count", "steady_state")
MOST = 1_000_000  # doses of one course


def events_of(entries: Sequence[Mapping[str, Any]], name: str = "doses") -> list[Event]:
    """The events that entries describe, in their order.

    Args:
        entries: As YAML reads them. Messages count them from 0, as `dosing.schedule` counts events.
        name: What messages call the list.

    Raises:
        ConfigError: An entry has an unknown key, lacks one, or a value is of the wrong type or out of range.
    """
    if isinstance(entries, str | bytes) or not isinstance(entries, Sequence):
        raise ConfigError(f"{name}: is {reprlib.repr(entries)}; needs a list of entries, as - {{time: 0, amount: 100}}")
    return [event_of(entry, f"{name}, entry {number}") for number, entry in enumerate(entries)]


def event_of(entry: Mapping[str, Any], place: str) -> Event:
    """The event that one entry describes; `place` is what messages call it.

    Raises:
        ConfigError: As in `events_of`.
    """
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{place}: is {reprlib.repr(entry)}; needs values by key, as {{time: 0, amount: 100}}")
    keys = ("reset",) if "reset" in entry else KEYS
    for key, value in entry.items():
        if key not in keys:
            asked = f"{reprlib.repr(key)}={reprlib.repr(value)}"
            what = "reset stands alone" if "reset" in entry else f"choose of {', '.join(keys)}, or reset alone"
            raise ConfigError(f"{place}: unknown key {asked}; {what}")
    if "reset" in entry:
        return Reset(number_of(place, "reset", entry["reset"]))
    for key in ("time", "amount"):
        if key not in entry:
            raise ConfigError(f"{place}: {key} is missing; there is {', '.join(entry) or 'nothing'}")
    time, amount = (number_of(place, key, entry[key]) for key in ("time", "amount"))
    course = _course(place, entry)
    if "duration" not in entry and "rate" not in entry:
        return Dose(time, amount, **course)
    if "duration" in entry and "rate" in entry:
        both = f"duration={reprlib.repr(entry['duration'])}, rate={reprlib.repr(entry['rate'])}"
        raise ConfigError(f"{place}: {both}: give one of the two")
    key = "duration" if "duration" in entry else "rate"
    course[key] = _above_zero(place, key, entry[key])
    return Infusion(time, amount, **course)


def entry_of(text: str, place: str) -> dict[str, Any]:
    """An entry from one line, as `time=0 amount=100 every=12`; blanks or commas part its words.

    What is no number and neither true nor false stays text, which `event_of` refuses.

    Raises:
        ConfigError: A word is no `key=value`, or a key comes twice.
    """
    entry: dict[str, Any] = {}
    for word in text.replace(",", " ").split():
        key, _, value = word.partition("=")
        if not key or not value:
            raise ConfigError(f"{place}: {word!r}: must be key=value")
        if key in entry:
            raise ConfigError(f"{place}: {key} is there twice, as {entry[key]!r} and {value!r}")
        entry[key] = _read(value)
    return entry


def number_of(place: str, key: str, value: Any) -> float:
    """A value that must be a finite number, which a bool is not.

    Raises:
        ConfigError: It is none; names the place, the key and the value.
    """
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    # Whole numbers of any length compare with floats, though not all become one.
    if not plain or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"{place}: {key}={reprlib.repr(value)}: must be a finite number")
    return float(value)


def parameters_of(kinetics: Kinetics, texts: Sequence[str]) -> np.ndarray:
    """Typical parameters but for those that are set, `[P]`.

    Args:
        kinetics: The model.
        texts: As `clearance=2`, one or several.

    Raises:
        ConfigError: A name is not the model's, a value is below 0 or no number, or the kinetics are not finite there.
    """
    values = dict(zip(kinetics.parameters, kinetics.typical, strict=True))
    for text in texts:
        for name, value in entry_of(text, f"--set {text}").items():
            if name not in values:
                raise ConfigError(f"--set {name}={value}: {kinetics.name} has {', '.join(values)}")
            if (number := number_of("--set", name, value)) < 0:
                raise ConfigError(f"--set {name}={value}: must be 0 or more")
            values[name] = number
    parameters, some = np.array([*values.values()]), np.ones(len(kinetics.compartments))
    with np.errstate(all="ignore"):
        rates = [kinetics(np, {}, None, state, parameters) for state in (kinetics.resting(parameters), some)]
        fine = np.isfinite(rates).all() and np.isfinite(kinetics.concentration(parameters, some))
    kinetics.refuse(np.array(not fine), parameters, "a rate or the concentration is not finite")
    return parameters


def last_of(events: Sequence[Event]) -> float:
    """When the last of what is given is over, but for lags and bioavailability, h; 0 where nothing is later.

    Raises:
        ScheduleError: An event is impossible.
    """
    rows = records([events])
    length = np.divide(rows.amount, rows.rate, out=np.zeros(len(rows.time)), where=rows.rate > 0)
    return float((rows.time + rows.additional * rows.interval + length).max(initial=0.0))


def _course(place: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What of compartment, every, count and steady_state is given."""
    course: dict[str, Any] = {}
    for key in ("compartment", "count"):
        if key in entry:
            course[key] = _whole(place, key, entry[key])
    if "every" in entry:
        course["every"] = number_of(place, "every", entry["every"])
    if "steady_state" in entry:
        course["steady_state"] = entry["steady_state"]
        if not isinstance(course["steady_state"], bool):
            asked = reprlib.repr(course["steady_state"])
            raise ConfigError(f"{place}: steady_state={asked}: must be true or false")
    every = course.get("every", 0.0)
    if every < 0:
        raise ConfigError(f"{place}: every={every}: must be 0 or more")
    if every == 0 and (course.get("count", 1) > 1 or course.get("steady_state", False)):
        raise ConfigError(f"{place}: every={every}: a course needs an interval above 0, in h")
    return course


def _whole(place: str, key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise ConfigError(f"{place}: {key}={reprlib.repr(value)}: must be a whole number, 1 to {MOST}")
    return value


def _above_zero(place: str, key: str, value: Any) -> float:
    if (number := number_of(place, key, value)) <= 0:
        raise ConfigError(f"{place}: {key}={reprlib.repr(value)}: must be above 0")
    return number


def _read(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
