"""Follows runs and sweeps in Weights & Biases. The only importer of wandb; the CSV and JSON files stay the truth."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from .errors import ConfigError

PATIENCE = 30.0  # seconds that a server may keep a finished run waiting
Tables = Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]  # name -> names of columns, rows


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
        kind: `fit`, or `aggregate` for what sums a sweep up; its job type there.
    """

    stuck: ClassVar[bool] = False

    def __init__(
        self, *, mode: str, folder: Path, project: str, group: str, name: str, config: Mapping[str, Any],
        kind: str = "fit",
    ):  # fmt: skip
        self._settings: dict[str, Any] = {
            "project": project,
            "group": group,
            "name": name,
            "job_type": kind,
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

    def finish(
        self, result: Mapping[str, Any], figures: Sequence[Path], artifact: str, files: Sequence[Path],
        tables: Tables | None = None,
    ) -> None:  # fmt: skip
        """Add result, tables, figures and files, and close the run, or leave it after half a minute.

        Args:
            result: Goes to the run's summary; a `status` other than `completed` marks the run as failed.
            figures: Of PNG; `loss.png` is noted as `figures/loss`. What does not exist is left out.
            artifact: Name of what holds the files.
            files: To keep with the run; what does not exist is left out.
            tables: Noted as `tables/<name>`.
        """
        if self._mode == "disabled":
            return
        self._starter.join(PATIENCE)
        parts = (result, figures, artifact, files, tables or {})
        closer = threading.Thread(target=self._guard, args=(self._close, *parts), daemon=True)
        if not self._starter.is_alive():
            closer.start()
            closer.join(PATIENCE)
        if self._starter.is_alive() or closer.is_alive():
            Tracker.stuck = True
            _say(f"no answer within {PATIENCE:.0f} s; upload later: wandb sync {self._folder}/wandb/*run-*")

    def _start(self) -> None:
        # Copies of files wait here for their upload, and not in the home folder, where nobody would clear them away.
        os.environ.setdefault("WANDB_DATA_DIR", str(self._folder.absolute() / "wandb"))
        wandb = _library()
        quiet = wandb.Settings(console="off", x_disable_stats=True, init_timeout=PATIENCE, silent=True)
        if self._mode == "online":
            try:
                _api()  # `init` would ask for a key on the terminal
                self._run = wandb.init(mode="online", settings=quiet, **self._settings)
                return
            except Exception as error:  # whatever the network does, the fit goes on
                _say(f"offline instead of online ({one_line(error)})")
        self._run = wandb.init(mode="offline", settings=quiet, **self._settings)
        if self._mode == "online":
            _say(f"upload later: wandb sync {Path(self._run.dir).parent}")

    def _flush(self) -> None:
        rows, self._buffer = self._buffer, []
        for row in rows:
            self._run.log({key: value for key, value in row.items() if key != "iteration"}, step=int(row["iteration"]))

    def _close(self, result, figures, artifact, files, tables) -> None:
        self._flush()
        # One by one: a damaged figure must not take the tables with it.
        self._attempt(self._run.summary.update, dict(result))
        if media := self._media(tables, figures):
            self._attempt(self._run.log, media)
        if present := [path for path in files if path.exists()]:
            self._attempt(self._keep, artifact, present)
        self._run.finish(exit_code=int(result.get("status", "completed") != "completed"))

    def _media(self, tables: Tables, figures: Sequence[Path]) -> dict[str, Any]:
        wandb = _library()
        makers = {f"tables/{name}": partial(_table, *content) for name, content in tables.items()}
        makers |= {f"figures/{path.stem}": partial(wandb.Image, str(path)) for path in figures if path.exists()}
        made = {key: self._attempt(maker, about=f"{key}: ") for key, maker in makers.items()}
        return {key: item for key, item in made.items() if item is not None}

    def _keep(self, artifact: str, files: Sequence[Path]) -> None:
        item = _library().Artifact(slug(artifact), type="run")
        for path in files:
            item.add_file(str(path))
        self._run.log_artifact(item)

    def _attempt(self, action: Callable[..., Any], *arguments: Any, about: str = "") -> Any:
        try:
            return action(*arguments)
        except Exception as error:
            _say(f"{about}{one_line(error)}")
            return None

    def _guard(self, action, *arguments) -> None:
        try:
            if action == self._start or self._run is not None:
                action(*arguments)
        except Exception as error:
            _say(one_line(error))
            self._run = None


def leave(code: int) -> NoReturn:
    """End the process, without W&B's exit hook where that would wait for its server for ever."""
    sys.stdout.flush()
    if Tracker.stuck:
        os._exit(code)
    sys.exit(code)


def track_sweep(
    *, mode: str, sweep: Path, project: str, tables: Tables, figures: Sequence[Path], files: Sequence[Path],
    summary: Mapping[str, Any], group: str | None = None,
) -> None:  # fmt: skip
    """Sum a sweep up in a W&B run of its own, named like its folder, beside the runs of its fits.

    Nothing is raised, and nothing waits for long: what goes wrong is one line, and `Tracker.stuck` tells whether W&B
    was left unanswered.

    Args:
        mode: `offline`, `online` or `disabled`.
        sweep: The sweep's folder; W&B's own files go to `wandb/` below it.
        project: W&B project of the fits.
        tables: By name, the columns' names and the rows; noted as `tables/<name>`.
        figures: PNG files; noted as `figures/<stem>`.
        files: Kept as an artifact; what does not exist is left out.
        summary: Headline numbers.
        group: W&B group of the fits; None for the name of the sweep's folder.
    """
    name = sweep.absolute().name
    tracker = Tracker(
        mode=mode, folder=sweep, project=project, group=group or name, name=name, config={}, kind="aggregate"
    )
    tracker.finish(summary, figures, name, files, tables)


def account() -> str:
    """Who uploads: the user or team that new runs would belong to.

    Raises:
        ConfigError: There is no account, or its server does not know it.
    """
    try:
        entity = _api().default_entity
    except Exception as error:
        raise ConfigError(f"no W&B account ({one_line(error)})") from error
    if not entity:
        raise ConfigError("no W&B account: the server does not know this API key; see `wandb login`")
    return str(entity)


def patiently(action: Callable[[], Any]) -> Any:
    """What an action returns or raises, or TimeoutError after half a minute, in which case it is left behind."""
    future: Future = Future()

    def work() -> None:
        try:
            future.set_result(action())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(PATIENCE)
    except TimeoutError as error:
        if future.done():
            raise  # the action's own
        Tracker.stuck = True
        raise TimeoutError(f"no answer within {PATIENCE:.0f} s") from error


def slug(name: str) -> str:
    """A name of 1 to 64 letters, digits, `.`, `_` and `-` that does not begin with a dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".")[:64] or "run"


def one_line(error: BaseException) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _library() -> Any:
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb


def _api() -> Any:
    api = _library().Api(timeout=5)
    if not api.api_key:
        raise RuntimeError("no API key; see `wandb login`")
    return api


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    data = [list(row) for row in rows]
    return _library().Table(columns=list(columns), data=data, allow_mixed_types=True)  # "failed" beside numbers


def _say(text: str) -> None:
    print(f"W&B: {text}", file=sys.stderr, flush=True)
