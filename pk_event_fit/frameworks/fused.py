"""Our own engine: all intervals of all subjects in one adaptive loop, on JAX. See `pk_event_fit.fused`."""

from __future__ import annotations

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..arrays.jax import JaxArrays
from ..errors import ConfigError
from ..fused.engine import LIGHT, by_axis, more_subjects, solve
from ..fused.forward import CONTROL, Engine
from ..fused.methods import METHODS
from ..intervals import Interval
from ..threads import threads
from .base import Framework

GROUP = 8  # intervals at whose end subjects wait for each other


class Fused(Framework):
    """One loop over everything; subjects are shared out over devices.

    Both of its gradients are that of its own steps, exactly. `direct` keeps what the steps were made of; `adjoint`
    solves each group of intervals once more, so that memory does not grow with the doses. Of a group, `memory` trials
    are kept at once; those before are taken again.
    """

    name = "fused"
    methods = tuple(METHODS)
    settings = ("memory", "shards", "control")

    def __init__(self, arrays, solver, mesh=None, memory=128, control=CONTROL, most=None):
        super().__init__(arrays, solver)
        self.most = most
        self.mesh, self.shards = mesh, 1 if mesh is None else mesh.size
        self.memory, self.control = memory, tuple(control)

    @classmethod
    def create(
        cls, solver, *, precision="float32", device="cpu", compile=False, memory=128, shards=None, control=CONTROL
    ):
        if compile:
            raise ConfigError("accelerator.compile: fused is always compiled")
        if device == "cpu":
            ask_for_devices(threads())
        arrays = JaxArrays(precision, device)
        devices = jax.devices(device)
        if shards is not None and shards > len(devices):
            more = "; set accelerator.threads, or OMP_NUM_THREADS before JAX is first used" if device == "cpu" else ""
            raise ConfigError(f"framework.shards={shards}: JAX sees {len(devices)} devices ({device}){more}")
        devices = devices[:shards]
        most = None if device == "cpu" else LIGHT
        if len(devices) == 1:
            return cls(arrays, solver, None, memory, control, most)
        mesh = Mesh(devices, ("subjects",))
        arrays.device = NamedSharding(mesh, P())
        return cls(arrays, solver, mesh, memory, control, most)

    def settled(self, states, reached, subjects):
        # A compiled program cannot raise: what is no number fails the solve that it enters.
        return jnp.where(reached[:, None], states, jnp.nan)

    def solve(self, rhs, y0, params, interval, grid):
        row = interval._replace(bolus=jnp.zeros_like(y0), number=None, keep=None, points=None, drift=None)
        table = jax.tree.map(lambda leaf: leaf[None], row)
        if not isinstance(grid, np.ndarray):
            table = table._replace(points=grid[None])
        states, report = self.solve_table(rhs, params, y0, table, grid)
        return states[0], jax.tree.map(lambda leaf: leaf[0], report)

    def solve_table(self, rhs, params, initial, table: Interval, grid):
        """See `Framework.solve_table`."""
        shared = grid if table.points is None else None
        engine = Engine(rhs, METHODS[self.solver.method], self.control, self.solver.max_steps, self.memory, shared)
        work = functools.partial(
            solve, engine, group=min(len(table.duration), GROUP), keep=self.solver.gradient == "direct", most=self.most,
        )  # fmt: skip
        tolerance = tuple(jnp.asarray(x, initial.dtype) for x in (self.solver.rtol, self.solver.atol))
        if self.shards == 1:
            return work(params, initial, table, tolerance)
        return self._shared(work, params, initial, table, tolerance)

    def _shared(self, work, params, initial, table, tolerance):
        """Each device its part of the subjects."""
        size = len(initial)
        initial, table, tolerance = more_subjects(initial, table, tolerance, size + -size % self.shards)
        table = by_axis(lambda _, leaf, __: leaf, table)
        # One vector, of which the gradient is summed over devices at once: one sum for each array takes longer.
        flat, unflat = ravel_pytree(params)
        run = jax.shard_map(
            lambda flat, *rest: work(unflat(flat), *rest),
            mesh=self.mesh,
            in_specs=(P(), P("subjects"), by_axis(lambda _, __, axis: P(*(None,) * axis, "subjects"), table), P()),
            out_specs=(P(None, None, "subjects"), P(None, "subjects")),
            check_vma=False,
        )
        states, report = run(flat, initial, table, tolerance)
        return states[:, :, :size], jax.tree.map(lambda leaf: leaf[:, :size], report)


def ask_for_devices(count: int) -> None:
    """Have JAX see the cores of a CPU as so many devices, if it is not at work already with those that it has."""
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", count)


FRAMEWORK = Fused
