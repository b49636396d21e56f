"""What the torch frameworks share: norms that do not dilute one subject's error by the others, and failures."""

from __future__ import annotations

import math

import torch

from ..arrays.torch import TorchArrays
from ..errors import SolverFailure
from .base import Framework, Interval


class TorchFramework(Framework):
    """A framework over torch tensors."""

    @classmethod
    def create(cls, solver, *, precision="float32", device="cpu"):
        return cls(TorchArrays(precision, device), solver)


def differentiated(params: dict, interval: Interval) -> list[torch.Tensor]:
    """All tensors that a gradient is asked for: what an adjoint is not handed would get a silent zero."""
    tensors = [*params.values(), *(leaf for leaf in interval if isinstance(leaf, torch.Tensor))]
    return [tensor for tensor in tensors if tensor.requires_grad]


@torch.no_grad()
def worst_subject(error: torch.Tensor) -> torch.Tensor:
    """Root mean square over compartments, of the worst subject: `[B, D]` to `[]`.

    The libraries take the mean over the batch as well, so that a subject's error is diluted by its neighbours: 7.5e-6
    alone becomes 7.9e-4 beside 4,095 idle ones. Without gradient, because that of sqrt(0) is not a number.
    """
    return error.square().mean(-1).amax().sqrt()


class Watch:
    """Counts the steps of one joint solve and stops it when it fails, which the libraries do not or by `assert`.

    Args:
        name: The framework's.
        interval: The interval being solved.
        limit: Most steps to try.
    """

    def __init__(self, name: str, interval: Interval, limit: int):
        self.name, self.interval, self.limit = name, interval, limit
        self.tried = self.accepted = 0

    def step(self, s, dt) -> None:
        """Called before each try at own time `s` with the step `dt`.

        Raises:
            SolverFailure: The step does not move the clock or is not finite, or it is one too many.
        """
        if self.tried >= self.limit:
            self.fail(f"solver.max_steps={self.limit} reached", s)
        # A field or state that is not finite ends here as well: its error estimate makes the next step size NaN.
        clock, step = float(s.detach()), float(dt.detach())
        if clock + step == clock or not math.isfinite(step):
            self.fail("the step size fell to nothing or the state is not finite", s)
        self.tried += 1

    def fail(self, reason: str, s) -> None:
        """Raise the failure at own time `s`."""
        t = float((self.interval.start + torch.as_tensor(s).detach().reshape(-1)[0] * self.interval.duration).max())
        number = int(self.interval.number)
        raise SolverFailure(self.name, reason, subject=None, interval=number, t=t, steps=self.tried)
