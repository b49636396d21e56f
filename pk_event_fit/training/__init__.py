"""Fits a field to a cohort: phases one after another, each of them a generator that yields progress."""

from __future__ import annotations

from ..data import batch_of
from .curriculum import shortened
from .ending import Fitted, finish
from .fitting import check, fit
from .losses import descent_step, floor_of, gradient_step, loss_of, mean_squared_error
from .settings import FLAT, OPTIMISERS, PENALTIES, Phase, Training
from .state import Progress, State, resumed, start
from .task import of_cohort as _of_cohort
from .watch import Watch, dead_layers

__all__ = [
    "FLAT", "OPTIMISERS", "PENALTIES", "Fitted", "Phase", "Progress", "State", "Training", "Watch", "_of_cohort",
    "batch_of", "check", "dead_layers", "descent_step", "finish", "fit", "floor_of", "gradient_step", "loss_of",
    "mean_squared_error", "resumed", "shortened", "start",
]  # fmt: skip
