"""`python -m pk_event_fit.simulate`: a dosing history as a plot and a table, before anything is fitted to it.

Times are in h, amounts in mg, compartments count from 1. A dose is written as `time=0 amount=100 every=12 count=6`; the
other keys are compartment, steady_state=true and, of an infusion, duration or rate.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from .. import nonmem, store
from ..compartments import KINETICS, Kinetics, lookup
from ..errors import ConfigError, PKEventError, ScheduleError, SolverFailure
from ..events import BOLUS, EMPTY, OFF, ON, STEADY
from ..records import OBSERVATION, Event, Infusion, Records, Reset
from ..report.regimen import draw_regimen
from .exact import Curve, curve, given
from .regimen import entry_of, event_of, events_of, last_of, number_of, parameters_of

LARGEST = 2**24  # bytes of a regimen's file
POINTS = 100_000
SHOWN = 24  # lines of what is printed
AFTER = 24.0  # h that are shown after the last dose where no end is given
ARRIVING = {"bioavailability": 1.0, "lag": 0.0, "modelled_rate": np.nan, "modelled_duration": np.nan}


class Asked(NamedTuple):
    """What is to be followed.

    Attributes:
        kinetics: The model.
        parameters: `[P]`.
        histories: Records, or the events of one subject in Python.
        labels: Of the subjects.
        place: What messages call the histories.
        options: Of `dosing.schedule`: the end, and what happens to doses on their way in.
    """

    kinetics: Kinetics
    parameters: np.ndarray
    histories: Any
    labels: tuple[str, ...]
    place: str
    options: dict[str, Any]


def main(line: Sequence[str] | None = None) -> int:
    """Do what the command line asks for.

    Returns:
        0; 2 where the input is bad, which leaves no file; or 1 where a solve fails or a file cannot be written.
    """
    words = _parser().parse_args(line)
    try:
        if words.list:
            print(_catalogue())
            return 0
        asked, folder = _asked(words), Path(words.out).expanduser()
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"--out {folder}: is there, and is no folder")
    except (PKEventError, OSError) as error:
        return _ended(error, 2)
    try:
        try:
            found = curve(asked.kinetics, asked.parameters, asked.histories, points=words.points, **asked.options)
        except ScheduleError as error:
            raise ScheduleError(f"{asked.place}: {error}") from error
        concentration = asked.kinetics.concentration(asked.parameters, found.amounts)
        found = found._replace(amounts=_shown(asked, found.amounts))
        paths = _draw(folder / "simulation", asked, found, concentration, words)
        store.write_text(folder / "simulation.csv", _csv(asked, found, concentration))
    except (PKEventError, OSError) as error:
        return _ended(error, 1 if isinstance(error, SolverFailure | OSError) else 2)
    for text in (*_told(asked, found, concentration), folder / "simulation.csv", *paths):
        print(text)
    return 0


def _ended(error: Exception, code: int) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pk_event_fit.simulate", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--list", action="store_true", help="print the models with their parameters, and end")
    add("--model", help="name of a model")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter; the others are the typical ones")
    add("--dose", action="append", default=[], metavar="ENTRY", help="a bolus, or a course of them")
    add("--infuse", action="append", default=[], metavar="ENTRY", help="an infusion: with duration or rate")
    add("--reset", action="append", default=[], type=float, metavar="H", help="empty all compartments then")
    add("--regimen", metavar="FILE", help="YAML: a list of such entries, and of {reset: 48}")
    add("--table", metavar="FILE", help="NONMEM-style text table: all its subjects; observations are drawn")
    for name in ARRIVING:
        add(f"--{name.replace('_', '-')}", metavar="X", help="one number, or one for each compartment: 0.5,0,0")
    add("--end", type=float, metavar="H", help="usually 24 h after the last dose; of a table, each subject's last row")
    add("--points", type=int, default=400, help="times spread evenly, beside those at which something happens")
    add("--out", default="outputs/simulation", metavar="FOLDER", help="where simulation.csv, .png and .svg go")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--log", action="store_true", help="logarithmic axis of the concentration")
    scale.add_argument("--linear", dest="log", action="store_false", help="linear axis, as is usual")
    parser.set_defaults(log=False)
    return parser


def _catalogue() -> str:
    """Every model with its compartments, parameters, typical values and units."""
    lines = []
    for model in KINETICS.values():
        told = zip(model.parameters, model.typical, model.units, strict=True)
        lines += [f"{model.name}: {', '.join(model.compartments)}", *(f"    {n} {v:g} {u}" for n, v, u in told)]
    return "\n".join(lines)


def _asked(words: argparse.Namespace) -> Asked:
    """What the words of the command line ask for, checked."""
    if not words.model:
        raise ConfigError("--model: needs the name of a model; --list prints them")
    if not 2 <= words.points <= POINTS:
        raise ConfigError(f"--points {words.points}: must be 2 to {POINTS}")
    kinetics = lookup(words.model)
    if (kinetics.amount_unit, kinetics.time_unit) != ("mg", "h"):
        raise ConfigError(
            f"--model {kinetics.name}: counts in {kinetics.amount_unit} and {kinetics.time_unit}, and what is drawn "
            f"here in mg and h; see python -m pk_event_fit.data data={kinetics.name}"
        )
    parameters = parameters_of(kinetics, words.set)
    options = {name: _by_compartment(name, words, kinetics) for name in ARRIVING}
    others = [f"--{name}" for name in ("regimen", "dose", "infuse", "reset") if getattr(words, name)]
    if not words.table:
        if not others:
            raise ConfigError("nothing is given: say --dose, --infuse, --reset, --regimen or --table")
        events = _events(words)
        end = last_of(events) + AFTER if words.end is None else words.end
        return Asked(kinetics, parameters, [events], ("1",), "regimen", options | {"start": 0.0, "end": end})
    if others:
        raise ConfigError(f"--table {words.table}: has doses of its own; leave out {', '.join(others)}")
    table = nonmem.read(Path(words.table), covariates=())  # the parameters do not follow them
    rows = table.records._replace(covariates=None)
    ends = np.full(len(table.ids), -np.inf)
    np.maximum.at(ends, rows.subject, rows.time)
    end = ends if words.end is None else words.end
    return Asked(kinetics, parameters, rows, table.ids, words.table, options | {"end": end})


def _by_compartment(name: str, words: argparse.Namespace, kinetics: Kinetics) -> Any:
    """A number, or one for each compartment, `[D]`."""
    if (text := getattr(words, name)) is None:
        return ARRIVING[name]
    option, size, numbers = f"--{name.replace('_', '-')}", len(kinetics.compartments), []
    for word in text.split(","):
        try:
            numbers.append(float(word))
        except ValueError:
            raise ConfigError(f"{option} {text}: {word!r} is no number") from None
    if not np.isfinite(numbers).all() or min(numbers) < 0:
        raise ConfigError(f"{option} {text}: must be 0 or more, and finite")
    if len(numbers) not in (1, size):
        raise ConfigError(f"{option} {text}: needs one number, or {size}: {', '.join(kinetics.compartments)}")
    return numbers[0] if len(numbers) == 1 else np.array(numbers)


def _events(words: argparse.Namespace) -> list[Event]:
    """What the file and the words of the command line give, in this order."""
    events = _regimen(Path(words.regimen).expanduser()) if words.regimen else []
    for option in ("dose", "infuse"):
        for text in getattr(words, option):
            place = f"--{option} {text!r}"
            event = event_of(entry_of(text, place), place)
            if option == "infuse" and not isinstance(event, Infusion):
                raise ConfigError(f"{place}: an infusion needs duration or rate")
            events.append(event)
    return events + [Reset(number_of("--reset", "time", time)) for time in words.reset]


def _regimen(path: Path) -> list[Event]:
    if (size := path.stat().st_size) > LARGEST:
        raise ConfigError(f"{path}: has {size} bytes, more than the limit of {LARGEST}")
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error})") from error
    return events_of(entries, str(path))


def _shown(asked: Asked, amounts: np.ndarray) -> np.ndarray:
    """Amounts, but of an effect site its concentration, mg/L: it takes nothing in, and there is no amount there."""
    sites = np.array([name == "effect" for name in asked.kinetics.compartments])
    return np.where(sites, amounts / asked.parameters[asked.kinetics.parameters.index("central_volume")], amounts)


def _observed(asked: Asked) -> tuple[np.ndarray, int]:
    """Subject, time and value of observed concentrations, `[N, 3]`; and how many observations are of something else."""
    if not isinstance(asked.histories, Records):
        return np.zeros((0, 3)), 0
    rows = asked.histories
    used = rows.used & (rows.kind == OBSERVATION)
    own = used & np.isin(rows.compartment, (0, asked.kinetics.observed + 1))
    return np.stack([rows.subject, rows.time, rows.observed], -1)[own], int((used & ~own).sum())


def _draw(
    path: Path, asked: Asked, found: Curve, concentration: np.ndarray, words: argparse.Namespace
) -> tuple[Path, Path]:
    story, kinetics = found.plan.clock.events, asked.kinetics
    resets = np.flatnonzero(story.kind == EMPTY)
    values = zip(kinetics.parameters, asked.parameters.tolist(), kinetics.units, strict=True)
    notes = [f"{name.replace('_', ' ')} {value:g} {unit}" for name, value, unit in values]
    notes += [f"{name.replace('_', ' ')} {getattr(words, name)}" for name in ARRIVING if getattr(words, name)]
    return draw_regimen(
        path, found.time, found.amounts, concentration, compartments=kinetics.compartments, measured=kinetics.observed,
        subject=found.subject, labels=asked.labels, given=given(found), observed=_observed(asked)[0], log=words.log,
        resets=np.stack([story.subject[resets], story.time[resets]], -1), title=kinetics.name, note=", ".join(notes),
    )  # fmt: skip


def _csv(asked: Asked, found: Curve, concentration: np.ndarray) -> str:
    units = {"response": "", "effect": "_mg_per_L"}
    columns = [name + units.get(name, "_mg") for name in asked.kinetics.compartments]
    labels = [asked.labels[number] for number in found.subject.tolist()]
    leaves = (found.time, found.side, *found.amounts.T, concentration)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["subject", "time_h", "side", *columns, "concentration_mg_per_L"])
    writer.writerows(zip(labels, *(leaf.tolist() for leaf in leaves), strict=True))
    return stream.getvalue()


def _told(asked: Asked, found: Curve, concentration: np.ndarray) -> Iterator[str]:
    """A short table: the largest concentrations and, of a single subject, what happens."""
    for number, label in enumerate(asked.labels[:SHOWN]):
        own = np.flatnonzero(found.subject == number)
        peak = own[np.argmax(concentration[own])]
        yield f"subject {label}: Cmax {concentration[peak]:.4g} mg/L, Tmax {found.time[peak]:.6g} h"
    if (more := len(asked.labels) - SHOWN) > 0:
        yield f"and {more} more subjects"
    if len(asked.labels) == 1:
        yield from _happenings(asked, found)
    if late := int(found.plan.ignored.sum()):
        yield f"doses after the end, which change nothing: {late}"
    if hidden := _observed(asked)[1]:
        central = asked.kinetics.observed + 1
        yield f"observations that are not of compartment {central}, and not drawn: {hidden}"


def _happenings(asked: Asked, found: Curve) -> Iterator[str]:
    """Time, what happens, and amounts before and after, of the first subject."""
    story = found.plan.clock.events
    chosen = np.flatnonzero(np.isin(story.kind, (EMPTY, STEADY, BOLUS, ON, OFF)) & (story.subject == 0))
    moments = np.unique(story.moment[chosen])
    names = ", ".join("effect (mg/L)" if name == "effect" else name for name in asked.kinetics.compartments)
    rows = [("time (h)", f"before: {names}", "after", "event")]
    for moment in moments[:SHOWN]:
        events = chosen[story.moment[chosen] == moment]
        time = story.time[events[0]]
        at = np.flatnonzero((found.subject == 0) & (found.time == time))
        before, after = (", ".join(f"{amount:.4g}" for amount in found.amounts[k]) for k in (at[0], at[-1]))
        rows.append((f"{time:.6g}", before, after, " + ".join(_word(asked, found, event) for event in events)))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    for row in rows:
        yield "  ".join([*(text.rjust(width) for text, width in zip(row, widths, strict=False)), row[3]])
    if (more := len(moments) - SHOWN) > 0:
        yield f"and {more} more times at which something happens"


def _word(asked: Asked, found: Curve, event: int) -> str:
    """What an event is called."""
    clock = found.plan.clock
    kind, dose = clock.events.kind[event], clock.events.dose[event]
    if kind in (EMPTY, STEADY):
        return "reset" if kind == EMPTY else "steady state"
    site = int(clock.records.compartment[clock.doses.record[dose]]) - 1
    name, amount = asked.kinetics.compartments[site], clock.doses.amount[dose]
    if kind == BOLUS:
        return f"{amount:g} mg into {name}"
    if kind == OFF:
        return f"infusion into {name} ends"
    return f"infusion into {name} goes on" if clock.doses.implied[dose] > 0 else f"{amount:g} mg infused into {name}"


if __name__ == "__main__":
    sys.exit(main())
