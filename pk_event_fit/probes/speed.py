"""Time, memory, work and error of a training step: forward, with its gradient, and with Adam's step."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from .. import store
from ..errors import ConfigError, PKEventError
from ..frameworks.base import Framework
from ..job import solver_counts
from ..metrics.performance import rss_peak_mb
from ..training import batch_of, descent_step, gradient_step, mean_squared_error
from .bench import Bench, seconds
from .exact import flat, thinned

BLOCK_S = 1.0  # a timed block is as many calls as fit in this, and no more than the study asks for
# Direct on all report points, as fits are; both at few, since the adjoint stops at each on its way back.
MODES = {"direct": "direct", "direct_few": "direct", "adjoint": "adjoint"}
WARM_UP = 2  # more calls that are not counted


class Mode:
    """One gradient mode, compiled and warmed up; every call starts from the same weights."""

    def __init__(self, bench: Bench, name: str):
        self.framework: Framework = bench.framework(gradient=MODES[name])
        arrays = self.framework.arrays
        self.cohort = bench.cohort if name == "direct" else thinned(bench.cohort)
        self.loss = mean_squared_error(self.framework, bench.field, self.cohort.grid)
        self.params = bench.place(self.framework)
        self.batch = batch_of(arrays, self.cohort, bench.fitted)
        forward = arrays.compile(self.loss)
        clip, rate = bench.config.training.clip_norm, bench.config.training.learning_rate
        self.step = value_and_grad = gradient_step(self.framework, self.loss, clip)
        step, moments = descent_step(self.framework, self.loss, clip), arrays.adam_init(self.params)
        self.calls = {
            "forward": lambda: self.framework.guard(forward, self.params, *self.batch),
            "gradient": lambda: self.framework.guard(value_and_grad, self.params, *self.batch),
        }
        if name == "direct":  # Adam's step costs the same in all
            self.calls["step"] = lambda: self.framework.guard(step, self.params, moments, rate, *self.batch)
        # The gradient first, which is nearly all of what a fit calls: it would be warm after a forward solve.
        began = time.perf_counter()
        self.value, _, self.gradient, self.report = arrays.wait(self.calls["gradient"]())
        self.first_s = {"gradient": time.perf_counter() - began}
        self.first_s["forward"] = seconds(self.framework, self.calls["forward"])
        self.framework.check(self.report, self.batch[1])
        self.peak_mb = rss_peak_mb()
        if "step" in self.calls:  # compiled here, and not when it is asked how long a call takes
            arrays.wait(self.calls["step"]())
        self.number: dict[str, int] = {}
        for kind, call in self.calls.items():
            took = seconds(self.framework, call)
            if took < BLOCK_S:
                took = min(seconds(self.framework, call) for _ in range(WARM_UP))
            self.number[kind] = int(np.clip(BLOCK_S / max(took, 1e-9), 1, bench.config.study.calls))
        self.times: dict[str, list[float]] = {kind: [] for kind in self.calls}

    def block(self, kind: str) -> None:
        """Time one block of calls; the mean of a call is noted, ms."""
        began = time.perf_counter()
        for _ in range(self.number[kind]):
            result = self.calls[kind]()
        self.framework.arrays.wait(result)
        self.times[kind].append(1e3 * (time.perf_counter() - began) / self.number[kind])


def probe(bench: Bench):
    """Prepare and count; then one block of each kind in each round."""
    modes: dict[str, Mode] = {}
    found: dict[str, dict[str, Any]] = {}
    for name in ("direct",) if bench.order["compiled"] else MODES:
        try:
            modes[name] = Mode(bench, name)
            found[name] = {"status": "completed", "error": None, **_work(bench, modes[name])}
        except PKEventError as error:
            kind = "unsupported" if isinstance(error, ConfigError) else "failed"
            found[name] = {"status": kind, "error": " ".join(str(error).split())}
        except Exception as error:  # whatever a library does in one mode, the others can be measured
            traceback.print_exc()
            found[name] = {"status": "failed", "error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    yield
    for _ in range(bench.config.study.rounds):
        for mode in modes.values():
            for kind in mode.calls:
                mode.block(kind)
        yield
    for name, mode in modes.items():
        times = {f"{kind}_ms": values for kind, values in mode.times.items()}
        # The peak of later modes would hold that of the earlier ones.
        peak = mode.peak_mb if name == "direct" else None
        found[name] |= {"first_call_s": mode.first_s, "peak_mb": peak, "calls": mode.number, **times}
    path = Path(bench.order["exact"])
    about = store.read_npz(path)[1] if path.exists() else {}
    return {
        "exact_gradient": {name: about.get(name) for name in ("norm", "uncertainty")},
        "import_s": bench.import_s,
        "rss_baseline_mb": bench.rss_baseline_mb,
        "rounds": bench.config.study.rounds,
        "calls": bench.config.study.calls,
        "weights_digest": store.digest(bench.params),
        "modes": found,
    }


def _work(bench: Bench, mode: Mode) -> dict[str, Any]:
    """Steps, evaluations, memory of the way back, and how far the gradient is from the exact one."""
    arrays = mode.framework.arrays
    counts = solver_counts(mode.framework, mode.report)
    work: dict[str, Any] = {name: counts[name] for name in ("accepted", "rejected", "counted_for")}
    work["points"] = len(mode.cohort.grid)
    work["backward_memory_mb"], work["backward_memory_kind"] = arrays.backward_memory(
        mode.loss, mode.step, mode.params, *mode.batch
    )
    if not bench.order["compiled"]:  # what is counted would be compiled away
        field, count = arrays.counting(bench.field)
        loss = mean_squared_error(mode.framework, field, mode.cohort.grid)
        count()
        arrays.wait(mode.framework.guard(gradient_step(mode.framework, loss, None), mode.params, *mode.batch))
        work["evaluations"] = count()
    path = Path(bench.order["exact"])
    if path.exists():
        exact, _ = store.read_npz(path)
        which = "all" if mode.cohort is bench.cohort else "few"
        true = flat({name.removeprefix(f"{which}."): g for name, g in exact.items() if name.startswith(f"{which}.")})
        own = flat({name: arrays.to_numpy(g) for name, g in mode.gradient.items()})
        work["gradient_error"] = float(np.linalg.norm(own - true) / np.linalg.norm(true))
        work["gradient_error_max"] = float(abs(own - true).max() / abs(true).max())
        work["loss_error"] = abs(float(mode.value) / float(exact[f"loss.{which}"]) - 1)
    return work
