"""Ends sweeps with their tables, and goes on with those that were cut off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from . import comparison, store
from .config import Config, decided
from .errors import CheckpointError
from .launch import go_on, is_completed
from .report.tables import write_summary


def end(
    sweep: Path, plan: Sequence[Config], jobs: Sequence[tuple[Path, int]], interrupted: bool, group: str | None = None,
    words: Sequence[str] = (),
) -> int:  # fmt: skip
    """Tables of a sweep whose jobs have run, and all that a comparison adds.

    Args:
        sweep: Its folder.
        plan: The configs of all its jobs; empty where they were not known beforehand.
        jobs: Folder and exit code of each job that was started.
        interrupted: Whether to leave out all that is still to be run.
        group: W&B group of the jobs; the folder's name where it is left out.
        words: Of the command line that asked for it.

    Returns:
        The exit code: 0, or 1 where something failed, or 130.
    """
    failed = any(code for _, code in jobs)
    if plan and plan[0].study.probes:
        return comparison.conclude(sweep, plan, go_on, group=group, failed=failed, interrupted=interrupted)
    rows = write_summary(sweep, [folder for folder, _ in jobs], {folder for folder, code in jobs if code == 2})
    print((sweep / "summary.md").read_text())
    print(f"sweep  {sum(row['status'] == 'completed' for row in rows)} of {len(rows)} completed: {sweep}")
    if plan and plan[0].study.cross_validate and not interrupted:
        # Imported here: an ordinary sweep needs none of it.
        from . import guide

        failed = bool(guide.conclude(sweep, plan, words)) or failed
    return 130 if interrupted else int(failed)


def resume(sweep: Path, plan: Sequence[Config], stored: Callable[[Path], Config]) -> int:
    """Go on with a sweep: jobs that came to an end stay as they are, the others go on or begin anew.

    Args:
        sweep: Its folder.
        plan: The jobs that the words of its plan mean by now.
        stored: Reads the config of the run in a folder.

    Returns:
        As `end` returns it.

    Raises:
        CheckpointError: The plan, or a job's config, is not what the words mean by now, or a config is damaged.
        ConfigError: Another process is at work there.
    """
    comparison.check_plan(sweep, plan)
    group = _check_jobs(sweep, plan, stored)
    jobs: list[tuple[Path, int]] = []
    with store.locked(sweep):
        for number, config in enumerate(plan):
            print(f"job {number} of {len(plan)}", flush=True)
            code = 130
            with contextlib.suppress(KeyboardInterrupt):
                code = go_on(config, sweep / str(number), group=group)
            jobs.append((sweep / str(number), code))
            if code == 130:
                break
        rest = [sweep / str(number) for number in range(len(jobs), len(plan)) if (sweep / str(number)).exists()]
        jobs += [(folder, int(not is_completed(folder))) for folder in rest]
        return end(sweep, plan, jobs, code == 130, group, comparison.read_plan(sweep))


def _check_jobs(sweep: Path, plan: Sequence[Config], stored: Callable[[Path], Config]) -> str:
    """Refuse where a job's stored config is not what it would be given now; returns the W&B group of the jobs."""
    group = sweep.name
    for name, config in comparison.jobs_of(plan):
        folder = sweep / name
        if not folder.exists():
            continue
        with store.locked(folder):  # a job may have outlived its sweep
            pass
        if (folder / "config.yaml").exists():
            earlier = stored(folder)
            group = earlier.tracking.group or group
            with contextlib.redirect_stdout(None):  # what is decided is said when the job is run
                now = asdict(decided(config, group))
            then = asdict(earlier)
            if changed := [key for key in now if key not in ("tracking", "resume") and now[key] != then[key]]:
                raise CheckpointError(
                    f"{folder}: its {' and '.join(changed)} are not what the sweep's words mean by now"
                )
    return group
