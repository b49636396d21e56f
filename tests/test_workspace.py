"""The W&B workspace of a comparison: its panels ask for what the runs really note, and it is saved or says why not."""

import http.server
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
from leet import summary
from PIL import Image

from pk_event_fit import tracking, workspace
from pk_event_fit.config import Accelerator, Config, FrameworkChoice, Tracking
from pk_event_fit.data import Data
from pk_event_fit.errors import ConfigError
from pk_event_fit.fields import Mlp
from pk_event_fit.report.plots import FIGURES
from pk_event_fit.training import Training

ROOT = Path(__file__).resolve().parent.parent
AGGREGATE = """
import sys
from pathlib import Path
from pk_event_fit.tracking import track_sweep

sweep = Path(sys.argv[1])
tables = {name: (["a"], [[1.5]]) for name in ("summary", "measurements")}
track_sweep(
    mode="offline", sweep=sweep, project="pk_event_fit", tables=tables, figures=sorted(sweep.glob("figures/*.png")),
    files=[], summary={},
)
"""


def run(*words: str, home: Path, order: str | None = None, **environment: str) -> subprocess.CompletedProcess:
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    own |= {"HOME": str(home), "NETRC": str(home / "netrc"), "XDG_CONFIG_HOME": str(home), **environment}
    return subprocess.run(
        (sys.executable, *words), cwd=ROOT, env=own, input=order, capture_output=True, text=True, timeout=200
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """A sweep of one real fit and its aggregate, both followed offline."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "a sweep"
    config = Config(
        framework=FrameworkChoice(name="torchode"),
        accelerator=Accelerator(threads=1),
        data=Data(subjects=5, points=5, held_out=2, path=str(home / "cohort.npz")),
        model=Mlp(hidden=[4]),
        training=Training(iterations=3),
        tracking=Tracking(mode="offline"),
    )
    order = {"config": asdict(config), "folder": str(folder / "0"), "group": folder.name}
    done = run("-m", "pk_event_fit.job", home=home, order=json.dumps(order))
    assert done.returncode == 0, done.stderr
    (folder / "figures").mkdir()
    for name in FIGURES:
        Image.new("RGB", (8, 8)).save(folder / "figures" / f"{name}.png")
    done = run("-c", AGGREGATE, str(folder), home=home)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def noted(sweep) -> tuple[dict, dict]:
    """What W&B reads of the fit and of the aggregate."""
    return summary(sweep / "0"), summary(sweep)


@pytest.fixture(scope="module")
def spec() -> dict:
    """What would be sent to W&B; the group's name is as awkward as a folder's can be."""
    view = workspace.workspace("me", "pk_event_fit", AWKWARD)._to_model()
    return json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))["section"]


AWKWARD = 'it\'s "a" sweep \\ é'


def panels(spec: dict, kind: str) -> list[dict]:
    found = [panel for section in spec["panelBankConfig"]["sections"] for panel in section["panels"]]
    return [panel["config"] for panel in found if panel["viewType"] == kind]


def inside(tree: dict, path: str):
    """What a dotted name stands for; a KeyError where it stands for nothing."""
    for part in path.split("."):
        tree = tree[part]
    return tree


def test_every_curve_is_a_number_that_a_fit_notes_at_each_iteration(spec, noted):
    lines = panels(spec, "Run History Line Plot")
    assert {metric for line in lines for metric in line["metrics"]} == {"loss", "gradient_norm"}
    assert all(isinstance(noted[0]["summary"][metric], float) for line in lines for metric in line["metrics"])


def test_curves_have_log_axes_and_are_grouped_by_the_framework(spec, noted):
    for line in panels(spec, "Run History Line Plot"):
        assert (line["xLogScale"], line["yLogScale"], line["xAxis"]) == (True, True, "_step")
        key, envelope = line["groupBy"].split(".")
        assert envelope == "value"
        assert noted[0]["config"][key] == "torchode"


def test_every_bar_is_a_number_in_the_summary_of_a_fit(spec, noted):
    metrics = [metric for bar in panels(spec, "Bar Chart") for metric in bar["metrics"]]
    assert len(metrics) == 10
    assert [metric for metric in metrics if not isinstance(inside(noted[0]["summary"], metric), int | float)] == []


def test_every_medium_is_an_image_of_the_aggregate(spec, noted):
    keys = [key for browser in panels(spec, "Media Browser") for key in browser["mediaKeys"]]
    assert "figures/dosing_event" in keys
    assert [noted[1]["summary"][key]["_type"] for key in keys] == ["image-file"] * len(keys)


def test_every_table_is_one_of_the_aggregate(noted):
    keys = [panel.key for section in workspace.LAYOUT for panel in section.panels if panel.kind == "table"]
    assert [noted[1]["summary"][key]["_type"] for key in keys] == ["table-file"] * 2


def test_every_table_is_asked_for(spec):
    asked = json.dumps(panels(spec, "Weave"))
    assert all(f'"{name}"' in asked for name in ("tables/summary", "tables/measurements"))


def test_runs_are_grouped_by_settings_that_a_fit_notes(spec, noted):
    keys = [key["name"].replace(".value", "") for key in spec["runSets"][0]["grouping"]]
    assert keys == ["variant"]
    assert [inside(noted[0]["config"], key) for key in keys] == ["torchode"]


def test_runs_of_other_groups_are_left_out_whatever_the_name(spec):
    (rule,) = spec["runSets"][0]["filters"]["filters"]
    assert (rule["key"], rule["op"], rule["value"]) == ({"section": "run", "name": "group"}, "=", AWKWARD)


def test_the_fit_and_the_aggregate_are_in_the_group_that_is_asked_for(sweep, noted):
    mode, project, group = workspace._place(sweep)
    assert (mode, project, group) == ("offline", "pk_event_fit", "a sweep")
    assert {told["project"] for told in noted} == {project}


def test_no_loss_is_overwritten_by_its_own_figure(noted):
    assert isinstance(noted[0]["summary"]["loss"], float)
    assert noted[0]["summary"]["figures/loss"]["_type"] == "image-file"


def test_the_command_prints_every_panel_without_the_extra(sweep, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert workspace.main([str(sweep)]) == 0
    told = capsys.readouterr().out
    assert all(panel.key in told for section in workspace.LAYOUT for panel in section.panels)


def test_without_the_extra_one_line_says_what_to_install(sweep, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert workspace.main([str(sweep), "--save"]) == 2
    assert capsys.readouterr().err == f"error: {workspace.INSTALL}\n"


def test_without_an_account_saving_is_refused_in_one_line(sweep):
    done = run("-m", "pk_event_fit.workspace", str(sweep), "--save", home=sweep.parent)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no W&B account (")


@pytest.mark.parametrize("content", [None, "tracking: {mode: offline}", "]"])
def test_a_folder_that_names_no_project_is_refused_in_one_line(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "0").mkdir()
        (tmp_path / "0" / "config.yaml").write_text(content)
    assert workspace.main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}: ")


class Server(http.server.BaseHTTPRequestHandler):
    """Knows one user and takes every view; what it was sent is in `views`."""

    views: list[dict]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        query = json.loads(body) if self.path == "/graphql" else {}
        answer: dict = {"viewer": {"id": "1", "entity": "somebody", "flags": "{}", "teams": {"edges": []}}}
        if "mutation UpsertView2" in query.get("query", ""):
            self.views.append(query["variables"])
            answer = {"upsertView": {"view": {"id": "1", "name": "nw-abcdefghijk-v"}, "inserted": True}}
        text = json.dumps({"data": answer}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Server.views = []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def test_with_an_account_the_workspace_is_saved_and_its_address_told(sweep, server):
    address = f"http://127.0.0.1:{server.server_port}"
    done = run(
        "-m", "pk_event_fit.workspace", str(sweep), "--save",
        home=sweep.parent, WANDB_API_KEY="0123456789" * 4, WANDB_BASE_URL=address,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{address}/somebody/pk_event_fit?nw=abcdefghijk" in done.stdout
    assert f"wandb sync {sweep}" in done.stdout  # it was followed offline
    (view,) = Server.views
    assert (view["entityName"], view["projectName"]) == ("somebody", "pk_event_fit")
    names = [section["name"] for section in json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]]
    assert names == [section.name for section in workspace.LAYOUT]


def offered(monkeypatch, capsys, action, mode: str = "online") -> str:
    monkeypatch.setattr(workspace, "save", action)
    workspace.offer(mode=mode, project="p", group="g")
    return capsys.readouterr().err


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_nothing_is_saved_of_a_sweep_that_did_not_go_online(monkeypatch, capsys, mode):
    assert offered(monkeypatch, capsys, lambda *_: pytest.fail("was saved"), mode) == ""


def test_a_sweep_that_went_online_tells_the_address(monkeypatch, capsys):
    assert offered(monkeypatch, capsys, lambda *_: "https://there") == "W&B: workspace https://there\n"


@pytest.mark.parametrize("error", [ConfigError("no\nway"), RuntimeError("no way"), ValueError("no way")])
def test_a_failure_at_the_end_of_a_sweep_is_one_line(monkeypatch, capsys, error):
    def refused(*_):
        raise error

    assert offered(monkeypatch, capsys, refused) == "W&B: no workspace: no way\n"


def test_a_server_that_never_answers_does_not_hold_the_end_of_a_sweep(monkeypatch, capsys):
    never = threading.Event()
    monkeypatch.setattr(tracking, "PATIENCE", 0.05)
    monkeypatch.setattr(tracking.Tracker, "stuck", False)
    told = offered(monkeypatch, capsys, lambda *_: never.wait())
    assert told.startswith("W&B: no workspace: no answer within")
    never.set()


def test_the_title_takes_any_group(sweep):
    for group in (AWKWARD, "🚀", "", "x" * 300):
        workspace.workspace("me", "p", group)._to_model()
