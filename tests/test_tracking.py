"""Following a run: what is noted, and that nothing W&B does can stop a fit."""

import json
import os
import re
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from pk_event_fit import tracking
from pk_event_fit.tracking import Tracker, slug

ROWS = [{"iteration": k, "loss": 2.0**-k, "gradient_norm": float(k), "step_ms": 0.5} for k in range(1, 6)]
RESULT = {"status": "completed", "accuracy": {"rmse": 1.5}, "framework": "torchode"}

# A whole life of a tracker, as a program of its own: W&B keeps state for as long as a process lives.
LIFE = """
import json, sys
from pathlib import Path
from pk_event_fit import tracking

mode, folder, rows, result, patience = json.loads(sys.argv[1])
tracking.PATIENCE = patience
folder = Path(folder)
(folder / "history.csv").write_text("iteration,loss")
tracker = tracking.Tracker(
    mode=mode, folder=folder, project="pk_event_fit", group="a group", name="torchode-seed0", config={"seed": 3}
)
tracker.log(rows[:3])
tracker.log(rows[3:])
tracker.finish(result, [], "torchode seed/0", [folder / "history.csv", folder / "missing"])
print("the end")
"""


def life(mode: str, folder: Path, patience: float = 30, **environment: str) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    home = {"HOME": str(folder.parent), "NETRC": str(folder.parent / "netrc"), "XDG_CONFIG_HOME": str(folder.parent)}
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    words = json.dumps([mode, str(folder), ROWS, RESULT, patience])
    return subprocess.run(
        (sys.executable, "-c", LIFE, words),
        cwd=folder, env={**own, **home, **environment}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def records(folder: Path) -> list[dict]:
    """What W&B itself reads in the record of a run."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    line = (sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path))
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=True)
    return [json.loads(text) for text in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("offline") / "run"
    done = life("offline", folder)
    return done, folder, records(folder)


def test_an_offline_run_ends_without_a_word(offline):
    assert (offline[0].returncode, offline[0].stdout, offline[0].stderr) == (0, "the end\n", "")


def test_an_offline_record_holds_every_row_at_its_iteration(offline):
    items = [record["history"]["item"] for record in offline[2] if record["type"] == "history"]
    found = [{"iteration": item["_step"], **{k: v for k, v in item.items() if k[0] != "_"}} for item in items]
    assert found == ROWS


def test_an_offline_record_names_project_group_run_and_config(offline):
    (run,) = [record["run"] for record in offline[2] if record["type"] == "run"]
    assert (run["project"], run["run_group"], run["display_name"]) == ("pk_event_fit", "a group", "torchode-seed0")
    assert run["config"]["update"]["seed"] == 3


def test_an_offline_record_holds_the_result(offline):
    summary = {}
    for record in offline[2]:
        if record["type"] == "summary":
            summary |= record["summary"].get("update", {})
    assert {key: summary.get(key) for key in RESULT} == RESULT


def test_an_offline_record_holds_the_files_that_exist_as_one_artifact(offline):
    assert sum("torchode-seed-0" in json.dumps(record) for record in offline[2]) >= 1
    assert not any("missing" in json.dumps(record) for record in offline[2])


def test_an_offline_record_lies_in_the_folder_of_the_run(offline):
    _, folder, _ = offline
    assert {path.name for path in folder.iterdir()} == {"wandb", "history.csv"}


def test_nothing_is_written_where_following_is_disabled(tmp_path):
    done = life("disabled", tmp_path / "run")
    assert (done.stdout, done.stderr) == ("the end\n", "")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"history.csv"}


def test_nothing_is_imported_where_following_is_disabled(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker = Tracker(mode="disabled", folder=tmp_path, project="p", group="g", name="n", config={})
    tracker.log(ROWS)
    tracker.finish(RESULT, [], "a", [])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module", params=["no key", "no server"])
def fallen(request, tmp_path_factory):
    """Online, which cannot be: without an account, or without a server at the address."""
    folder = tmp_path_factory.mktemp("online") / "run"
    key = {"WANDB_API_KEY": "0123456789" * 4} if request.param == "no server" else {}
    return life("online", folder, WANDB_BASE_URL="http://127.0.0.1:9", **key), folder


def test_online_without_a_way_falls_back_and_goes_on(fallen):
    assert (fallen[0].returncode, fallen[0].stdout) == (0, "the end\n")


def test_online_without_a_way_says_so_and_how_to_upload_later(fallen):
    done, folder = fallen
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("W&B: offline instead of online (")
    place = re.fullmatch(r"W&B: upload later: wandb sync (.+)", lines[1]).group(1)
    assert (folder / place).is_dir()


def test_online_without_a_way_loses_no_row(fallen):
    items = [record["history"]["item"] for record in records(fallen[1]) if record["type"] == "history"]
    assert [item["loss"] for item in items] == [row["loss"] for row in ROWS]


class Broken(Exception):
    """What a library may raise that is not ours."""


class FakeRun:
    """A W&B run whose method of one name raises; what was logged stays."""

    def __init__(self, broken: str | None):
        self.rows, self.finished, self.summary, self.dir = [], False, self, "wandb/run/files"
        if broken is not None:
            setattr(self, broken, self._raise)

    def _raise(self, *_, **__):
        raise Broken("out of\norder")

    def log(self, values, step=None):
        self.rows.append((step, values))

    def update(self, values):
        pass

    def log_artifact(self, item):
        pass

    def finish(self, exit_code):
        self.finished = exit_code == 0


def fake(monkeypatch, run: FakeRun, **parts) -> None:
    """Put a W&B in place that gives that run."""
    module = types.SimpleNamespace(
        Settings=lambda **_: None,
        Api=lambda **_: types.SimpleNamespace(api_key="key"),
        init=lambda **_: run,
        Image=str,
        Artifact=lambda *_, **__: types.SimpleNamespace(add_file=lambda path: None),
    )
    for name, part in parts.items():
        setattr(module, name, part)
    monkeypatch.setitem(sys.modules, "wandb", module)


def follow(folder: Path, mode: str = "offline") -> Tracker:
    tracker = Tracker(mode=mode, folder=folder, project="p", group="g", name="n", config={})
    tracker.log(ROWS[:3])
    tracker.log(ROWS[3:])
    return tracker


def raising(**_):
    raise Broken("out of\norder")


@pytest.mark.parametrize("mode", ["offline", "online"])
@pytest.mark.parametrize("part", ["Settings", "init"])
def test_a_library_that_cannot_start_is_told_in_a_line_and_not_raised(tmp_path, monkeypatch, capsys, part, mode):
    fake(monkeypatch, FakeRun(None), **{part: raising})
    follow(tmp_path, mode).finish(RESULT, [], "a", [])
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "W&B: out of order"


@pytest.mark.parametrize("method", ["log", "update", "log_artifact", "finish"])
def test_a_run_that_breaks_is_told_once_and_not_raised(tmp_path, monkeypatch, capsys, method):
    fake(monkeypatch, FakeRun(method))
    (tmp_path / "history.csv").write_text("")
    follow(tmp_path).finish(RESULT, [], "a", [tmp_path / "history.csv"])
    assert capsys.readouterr().err == "W&B: out of order\n"


def test_a_missing_library_is_told_and_not_raised(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    follow(tmp_path).finish(RESULT, [], "a", [])
    assert capsys.readouterr().err.startswith("W&B: ")


def test_rows_that_come_before_the_start_is_over_are_kept_in_order(tmp_path, monkeypatch):
    run, ready = FakeRun(None), threading.Event()
    fake(monkeypatch, run, init=lambda **_: ready.wait() and run)
    tracker = follow(tmp_path, "online")
    assert run.rows == []
    ready.set()
    tracker.finish(RESULT, [], "a", [])
    assert [step for step, _ in run.rows if step is not None] == [row["iteration"] for row in ROWS]
    assert run.finished


@pytest.mark.parametrize("part", ["init", "finish"])
def test_a_server_that_never_answers_is_left(tmp_path, monkeypatch, capsys, part):
    run, never = FakeRun(None), threading.Event()
    monkeypatch.setattr(tracking, "PATIENCE", 0.1)
    if part == "init":
        fake(monkeypatch, run, init=lambda **_: never.wait())
    else:
        fake(monkeypatch, run)
        run.finish = lambda exit_code: never.wait()
    follow(tmp_path, "online").finish(RESULT, [], "a", [])
    assert "no answer" in capsys.readouterr().err
    never.set()


SLUGS = {
    "torchode-seed0": "torchode-seed0",
    "a b/c": "a-b-c",
    "../../etc/passwd": "-..-etc-passwd",
    "/root": "-root",
    ".hidden": "hidden",
    "...": "run",
    "": "run",
    "é\n\x00*": "-",
    "a" * 100: "a" * 64,
    "._-": "_-",
}


@pytest.mark.parametrize("name", SLUGS)
def test_a_name_becomes_a_safe_one(name):
    assert slug(name) == SLUGS[name]


@pytest.mark.parametrize("name", [*SLUGS, "-.a", "/.a", "\u0661", "a\\b", "C:\\x", "\u202ea"])
def test_a_safe_name_keeps_to_the_rule(name):
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", slug(name))
