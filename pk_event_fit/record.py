"""Keeps a fit's history, checkpoint and progress line, between iterations and so outside of what is timed."""

from __future__ import annotations

import csv
import io
import sys
import time
from pathlib import Path

from . import store
from .checkpoint import HISTORY, Rows, write_checkpoint
from .frameworks.base import Framework
from .tracking import Tracker
from .training import Progress, State, Training

LINES = 20  # progress lines of a run without a terminal


class Recorder:
    """Notes every iteration and saves every so often.

    Args:
        folder: The run's folder.
        framework: Whose arrays the states are in.
        settings: For the number of iterations and of those between checkpoints.
        state: Where the fit begins.
        rows: History up to there.
        digest: Of the data.
        tracker: Where rows go besides.
        unit: Of what is observed.

    Attributes:
        rows: The history.
        seconds: Of each iteration of this process.
        state: Where the fit stands.
    """

    def __init__(
        self, folder: Path, framework: Framework, settings: Training, state: State, rows: Rows, digest: str,
        tracker: Tracker, unit: str = "mg",
    ):  # fmt: skip
        self.folder, self.framework, self.settings, self.digest, self.tracker = (
            folder,
            framework,
            settings,
            digest,
            tracker,
        )
        self.rows, self.state, self._logged = rows, state, 0
        self.unit, self._square = unit, f"({unit})^2" if "/" in unit else f"{unit}^2"
        self.seconds: list[float] = []
        self._bar = _bar(settings.iterations, len(rows)) if sys.stderr.isatty() else None
        self._began = time.perf_counter()
        self.save()

    def add(self, progress: Progress) -> None:
        """Note one iteration."""
        self.state = progress.state
        self.seconds.append(progress.seconds)
        values = (progress.iteration, progress.loss, progress.gradient_norm, 1e3 * progress.seconds)
        self.rows.append(dict(zip(HISTORY, values, strict=True)))
        self._show(progress)
        if progress.iteration % self.settings.checkpoint_every == 0 and progress.iteration < self.settings.iterations:
            self.save()

    def close(self) -> None:
        """Save, and end the progress bar."""
        if self._bar is not None:
            self._bar.close()
        self.save()

    def save(self) -> None:
        """Write the checkpoint and the history as they stand."""
        write_checkpoint(self.folder / "checkpoint.npz", self.framework, self.state, self.rows, self.digest)
        stream = io.StringIO()
        writer = csv.DictWriter(stream, HISTORY, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        store.write_text(self.folder / "history.csv", stream.getvalue())
        self.tracker.log(self.rows[self._logged :])
        self._logged = len(self.rows)

    def _show(self, progress: Progress) -> None:
        total = self.settings.iterations
        loss = f"loss {progress.loss:.4g} {self._square}", f"rmse {progress.loss**0.5:.4g} {self.unit}"
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(loss), refresh=False)
            self._bar.update()
        elif progress.iteration % max(1, total // LINES) == 0 or len(self.seconds) == 1:
            line = f"iteration {progress.iteration}/{total}  {'  '.join(loss)}"
            if len(self.seconds) > 1:  # the first one compiles, and says nothing of those to come
                pace = (time.perf_counter() - self._began - self.seconds[0]) / (len(self.seconds) - 1)
                line += f"  {pace * (total - progress.iteration):.0f} s left"
            print(line, flush=True)


def _bar(total: int, done: int):
    from tqdm import tqdm

    return tqdm(total=total, initial=done, unit="it", dynamic_ncols=True)
