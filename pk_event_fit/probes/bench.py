"""What every probe works on: the config's cohort, field and weights, and frameworks made to order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import data, frameworks
from ..checkpoint import read_weights
from ..config import forget_compiled, from_dict, set_threads
from ..errors import DataError
from ..frameworks.base import Framework
from ..metrics.performance import rss_mb


class Bench:
    """Everything a probe needs, loaded once.

    Args:
        order: What `study` asks for: `config`, `variant`, `compiled`, `weights`, `out`, `exact` and more.

    Attributes:
        config: Of the sweep, with this framework.
        import_s: Seconds that importing the solver library took.
        rss_baseline_mb: Memory after that, MB.
        cohort: All subjects.
        fitted: Those that are fitted.
        field: The field of the model.
        params: Its weights, NumPy.
    """

    def __init__(self, order: Mapping[str, Any]):
        self.order, self.config = order, from_dict(order["config"])
        self.out = Path(order["out"])
        set_threads(self.config.accelerator.threads)
        self._cache = forget_compiled() if order["compiled"] else None
        began = time.perf_counter()
        self._class = frameworks.load(str(self.config.framework.name))
        self.import_s, self.rss_baseline_mb = time.perf_counter() - began, rss_mb()
        self.cohort = data.load(self.config.data)
        if not np.isfinite(self.cohort.amounts).all():
            raise DataError("a comparison needs every amount observed, and some are missing")
        self.fitted, self.held_out = data.split(self.cohort, self.config.data)
        model = self.config.model.network
        self.field, self.params = (
            read_weights(Path(order["weights"]))
            if order["weights"]
            else (model, model.initial_params(self.cohort.amounts.shape[-1], self.config.seed))
        )

    def framework(self, *, precision: str | None = None, compile: bool | None = None, **solver: Any) -> Framework:
        """The framework with the config's settings, some of them replaced."""
        accelerator = self.config.accelerator
        more = {"compile": True} if (accelerator.compile if compile is None else compile) else {}
        return self._class.create(
            replace(self.config.solver, **solver),
            precision=precision or accelerator.precision,
            device=accelerator.device,
            **more,
            **self.config.framework.own(self._class.settings),
        )

    def place(self, framework: Framework, params: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """Parameters as the framework's arrays; the weights measured with, where none are given."""
        return {name: framework.arrays.asarray(value) for name, value in (params or self.params).items()}


def seconds(framework: Framework, function: Callable, *arguments: Any) -> float:
    """How long a call takes until everything behind it is done."""
    began = time.perf_counter()
    framework.arrays.wait(function(*arguments))
    return time.perf_counter() - began
