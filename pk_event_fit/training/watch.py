"""Tells what goes wrong in a fit, once each, and what to try."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from ..arrays.base import Arrays, Namespace
from ..arrays.numpy import NumpyArrays
from ..data import Cohort
from ..fields import Field, network_of
from .settings import Training
from .state import State

VANISHED, UNMOVED = 1e-6, 0.1  # of the first gradient norm of a phase, while the loss is above this part of the first
EXPLODED = 1e3  # times that norm
GROWN = 100.0  # times the scale that a parameter began with
ENOUGH = 10  # iterations that a phase needs to be judged by its loss
STATES = 512  # amounts at which rectifiers are looked at


class Watch:
    """Looks at gradients with every iteration, and at parameters when it is asked to.

    Args:
        arrays: What the states are in.
        settings: For the phases.
        state: Where the fit begins in this process: what parameters are compared with.
        dead: What tells layers of rectifiers that are all dead, by parameters in NumPy; see `dead_layers`.
    """

    def __init__(self, arrays: Arrays, settings: Training, state: State, dead: Callable | None = None):
        self.arrays, self.plan, self.dead = arrays, settings.plan, dead
        self._told: set[str] = set()
        self._scales = self._sizes(state)
        values = list(self._scales.values())
        usual = float(np.sqrt(np.mean(np.square(values)))) or 1.0  # of biases, which begin at 0
        self._scales = {name: size or usual for name, size in self._scales.items()}

    def of_iteration(self, state: State, rows: Sequence[Mapping[str, float]]) -> Iterator[str]:
        """Warnings about the last of these rows of history."""
        if not state.began < len(rows):
            return
        first, row = rows[state.began], rows[-1]
        norm, usual, number = row["gradient_norm"], first["gradient_norm"], int(row["iteration"])
        smaller = "a smaller learning rate, training.clip_norm, or model.normalise=true"
        if norm == 0:
            yield from self._once(
                "zero", f"iteration {number}: the gradient is 0 and nothing moves. Try model.activation=silu, "
                "model.normalise=true or another seed; see that what training.phases.trains names is used",
            )  # fmt: skip
        elif norm < VANISHED * usual and row["loss"] > UNMOVED * first["loss"]:
            yield from self._once(
                "vanished", f"iteration {number}: the gradient has vanished ({norm:.2g}, at first {usual:.2g}) and the "
                "loss is still high. Try model.normalise=true, another activation, or a larger learning rate before",
            )  # fmt: skip
        if norm > EXPLODED * usual > 0:
            yield from self._once(
                "exploded", f"iteration {number}: the gradient has exploded ({norm:.2g}, at first {usual:.2g}). "
                f"Try {smaller}",
            )  # fmt: skip

    def of_parameters(self, state: State) -> Iterator[str]:
        """Warnings about the parameters."""
        for name, size in self._sizes(state).items():
            if size > GROWN * self._scales[name]:
                yield from self._once(
                    f"grown {name}", f"iteration {state.iteration}: {name} is {size / self._scales[name]:.0f} times as "
                    "large as at first. Try a smaller learning rate, regularisation.l2, or model.normalise=true",
                )  # fmt: skip
        if self.dead is None:
            return
        for layer in self.dead({name: self.arrays.to_numpy(value) for name, value in state.params.items()}):
            yield from self._once(
                f"dead {layer}", f"iteration {state.iteration}: all rectifiers of hidden layer {layer} are dead: what "
                "comes before it learns nothing. Try model.activation=silu, model.normalise=true or a smaller rate",
            )  # fmt: skip

    def of_phase(self, number: int, began: int, rows: Sequence[Mapping[str, float]]) -> Iterator[str]:
        """Warnings about a phase that is over, whose rows begin behind the first `began`."""
        losses = [row["loss"] for row in rows[began:]]
        if len(losses) > ENOUGH and not min(losses[1:]) < losses[0]:
            yield from self._once(
                f"phase {number}", f"iteration {began + len(losses)}: the loss has not fallen in phase {number + 1} of "
                f"{len(self.plan)}. Try a smaller learning rate where it rose, a larger one where it stood still",
            )  # fmt: skip

    def _sizes(self, state: State) -> dict[str, float]:
        found = {name: self.arrays.to_numpy(value).astype(np.float64) for name, value in state.params.items()}
        return {name: float(np.sqrt(np.mean(value**2))) if value.size else 0.0 for name, value in found.items()}

    def _once(self, kind: str, line: str) -> Iterator[str]:
        if kind not in self._told:
            self._told.add(kind)
            yield f"warning: {line}"


def dead_layers(field: Field, cohort: Cohort) -> Callable[[Mapping[str, np.ndarray]], list[int]] | None:
    """What tells, by parameters in NumPy, in which hidden layers (from 1) no rectifier answers to what was observed.

    None where the network has no rectifiers, or no whole state was observed.
    """
    states = cohort.amounts.transpose(1, 0, 2, 3)
    whole = np.isfinite(states).all(-1)
    if network_of(field).activation != "relu" or cohort.table is not None or not whole.any():
        return None
    covariates = cohort.intervals.covariates
    if covariates is not None:
        covariates = np.broadcast_to(covariates[:, :, None], (*states.shape[:-1], covariates.shape[-1]))[whole]
    every = -(-int(whole.sum()) // STATES)
    states, covariates = states[whole][::every], covariates if covariates is None else covariates[::every]
    names = NumpyArrays()

    def told(params):
        alive: list[bool] = []

        def relu(x):
            alive.append(bool((x > 0).any()))
            return np.maximum(x, 0)

        field(Namespace(names.xp, relu=relu), params, None, states, covariates)
        return [k + 1 for k, lives in enumerate(alive) if not lives]

    return told
