"""Known kinetics along any history, and the command that draws them: closed forms, the oracle, files, refusals."""

import csv
import math

import numpy as np
import pytest
from clinic import simulate as oracle
from histories import as_records, draw
from scipy.special import lambertw

from pk_event_fit.compartments import KINETICS, steady_state
from pk_event_fit.dosing import Dose, Infusion, Reset, schedule
from pk_event_fit.errors import ConfigError, SolverFailure
from pk_event_fit.report.regimen import broken
from pk_event_fit.simulate import exact
from pk_event_fit.simulate.__main__ import main
from pk_event_fit.simulate.exact import curve, follow, given
from pk_event_fit.simulate.regimen import entry_of, event_of, events_of

ONE, DEPOT, SATURABLE = KINETICS["pk_1c"], KINETICS["pk_2c_depot"], KINETICS["pk_1c_mm"]


def typical(kinetics):
    return np.array(kinetics.typical)


def states(kinetics, history, times, **options):
    """Amounts after all that happens at each time, `[T, D]`."""
    size = len(kinetics.compartments)
    plan = schedule([history], compartments=size, start=0.0, end=float(max(times)) + 1, times=times, **options)
    return follow(kinetics, typical(kinetics), plan)


def read(folder):
    with open(folder / "simulation.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


# Known kinetics along a schedule


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_random_histories_agree_with_the_oracle(seed, size):
    rows, model = draw(np.random.default_rng([size, seed]), 20, size)
    rows = [row._replace(covariate=1.0) for row in rows]
    clearance, volume, flow, peripheral, absorption = model.matrix
    kinetics = KINETICS["pk_2c"] if size == 2 else DEPOT
    parameters = [clearance, volume, flow, peripheral, *([] if size == 2 else [absorption])]
    own = {name: [getattr(model, name)] for name in model._fields if name != "matrix"}
    found = follow(kinetics, np.array(parameters), schedule(as_records([rows]), compartments=size, **own))
    wanted = oracle(rows, model)
    seen = [row.kind in (0, 2) for row in rows]
    # Exponentials and one linear solve a steady state: 1e-13 or so of the largest amount.
    np.testing.assert_allclose(found, wanted[seen], rtol=0, atol=1e-9 * max(np.abs(wanted).max(), 1e-6))


def test_a_saturable_bolus_follows_the_lambert_function():
    vmax, km, volume = SATURABLE.typical
    hours, half = np.linspace(0.5, 60.0, 20), km * volume
    found = states(SATURABLE, [Dose(0.0, 200.0)], hours)[:, 0]
    wanted = half * lambertw(200.0 / half * np.exp((200.0 - vmax * hours) / half)).real
    # Some tens of steps within 1e-10, and values between them to one order less.
    np.testing.assert_allclose(found, wanted, rtol=1e-8)


def test_a_steady_state_is_that_of_the_closed_form():
    found = states(DEPOT, [Dose(0.0, 100.0, every=12.0, steady_state=True)], [0.0, 5.0])
    wanted = [steady_state(DEPOT, typical(DEPOT), amount=100.0, interval=12.0, phase=phase) for phase in (0.0, 5.0)]
    # Two ways to the same linear system, whose condition is below 1e3.
    np.testing.assert_allclose(found, wanted, rtol=1e-11)


def test_a_saturable_steady_state_is_what_a_long_course_leads_to():
    at_once = states(SATURABLE, [Dose(0.0, 20.0, every=12.0, steady_state=True)], [0.0])
    at_last = states(SATURABLE, [Dose(0.0, 20.0, every=12.0, count=101)], [1200.0])
    # A cycle leaves half of any distance, so that one that changes by 1e-9 is as near as that.
    np.testing.assert_allclose(at_once, at_last, rtol=1e-8)


def test_more_than_can_be_eliminated_has_no_steady_state():
    with pytest.raises(ConfigError, match="no steady state where 5 mg/h are given, with vmax 5"):
        states(SATURABLE, [Dose(0.0, 60.0, every=12.0, steady_state=True)], [0.0])


def test_cycles_come_to_an_end(monkeypatch):
    monkeypatch.setattr(exact, "CYCLES", 2)
    with pytest.raises(SolverFailure, match=r"no steady state was reached in 2 cycles \(subject 0\)"):
        states(SATURABLE, [Dose(0.0, 50.0, every=12.0, steady_state=True)], [0.0])


def test_without_elimination_there_is_no_steady_state():
    plan = schedule([[Dose(0.0, 1.0, every=12.0, steady_state=True)]], compartments=1, start=0.0, end=1.0, times=[0.0])
    with pytest.raises(ConfigError, match="not all eliminated"):
        follow(ONE, np.array([0.0, 10.0]), plan)


def test_what_a_steady_state_does_not_reach_need_not_be_eliminated():
    kinetics = KINETICS["pk_2c"]
    plan = schedule([[Dose(0.0, 10.0, every=12.0, steady_state=True)]], compartments=2, start=0.0, end=1.0, times=[0.0])
    found = follow(kinetics, np.array([1.0, 10.0, 0.0, 20.0]), plan)
    # A geometric series of a dose every 12 h at 0.1/h.
    np.testing.assert_allclose(found, [[10.0 / (1 - math.exp(-1.2)), 0.0]], rtol=1e-12, atol=1e-12)


def test_a_response_rests_before_the_first_dose():
    kinetics = KINETICS["pk_1c_indirect"]
    found = states(kinetics, [], [0.0, 30.0])
    # kin / kout of the typical patient; the field there is 0 to a rounding error.
    np.testing.assert_allclose(found, [[0.0, 100.0]] * 2, rtol=1e-12)


def test_every_subject_has_its_own_parameters_and_initial_amounts():
    plan = schedule([[], []], compartments=1, start=0.0, end=5.0, times=[5.0])
    found = follow(ONE, np.array([[1.0, 10.0], [2.0, 10.0]]), plan, np.array([[100.0], [50.0]]))
    np.testing.assert_allclose(found[:, 0], [100 * math.exp(-0.5), 50 * math.exp(-1.0)], rtol=1e-12)


def test_a_reset_empties_the_body_and_stops_what_runs():
    found = states(ONE, [Infusion(0.0, 100.0, duration=10.0), Reset(5.0)], [4.0, 5.0, 12.0])[:, 0]
    assert found[0] > 0
    assert found[1:].tolist() == [0.0, 0.0]


def test_parameters_of_another_shape_are_refused():
    plan = schedule([[], []], compartments=1, start=0.0, end=5.0, times=[5.0])
    with pytest.raises(ConfigError, match=r"parameters: has shape \[3, 2\]; needs \[2\] or \[2, 2\]"):
        follow(ONE, np.ones((3, 2)), plan)


def test_a_schedule_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="pk_1c: has 1 compartments; the schedule has 2"):
        follow(ONE, typical(ONE), schedule([[]], compartments=2, start=0.0, end=5.0, times=[5.0]))


def test_a_curve_has_both_sides_of_each_jump_and_every_other_time_once():
    history = [Dose(6.0, 10.0), Infusion(3.0, 5.0, duration=1.5)]
    found = curve(ONE, typical(ONE), [history], points=5, start=0.0, end=12.0)
    assert found.time.tolist() == [0.0, 3.0, 4.5, 6.0, 6.0, 9.0, 12.0]
    assert found.side.tolist() == ["", "", "", "pre", "post", "", ""]


def test_a_curve_of_several_subjects_is_that_of_each():
    histories = [[Dose(0.0, 10.0)], [Dose(1.0, 20.0), Dose(3.0, 5.0)]]
    both = curve(ONE, typical(ONE), histories, points=4, start=0.0, end=9.0)
    for number, history in enumerate(histories):
        alone, own = curve(ONE, typical(ONE), [history], points=4, start=0.0, end=9.0), both.subject == number
        np.testing.assert_array_equal(both.time[own], alone.time)
        # The same products, whatever the padding beside them.
        np.testing.assert_allclose(both.amounts[own], alone.amounts, rtol=1e-14)


def test_doses_are_told_as_they_arrive():
    history = [Dose(1.0, 10.0), Infusion(2.0, 8.0, duration=4.0), Reset(5.0), Dose(30.0, 1.0)]
    found = given(curve(ONE, typical(ONE), [history], start=0.0, end=20.0, bioavailability=0.5, lag=0.5))
    # Half of the infusion's amount at its rate of 2 mg/h takes 2 h.
    assert found.tolist() == [[0, 0, 1.5, 1.5, 5.0], [0, 0, 2.5, 4.5, 4.0]]


def test_a_line_is_broken_where_a_time_comes_twice():
    times, values = broken(np.array([0.0, 1.0, 1.0, 2.0]), np.array([3.0, 2.0, 5.0, 4.0]))
    np.testing.assert_array_equal(times, [0.0, 1.0, np.nan, 1.0, 2.0])
    np.testing.assert_array_equal(values, [3.0, 2.0, np.nan, 5.0, 4.0])


# Regimens as they are written


def test_entries_are_events():
    entries = [
        {"time": 0, "amount": 100, "compartment": 1, "every": 12, "count": 6, "steady_state": True},
        {"time": 24.5, "amount": 200, "duration": 2, "compartment": 2},
        {"time": 3, "amount": 50, "rate": 10},
        {"reset": 48},
    ]
    assert events_of(entries) == [
        Dose(0.0, 100.0, 1, 12.0, 6, True), Infusion(24.5, 200.0, duration=2.0, compartment=2),
        Infusion(3.0, 50.0, rate=10.0), Reset(48.0),
    ]  # fmt: skip


def test_words_make_an_entry():
    assert entry_of("time=0, amount=1e2 count=6 steady_state=true", "--dose") == {
        "time": 0, "amount": 100.0, "count": 6, "steady_state": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"time": 0, "amout": 5}, "unknown key 'amout'=5; choose of time, amount"),
        ({"reset": 1, "time": 2}, "unknown key 'time'=2; reset stands alone"),
        ({"amount": 5}, "time is missing; there is amount"),
        ({"time": 0}, "amount is missing; there is time"),
        ({}, "time is missing; there is nothing"),
        ({"time": "0", "amount": 5}, "time='0': must be a finite number"),
        ({"time": True, "amount": 5}, "time=True: must be a finite number"),
        ({"time": 0, "amount": None}, "amount=None: must be a finite number"),
        ({"time": math.nan, "amount": 5}, "time=nan: must be a finite number"),
        ({"time": 10**400, "amount": 5}, "must be a finite number"),
        ({"time": 0, "amount": 5, "count": 2.0, "every": 1}, "count=2.0: must be a whole number"),
        ({"time": 0, "amount": 5, "count": 0}, "count=0: must be a whole number, 1 to 1000000"),
        ({"time": 0, "amount": 5, "count": True}, "count=True: must be a whole number"),
        ({"time": 0, "amount": 5, "compartment": 0}, "compartment=0: must be a whole number, 1"),
        ({"time": 0, "amount": 5, "count": 3}, "every=0.0: a course needs an interval above 0"),
        ({"time": 0, "amount": 5, "steady_state": True}, "every=0.0: a course needs an interval above 0"),
        ({"time": 0, "amount": 5, "every": -1}, "every=-1.0: must be 0 or more"),
        ({"time": 0, "amount": 5, "steady_state": 1}, "steady_state=1: must be true or false"),
        ({"time": 0, "amount": 5, "duration": 1, "rate": 5}, "duration=1, rate=5: give one of the two"),
        ({"time": 0, "amount": 5, "duration": 0}, "duration=0: must be above 0"),
        ({"reset": False}, "reset=False: must be a finite number"),
        ("time=0", "is 'time=0'; needs values by key"),
    ],
    ids=str,
)
def test_a_wrong_entry_is_refused_with_its_number_its_key_and_what_there_is(entry, message):
    with pytest.raises(ConfigError) as refused:
        events_of([{"reset": 0}, entry])
    assert str(refused.value).startswith("doses, entry 1: ")
    assert message in str(refused.value)


@pytest.mark.parametrize("entries", [None, "time=0", {"time": 0, "amount": 5}, 5], ids=str)
def test_what_is_no_list_of_entries_is_refused(entries):
    with pytest.raises(ConfigError, match=r"data\.doses: is .* needs a list"):
        events_of(entries, "data.doses")


@pytest.mark.parametrize(("text", "word"), [("time", "'time': must be"), ("time=1 time=2", "time is there twice")])
def test_words_that_make_no_entry_are_refused(text, word):
    with pytest.raises(ConfigError, match=f"--dose: {word}"):
        entry_of(text, "--dose")


def test_a_text_that_is_no_number_is_refused_as_it_is_written():
    with pytest.raises(ConfigError, match="--dose: amount='much': must be"):
        event_of(entry_of("time=0 amount=much", "--dose"), "--dose")


# The command line


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a course of boluses into one compartment, where an older file and another's were."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "simulation.csv").write_text("old")
    (folder / "notes.txt").write_text("mine")
    words = ["--model", "pk_1c", "--set", "clearance=2", "--dose", "time=0 amount=100 every=12 count=3", "--log"]
    assert main([*words, "--bioavailability", "0.5", "--end", "36", "--points", "10", "--out", str(folder)]) == 0
    return folder


def test_the_table_has_its_columns(drawn):
    assert list(read(drawn)[0]) == ["subject", "time_h", "side", "central_mg", "concentration_mg_per_L"]


def test_the_table_has_the_exact_amounts(drawn):
    rows = read(drawn)
    hours = column(rows, "time_h")
    before = np.array([row["side"] == "pre" for row in rows])
    wanted = np.zeros(len(rows))
    for dose in (0.0, 12.0, 24.0):
        since = hours - dose
        wanted += np.where((since > 0) | ((since == 0) & ~before), 50 * np.exp(-0.2 * np.maximum(since, 0)), 0.0)
    # Exponentials from dose to dose, each right to some rounding errors.
    np.testing.assert_allclose(column(rows, "central_mg"), wanted, rtol=1e-12)


def test_the_concentration_is_the_amount_over_the_volume(drawn):
    rows = read(drawn)
    np.testing.assert_array_equal(column(rows, "concentration_mg_per_L"), column(rows, "central_mg") / 10.0)


def test_the_table_has_both_sides_of_each_dose(drawn):
    sides = [(float(row["time_h"]), row["side"]) for row in read(drawn) if row["side"]]
    assert sides == [(time, side) for time in (0.0, 12.0, 24.0) for side in ("pre", "post")]


def test_the_figures_are_whole_and_other_files_stay(drawn):
    assert (drawn / "simulation.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert (drawn / "simulation.svg").read_text().rstrip().endswith("</svg>")
    assert (drawn / "notes.txt").read_text() == "mine"
    assert len(list(drawn.iterdir())) == 4


def test_what_happens_is_told(tmp_path, capsys):
    words = ["--model", "pk_2c_depot", "--infuse", "time=1 amount=20 duration=2 compartment=2", "--reset", "6"]
    assert main([*words, "--dose", "time=0 amount=100", "--lag", "0.5,0,0", "--out", str(tmp_path / "new")]) == 0
    printed = capsys.readouterr().out
    for told in ("100 mg into depot", "20 mg infused into central", "infusion into central ends", "reset", "Cmax"):
        assert told in printed
    assert [line.split()[0] for line in printed.splitlines()[2:6]] == ["0.5", "1", "3", "6"]
    assert str(tmp_path / "new" / "simulation.svg") in printed


def test_a_file_of_entries_and_words_add_up(tmp_path):
    (tmp_path / "regimen.yaml").write_text("- {time: 0, amount: 10}\n- {reset: 20}\n")
    words = ["--model", "pk_1c", "--regimen", str(tmp_path / "regimen.yaml"), "--dose", "time=0 amount=5"]
    assert main([*words, "--end", "30", "--points", "2", "--out", str(tmp_path)]) == 0
    assert column(read(tmp_path), "central_mg")[[0, 1, 3, 4]].tolist() == [0.0, 15.0, 0.0, 0.0]


def test_all_subjects_of_a_table_are_followed_to_their_last_rows(tmp_path, capsys):
    lines = ["ID,TIME,AMT,CMT,DV", "A,0,100,1,.", "A,7,.,.,4.5", "B,2,50,1,.", "B,5,.,2,1", "B,9,.,.,3"]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    words = ["--model", "pk_2c", "--table", str(tmp_path / "table.csv"), "--points", "3", "--out", str(tmp_path)]
    assert main(words) == 0
    rows = read(tmp_path)
    times = {name: [float(row["time_h"]) for row in rows if row["subject"] == name] for name in "AB"}
    assert times == {"A": [0.0, 0.0, 3.5, 7.0], "B": [2.0, 2.0, 5.0, 5.5, 9.0]}
    assert "observations that are not of compartment 1, and not drawn: 1" in capsys.readouterr().out


def test_every_model_is_listed_with_its_parameters_typical_values_and_units(capsys):
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert [line.partition(":")[0] for line in printed.splitlines() if line[0] != " "] == list(KINETICS)
    assert "pk_1c_mm: central\n    vmax 5 mg/h\n    km 5 mg/L\n    central_volume 10 L\n" in printed


def test_an_effect_site_is_told_as_a_concentration(tmp_path):
    words = ["--model", "pk_1c_effect", "--dose", "time=0 amount=100", "--points", "9", "--out", str(tmp_path)]
    assert main(words) == 0
    rows, kinetics = read(tmp_path), KINETICS["pk_1c_effect"]
    clearance, volume, ke0 = kinetics.typical
    hours, rate = column(rows, "time_h"), clearance / volume
    wanted = 100 / volume * ke0 / (ke0 - rate) * (np.exp(-rate * hours) - np.exp(-ke0 * hours))
    # Of a difference of exponentials below 10 mg/L.
    np.testing.assert_allclose(column(rows, "effect_mg_per_L"), wanted, rtol=0, atol=1e-12)


DOSED = ["--model", "pk_1c", "--dose", "time=0 amount=100"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dose", "time=0 amount=1"], "--model: needs the name of a model"),
        (["--model", "pk_9c", "--dose", "time=0 amount=1"], "kinetics=pk_9c: choose one of pk_1c"),
        (["--model", "pk_1c"], "nothing is given"),
        ([*DOSED, "--set", "klearance=2"], "--set klearance=2: pk_1c has clearance, central_volume"),
        ([*DOSED, "--set", "clearance"], "'clearance': must be key=value"),
        ([*DOSED, "--set", "clearance=high"], "clearance='high': must be a finite number"),
        ([*DOSED, "--set", "clearance=-2"], "clearance=-2: must be 0 or more"),
        ([*DOSED, "--set", "central_volume=0"], "a rate or the concentration is not finite"),
        ([*DOSED, "--dose", "time=0 amont=1"], "--dose 'time=0 amont=1': unknown key 'amont'=1"),
        ([*DOSED, "--dose", "time=0 amount=-1"], "regimen: subject 0, event 1: AMT -1: must not be negative"),
        ([*DOSED, "--dose", "time=0 amount=1 compartment=2"], "compartment 2: choose 1 to 1"),
        ([*DOSED, "--dose", "time=-1 amount=1"], "before the start"),
        ([*DOSED, "--infuse", "time=0 amount=1"], "an infusion needs duration or rate"),
        ([*DOSED, "--reset", "nan"], "--reset: time=nan: must be a finite number"),
        ([*DOSED, "--lag", "soon"], "--lag soon: 'soon' is no number"),
        ([*DOSED, "--lag", "-1"], "--lag -1: must be 0 or more"),
        ([*DOSED, "--lag", "0,1"], "--lag 0,1: needs one number, or 1: central"),
        ([*DOSED, "--end", "-5"], "the end must come after the start"),
        ([*DOSED, "--end", "inf"], "the time axis"),
        ([*DOSED, "--points", "1"], "--points 1: must be 2 to 100000"),
        ([*DOSED, "--regimen", "none.yaml"], "none.yaml"),
        ([*DOSED, "--regimen", "broken.yaml"], "broken.yaml: cannot be read as YAML"),
        ([*DOSED, "--regimen", "text.yaml"], "text.yaml: is 'a text'; needs a list"),
        ([*DOSED, "--regimen", "wrong.yaml"], "wrong.yaml, entry 1: amount='1': must be a finite number"),
        (["--model", "pk_1c", "--table", "none.csv"], "none.csv: there is no such file"),
        (["--model", "pk_1c", "--table", "wrong.csv"], "wrong.csv, line 2: TIME 'noon': must be a finite number"),
        (["--model", "pk_1c", "--table", "third.csv"], "third.csv: subject 0, line 2: compartment 3"),
        ([*DOSED, "--table", "wrong.csv"], "--table wrong.csv: has doses of its own; leave out --dose"),
        ([*DOSED, "--set", "clearance=0", "--dose", "time=0 amount=1 every=9 steady_state=true"], "not all eliminated"),
        (["--model", "michaelis_menten", "--dose", "time=0 amount=1"], "counts in mmol/L and min"),
        ([*DOSED, "--out", "text.yaml"], "--out text.yaml: is there, and is no folder"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value[2:]),
)
def test_bad_input_ends_with_2_and_a_message_and_leaves_no_file(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("- {time: 0")
    (tmp_path / "text.yaml").write_text("a text")
    (tmp_path / "wrong.yaml").write_text("- {reset: 1}\n- {time: 0, amount: '1'}\n")
    (tmp_path / "wrong.csv").write_text("ID,TIME,AMT\n1,noon,5\n")
    (tmp_path / "third.csv").write_text("ID,TIME,AMT,CMT\n1,0,5,3\n1,9,.,1\n")
    before = sorted(tmp_path.rglob("*"))
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert message in told.err
    assert "Traceback" not in told.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_cannot_be_written_ends_with_1(tmp_path, capsys):
    (tmp_path / "simulation.png").mkdir()
    assert main([*DOSED, "--points", "2", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["simulation.png"]
