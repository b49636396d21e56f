"""What is read from a sweep's folder, whatever state it is in."""

import json
import os
import shutil

import numpy as np
import pytest
import sweeps
import yaml

from pk_event_fit.errors import DataError
from pk_event_fit.report.sweep import read

SMALL = {"frameworks": ("diffrax", "torchode"), "compiled": ("torchode",), "seeds": 2, "iterations": 20}
DAMAGE = {
    "empty": b"", "half": b'{"status": "comp', "binary": b"\x00\xff\xfe", "a list": b"[]", "null": b"null",
    "nothing in it": b"{}", "a number": b"3", "nan": b'{"status": "completed", "accuracy": {"rmse": NaN}}',
    "huge": b'{"status": "completed", "accuracy": {"rmse": 1e999}}',
    "a huge integer": b'{"seed": 1' + b"0" * 5000 + b"}",
    "deep": b'{"a":' * 100_000, "text for a number": b'{"status": "completed", "accuracy": {"rmse": "low"}}',
    "negative": b'{"status": "completed", "accuracy": {"rmse": -1, "mse": 1}}',
    "a table for text": b'{"status": {"completed": 1}}', "an odd status": b'{"status": "fine"}',
    "no accuracy": b'{"status": "completed", "performance": {}}',
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sweeps.make(tmp_path_factory.mktemp("whole") / "sweep", **SMALL)


@pytest.fixture
def sweep(tmp_path, whole):
    return shutil.copytree(whole, tmp_path / "sweep")


def run_of(found, name):
    return next(run for run in found.runs if run.name == name)


def about(found, words):
    """The problems that name something."""
    return [problem for problem in found.problems if words in problem]


def test_a_complete_sweep_has_no_problems(sweep):
    found = read(sweep)
    assert (found.complete, found.problems, found.differing) == (True, [], {})


def test_variants_are_in_the_plans_order(sweep):
    assert read(sweep).variants == ["diffrax", "torchode", "torchode-compiled"]


def test_runs_are_in_the_plans_order_and_know_what_they_are(sweep):
    told = [(run.name, run.variant, run.framework, run.compiled, run.seed, run.status) for run in read(sweep).runs]
    assert told == [
        ("0", "diffrax", "diffrax", False, 0, "completed"),
        ("1", "diffrax", "diffrax", False, 1, "completed"),
        ("2", "torchode", "torchode", False, 0, "completed"),
        ("3", "torchode", "torchode", False, 1, "completed"),
        ("torchode-compiled", "torchode-compiled", "torchode", True, 0, "completed"),
    ]


def test_a_run_holds_its_result_settings_history_and_provenance(sweep):
    run = read(sweep).runs[0]
    assert run.result == json.loads((sweep / "0" / "result.json").read_text())
    assert (run.settings["solver.rtol"], run.settings["training.iterations"]) == (1e-5, 20)
    assert run.provenance["cpu"] == sweeps.CPU
    assert run.history["iteration"].tolist() == list(range(1, 21))
    assert run.error is None


def test_probes_are_by_probe_and_variant_without_those_that_compiled_variants_do_not_take(sweep):
    both, plain = ["diffrax", "torchode", "torchode-compiled"], ["diffrax", "torchode"]
    told = {probe: list(contents) for probe, contents in read(sweep).probes.items()}
    assert told == {"speed": both, "precision": plain, "stability": plain, "repeat": both}


def test_a_sweep_without_a_plan_is_its_subfolders(tmp_path):
    found = read(sweeps.make(tmp_path, **SMALL, plan=False, probes=()))
    assert (found.plan, found.probes, found.complete) == (None, {}, True)
    assert [run.name for run in found.runs] == ["0", "1", "2", "3", "torchode-compiled"]
    assert found.variants == ["diffrax", "torchode", "torchode-compiled"]


def test_ten_subfolders_are_in_the_order_of_their_numbers(tmp_path):
    found = read(sweeps.make(tmp_path, frameworks=("diffrax",), seeds=11, iterations=2, plan=False, probes=()))
    assert [run.name for run in found.runs] == [str(k) for k in range(11)]


@pytest.mark.parametrize("made", [True, False], ids=["empty", "absent"])
def test_what_is_no_sweep_is_refused(tmp_path, made):
    folder = tmp_path / "none"
    if made:
        (folder / "0").mkdir(parents=True)
    with pytest.raises(DataError, match="none"):
        read(folder)


def test_a_file_is_no_sweep(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        read(tmp_path / "file")


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_result_is_named_and_gives_no_number(sweep, content):
    (sweep / "0" / "result.json").write_bytes(content)
    found = read(sweep)
    run = run_of(found, "0")
    assert (run.status, run.result) == ("damaged", {})
    assert "result.json" in run.error
    assert len(about(found, "0/result.json")) == 1
    assert [other.status for other in found.runs[1:]] == ["completed"] * 4
    assert not found.complete


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("probe", sweeps.PROBES)
def test_a_damaged_probe_is_named_and_gives_no_number(sweep, probe, content):
    (sweep / "probes" / probe / "diffrax.json").write_bytes(content)
    found = read(sweep)
    assert found.probes[probe]["diffrax"].keys() == {"status", "error"}
    assert found.probes[probe]["diffrax"]["status"] == "damaged"
    assert len(about(found, f"probes/{probe}/diffrax.json")) == 1


@pytest.mark.parametrize(
    "content", [b"", b"a: [", b"\xff\xfe\xfa", b"- 1", b"\x00", b"&a {b: *a}", b"{" * 10_000], ids=repr
)
def test_a_damaged_config_is_named(sweep, content):
    (sweep / "0" / "config.yaml").write_bytes(content)
    found = read(sweep)
    assert run_of(found, "0").settings == {}
    assert len(about(found, "0/config.yaml")) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"iteration,loss\n1,2\n", b"iteration,loss,gradient_norm,step_ms\n1,2,3\n", b"\xff", b"a\x00b\n",
     b"iteration,loss,gradient_norm,step_ms\n1,nan,3,4\n", b"iteration,loss,gradient_norm,step_ms\n",
     b"iteration,loss,gradient_norm,step_ms\n1,2,3,1e200\n"],
    ids=repr,
)  # fmt: skip
def test_a_damaged_history_is_named_and_not_used(sweep, content):
    (sweep / "0" / "history.csv").write_bytes(content)
    found = read(sweep)
    assert run_of(found, "0").history == {}
    assert len(about(found, "0/history.csv")) == 1


def test_a_history_that_ends_too_soon_is_not_used(sweep):
    path = sweep / "0" / "history.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:11]) + "\n")
    found = read(sweep)
    assert run_of(found, "0").history == {}
    assert about(found, "ends at iteration 10 of 20")


@pytest.mark.parametrize("name", ["weights.npz", "predictions.npz", "provenance.json", "history.csv", "config.yaml"])
def test_a_missing_file_is_named(sweep, name):
    (sweep / "0" / name).unlink()
    assert about(read(sweep), f"0/{name}: is missing")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"jobs": 3}', b'{"jobs": [3]}', b'{"variants": "diffrax"}', b'{"jobs": [{"seed": "0"}]}'],
    ids=repr,
)
def test_a_damaged_plan_leaves_the_subfolders(sweep, content):
    (sweep / "plan.json").write_bytes(content)
    found = read(sweep)
    assert found.plan is None
    assert [run.name for run in found.runs] == ["0", "1", "2", "3", "torchode-compiled"]
    assert about(found, "plan.json")


@pytest.mark.parametrize("name", ["..", ".", "", "../other", "/etc", "a/b", "a\\b", "a\0b", None], ids=repr)
def test_a_plan_does_not_lead_out_of_the_folder(sweep, name):
    sweeps.edit(sweep / "plan.json", lambda plan: plan["jobs"][0].update(folder=name))
    found = read(sweep)
    assert "0" not in [run.name for run in found.runs]
    assert about(found, "names no folder of this sweep")


def test_a_folder_outside_of_the_plan_is_named_and_left_out(sweep):
    shutil.copytree(sweep / "0", sweep / "stray")
    found = read(sweep)
    assert "stray" not in [run.name for run in found.runs]
    assert about(found, "stray/")


def test_a_job_that_was_killed_is_missing_and_named(sweep):
    sweeps.kill_job(sweep, "1")
    found = read(sweep)
    run = run_of(found, "1")
    assert (run.status, run.variant, run.seed, run.result) == ("missing", "diffrax", 1, {})
    assert about(found, "1/result.json")


def test_a_job_that_never_began_is_missing_and_named(sweep):
    sweeps.kill_job(sweep, "1", begun=False)
    found = read(sweep)
    assert (run_of(found, "1").status, run_of(found, "1").variant) == ("missing", "diffrax")
    assert about(found, "1/result.json")


def test_a_failed_job_says_why(sweep):
    sweeps.fail_job(sweep, "2", "the step size fell to nothing")
    found = read(sweep)
    assert (run_of(found, "2").status, run_of(found, "2").error) == ("failed", "the step size fell to nothing")
    assert about(found, "2/: failed: the step size fell to nothing")


def test_a_changed_tolerance_sets_its_job_apart(sweep):
    sweeps.change_tolerance(sweep, "3", 1e-3)
    found = read(sweep)
    assert found.differing == {"3": "solver.rtol=0.001"}
    assert "3" not in [run.name for run in found.comparable]
    assert about(found, "solver.rtol=0.001")


def test_where_nothing_is_usual_all_are_apart(tmp_path):
    folder = sweeps.make(tmp_path, frameworks=("diffrax",), seeds=2, iterations=2, probes=())
    sweeps.change_tolerance(folder, "1", 1e-3)
    assert read(folder).differing == {"0": "solver.rtol=1e-05", "1": "solver.rtol=0.001"}


@pytest.mark.parametrize(
    ("section", "key", "value"), [("tracking", "group", "other"), ("framework", "name", None), (None, "resume", "here")]
)
def test_what_may_differ_does_not_set_apart(sweep, section, key, value):
    path = sweep / "0" / "config.yaml"
    content = yaml.safe_load(path.read_text())
    (content[section] if section else content)[key] = value
    path.write_text(yaml.safe_dump(content))
    assert read(sweep).differing == {}


def test_other_data_set_a_job_apart(sweep):
    sweeps.edit(sweep / "0" / "provenance.json", lambda content: content.update(data_digest="ef"))
    assert read(sweep).differing == {"0": "data_digest=ef"}


def test_another_machine_is_named(sweep):
    sweeps.edit(sweep / "0" / "provenance.json", lambda content: content.update(cpu="Another"))
    found = read(sweep)
    assert about(found, "another cpu")
    assert found.differing == {}


@pytest.mark.parametrize("key", ["framework", "seed"])
def test_a_result_of_another_run_gives_no_number(sweep, key):
    sweeps.edit(sweep / "0" / "result.json", lambda content: content.update({key: {"seed": 7}.get(key, "torchode")}))
    found = read(sweep)
    assert (run_of(found, "0").status, run_of(found, "0").result) == ("damaged", {})
    assert about(found, f"more than one {key}")


def test_a_missing_probe_is_named(sweep):
    sweeps.remove_probe(sweep, "stability", "torchode")
    found = read(sweep)
    assert found.probes["stability"]["torchode"]["status"] == "missing"
    assert about(found, "probes/stability/torchode.json")


def test_a_failed_probe_says_why(sweep):
    sweeps.fail_probe(sweep, "speed", "diffrax", "no memory")
    found = read(sweep)
    assert found.probes["speed"]["diffrax"]["error"]["message"] == "no memory"
    assert about(found, "no memory")


def test_what_a_library_does_not_support_is_no_problem(sweep):
    sweeps.fail_probe(sweep, "repeat", "torchode", "cannot", status="unsupported")
    assert read(sweep).complete


def test_a_part_of_a_probe_that_failed_is_named(sweep):
    failed = {"status": "failed", "error": "diverged"}
    path = sweep / "probes"
    sweeps.edit(path / "speed" / "diffrax.json", lambda c: c["modes"].update(adjoint=failed))
    sweeps.edit(path / "precision" / "diffrax.json", lambda c: c["points"][0].update(failed))
    sweeps.edit(path / "stability" / "diffrax.json", lambda c: c["fields"]["true"].update(nothing=failed))
    told = " ".join(read(sweep).problems)
    for words in ("adjoint gradient failed: diverged", "rtol=0.001 failed: diverged", "true field, nothing failed"):
        assert words in told


def test_a_probe_of_another_variant_gives_no_number(sweep):
    shutil.copy(sweep / "probes/speed/torchode.json", sweep / "probes/speed/diffrax.json")
    assert read(sweep).probes["speed"]["diffrax"]["status"] == "damaged"


def test_damaged_curves_are_named(sweep):
    (sweep / "probes/stability/diffrax.npz").write_bytes(b"PK")
    assert about(read(sweep), "probes/stability/diffrax.npz")


def test_a_folder_or_a_pipe_in_place_of_a_file_is_named(sweep):
    (sweep / "0" / "result.json").unlink()
    (sweep / "0" / "result.json").mkdir()
    (sweep / "1" / "result.json").unlink()
    os.mkfifo(sweep / "1" / "result.json")
    found = read(sweep)
    assert [run.status for run in found.runs[:2]] == ["damaged", "damaged"]
    assert about(found, "is not a file")


@pytest.mark.parametrize("seed", range(8))
def test_noise_in_any_file_raises_nothing(sweep, seed):
    draws = np.random.default_rng(seed)
    for path in sorted(path for path in sweep.rglob("*") if path.is_file()):
        content = bytearray(path.read_bytes())
        for spot in draws.integers(0, len(content), 3):
            content[spot] = draws.integers(0, 256)
        path.write_bytes(bytes(content) if draws.random() < 0.7 else bytes(content[: draws.integers(len(content))]))
    assert read(sweep).problems
