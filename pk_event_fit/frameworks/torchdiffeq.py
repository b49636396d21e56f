"""torchdiffeq: the batch is one ODE with one step size."""

from __future__ import annotations

import torch
import torchdiffeq

from ._torch import TorchFramework, Watch, differentiated
from .base import Report


class _Field:
    """The right-hand side with the callbacks that torchdiffeq looks for on it."""

    def __init__(self, function, forward: Watch, backward: Watch):
        self.function, self.forward, self.backward, self.calls = function, forward, backward, 0

    def __call__(self, s, y):
        self.calls += 1
        return self.function(s, y)

    def callback_step(self, s, y, dt):
        self.forward.step(s, dt)

    def callback_accept_step(self, s, y, dt):
        self.forward.accepted += 1

    def callback_step_adjoint(self, s, y, dt):
        self.backward.step(s, dt)


class Torchdiffeq(TorchFramework):
    """torchdiffeq's `odeint` and `odeint_adjoint`. It has no Tsit5."""

    name = "torchdiffeq"
    methods = ("dopri5",)
    takes_jumps = True

    def solve(self, rhs, y0, params, interval, grid):
        solver = self.solver
        watch = Watch(self.name, interval, solver.max_steps)
        # The adjoint solves backward from report point to report point: the limit holds for each of these.
        backward = Watch(self.name, interval, solver.max_steps, cuts=grid)
        field = _Field(lambda s, y: rhs(s, y, params, interval), watch, backward)
        times = torch.as_tensor(grid, dtype=torch.float64, device=y0.device)
        jumps = {"jump_t": times.new_tensor(self.jumps)} if self.jumps else {}
        settings = {
            "rtol": solver.rtol,
            "atol": solver.atol,
            "method": solver.method,
            "options": {"norm": watch.norm, **jumps},
        }
        if solver.gradient == "direct":
            states = torchdiffeq.odeint(field, y0, times, **settings)
        else:
            states = torchdiffeq.odeint_adjoint(
                field,
                y0,
                times,
                adjoint_params=differentiated(params, interval),
                adjoint_options={"norm": lambda state: _seminorm(backward, state), **jumps},
                **settings,
            )
        counts = (watch.accepted, watch.tried - watch.accepted, field.calls)
        return states, Report(*(torch.tensor([count]) for count in counts))


def _seminorm(watch, state):
    """Worst subject of the state and of its adjoint; the weights' quadratures are left out (Kidger et al. 2021)."""
    _, y, adjoint, *_ = state
    return watch.norm(torch.cat([y, adjoint]))


FRAMEWORK = Torchdiffeq
