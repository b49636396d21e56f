"""The one exception family: each error names the field or place and the value that caused it."""

from __future__ import annotations


class PKEventError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(PKEventError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(PKEventError):
    """A data file is damaged or does not hold what it should."""


class ScheduleError(PKEventError):
    """A dosing history cannot be turned into intervals."""


class CheckpointError(PKEventError):
    """A checkpoint or weights file is damaged, changed, or belongs to something else."""


class TrainingFailure(PKEventError):
    """The loss or its gradient stopped being a number."""


class SolverFailure(PKEventError):
    """An ODE solve did not reach the end of its interval.

    Attributes:
        framework: Name of the solver library's framework.
        reason: What went wrong, in words.
        subject: Row of the batch; of the worst error, where the library solves the batch as one. None, like the rest,
            where the library does not tell.
        interval: Number of the interval between two doses, from 0.
        t: Last time known to be reached, h.
        steps: Steps tried in the solve that failed.
    """

    def __init__(
        self,
        framework: str,
        reason: str,
        *,
        subject: int | None = None,
        interval: int | None = None,
        t: float | None = None,
        steps: int | None = None,
    ):
        self.framework, self.reason, self.subject = framework, reason, subject
        self.interval, self.t, self.steps = interval, t, steps
        facts = {"subject": subject, "interval": interval, "t": None if t is None else f"{t:.6g} h", "steps": steps}
        where = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
        super().__init__(
            f"{framework}: {reason}{f' ({where})' if where else ''}. Try a larger solver.max_steps, a looser "
            "solver.rtol or a smaller training.learning_rate; a stiff field needs an implicit method: "
            "framework=diffrax solver=kvaerno5"
        )
