"""What a framework is: one solver library, asked to solve one interval for every subject at once."""

from __future__ import annotations

import abc
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.base import Array, Arrays, Params, tolerance_floor
from ..errors import ConfigError, SolverFailure
from ..intervals import Interval, Report

ADAPTIVE = ("dopri5", "tsit5", "kvaerno5")
# Every method and its order, which is that of the end of an interval in equal steps. `heun` is the trapezoidal rule.
ORDERS = {
    "dopri5": 5, "tsit5": 5, "kvaerno5": 5,
    "euler": 1, "implicit_euler": 1,
    "heun": 2, "midpoint": 2, "ralston": 2, "leapfrog_midpoint": 2, "reversible_heun": 2,
    "bosh3": 3, "heun3": 3, "kvaerno3": 3,
    "explicit_adams": 4, "kvaerno4": 4, "rk4": 4,
    "dopri8": 8,
}  # fmt: skip
METHODS = tuple(ORDERS)
IMPLICIT = ("implicit_euler", "kvaerno3", "kvaerno4", "kvaerno5")
GRADIENTS = ("direct", "adjoint")


@dataclass(kw_only=True)
class Solver:
    """How an interval is solved.

    Attributes:
        method: `dopri5`; `tsit5` or, for stiff fields, the implicit `kvaerno5`, where the library has it. With `steps`,
            whatever of `ORDERS` the library has.
        rtol: Relative tolerance, held by every subject whatever the batch. With `steps`, that of steady states and of
            an implicit method's equations alone, as is `atol`.
        atol: Absolute tolerance, mg.
        max_steps: Steps that one solve may take, tried ones included: an interval's, or backward, in adjoint mode, one
            from report point to report point.
        steps: Equal steps an interval is solved in; None for steps that the tolerance decides.
        gradient: `direct` through the solver's own steps, or `adjoint` by the library's adjoint equation
            (in fused: by its steps too, taken again).

    Raises:
        ConfigError: A value is out of range.
    """

    method: str = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-7
    max_steps: int = 4096
    steps: int | None = None
    gradient: str = "direct"

    def __post_init__(self):
        for name, choices in (("method", METHODS), ("gradient", GRADIENTS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"solver.{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}")
        for name, low, high in (("rtol", 0, 1), ("atol", 0, np.inf)):
            if not low < getattr(self, name) < high:
                raise ConfigError(f"solver.{name}={getattr(self, name)}: must be above {low} and below {high}")
        if not 1 <= self.max_steps <= 10_000_000:
            raise ConfigError(f"solver.max_steps={self.max_steps}: must be 1 to 10,000,000")
        if self.steps is None and self.method not in ADAPTIVE:
            adaptive = ", ".join(ADAPTIVE)
            raise ConfigError(f"solver.method={self.method!r}: set solver.steps; without, choose one of {adaptive}")
        if self.steps is not None and not 1 <= self.steps <= self.max_steps:
            raise ConfigError(f"solver.steps={self.steps}: must be 1 to solver.max_steps={self.max_steps}")
        if self.steps is not None and self.gradient != "direct":
            raise ConfigError(f"solver.gradient={self.gradient!r}: with solver.steps, choose direct")

    @property
    def ticks(self) -> np.ndarray:
        """Own times of the ends of equal steps, first 0, last 1, `[steps + 1]`."""
        count = self.steps or 1
        return np.arange(count + 1) / count


Rhs = Callable[[Array, Array, Params, Interval], Array]


class Framework(abc.ABC):
    """One solver library behind one method.

    Attributes:
        methods: Those whose steps the tolerance can decide.
        fixed: Those that can take equal steps.
        settings: Those of its own that `create` takes besides, by name.
        takes_jumps: Whether the solver can be told of discontinuities.
        solve_table: `(rhs, params, initial, intervals, grid) -> (states, report)`, where it takes a table of intervals
            as a whole: as `solve`, with states `[S, K, B, D]` and a report with leaves `[S, ...]`; else None.
        jumps: Own times of those that it was told of, see `with_jumps`.

    Args:
        arrays: The library's arrays.
        solver: Method, tolerances, limits.

    Raises:
        ConfigError: The library does not have the method, or the precision does not hold the tolerance or the steps.
    """

    name: str
    methods: tuple[str, ...]
    fixed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    takes_jumps = False
    jumps: tuple[float, ...] = ()
    solve_table: Callable[..., tuple[Array, Report]] | None = None

    def __init__(self, arrays: Arrays, solver: Solver):
        offered, how = (self.methods, "") if solver.steps is None else (self.fixed, " in equal steps")
        if solver.method not in offered:
            has = f"it has {', '.join(offered)}" if offered else "it takes no equal steps"
            raise ConfigError(f"solver.method={solver.method}: {self.name} does not have it{how}; {has}")
        if (solver.steps is None or solver.method in IMPLICIT) and solver.rtol < tolerance_floor(arrays.eps):
            wide = np.finfo(np.float64).eps
            raise ConfigError(
                f"solver.rtol={solver.rtol}: {arrays.dtype} holds {tolerance_floor(arrays.eps):.1e} at best; "
                + ("set accelerator.precision=float64" if solver.rtol >= tolerance_floor(wide) else "no precision does")
            )
        if solver.steps is not None and 100 * arrays.eps * solver.steps > 1:  # ends of steps a rounding error apart
            raise ConfigError(f"solver.steps={solver.steps}: too many; set accelerator.precision=float64")
        self.arrays = arrays
        self.solver = solver

    @classmethod
    @abc.abstractmethod
    def create(
        cls, solver: Solver, *, precision: str = "float32", device: str = "cpu", compile: bool = False
    ) -> Framework:
        """The framework over its own array library.

        Args:
            solver: Method, tolerances, limits.
            precision: `float32` or `float64`.
            device: `cpu` or `gpu`.
            compile: Whether a library that runs as it is written compiles what it can.

        Raises:
            ConfigError: The library cannot compile, or is always compiled.
        """

    def prepare(self, rhs: Rhs, field: Callable) -> Rhs:
        """What `solve` is handed for `rhs`: where the framework compiles, one and the same for each call with `field`.

        Args:
            rhs: The right-hand side, made anew for each call.
            field: The vector field that decides what it computes.
        """
        return rhs

    @abc.abstractmethod
    def solve(self, rhs: Rhs, y0: Array, params: Params, interval: Interval, grid: np.ndarray) -> tuple[Array, Report]:
        """Solve one interval in its own time, 0 to 1, for every subject.

        Args:
            rhs: `rhs(s, y, params, interval) -> dy/ds`; shapes `[B], [B, D]`, or `[], [D]` for one subject.
            y0: Amounts just after the dose, mg, `[B, D]`.
            params: Whatever the field is made of; adjoint methods must be handed it.
            interval: The interval, likewise handed on where it is differentiated.
            grid: Own times to report at, increasing, first 0, last 1: `[K]` in NumPy for all subjects, or in the
                library's arrays each subject's own, `[K, B]`, which may end in several ones.

        Returns:
            Amounts in mg, `[K, B, D]`, and what the solver says of it.

        Raises:
            SolverFailure: The end was not reached (or `Report.failed` says so, in libraries that cannot raise).
        """

    def with_jumps(self, own_times: Sequence[float]) -> Framework:
        """This framework, told where the field jumps: its solver steps exactly there, and starts anew behind.

        Own times are those of every subject. A field that takes the clock time should jump on the same bits: where an
        interval starts at 0 and lasts a power of two of hours, an own time times its length is exact.

        Args:
            own_times: Own times of the jumps, in (0, 1).

        Raises:
            ConfigError: The solver cannot be told, or a time is outside.
        """
        if not self.takes_jumps:
            raise ConfigError(f"{self.name}: its solver has no way to be told of a discontinuity")
        if self.solver.steps is not None:
            raise ConfigError(f"solver.steps={self.solver.steps}: equal steps cannot stop at a discontinuity")
        times = sorted({float(time) for time in own_times})
        if not all(0 < time < 1 for time in times):
            raise ConfigError(f"own_times={times}: jumps must lie inside the interval, above 0 and below 1")
        told = copy.copy(self)
        told.jumps = tuple(times)
        return told

    def guard(self, function: Callable, *arguments: Any) -> Any:
        """Call a compiled function; what the library raises of a solve in it comes out as `SolverFailure`."""
        return function(*arguments)

    def settled(self, states: Array, reached: Array, subjects: int) -> Array:
        """Steady states, `[R * B, D]`, where they were reached, `[R * B]`, of B subjects.

        Raises:
            SolverFailure: One was not (or it comes back as no number, in libraries that cannot raise).
        """
        if not (found := self.arrays.to_numpy(reached)).all():
            subject = int(np.flatnonzero(~found)[0]) % subjects
            raise SolverFailure(self.name, "a steady state was not reached", subject=subject)
        return states

    def check(self, report: Report, intervals: Interval) -> None:
        """Raise the first failure that a stacked report holds.

        Args:
            report: Reports of all intervals, leaves `[S, ...]`.
            intervals: The table that was solved.

        Raises:
            SolverFailure: Some subject did not reach the end of some interval.
        """
        if report.failed is None or not (failed := self.arrays.to_numpy(report.failed)).any():
            return
        interval, subject = (int(k[0]) for k in np.nonzero(failed))
        start, duration, reached, accepted, rejected = (
            float(self.arrays.to_numpy(leaf)[interval, subject])
            for leaf in (intervals.start, intervals.duration, report.reached, report.accepted, report.rejected)
        )
        steps = int(accepted + rejected)
        reason = (
            f"solver.max_steps={self.solver.max_steps} reached"
            if self.solver.steps is None and steps >= self.solver.max_steps
            else "the step size fell to nothing, or the state is not finite (or a steady state was not reached, or an "
            "implicit step's equations were not solved)"
        )
        t = start + reached * duration
        raise SolverFailure(self.name, reason, subject=subject, interval=interval, t=t, steps=steps)
