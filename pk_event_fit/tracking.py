"""Follows a run in Weights & Biases. The only importer of wandb; the run's own CSV and JSON stay the truth."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

PATIENCE = 30.0  # seconds that a server may keep a finished run waiting


class Tracker:
    """One W&B run, which can fail in any way without failing the fit.

    Attributes:
        stuck: Whether W&B was left unanswered, by any tracker; its exit hook would then wait for ever.

    Args:
        mode: `offline`, `online` or `disabled`.
        folder: The run's folder; W&B's own files go to `wandb/` below it.
        project: W&B project.
        group: W&B group.
        name: Name of the run there.
        config: Settings to show beside it.
    """

    stuck: ClassVar[bool] = False

    def __init__(self, *, mode: str, folder: Path, project: str, group: str, name: str, config: Mapping[str, Any]):
        self._settings: dict[str, Any] = {
            "project": project,
            "group": group,
            "name": name,
            "config": dict(config),
            "dir": str(folder),
        }
        self._mode, self._folder = mode, folder
        self._run: Any = None
        self._buffer: list[dict[str, float]] = []
        self._starter = threading.Thread(target=self._guard, args=(self._start,), daemon=True)
        if mode != "disabled":
            self._starter.start()
            if mode == "offline":
                self._starter.join(PATIENCE)  # 0.4 s; an online one can take 90 s, and goes on beside the fit

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Note rows of history, each with its `iteration`; called between iterations, outside of what is timed."""
        if self._mode != "disabled":
            self._buffer += [dict(row) for row in rows]
            if not self._starter.is_alive():
                self._guard(self._flush)

    def finish(self, result: Mapping[str, Any], figures: Sequence[Path], artifact: str, files: Sequence[Path]) -> None:
        """Add result, figures and files, and close the run, or leave it after half a minute."""
        if self._mode == "disabled":
            return
        self._starter.join(PATIENCE)
        closer = threading.Thread(target=self._guard, args=(self._close, result, figures, artifact, files), daemon=True)
        if not self._starter.is_alive():
            closer.start()
            closer.join(PATIENCE)
        if self._starter.is_alive() or closer.is_alive():
            Tracker.stuck = True
            self._say(f"no answer within {PATIENCE:.0f} s; upload later: wandb sync {self._folder}/wandb/*run-*")

    def _start(self) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        quiet = wandb.Settings(console="off", x_disable_stats=True, init_timeout=PATIENCE, silent=True)
        if self._mode == "online":
            try:
                if not wandb.Api(timeout=5).api_key:  # else `init` would ask on the terminal
                    raise RuntimeError("no API key; see `wandb login`")
                self._run = wandb.init(mode="online", settings=quiet, **self._settings)
                return
            except Exception as error:  # whatever the network does, the fit goes on
                self._say(f"offline instead of online ({_one_line(error)})")
        self._run = wandb.init(mode="offline", settings=quiet, **self._settings)
        if self._mode == "online":
            self._say(f"upload later: wandb sync {Path(self._run.dir).parent}")

    def _flush(self) -> None:
        rows, self._buffer = self._buffer, []
        for row in rows:
            self._run.log({key: value for key, value in row.items() if key != "iteration"}, step=int(row["iteration"]))

    def _close(self, result, figures, artifact, files) -> None:
        import wandb

        self._flush()
        self._run.summary.update(dict(result))
        self._run.log({path.stem: wandb.Image(str(path)) for path in figures if path.exists()})
        present = [path for path in files if path.exists()]
        if present:
            item = wandb.Artifact(slug(artifact), type="run")
            for path in present:
                item.add_file(str(path))
            self._run.log_artifact(item)
        self._run.finish(exit_code=0 if result.get("status") == "completed" else 1)

    def _guard(self, action, *arguments) -> None:
        try:
            if action == self._start or self._run is not None:
                action(*arguments)
        except Exception as error:
            self._say(_one_line(error))
            self._run = None

    def _say(self, text: str) -> None:
        print(f"W&B: {text}", file=sys.stderr, flush=True)


def slug(name: str) -> str:
    """A name of 1 to 64 letters, digits, `.`, `_` and `-` that does not begin with a dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".")[:64] or "run"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
