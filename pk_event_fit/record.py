"""Keeps a fit's history, checkpoint and progress line, between iterations and so outside of what is timed."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from . import store
from .checkpoint import HISTORY, MORE, Rows, write_checkpoint
from .frameworks.base import Framework
from .tracking import Tracker
from .training import Phase, Progress, State, Training, Watch

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
        dead: What tells which rectifiers are dead, see `training.dead_layers`; None for nothing.

    Attributes:
        rows: The history.
        seconds: Of each iteration of this process.
        state: Where the fit stands.
    """

    def __init__(
        self, folder: Path, framework: Framework, settings: Training, state: State, rows: Rows, digest: str,
        tracker: Tracker, unit: str = "mg", dead: Callable | None = None,
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
        self._bar = _bar(settings.total, len(rows)) if sys.stderr.isatty() else None
        self._watch = Watch(framework.arrays, settings, state, dead)
        log = folder / "log.txt"
        self._lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        self._began = time.perf_counter()
        self.save()
        self._enter(state)

    def add(self, progress: Progress) -> None:
        """Note one iteration."""
        before, self.state = self.state, progress.state
        if self.state.phase != before.phase:
            self._leave(before)
            self._enter(self.state)
        self.seconds.append(progress.seconds)
        values = (progress.iteration, progress.loss, progress.gradient_norm, 1e3 * progress.seconds)
        row = dict(zip(HISTORY, values, strict=True))
        row |= {} if self.settings.phases is None else {"phase": float(self.state.phase + 1)}
        row |= {} if progress.validation is None else {"validation": progress.validation}
        self.rows.append(row)
        self._show(progress)
        self._tell(self._watch.of_iteration(self.state, self.rows))
        if progress.iteration % self.settings.checkpoint_every == 0 and progress.iteration < self.settings.total:
            self.save()
            self._tell(self._watch.of_parameters(self.state))

    def close(self) -> None:
        """Save, and end the progress bar."""
        self.save()
        self._leave(self.state)
        if self._bar is not None:
            self._bar.close()

    def save(self) -> None:
        """Write the checkpoint and the history as they stand."""
        write_checkpoint(self.folder / "checkpoint.npz", self.framework, self.state, self.rows, self.digest)
        stream = io.StringIO()
        columns = HISTORY + tuple(name for name in MORE if any(name in row for row in self.rows))
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        store.write_text(self.folder / "history.csv", stream.getvalue())
        self.tracker.log(self.rows[self._logged :])
        self._logged = len(self.rows)

    def _show(self, progress: Progress) -> None:
        total, phase = self.settings.total, self.settings.plan[progress.state.phase]
        loss = [f"loss {progress.loss:.4g}"]
        if phase.optimiser != "matching" and not phase.regularisation:
            loss = [f"{loss[0]} {self._square}", f"rmse {progress.loss**0.5:.4g} {self.unit}"]
        if progress.validation is not None:
            loss.append(f"validation {progress.validation:.4g} {self._square}")
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(loss), refresh=False)
            self._bar.update()
        elif progress.iteration % max(1, total // LINES) == 0 or len(self.seconds) == 1:
            line = f"iteration {progress.iteration}/{total}  {'  '.join(loss)}"
            if len(self.seconds) > 1:  # the first one compiles, and says nothing of those to come
                pace = (time.perf_counter() - self._began - self.seconds[0]) / (len(self.seconds) - 1)
                line += f"  {pace * (total - progress.iteration):.0f} s left"
            print(line, flush=True)

    def _tell(self, lines: Iterable[str]) -> None:
        """Say lines, and keep them in `log.txt`."""
        if found := list(lines):
            for line in found:
                print(line, flush=True) if self._bar is None else self._bar.write(line)
            self._lines += found
            store.write_text(self.folder / "log.txt", "\n".join(self._lines) + "\n")

    def _enter(self, state: State) -> None:
        """Say what a phase is, where there are phases."""
        if self.settings.phases is None:
            return
        number, phase = state.phase, self.settings.phases[state.phase]
        words = [f"phase {number + 1} of {len(self.settings.phases)}: {_described(phase)}"]
        if len(self.rows) > state.began:
            anew = ", whose memory begins anew" if phase.optimiser == "lbfgs" else ""
            words.append(f"gone on with after iteration {state.iteration}{anew}")
        elif words[0] in self._lines:
            words.append("begun anew")
        self._tell([", ".join(words)])

    def _leave(self, state: State) -> None:
        """Say how a phase ended, and what was wrong with it."""
        lines = list(self._watch.of_phase(state.phase, state.began, self.rows))
        if self.settings.phases is not None and len(self.rows) > state.began:
            last = self.rows[-1]["loss"]
            lines.append(f"phase {state.phase + 1} left after iteration {state.iteration}: loss {last:.4g}")
        self._tell([*lines, *self._watch.of_parameters(state)])


def _described(phase: Phase) -> str:
    found = [phase.optimiser, f"{phase.iterations} iterations at most"]
    if phase.optimiser != "lbfgs":
        last = "" if phase.final_learning_rate is None else f" to {phase.final_learning_rate:g}"
        found.append(f"learning rate {phase.learning_rate:g}{last}")
    found += [f"length {phase.length}"] if phase.length != 1.0 or isinstance(phase.length, int) else []
    return ", ".join(found + [f"{name} {factor:g}" for name, factor in phase.regularisation.items()])


def _bar(total: int, done: int):
    from tqdm import tqdm

    return tqdm(total=total, initial=done, unit="it", dynamic_ncols=True)
