"""A trained model and its one file, in npz, safetensors or Equinox's `.eqx`: readable by every framework.

```python
import pk_event_fit

model = pk_event_fit.load_model("outputs/mine/weights.npz")
amounts = model.predict([[Dose(0.0, 100.0)]], times=[1.0, 2.0, 4.0])  # mg, [1, 3, compartments]
pk_event_fit.save_model("mine.safetensors", model)
```
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from pathlib import Path
from typing import Any

import numpy as np

from . import frameworks
from .checkpoint import WEIGHTS, compartments_of, read_noted, write_weights
from .data import Cohort, batch_of
from .data.covariates import with_covariates
from .dosing import schedule
from .errors import CheckpointError, ConfigError
from .fields import Field, inside
from .frameworks.base import Framework, Solver
from .integrate import ENDS, place, predict
from .records import Event

# What a file says of itself and its field.
OWN = {"kind", "digest", "leaves", "model", "structure", "volume", "measured"}


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedModel:
    """A trained field, its parameters, and what is known of them.

    Attributes:
        field: The field: structure, scales, kinetics, names of covariates, volume to begin with.
        params: Its parameters by name, NumPy, in the precision of the fit.
        about: What else the file says, as JSON has it. A run's says `compartments`, their names; `units` of `amount`,
            `time`, `observed` and, by name, `covariates`, as far as they are known; `framework`, `seed` and
            `iteration`; `trained`, solver, settings, data and accuracy; and `provenance`, commit and versions. A file
            of before, or of somebody else, says less.

    Raises:
        CheckpointError: What it says of compartments or units makes no sense.
    """

    field: Field
    params: Mapping[str, np.ndarray]
    about: Mapping[str, Any] = default(default_factory=dict)

    def __post_init__(self):
        names, units = self.about.get("compartments", []), self.about.get("units", {})
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise CheckpointError(f"compartments are {names!r}; needs names")
        if names and len(names) != self.size:
            raise CheckpointError(f"compartments are {', '.join(names)}, and the field is one of {self.size}")
        if not _are_units(units):
            raise CheckpointError(f"units are {units!r}; needs texts by name")

    @property
    def size(self) -> int:
        """How many compartments there are, D."""
        return compartments_of(self.field, self.params)

    @property
    def compartments(self) -> tuple[str, ...]:
        """Their names, D of them; none, where the file does not say them."""
        return tuple(self.about.get("compartments", ()))

    @property
    def units(self) -> dict[str, Any]:
        """Of `amount`, `time` and `observed`, and of `covariates` by name, as far as they are known."""
        return dict(self.about.get("units", {}))

    def predict(
        self, doses: Sequence[Iterable[Event]], times: Any, *, initial: Any = 0.0, covariates: Any = None,
        framework: str | None = None, solver: Solver | None = None,
    ) -> np.ndarray:  # fmt: skip
        """What is observed at given times, of subjects with doses of their own.

        Args:
            doses: `Dose`, `Infusion` and `Reset` of each of B subjects (`pk_event_fit.dosing`).
            times: h, in any order, `[T]` for all subjects or `[B, T]`; after a dose at that very time.
            initial: Amounts before each subject's first dose or time, mg, `[B, D]` or what becomes that.
            covariates: Of each subject, `[B, C]`, in the order of the field's; None where it sees none.
            framework: Who solves; None for that of the fit.
            solver: Method and tolerances; None for those of the fit.

        Returns:
            mg, or mg/L where concentrations were fitted, `[B, T, D]`.

        Raises:
            ConfigError: A setting does not suit the framework or the field.
            ScheduleError: A dose or a time is impossible.
            SolverFailure: A solve did not end.
        """
        plan = schedule(doses, compartments=self.size, times=times)
        if covariates is not None:
            plan = with_covariates(plan, np.asarray(covariates, np.float64).reshape(len(doses), -1))
        made = self._framework(framework, solver)
        before = np.broadcast_to(np.asarray(initial, np.float64), (len(doses), self.size)).copy()
        table, steady = place(made, self.field, plan)
        states, where = self._solve(made, made.arrays.asarray(before), table, steady, ENDS), plan.reports
        return states[where.interval, where.point, where.subject].reshape(len(doses), -1, self.size)

    def predict_cohort(
        self, cohort: Cohort, *, framework: str | None = None, solver: Solver | None = None
    ) -> np.ndarray:
        """What is observed where a cohort (`pk_event_fit.data.load`) was.

        By the framework of the fit to the same bits, where that was on a CPU and its field not compiled.

        Returns:
            mg, or mg/L, `[B, S, K, D]`, as in the `predictions.npz` of a run on a grid.

        Raises:
            ConfigError: A setting does not suit the framework, or the cohort has other compartments or covariates.
            SolverFailure: A solve did not end.
        """
        sees = getattr(inside(self.field), "covariates", ())
        for what, own, theirs in (
            ("compartments", self.compartments, cohort.compartments), ("covariates", sees, cohort.covariates),
        ):  # fmt: skip
            if own and own != theirs:
                raise ConfigError(f"the cohort's {what} are {', '.join(theirs)}, and the model's {', '.join(own)}")
        made = self._framework(framework, solver)
        batch = batch_of(made.arrays, cohort, None)
        return self._solve(made, batch.initial, batch.intervals, batch.steady, cohort.grid).transpose(2, 0, 1, 3)

    def _framework(self, name: str | None, solver: Solver | None) -> Framework:
        """Who solves, in the precision of the parameters; not compiled, whatever the fit was."""
        told, own = self.about.get("trained", {}), self.about.get("framework")
        chosen = str(name or own or frameworks.DEFAULT)
        try:
            solver = solver or Solver(**told.get("solver", {}))
            kind = frameworks.load(chosen)
            kept = told.get("settings", {}) if chosen == own else {}
            settings = {name: kept[name] for name in kind.settings if name in kept}
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(f"what it says of its training makes no sense ({error})") from error
        precision = str(next(iter(self.params.values())).dtype)
        return kind.create(solver, precision=precision, **settings)

    def _solve(self, made: Framework, initial, table, steady, grid) -> np.ndarray:
        """What is observed, `[S, K, B, D]`."""
        arrays, observe = made.arrays, getattr(self.field, "observe", None)
        solve = arrays.compile(
            lambda params, initial, table, steady: predict(made, self.field, params, initial, table, grid, steady)
        )
        params = {name: arrays.asarray(value) for name, value in self.params.items()}
        states, report = made.guard(solve, params, initial, table, steady)
        made.check(report, table)
        return arrays.to_numpy(states if observe is None else observe(arrays.xp, params, states))


def _are_units(units: Any) -> bool:
    if not isinstance(units, Mapping) or not isinstance(inner := units.get("covariates", {}), Mapping):
        return False
    own = [unit for name, unit in units.items() if name != "covariates"]
    return all(isinstance(unit, str) for unit in (*own, *inner.values()))


def load_model(path: str | Path, field: Field | None = None) -> SavedModel:
    """The model of a file: `weights.npz` of a run, or what `save_model` or `export.equinox.save_eqx` wrote.

    Args:
        path: An npz, safetensors or `.eqx` file.
        field: Of which field somebody else's layers are: an `.eqx` file by `equinox.tree_serialise_leaves`, such as
            that of an `equinox.nn.MLP`, with any line of JSON or none before it; or a torch `state_dict` as
            safetensors. Such files have no digest: damage that leaves finite numbers is not seen.

    Raises:
        CheckpointError: The file is missing, damaged, changed, or holds something else.
        ConfigError: The library that the format needs is not installed.
    """
    path = Path(path).expanduser()
    found, params, note = read_noted(path, field)
    own = OWN if note.get("kind") == WEIGHTS else note  # the first line of somebody else's file may say anything
    try:
        return SavedModel(field=found, params=params, about={key: note[key] for key in note if key not in own})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def save_model(path: str | Path, model: SavedModel, *, new: bool = False) -> None:
    """Write a model as one file; its name's end says in which format. The same model gives the same bytes.

    Args:
        path: Ends with `.npz`, `.safetensors` or `.eqx`.
        model: What `load_model` gave, or one made of a field and its parameters.
        new: Whether there must be no such file yet.

    Raises:
        ConfigError: The name ends with something else, a library is not installed, the parameters are not finite or
            not those of the field, or `about` says what the file says itself, or what JSON cannot hold.
        FileExistsError: There is such a file, and `new` was asked.
    """
    if taken := sorted(OWN & set(model.about)):
        raise ConfigError(f"about: {', '.join(taken)}: the file says that itself")
    try:
        about = json.loads(json.dumps(dict(model.about), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"about: JSON cannot hold it ({error})") from error
    write_weights(Path(path).expanduser(), model.field, model.params, about, new=new)
