"""Our own engine: all intervals of all subjects in one adaptive loop, on JAX. See `pk_event_fit.fused`."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ..arrays.jax import JaxArrays
from ..errors import ConfigError
from ..fused.engine import solve
from ..fused.forward import CONTROL, Engine
from ..fused.methods import METHODS
from .base import Framework, Interval

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

    def __init__(self, arrays, solver, mesh=None, memory=128, control=CONTROL):
        super().__init__(arrays, solver)
        self.mesh, self.shards = mesh, 1 if mesh is None else mesh.size
        self.memory, self.control = memory, tuple(control)

    @classmethod
    def create(
        cls, solver, *, precision="float32", device="cpu", compile=False, memory=128, shards=None, control=CONTROL
    ):
        if compile:
            raise ConfigError("accelerator.compile: fused is always compiled")
        devices = devices_of(device)
        if shards is not None and shards > len(devices):
            more = "; set accelerator.threads, or OMP_NUM_THREADS before JAX is first used" if device == "cpu" else ""
            raise ConfigError(f"framework.shards={shards}: JAX sees {len(devices)} devices ({device}){more}")
        devices = devices[:shards]
        arrays = JaxArrays(precision, device)
        if len(devices) == 1:
            return cls(arrays, solver, None, memory, control)
        mesh = Mesh(devices, ("subjects",))
        arrays.device = NamedSharding(mesh, P())
        return cls(arrays, solver, mesh, memory, control)

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
        engine = Engine(
            rhs, METHODS[self.solver.method], self.control, self.solver.max_steps, self.memory,
            None if table.points is not None else grid,
        )  # fmt: skip
        count = len(table.duration)
        group = count if count <= GROUP else GROUP
        keep = self.solver.gradient == "direct"
        tolerance = tuple(jnp.asarray(x, initial.dtype) for x in (self.solver.rtol, self.solver.atol))
        work = functools.partial(solve, engine, group=group, keep=keep)
        if self.shards == 1:
            return work(params, initial, table, tolerance)
        return self._shared(work, params, initial, table, tolerance)

    def _shared(self, work, params, initial, table, tolerance):
        """Each device its part of the subjects; a few that stand still fill the last."""
        size = len(initial)
        more = -size % self.shards

        def padded(axis, leaf, mode="edge"):  # by the last: covariates may be divided by
            return jnp.pad(leaf, [(0, more if k == axis else 0) for k in range(leaf.ndim)], mode=mode)

        given = {name: leaf for name, leaf in table._asdict().items() if leaf is not None and name != "number"}
        axes = {name: 2 if name in ("points", "drift") else 1 for name in given}  # where the subjects are
        modes = {name: "constant" if name in ("duration", "bolus") else "edge" for name in given}
        table = Interval(None, **{name: padded(axes[name], leaf, modes[name]) for name, leaf in given.items()})
        specs = Interval(None, **{name: P(*(None,) * axis, "subjects") for name, axis in axes.items()})
        run = jax.shard_map(
            work,
            mesh=self.mesh,
            in_specs=(P(), P("subjects"), specs, P()),
            out_specs=(P(None, None, "subjects"), P(None, "subjects")),
            check_vma=False,
        )
        states, report = run(params, padded(0, initial), table, tolerance)
        return states[:, :, :size], jax.tree.map(lambda leaf: leaf[:, :size], report)


def devices_of(kind: str) -> Sequence:
    """Devices to share the subjects among: on a CPU as many as this process may use threads.

    Raises:
        ConfigError: There is no such device.
    """
    if kind == "cpu":
        threads = int((os.environ.get("OMP_NUM_THREADS") or "").split(",")[0] or len(os.sched_getaffinity(0)))
        try:
            jax.config.update("jax_num_cpu_devices", threads)
        except RuntimeError:
            pass  # JAX is at work already, with the devices that it has
    try:
        return jax.devices(kind)
    except RuntimeError as error:
        raise ConfigError(f"accelerator.device={kind}: JAX sees no such device ({error})") from error


FRAMEWORK = Fused
