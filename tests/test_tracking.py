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
from leet import media, of_type, records, summary
from PIL import Image

from pk_event_fit import tracking
from pk_event_fit.errors import ConfigError
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


# The same of a sweep. Two of its parts are bad.
SUM = """
import json, sys
from pathlib import Path
from pk_event_fit import tracking

mode, folder, tables, summary, patience = json.loads(sys.argv[1])
tracking.PATIENCE = patience
folder = Path(folder)
figures = [folder / "figures" / name for name in ("dosing_event.png", "damaged.png", "missing.png")]
files = [folder / "summary.md", folder / "missing.md"]
tracking.track_sweep(
    mode=mode, sweep=folder, project="pk_event_fit", tables=tables, figures=figures, files=files, summary=summary
)
print("the end", tracking.Tracker.stuck)
"""
SUMMARY = {"fastest": "diffrax", "step_ms": {"diffrax": 1.5, "torchode": 3.5}}
COLUMNS, CELLS = ["variant", "rmse_mg"], [["diffrax", 1.5], ["torchode-compiled", "failed"], ["torchdyn", None]]
TABLES = {"summary": [COLUMNS, CELLS], "torn": [["a"], [[1, 2]]], "measurements": [["metric"], [["rmse"]] * 40]}


def program(text: str, folder: Path, *words, **environment: str) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    home = {"HOME": str(folder.parent), "NETRC": str(folder.parent / "netrc"), "XDG_CONFIG_HOME": str(folder.parent)}
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(
        (sys.executable, "-c", text, json.dumps(words)),
        cwd=folder, env={**own, **home, **environment}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def life(mode: str, folder: Path, patience: float = 30, **environment: str) -> subprocess.CompletedProcess:
    return program(LIFE, folder, mode, str(folder), ROWS, RESULT, patience, **environment)


def sum_up(mode: str, folder: Path, patience: float = 30, **environment: str) -> subprocess.CompletedProcess:
    (folder / "figures").mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(folder / "figures" / "dosing_event.png")
    (folder / "figures" / "damaged.png").write_bytes(b"\x89PNG")
    (folder / "summary.md").write_text("| variant |")
    return program(SUM, folder, mode, str(folder), TABLES, SUMMARY, patience, **environment)


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


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept") / "a sweep"
    done = sum_up("offline", folder)
    return done, folder, records(folder), summary(folder)


def test_a_sweep_s_run_is_named_and_grouped_by_its_folder_and_says_that_it_is_an_aggregate(swept):
    (run,) = of_type(swept[2], "run")
    assert (run["display_name"], run["run_group"], run["job_type"]) == ("a sweep", "a sweep", "aggregate")
    assert run["project"] == "pk_event_fit"


def test_a_fit_s_run_says_that_it_is_a_fit(offline):
    assert [run["job_type"] for run in of_type(offline[2], "run")] == ["fit"]


def test_a_sweep_s_history_holds_its_tables_and_figures_in_one_step(swept):
    (row,) = [record["item"] for record in of_type(swept[2], "history")]
    kinds = {key.removesuffix("._type"): kind for key, kind in row.items() if key.endswith("._type")}
    assert kinds == {
        "tables/summary": "table-file", "tables/measurements": "table-file", "figures/dosing_event": "image-file",
    }  # fmt: skip


def test_a_sweep_s_table_is_read_back_cell_by_cell(swept):
    entry = swept[3]["summary"]["tables/summary"]
    table = json.loads(media(swept[1], entry).read_text())
    assert (table["columns"], table["data"]) == (COLUMNS, CELLS)
    assert (entry["nrows"], entry["ncols"]) == (3, 2)


def test_a_sweep_s_figure_is_kept_to_the_byte(swept):
    entry = swept[3]["summary"]["figures/dosing_event"]
    assert (entry["width"], entry["height"]) == (30, 20)
    assert media(swept[1], entry).read_bytes() == (swept[1] / "figures" / "dosing_event.png").read_bytes()


def test_a_sweep_s_headline_numbers_are_in_the_summary(swept):
    assert {key: swept[3]["summary"].get(key) for key in SUMMARY} == SUMMARY
    assert (swept[3]["state"], swept[3]["exit_code"]) == ("finished", 0)


def test_a_sweep_s_files_that_exist_are_an_artifact(swept):
    (artifact,) = [item for item in of_type(swept[2], "artifact") if item["type"] == "run"]
    assert artifact["name"] == "a-sweep"
    assert [entry["path"] for entry in artifact["manifest"]["contents"]] == ["summary.md"]


def test_a_damaged_figure_and_a_torn_table_are_told_by_name_and_cost_nothing_else(swept):
    told = swept[0].stderr.splitlines()
    assert [line.split(":")[1].strip() for line in told] == ["tables/torn", "figures/damaged"]
    assert (swept[0].returncode, swept[0].stdout) == (0, "the end False\n")


def test_all_that_wandb_keeps_of_a_sweep_is_below_its_wandb_folder(swept):
    _, folder, found, _ = swept
    assert {path.name for path in folder.iterdir()} == {"wandb", "figures", "summary.md"}
    places = [entry["local_path"] for item in of_type(found, "artifact") for entry in item["manifest"]["contents"]]
    assert len(places) == 3
    assert all(Path(place).is_relative_to(folder / "wandb") and Path(place).exists() for place in places)


def test_nothing_of_a_sweep_is_noted_where_following_is_disabled(tmp_path):
    done = sum_up("disabled", tmp_path / "run")
    assert (done.stdout, done.stderr) == ("the end False\n", "")
    assert not (tmp_path / "run" / "wandb").exists()


def test_a_sweep_without_an_account_falls_back_says_how_to_sync_and_loses_nothing(tmp_path):
    done = sum_up("online", tmp_path / "run", WANDB_BASE_URL="http://127.0.0.1:9")
    first, second, *_ = done.stderr.splitlines()
    assert first.startswith("W&B: offline instead of online (")
    assert Path(re.fullmatch(r"W&B: upload later: wandb sync (.+)", second).group(1)).is_dir()
    assert {"tables/summary", "figures/dosing_event", "fastest"} <= set(summary(tmp_path / "run")["summary"])


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
    monkeypatch.setenv("WANDB_DATA_DIR", os.devnull)  # the tracker sets it where nobody has, and that would stay
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


def summed(folder: Path, **parts) -> None:
    parts = {"tables": {}, "figures": [], "files": [], "summary": {}, **parts}
    tracking.track_sweep(mode="offline", sweep=folder, project="p", **parts)


@pytest.mark.parametrize("part", ["Settings", "init", "Table", "Image", "Artifact"])
def test_no_part_of_the_library_can_stop_the_end_of_a_sweep(tmp_path, monkeypatch, capsys, part):
    fake(monkeypatch, FakeRun(None), **{"Table": dict, part: lambda *_, **__: raising()})
    (tmp_path / "a.png").write_text("")
    summed(tmp_path, tables={"t": (["a"], [[1]])}, figures=[tmp_path / "a.png"], files=[tmp_path / "a.png"])
    about = {"Table": "tables/t: ", "Image": "figures/a: "}.get(part, "")
    assert capsys.readouterr().err == f"W&B: {about}out of order\n"


def test_a_server_that_never_answers_does_not_hold_a_sweep(tmp_path, monkeypatch, capsys):
    run, never = FakeRun(None), threading.Event()
    monkeypatch.setattr(tracking, "PATIENCE", 0.1)
    monkeypatch.setattr(Tracker, "stuck", False)
    fake(monkeypatch, run)
    run.finish = lambda exit_code: never.wait()
    summed(tmp_path)
    assert f"upload later: wandb sync {tmp_path}/wandb/*run-*" in capsys.readouterr().err
    assert Tracker.stuck
    never.set()


def test_the_group_of_the_fits_is_kept_where_it_is_not_the_folder_s_name(tmp_path, monkeypatch):
    given = {}
    fake(monkeypatch, FakeRun(None), init=lambda **settings: given.update(settings) or FakeRun(None))
    summed(tmp_path / "s", group="elsewhere")
    assert (given["group"], given["name"], given["job_type"]) == ("elsewhere", "s", "aggregate")


@pytest.mark.parametrize(("api", "said"), [
    (lambda **_: raising(), "out of order"),
    (lambda **_: types.SimpleNamespace(api_key=""), "no API key"),
    (lambda **_: types.SimpleNamespace(api_key="key", default_entity=None), "does not know this API key"),
])  # fmt: skip
def test_no_account_is_a_clear_error(monkeypatch, api, said):
    fake(monkeypatch, FakeRun(None), Api=api)
    with pytest.raises(ConfigError, match=f"no W&B account.*{said}"):
        tracking.account()


def test_an_account_is_named(monkeypatch):
    fake(monkeypatch, FakeRun(None), Api=lambda **_: types.SimpleNamespace(api_key="key", default_entity="me"))
    assert tracking.account() == "me"


def test_patience_gives_what_the_action_gives():
    assert tracking.patiently(lambda: 3) == 3
    with pytest.raises(Broken):
        tracking.patiently(raising)


def test_patience_ends(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(tracking, "PATIENCE", 0.05)
    monkeypatch.setattr(Tracker, "stuck", False)
    with pytest.raises(TimeoutError, match="no answer within"):
        tracking.patiently(never.wait)
    assert Tracker.stuck
    never.set()


def test_a_time_out_of_the_action_s_own_leaves_nothing_stuck(monkeypatch):
    def late():
        raise TimeoutError("the server was late")

    monkeypatch.setattr(Tracker, "stuck", False)
    with pytest.raises(TimeoutError, match="the server was late"):
        tracking.patiently(late)
    assert not Tracker.stuck


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
