"""What is measured: training steps and Van der Pol solves, in the engine and in each library used directly."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.common import cohort
from experiments.seam_cost import direct
from pk_event_fit import frameworks
from pk_event_fit.data import Data, load
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Solver
from pk_event_fit.training import Training, fit, start

TRAINING = {  # label: library and options
    "fused, 2 shards": ("fused", {"shards": 2}),
    "fused, 1 shard": ("fused", {"shards": 1}),
    "fused, 2 shards, lean": ("fused", {"shards": 2}),
    "diffrax, as it comes": ("diffrax", {}),
    "diffrax, lean": ("diffrax", {}),
    "diffrax, 16 checkpoints": ("diffrax", {"checkpoints": 16}),
    "diffrax, bounded": ("diffrax", {"bounded": 64}),
    "diffrax, dense output": ("diffrax", {"dense": True, "bounded": 64}),
    "torchode": ("torchode", {}),
    "torchdiffeq": ("torchdiffeq", {"guarded": True}),
    "torchdyn": ("torchdyn", {}),
    "the products alone": ("bare", {}),
}
# XLA's earlier code generator for all but products: it compiles sooner and in less memory, and runs longer.
LEAN = "--xla_cpu_use_fusion_emitters=false"
STAGES = 6  # evaluations of the field in a step
BARE = 40  # steps of each subject in `bare`


def training(name: str, options: dict[str, Any]) -> tuple[Callable[[], float], Callable[[], float]]:
    """A training step of the default problem, and how many steps of all subjects its last solve kept (or took).

    The engine says after that how many it tried, those kept among them.
    """
    if name == "bare":
        return bare(), lambda: 100.0 * BARE
    data = load(Data())
    weights = {key: value.astype(np.float32) for key, value in Mlp().initial_params(2, 0).items()}
    solver = Solver()
    if name == "fused":
        return engine(data, weights, solver, options)
    bolus, duration = data.intervals.bolus[:, 0, 0].astype(np.float32), float(data.intervals.duration[0, 0])
    problem = (weights, data.amounts.astype(np.float32), bolus, duration, solver.rtol, solver.atol)
    step, steps = getattr(direct, name)(*problem, **options)
    return step, lambda: steps() * len(data.amounts)


def engine(data, weights, solver, options):
    """Through the package, as a fit takes it."""
    framework = frameworks.load("fused").create(solver, **options)
    progress = iter(fit(framework, Mlp(), data, Training(iterations=10**6), start(framework, weights), seed=0))
    last: list[Any] = [None]

    def step():
        last[0] = next(progress)
        return last[0].loss

    def steps():
        kept, again = (float(np.asarray(part).sum()) for part in (last[0].report.accepted, last[0].report.rejected))
        return kept, kept + again

    return step, steps


def bare() -> Callable[[], float]:
    """What a training step cannot do without: the products of its steps, 100 subjects on two devices, in JAX.

    Those of the stages one after the other, forward and backward, and the weights' gradients of each step in one
    product for each, all laid out as in the engine; no rejected steps, no report points, nothing of a Runge-Kutta
    method.
    """
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh
    from jax.sharding import PartitionSpec as P

    frameworks.load("fused").create(Solver(), shards=2)  # has JAX see two devices
    weights = [jnp.asarray(w, jnp.float32) for n, w in Mlp().initial_params(2, 0).items() if n.startswith("weight")]
    multiply, turned = functools.partial(jnp.matmul, precision="highest"), jax.lax.optimization_barrier

    def chain(x, factors):
        return jax.lax.fori_loop(0, STAGES, lambda _, x: jnp.tanh(functools.reduce(multiply, factors, x)), x)

    def shard(y, cotangent, wide):
        home = [turned(w.T) for w in weights[::-1]]

        def step(_, carry):
            y, cotangent, sums = carry
            y, cotangent = chain(y, weights), chain(cotangent, home)
            rows, narrow = jnp.tile(wide, (STAGES, 1)) * y[0, 0], jnp.tile(cotangent, (STAGES, 1))
            pairs = (narrow, rows), (rows, rows + 1), (narrow, rows)
            return (
                y,
                cotangent,
                [
                    total + turned(multiply(turned(one.T), other))
                    for total, (one, other) in zip(sums, pairs, strict=True)
                ],
            )

        sums = [jnp.zeros(shape) for shape in ((2, 64), (64, 64), (2, 64))]
        return jax.lax.fori_loop(0, BARE, step, (y, cotangent, sums))[2]

    mesh, part = Mesh(jax.devices()[:2], ("subjects",)), P("subjects")
    step = jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=(part, part, part), out_specs=part, check_vma=False))
    random = np.random.default_rng(0)
    given = [jnp.asarray(random.standard_normal((100, size)), jnp.float32) for size in (2, 2, 64)]
    return lambda: float(np.asarray(step(*given)[0]).sum())


def flops(steps: float, model: Mlp, tried: float | None = None) -> float:
    """Of a training step, 2 for each product that is added: forward, and twice as many backward.

    With `tried`, more of what the engine does: steps that were tried in vain, and the field evaluated anew on the way
    back; not first steps, nor what subjects do that are done.
    """
    sizes = [2, *model.hidden, 2]
    products = sum(one * other for one, other in itertools.pairwise(sizes))
    evaluations = 3 * steps if tried is None else tried + 3 * steps
    return evaluations * STAGES * 2 * products


def products(seconds: float) -> float:
    """FLOP/s of float32 products of 100 x 64 with 64 x 64, on one thread."""
    import torch

    torch.set_num_threads(1)
    one, other, out = torch.rand(100, 64), torch.rand(64, 64), torch.empty(100, 64)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(1000):
            torch.mm(one, other, out=out)
        count += 1000
    return count * 2 * 100 * 64 * 64 / (time.perf_counter() - began)


def growing(subjects: int, doses: int, gradient: str) -> Callable[[], None]:
    """A gradient of the engine for so many subjects and doses, with 5 report points an interval."""
    from experiments.common import TrainingStep, typical_network

    data = cohort(subjects, [12.0 * k for k in range(doses)], 12.0 * doses, 5)
    framework = frameworks.load("fused").create(Solver(gradient=gradient))
    return TrainingStep(framework, Mlp(), typical_network(Mlp()), data)


# Van der Pol: 256 starts, one cycle, 200 points, as in the first benchmark of the torchode paper (arXiv 2210.12375)

MU, SPAN, POINTS, TOLERANCE = 2.0, 7.63, 200, 1e-5


def starts(batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, 2)).astype(np.float32)


def van_der_pol(name: str, batch: int) -> Callable[[], float]:
    """A solve; it returns the steps that the loop took, for whoever needed the most."""
    times = np.linspace(0.0, SPAN, POINTS, dtype=np.float32)
    return getattr(_Cycle, name)(starts(batch), times)


def turning(y, stack):
    x, v = y[..., 0], y[..., 1]
    return stack([v, MU * (1 - x**2) * v - x], -1)


class _Cycle:
    @staticmethod
    def fused(y0, times):
        import jax
        import jax.numpy as jnp

        from pk_event_fit.fused import solve_ivp

        def field(t, y, params):
            return turning(y, jnp.stack)

        @jax.jit
        def solve(y0):
            return solve_ivp(field, y0, times, rtol=TOLERANCE, atol=TOLERANCE)

        def once():
            _, report = jax.block_until_ready(solve(y0))
            return float(np.max(np.asarray(report.accepted) + np.asarray(report.rejected)))

        return once

    @staticmethod
    def diffrax(y0, times):
        import diffrax
        import jax
        import jax.numpy as jnp

        def one(y0):
            return diffrax.diffeqsolve(
                diffrax.ODETerm(lambda t, y, args: turning(y, jnp.stack)), diffrax.Dopri5(), 0.0, SPAN, None, y0,
                saveat=diffrax.SaveAt(ts=times), throw=False,
                stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE),
            )  # fmt: skip

        solve = jax.jit(jax.vmap(one))
        return lambda: float(np.max(np.asarray(jax.block_until_ready(solve(y0)).stats["num_steps"])))

    @staticmethod
    def torchdiffeq(y0, times):
        import torch
        from torchdiffeq import odeint

        steps = [0]

        class Field(torch.nn.Module):
            def forward(self, t, y):
                return turning(y, torch.stack)

            def callback_step(self, t, y, dt):
                steps[0] += 1

        field, y0, times = Field(), torch.as_tensor(y0), torch.as_tensor(times)

        @torch.no_grad()
        def once():
            steps[0] = 0
            odeint(field, y0, times, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")
            return float(steps[0])

        return once

    @staticmethod
    def torchdyn(y0, times):
        import torch
        from torchdyn.numerics import odeint

        calls, y0, times = [0], torch.as_tensor(y0), torch.as_tensor(times)

        def field(t, y):
            calls[0] += 1
            return turning(y, torch.stack)

        @torch.no_grad()
        def once():
            calls[0] = 0
            odeint(field, y0, times, "dopri5", atol=TOLERANCE, rtol=TOLERANCE, interpolator="4th")
            return math.ceil((calls[0] - 2) / STAGES)

        return once

    @staticmethod
    def torchode(y0, times):
        import torch
        import torchode

        term = torchode.ODETerm(lambda t, y: turning(y, torch.stack))
        control = torchode.IntegralController(atol=TOLERANCE, rtol=TOLERANCE, term=term)
        solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), control)
        problem = torchode.InitialValueProblem(
            y0=torch.as_tensor(y0), t_eval=torch.as_tensor(times).expand(len(y0), -1)
        )

        @torch.no_grad()
        def once():
            return float(solver.solve(problem).stats["n_steps"].max())

        return once
