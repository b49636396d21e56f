"""Probes: what is called exact is exact, turns are taken, and a probe that dies says so."""

import json
import time
from dataclasses import asdict

import numpy as np
import pytest

from pk_event_fit import study
from pk_event_fit.compartments import TYPICAL, TwoCompartment
from pk_event_fit.config import Config, FrameworkChoice, from_dict
from pk_event_fit.data import Data, load, split
from pk_event_fit.errors import ConfigError, SolverFailure
from pk_event_fit.fields import Mlp
from pk_event_fit.frameworks.base import Interval
from pk_event_fit.probes import exact, precision, speed, stability, train
from pk_event_fit.probes.bench import Bench
from pk_event_fit.probes.truth import field_flow, linear_flow, trajectory
from pk_event_fit.simulate import Design, Population, simulate
from pk_event_fit.study import Study


def order(tmp_path, probe="speed", framework="torchode", **changes):
    config = Config(
        framework=FrameworkChoice(name=framework),
        data=Data(subjects=4, points=12, held_out=1, path=str(tmp_path / "cohort.npz"), **changes),
        model=Mlp(hidden=[5], activation="tanh"),
        study=Study(calls=1, iterations=2),
    )
    plain = asdict(config)
    plain["accelerator"]["precision"] = "float32"
    about = {"probe": probe, "variant": framework, "framework": framework, "compiled": False, "config": plain}
    paths = {"out": str(tmp_path / f"{probe}.json"), "exact": str(tmp_path / "exact.npz"), "weights": None}
    return {**about, **paths}


@pytest.fixture(scope="module", autouse=True)
def few_points():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "ADJOINT_POINTS", 5)
        yield


@pytest.fixture(scope="module")
def reference(tmp_path_factory, few_points):
    """The bench, what the exact probe says, and the folder with its file."""
    folder = tmp_path_factory.mktemp("exact")
    bench = Bench(order(folder, "exact", "diffrax"))
    return bench, finished(exact.probe(bench)), folder


def finished(generator):
    """What a probe returns, when it always gets its turn."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def test_the_true_field_is_exact_through_boluses():
    population, design = Population(subjects=3), Design(points=7)
    cohort = simulate(population, design)
    hours = [np.linspace(0, 1, 7) * 12.0] * 4
    found = trajectory(linear_flow(cohort.parameters), cohort.schedule.intervals, np.zeros((3, 2)), hours)
    np.testing.assert_allclose(np.stack(found, 1), cohort.amounts, rtol=1e-12, atol=1e-12)


def test_both_flows_agree_through_an_infusion():
    rate = np.array([[[0.0, 0.0]], [[1000.0, 3.0]], [[0.0, 0.0]]])
    table = Interval(
        np.arange(3), np.array([[0.0], [2.0], [2.1]]), np.array([[2.0], [0.1], [5.0]]), np.zeros((3, 1, 2)), rate
    )
    hours = [np.array([1.0, 2.0]), np.array([0.03]), np.array([0.0, 4.0])]
    parameters = np.array([TYPICAL])
    closed = trajectory(linear_flow(parameters), table, np.ones((1, 2)), hours)

    def field(xp, params, t, y, covariates):
        return TwoCompartment()(xp, params, t, y, parameters[0])

    numeric = trajectory(field_flow(field, {}), table, np.ones((1, 2)), hours)
    for one, other in zip(closed, numeric, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_the_exact_gradient_is_that_of_central_differences(reference):
    bench, told, folder = reference
    with np.load(folder / "exact.npz") as stored:
        gradient = {name.removeprefix("all."): stored[name] for name in stored if name.startswith("all.")}
        few = stored["loss.few"]
    chosen = bench.cohort.take(bench.fitted)
    single = Interval(*(leaf if k == 0 or leaf is None else leaf[:, :1] for k, leaf in enumerate(chosen.intervals)))
    hours = [bench.cohort.grid * 12.0] * 4

    def errors(params):
        found = trajectory(field_flow(bench.field, params), single, chosen.initial[:1], hours)
        return np.stack(found, 1) - chosen.amounts

    at_start = errors(bench.params)
    assert (at_start**2).mean() == pytest.approx(told["loss"], rel=1e-8)
    assert (at_start[:, :, exact.few(12)] ** 2).mean() == pytest.approx(few, rel=1e-8)
    for name, values in gradient.items():
        index, sides = np.unravel_index(abs(values).argmax(), values.shape), []
        for sign in (1, -1):
            moved = {key: value.copy() for key, value in bench.params.items()}
            moved[name][index] += sign * 1e-4
            sides.append(errors(moved))
        # a^2 - b^2 = (a - b)(a + b): of two losses of 11,285 mg^2 the difference would be nothing but rounding.
        difference = ((sides[0] - sides[1]) * (sides[0] + sides[1])).mean()
        # The first layer is saturated and weighs a millionth of the whole, which is what its error is relative to.
        assert values[index] == pytest.approx(difference / 2e-4, rel=1e-5, abs=1e-9 * told["norm"])
    assert told["uncertainty"] < 1e-5


def test_speed_counts_times_and_compares_both_modes(reference):
    found = finished(speed.probe(Bench(order(reference[2], framework="torchdiffeq"))))
    for mode in ("direct", "direct_few", "adjoint"):
        part = found["modes"][mode]
        assert part["status"] == "completed", part["error"]
        assert len(part["forward_ms"]) == len(part["gradient_ms"]) == found["rounds"] == 5
        assert ("step_ms" in part) == (mode == "direct")
        assert part["gradient_error"] < 1e-2
        assert part["points"] == (12 if mode == "direct" else 5)
        assert part["evaluations"] > 4 * 6
    assert found["modes"]["adjoint"]["evaluations"] > found["modes"]["direct"]["evaluations"]
    assert found["modes"]["direct"]["backward_memory_mb"] > found["modes"]["adjoint"]["backward_memory_mb"]


def test_a_gradient_that_is_wrong_is_seen(reference, monkeypatch):
    right = exact.flat
    monkeypatch.setattr(speed, "flat", lambda g: right(g) * (1.25 if g["bias_0"].dtype == np.float32 else 1.0))
    found = finished(speed.probe(Bench(order(reference[2]))))
    assert found["modes"]["direct"]["gradient_error"] == pytest.approx(0.25, rel=0.05)


def test_errors_fall_with_the_tolerance(tmp_path):
    found = finished(precision.probe(Bench(order(tmp_path, "precision"))))
    errors = [point["error_mg"] for point in found["points"]]
    assert [point["rtol"] for point in found["points"]] == pytest.approx([10.0**-k for k in range(3, 10)])
    assert (np.diff(np.log(errors)) < 0).all()
    assert errors[-1] < 1e-6
    assert all(len(point["seconds"]) == 5 for point in found["points"])


def test_the_true_field_of_a_file_is_not_known(tmp_path):
    load(Data(subjects=4, points=12, path=str(tmp_path / "cohort.npz")))
    bench = Bench(order(tmp_path, "precision", source="file"))
    with pytest.raises(ConfigError, match="known for simulated cohorts only"):
        finished(precision.probe(bench))


def test_only_a_solver_that_is_told_of_the_dose_sees_it(tmp_path):
    found = finished(stability.probe(Bench(order(tmp_path, "stability", "torchdiffeq"))))["fields"]["true"]
    assert found["restart"]["jump_mg"] == pytest.approx(100, abs=1e-3)
    assert found["restart"]["error_max_mg"] < 0.01
    assert found["jump_ts"]["error_max_mg"] < 0.1
    assert found["jump_ts"]["jump_error_max_mg"] < 0.1
    # At rest nothing makes the solver take short steps: it passes over all three infusions.
    assert found["nothing"]["error_max_mg"] > 50
    assert found["restart"]["steps_after_dose"] > 0.9
    assert [found[name]["missed"] for name in ("restart", "jump_ts", "nothing")] == [False, False, True]


def test_what_cannot_be_told_of_a_dose_says_so(tmp_path):
    found = finished(stability.probe(Bench(order(tmp_path, "stability"))))
    assert found["fields"]["true"]["jump_ts"]["status"] == "unsupported"
    assert "no way to be told" in found["fields"]["learned"]["jump_ts"]["error"]
    assert found["fields"]["learned"]["restart"]["error_max_mg"] < 0.1
    with np.load(tmp_path / "stability.npz") as curves:
        assert {"times", "times.infusion", "exact.true", "true.restart", "learned.nothing"} <= set(curves.files)
        assert len(curves["true.restart"]) == len(curves["times"])
        assert (np.diff(curves["times"]) == 0).sum() == 1  # the dose has two sides


def test_a_short_fit_repeats_and_depends_on_what_it_fits(tmp_path):
    digests = [finished(train.probe(Bench(order(tmp_path, "train"))))["weights_digest"] for _ in range(2)]
    other = finished(train.probe(Bench({**order(tmp_path, "train"), "config": _longer(order(tmp_path, "train"))})))
    assert digests[0] == digests[1] != other["weights_digest"]


def _longer(asked):
    config = from_dict(asked["config"])
    config.study.iterations = 3
    return asdict(config)


def test_held_out_subjects_are_drawn_by_the_seed_and_cover_the_cohort(tmp_path):
    ten = load(Data(subjects=10, points=2, path=str(tmp_path / "ten.npz")))
    fitted, held = split(ten, Data(subjects=10, held_out=3, seed=5))
    assert sorted([*fitted, *held]) == list(range(10))
    assert len(held) == 3
    again = split(ten, Data(subjects=10, held_out=3, seed=5))
    np.testing.assert_array_equal(held, again[1])
    assert any(not np.array_equal(held, split(ten, Data(subjects=10, held_out=3, seed=seed))[1]) for seed in (6, 7, 8))


def test_held_out_subjects_do_not_touch_the_fit(tmp_path):
    bench = Bench(order(tmp_path, "train"))
    digests = [finished(train.probe(bench))["weights_digest"]]
    for subjects in (bench.held_out, bench.fitted):
        bench.cohort.amounts[subjects] += 5
        digests.append(finished(train.probe(bench))["weights_digest"])
    assert digests[0] == digests[1] != digests[2]


def test_nobody_left_to_fit_is_refused(tmp_path):
    three = load(Data(subjects=3, points=2, path=str(tmp_path / "three.npz")))
    with pytest.raises(ConfigError, match="leave subjects to fit"):
        Data(subjects=3, held_out=3)
    with pytest.raises(ConfigError, match="the cohort has 3"):
        split(three, Data(source="file", path="x.npz", held_out=3))


def test_probes_take_turns(tmp_path):
    orders = [order(tmp_path / name, "speed", "torchode") for name in ("one", "two")]
    for each in orders:
        (tmp_path / each["out"]).parent.mkdir()
    study.take_turns(orders)
    found = [json.loads((tmp_path / name / "speed.json").read_text()) for name in ("one", "two")]
    assert [one["status"] for one in found] == ["completed", "completed"]
    assert found[0]["weights_digest"] == found[1]["weights_digest"]
    assert found[0]["environment"]["packages"]["torch"]


def test_every_other_round_goes_backwards(monkeypatch):
    worked = []

    class Fake:
        def __init__(self, name):
            self.name, self.left, self.over = name["variant"], 4, False

        def turn(self):
            worked.append(self.name)
            self.left -= 1
            self.over = self.left == 0

        def stop(self):
            pass

    monkeypatch.setattr(study, "Contestant", Fake)
    study.take_turns([{"probe": "speed", "variant": name} for name in "abc"])
    prepared, *rounds = ["".join(worked[k : k + 3]) for k in range(0, 12, 3)]
    assert prepared == "abc"
    assert rounds == ["abc", "cba", "abc"]


def test_a_probe_that_is_killed_leaves_a_failed_file(tmp_path):
    contestant = study.Contestant(order(tmp_path))
    time.sleep(0.2)
    contestant._process.kill()
    assert contestant.turn() is False
    told = json.loads((tmp_path / "speed.json").read_text())
    assert told["status"] == "failed"
    assert "ended with code -9" in told["error"]["message"]


def test_a_probe_that_says_nothing_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "PATIENCE", 0.01)
    study.take_turns([order(tmp_path)])
    told = json.loads((tmp_path / "speed.json").read_text())
    assert told["status"] == "failed"
    assert "no sign of life" in told["error"]["message"]


def test_what_a_library_cannot_do_is_unsupported(tmp_path):
    asked = order(tmp_path, "stability", "torchdiffeq")
    asked["config"]["solver"]["method"] = "tsit5"
    study.take_turns([asked])
    told = json.loads((tmp_path / "stability.json").read_text())
    assert all(part["status"] == "unsupported" for part in told["fields"]["true"].values())
    assert "does not have it" in told["fields"]["true"]["restart"]["error"]


def test_a_line_that_is_no_sign_is_no_end(tmp_path):
    contestant = study.Contestant(order(tmp_path))
    contestant._lines.put("a library says hello\n")
    assert contestant.turn() is True
    contestant.stop()


def test_an_exact_solution_that_ends_early_is_a_failure():
    def blows_up(xp, params, t, y, covariates):
        return y**2

    table = Interval(np.arange(1), np.zeros((1, 1)), np.full((1, 1), 2.0), np.zeros((1, 1, 1)))
    with pytest.raises(SolverFailure, match="DOP853"):
        trajectory(field_flow(blows_up, {}), table, np.ones((1, 1)), [np.array([0.5, 2.0])])


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"rounds": 4}, "study.rounds=4"),
        ({"probes": ["x"]}, "there is no x"),
        ({"compiled": ["diffrax"]}, "always compiled"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(change, names):
    with pytest.raises(ConfigError, match=names):
        Study(**change)
