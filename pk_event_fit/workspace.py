"""Lays a comparison out as a W&B workspace: `python -m pk_event_fit.workspace outputs/<sweep> [--save]`.

The only importer of wandb_workspaces, which is in the extra `workspace`; the layout is printed without it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import tracking
from .errors import ConfigError, DataError, PKEventError
from .report.sweep import read

INSTALL = "a W&B workspace needs wandb-workspaces: pip install 'pk-event-fit[workspace]'"
VARIANT = "variant"  # of a run's config: its framework, plain and compiled fits apart


class Panel(NamedTuple):
    """What one panel shows.

    Attributes:
        kind: `line` over iterations, `bar` of the runs' last values, `media` or `table`.
        title: Its heading, with units.
        key: What the runs note it as: history, summary (dots step into it), figure or table.
    """

    kind: str
    title: str
    key: str


class Section(NamedTuple):
    """Panels that stand together.

    Attributes:
        name: Its heading.
        panels: From left to right and down.
    """

    name: str
    panels: tuple[Panel, ...]


LAYOUT = (
    Section("Overview", (Panel("media", "All in one picture", "figures/dashboard"),)),
    Section(
        "Loss curves",
        (
            Panel("line", "Loss, mg², by framework: mean and range over seeds", "loss"),
            Panel("line", "Gradient norm, by framework: mean and range over seeds", "gradient_norm"),
        ),
    ),
    Section(
        "Performance",
        (
            Panel("bar", "Time of an iteration, median, ms", "performance.step_ms.median"),
            Panel("bar", "First iteration beyond a steady one: compilation, s", "performance.compile_s"),
            Panel("bar", "Import, s", "performance.import_s"),
            Panel("bar", "Training, s", "performance.training_s"),
            Panel("bar", "Memory after the imports, MB", "performance.rss_baseline_mb"),
            Panel("bar", "Memory at the peak, MB", "performance.rss_peak_mb"),
        ),
    ),
    Section(
        "Accuracy",
        (
            Panel("bar", "RMSE, mg", "accuracy.rmse"),
            Panel("bar", "Skill", "accuracy.skill"),
            Panel("bar", "RMSE on held-out subjects, mg", "accuracy.held_out.rmse"),
            Panel("bar", "Skill on held-out subjects", "accuracy.held_out.skill"),
        ),
    ),
    Section(
        "Dosing events",
        (
            Panel("media", "Close-up of a dose", "figures/dosing_event"),
            Panel("media", "Restart, jump_ts, and nothing said", "figures/treatments"),
            Panel("media", "Stability at the doses", "figures/stability"),
        ),
    ),
    Section("Tables", (Panel("table", "One row a run", "tables/summary"),
                       Panel("table", "Every measurement", "tables/measurements"))),
)  # fmt: skip


def workspace(entity: str, project: str, group: str) -> Any:
    """The comparison as a `wandb_workspaces.workspaces.Workspace`, made without the network.

    Args:
        entity: User or team that it belongs to.
        project: W&B project of the runs.
        group: Their group; the workspace shows no other runs.

    Raises:
        ConfigError: wandb-workspaces is not installed.
    """
    from .report.ink import COLOURS  # brings matplotlib, which nothing else here needs

    ws, _, expr = _libraries()
    return ws.Workspace(
        entity=entity,
        project=project,
        name=title(group),
        sections=[
            ws.Section(name=section.name, panels=[_panel(panel) for panel in section.panels], is_open=True)
            for section in LAYOUT
        ],
        settings=ws.WorkspaceSettings(max_runs=100),
        runset_settings=ws.RunsetSettings(
            # As text, since the library's own writer breaks at a name with a quote in it.
            filters=f"Metric('Group') == {group!r}",
            groupby=[expr.Config(VARIANT)],
            group_colors=dict(COLOURS),
            pinned_columns=[f"summary:{panel.key}" for panel in _panels("bar")],
        ),
    )


def save(project: str, group: str, entity: str | None = None) -> str:
    """Save the comparison's workspace as a new view of its project; returns its address.

    Raises:
        ConfigError: There is no account, or wandb-workspaces is not installed.
        Exception: Whatever the library raises where the server refuses.
    """
    _libraries()
    owner = tracking.account()
    return str(workspace(entity or owner, project, group).save().url)


def offer(*, mode: str, project: str, group: str) -> None:
    """Save the workspace at the end of a sweep that went online; a failure is one line, and no more than that."""
    if mode != "online":
        return
    try:
        text = f"workspace {tracking.patiently(lambda: save(project, group))}"
    except Exception as error:  # whatever the network does, the sweep is done
        text = f"no workspace: {tracking.one_line(error)}"
    print(f"W&B: {text}", file=sys.stderr, flush=True)


def title(group: str) -> str:
    """Name of the workspace of a group; W&B takes no emoji in it."""
    return f"Framework comparison {tracking.slug(group)}"


def describe(project: str, group: str) -> str:
    """The layout in words, a line for each panel."""
    lines = [f"{title(group)}: project {project}, group {group}, grouped by {VARIANT}"]
    for section in LAYOUT:
        lines += ["", section.name]
        lines += [f"  {panel.kind:<6} {panel.key:<28} {panel.title}" for panel in section.panels]
    return "\n".join(lines)


def _panels(kind: str) -> list[Panel]:
    return [panel for section in LAYOUT for panel in section.panels if panel.kind == kind]


def _panel(panel: Panel) -> Any:
    _, wr, _ = _libraries()
    if panel.kind == "line":
        return wr.LinePlot(
            title=panel.title, x="Step", y=[panel.key], log_x=True, log_y=True, title_x="iteration",
            groupby=wr.Config(VARIANT), groupby_aggfunc="mean", groupby_rangefunc="minmax", max_runs_to_show=100,
        )  # fmt: skip
    if panel.kind == "bar":  # follows the grouping of the runs
        return wr.BarPlot(title=panel.title, metrics=[panel.key], groupby_aggfunc="mean", groupby_rangefunc="minmax",
                          max_runs_to_show=100, max_bars_to_show=100)  # fmt: skip
    if panel.kind == "media":
        return wr.MediaBrowser(title=panel.title, media_keys=[panel.key], num_columns=1)
    return wr.WeavePanelSummaryTable(table_name=panel.key)


def _libraries() -> tuple[Any, Any, Any]:
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
        from wandb_workspaces import expr
    except ImportError as error:
        raise ConfigError(INSTALL) from error
    return ws, wr, expr


def _place(sweep: Path) -> tuple[str, str, str]:
    """Mode, project and group that the fits of a sweep were tracked with.

    Raises:
        DataError: The folder is no sweep, or no job's config can be read.
    """
    for run in read(sweep).runs:
        project, group = run.settings.get("tracking.project"), run.settings.get("tracking.group")
        if isinstance(project, str):
            return str(run.settings.get("tracking.mode")), project, str(group or sweep.absolute().name)
    raise DataError(f"{sweep}: no job's config.yaml names a W&B project")


def main(words: Sequence[str] | None = None) -> int:
    """Print the layout, and save it if asked to; 2 for bad input, 1 where W&B does not take it."""
    parser = argparse.ArgumentParser(prog="python -m pk_event_fit.workspace", description="W&B workspace of a sweep")
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("--save", action="store_true", help="save it in your W&B account")
    parser.add_argument("--entity", help="user or team it belongs to; else the account's own")
    arguments = parser.parse_args(words)
    try:
        mode, project, group = _place(arguments.sweep)
        print(describe(project, group), flush=True)
        if arguments.save:
            print(f"\nsaved  {tracking.patiently(lambda: save(project, group, arguments.entity))}", flush=True)
    except PKEventError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except Exception as error:
        print(f"failed: {tracking.one_line(error)}", file=sys.stderr, flush=True)
        return 1
    if arguments.save and mode != "online":
        print(f"the runs were noted {mode}; upload them: wandb sync {arguments.sweep}/*/wandb/offline-run-* "
              f"{arguments.sweep}/wandb/offline-run-*")  # fmt: skip
    return 0


if __name__ == "__main__":
    status = main()
    if tracking.Tracker.stuck:
        sys.stdout.flush()
        os._exit(status)  # W&B's exit hook would wait for its server for ever
    sys.exit(status)
