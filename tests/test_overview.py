"""What a cohort holds, in a table and in a figure."""

import numpy as np
import pytest

from pk_event_fit.data import Data, forecast, load, summary
from pk_event_fit.data.__main__ import main
from pk_event_fit.data.overview import told
from pk_event_fit.errors import ConfigError
from pk_event_fit.report.cohorts import draw_cohort
from pk_event_fit.report.figures import quantity

ROWS = """ID,TIME,AMT,CMT,RATE,DV,MDV,CENS
a,0,100,1,0,.,1,0
a,1,0,2,0,3.0,0,0
a,1,0,2,0,5.0,0,0
a,6,0,2,0,0.1,1,1
a,12,50,2,25,.,1,0
a,15,0,1,0,4.0,0,0
b,0,60,2,0,.,1,0
b,2,0,2,0,1.5,0,0
b,8,0,2,0,.,1,0
"""
TABLE = {"source": "table", "compartments": ["depot", "central"], "measured": "central"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text(ROWS)
    return tmp_path


@pytest.fixture
def table():
    return load(Data(**TABLE, path="mine.csv"))


def test_a_table_is_summed_up_compartment_by_compartment(table):
    depot, central = summary(table)
    assert depot == ("depot", 1, 1, 0, 0, 4.0, 4.0, 4.0, 1, 15.0)
    assert central == ("central", 2, 3, 2, 1, 1.5, 3.0, 5.0, 2, 15.0)


def test_a_grid_is_summed_up_compartment_by_compartment():
    cohort = load(Data(subjects=3, points=5))
    central, peripheral = summary(cohort)
    assert central[:5] == ("central", 3, 60, 0, 0)
    assert central[5:8] == tuple(f(cohort.amounts[..., 0]) for f in (np.min, np.median, np.max))
    assert (central.doses, peripheral.doses, central.horizon) == (9, 0, 48.0)


def test_what_is_hidden_of_a_grid_is_missing():
    found = summary(forecast(load(Data(subjects=3, points=5)), 2))[0]
    assert (found.observations, found.missing) == (45, 15)


def test_an_unobserved_compartment_has_no_least_value():
    found = summary(load(Data(source="table", dataset="indometacin", compartments=["central", "other"],
                              measured="central")))[1]  # fmt: skip
    assert found.subjects == 0
    assert np.isnan([found.minimum, found.median, found.maximum]).all()


def test_infusions_that_a_steady_state_implies_are_no_doses(folder):
    rows = "ID,TIME,AMT,CMT,RATE,II,SS,DV\na,0,100,1,5,12,1,.\na,9,.,1,.,.,.,4.0\n"
    (folder / "steady.csv").write_text(rows)
    cohort = load(Data(source="table", path="steady.csv", compartments=["central"], measured="central"))
    assert summary(cohort)[0].doses == 1


def test_columns_are_aligned_and_tell_their_units(table):
    lines = told(summary(table), "mg/L", "h")
    assert len({len(line) for line in lines}) == 1
    assert "minimum (mg/L)" in lines[0]
    assert "horizon (h)" in lines[0]


def test_the_command_prints_the_table_and_the_split(capsys):
    assert main(["data.subjects=10", "data.points=3", "data.folds=5", "data.fold=1"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].split()[:3] == ["central", "10", "120"]
    assert "8 subjects are fitted, 2 held out" in printed


def test_the_command_draws_where_it_is_asked(folder):
    assert main(["data.subjects=3", "data.points=3", "--figure", "out/look.png"]) == 0
    assert (folder / "out/look.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("words", [["data.subjects=0"], ["data=file", "data.path=none.npz"], ["--figure", "a.svg"]])
def test_bad_words_leave_nothing(words, folder, capsys):
    before = sorted(folder.rglob("*"))
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert sorted(folder.rglob("*")) == before


def test_the_same_cohort_is_the_same_figure(table, folder):
    for name in "ab":
        draw_cohort(folder / f"{name}.png", table)
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()


def test_a_prediction_is_in_the_figure(folder):
    cohort = load(Data(subjects=3, points=5))
    draw_cohort(folder / "a.png", cohort)
    draw_cohort(folder / "b.png", cohort, 2 * cohort.amounts)
    assert (folder / "a.png").read_bytes() != (folder / "b.png").read_bytes()


class Twice:
    """Predicts twice what each subject would have with no doses and no elimination at all."""

    def predict_cohort(self, cohort):
        return np.broadcast_to(2 * cohort.initial[:, None, None] + 7.0, cohort.amounts.shape)


def test_a_cohort_is_plotted_as_points_with_the_lines_of_a_model(folder, table):
    figure = table.plot(predictor=Twice(), path="a.png", unit="mg/L")
    assert (folder / "a.png").read_bytes()[:4] == b"\x89PNG"
    axis = figure.axes[1]
    lines = {line.get_label(): line for line in axis.lines}
    seen, model = lines["observed"], lines["predicted"]
    assert (seen.get_linestyle(), seen.get_marker()) == ("None", "o")
    assert (model.get_linestyle(), model.get_marker()) == ("-", "None")
    np.testing.assert_allclose(np.sort(seen.get_xdata()), [1.0])
    # Between observations too: from the first row to the last observation of the first subject.
    x, y = (leaf[np.isfinite(leaf)] for leaf in model.get_data())
    assert (x.min(), x.max(), set(y)) == (0.0, 15.0, {7.0})
    assert len(x) > 50


def test_infusions_are_spans_and_boluses_lines(table):
    axis = table.plot().axes[1]
    (span,) = axis.patches
    assert (span.get_x(), span.get_x() + span.get_width()) == (12.0, 14.0)
    assert [line.get_xdata()[0] for line in axis.lines if line.get_linestyle() == ":"] == [0.0]


def test_a_prediction_is_plotted_where_it_is_one_of_arrays():
    cohort = load(Data(subjects=3, points=5))
    figure = cohort.plot(2 * cohort.amounts)
    assert sum(line.get_linestyle() == "-" for line in figure.axes[0].lines) == 3


def test_a_plot_that_is_no_png_is_refused(table, folder):
    with pytest.raises(ConfigError, match=r"a\.pdf"):
        table.plot(path="a.pdf")


def test_a_prediction_of_another_shape_is_refused(table, folder):
    with pytest.raises(ConfigError, match="predicted has shape"):
        draw_cohort(folder / "a.png", table, np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("compartment", "label"),
    [("central", "central (mg)"), ("effect", "effect (equivalent mg)"), ("response", "response")],
)
def test_an_effect_site_and_a_response_are_no_amounts(compartment, label):
    assert quantity(compartment, "mg") == label
