"""Starts jobs, each in a process of its own, and goes on with those of a sweep that was cut off."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from . import signals, store, study
from .config import Config

FILES = (
    "config.yaml", "history.csv", "result.json", "provenance.json", "checkpoint.npz", "weights.npz", "predictions.npz",
    "fit.png", "loss.png", "log.txt",
)  # fmt: skip

LOOK = 0.1  # seconds between looks at jobs that run side by side


def launch(config: Config, folder: Path, *, group: str | None = None) -> int:
    """Run a job in a fresh process, so that its memory, its compile time and its faults are its own.

    Returns:
        The exit code: 0, 1 for a failed run, 2 for bad input, 130 where it was interrupted.
    """
    process = subprocess.Popen(_command(), stdin=subprocess.PIPE, text=True)
    return _settled(_wait(process, _order(config, folder, group)), config, folder, group)


def side_by_side(
    jobs: Sequence[tuple[Config, Path]], at_once: int, *, group: str | None = None
) -> list[tuple[Path, int]]:
    """Run some jobs at a time, each as `launch` does; what they say begins with the name of their folder.

    Args:
        jobs: Config and folder of each.
        at_once: How many run at a time.
        group: As of `launch`.

    Returns:
        Folder and exit code of each that was started, in their order. Once interrupted no more are.
    """
    waiting, running = list(jobs), dict[subprocess.Popen, tuple[Config, Path]]()
    codes: dict[Path, int] = {}
    interrupted = False
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                config, folder = waiting.pop(0)
                print(f"job {folder.name} begins", flush=True)
                running[_begun(config, folder, group)] = (config, folder)
            over = [process for process in running if process.poll() is not None]
            for process in over:
                config, folder = running.pop(process)
                code = 1 if process.returncode == 130 else process.returncode  # as in `_wait`
                codes[folder] = _settled(code, config, folder, group)
            if not over:
                time.sleep(LOOK)
    except KeyboardInterrupt:
        interrupted = True
    if interrupted:
        _stop(list(running))
        codes |= {folder: _settled(130, config, folder, group) for config, folder in running.values()}
        for _, folder in waiting:  # which Hydra has made
            with contextlib.suppress(OSError):
                folder.rmdir()
    return [(folder, codes[folder]) for _, folder in jobs if folder in codes]


def _command() -> list[str]:
    optimised = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [sys.executable, *optimised, "-m", "pk_event_fit.job"]


def _order(config: Config, folder: Path, group: str | None) -> str:
    told = None if group is None else str(_told(folder))
    return json.dumps({"config": dataclasses.asdict(config), "folder": str(folder), "group": group, "told": told})


def _begun(config: Config, folder: Path, group: str | None) -> subprocess.Popen:
    """A job that says what it has to say line by line, whoever else speaks."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(_command(), stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    for source, sink in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        threading.Thread(target=_copy, args=(source, sink, folder.name), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # it has ended already, as its exit code will tell
        process.stdin.write(_order(config, folder, group))  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
    return process


def _copy(source, sink, name: str) -> None:
    for line in source:
        print(f"{name}: {line}", end="", file=sink, flush=True)


def _stop(running: Sequence[subprocess.Popen]) -> None:
    """Have all of them save; a second interrupt kills them."""
    try:
        for process in running:
            signals.pass_on(process)
        print("interrupted: saving (once more to stop at once)", file=sys.stderr, flush=True)
        for process in running:
            process.wait()
    except KeyboardInterrupt:
        for process in running:
            process.kill()
            process.wait()


def _settled(code: int, config: Config, folder: Path, group: str | None) -> int:
    """What a job that has ended left unsaid is said in its folder; the exit code as `launch` has it."""
    begun, result = (folder / "config.yaml").exists(), folder / "result.json"
    refusal = None if group is None else _refusal(folder)
    # It ended without a word, killed or out of memory; or it was refused, which in a sweep must be seen in its row. A
    # refused job that found another's files in its folder leaves them alone.
    if code != 0 and not result.exists() and (code != 2 if begun else group is not None):
        kind, why = ("Refused", refusal) if refusal else ("Ended", f"the process ended with code {code}")
        failed = {"status": "failed", "framework": config.framework.name, "seed": config.seed}
        store.write_json(result, {**failed, "error": {"type": kind, "message": why}})
    # Hydra makes the folder before anything is known to be good.
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        if folder.parent == Path.cwd() / "outputs" and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
    return code if code in (0, 1, 2, 130) else 1


def _told(folder: Path) -> Path:
    """Where a job of a sweep that is refused says why, until its row does: its own folder must stay as it was."""
    return folder.with_name(f".{folder.name}.refused")


def _refusal(folder: Path) -> str | None:
    """Why a job of a sweep was refused, if it was; the note is taken away."""
    note = _told(folder)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        why = note.read_text(encoding="utf-8").strip()
        note.unlink()
        return why or None
    return None


def _wait(process: subprocess.Popen, order: str) -> int:
    """Hand a job its order and wait; when interrupted, until it has saved. A second interrupt kills it."""
    try:
        process.communicate(order)
        # Interrupted alone, by its id or to free memory: a job that failed, and no reason to end a sweep.
        return 1 if process.returncode == 130 else process.returncode
    except KeyboardInterrupt:
        try:
            signals.pass_on(process)
            with contextlib.suppress(OSError):  # who reads it may be gone by the same signal
                print("interrupted: saving (once more to stop at once)", file=sys.stderr, flush=True)
            process.wait()
        except KeyboardInterrupt:
            process.kill()
            process.wait()
        return 130


def go_on(config: Config, folder: Path, *, group: str | None = None) -> int:
    """Run a job of a sweep as far as it is not done; the exit code, as `launch` has it.

    A fit that is compared with others begins anew: times and memory of one that was cut off would be of two processes.
    """
    if is_over(folder):
        completed = is_completed(folder)
        print(f"{'done' if completed else 'failed'}, before: {folder}", flush=True)
        return int(not completed)
    if not config.study.probes and (folder / "checkpoint.npz").exists() and (folder / "config.yaml").exists():
        return launch(dataclasses.replace(config, resume=str(folder)), folder, group=group)
    try:
        _clear(folder)
    except OSError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return launch(config, folder, group=group)


def is_over(folder: Path) -> bool:
    """Whether a job has come to an end that it would come to again."""
    return study.is_over(folder / "result.json")


def _clear(folder: Path) -> None:
    """Remove what a job left that was cut off, and nothing else."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    for name in ("milestones", "wandb"):
        shutil.rmtree(folder / name, ignore_errors=True)


def is_completed(folder: Path) -> bool:
    """Whether a job says that it was completed."""
    return study.told(folder / "result.json").get("status") == "completed"
