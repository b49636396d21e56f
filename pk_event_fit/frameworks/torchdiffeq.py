"""torchdiffeq: the batch is one ODE with one step size."""

from __future__ import annotations

from typing import Any

import torch
import torchdiffeq

from ._torch import TorchFramework, Watch, apart, differentiated, independent, merged
from .base import Report

# Its names and options. Its rk4 is the 3/8 rule. Adams-Bashforth begins by rk4 at each interval, and grows to order 11
# by default, which is unstable at all but the shortest steps: 5 leaves the order that its beginning has, 4. Left out is
# its implicit Adams, whose iterations may end unconverged with no more than a warning.
FIXED: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("euler", {}),
    "heun": ("heun2", {}),
    "midpoint": ("midpoint", {}),
    "heun3": ("heun3", {}),
    "explicit_adams": ("explicit_adams", {"max_order": 5}),
    "rk4": ("rk4", {}),
}


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
    """torchdiffeq's `odeint` and `odeint_adjoint`. It has no Tsit5, and takes no equal steps by an adaptive method."""

    name = "torchdiffeq"
    methods = ("dopri5",)
    fixed = tuple(FIXED)
    takes_jumps = True

    def solve(self, rhs, y0, params, interval, grid):
        if self.solver.steps is not None:
            return self._equal(rhs, y0, params, interval, grid)
        solver = self.solver
        if solver.gradient == "adjoint":
            params, interval = independent(params, interval)
        grid, index = merged(grid)
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
        return apart(states, index), Report(*(torch.tensor([count]) for count in counts))

    def _equal(self, rhs, y0, params, interval, grid):
        """Equal steps; a cubic between their ends, by one evaluation for each report point but the first."""
        watch, calls = Watch(self.name, interval, self.solver.max_steps), [0]
        grid, index = merged(grid)
        times, ticks = (
            torch.as_tensor(points, dtype=torch.float64, device=y0.device) for points in (grid, self.solver.ticks)
        )

        def field(s, y):
            calls[0] += 1
            return rhs(s, y, params, interval)

        method, options = FIXED[self.solver.method]
        options = {"grid_constructor": lambda *_: ticks, "interp": "cubic", **options}
        states = torchdiffeq.odeint(field, y0, times, method=method, options=options)
        watch.tried = len(ticks) - 1
        watch.reached(states, times)
        counts = (watch.tried, 0, calls[0])
        return apart(states, index), Report(*(torch.tensor([count]) for count in counts))


def _seminorm(watch, state):
    """Worst subject of the state and of its adjoint; the weights' quadratures are left out (Kidger et al. 2021)."""
    _, y, adjoint, *_ = state
    return watch.norm(torch.cat([y, adjoint]))


FRAMEWORK = Torchdiffeq
