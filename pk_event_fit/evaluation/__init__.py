"""What a finished run is worth on any cohort: goodness of fit, exposure, figures, a page."""

from __future__ import annotations

from .assess import evaluate
from .runs import Run, read_run

__all__ = ["Run", "evaluate", "read_run"]
