"""The comparison's figures, from sweeps made by hand: whole, small, damaged and empty."""

import itertools
import re
import shutil

import pytest
import sweeps
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from pk_event_fit.report import plots
from pk_event_fit.report.ink import COLOURS, Look, compact, figures
from pk_event_fit.report.plots import CAPTIONS, FIGURES, write_figures
from pk_event_fit.report.sweep import read

NAMES = (
    "training_time", "memory", "accuracy", "loss_curves", "dosing_event", "treatments", "work_precision", "stability",
    "gradients", "dashboard",
)  # fmt: skip
OF_FITS = ("accuracy", "loss_curves", "memory", "training_time", "dashboard")
COLOURED = [name for name in NAMES if name != "stability"]  # a table, whose colours are magnitudes


def hurt(folder):
    """Every kind of damage at once."""
    sweeps.corrupt_result(folder, "0")
    sweeps.change_tolerance(folder, "2")
    sweeps.kill_job(folder, "3")
    for name in sweeps.jobs(folder, "torchode"):
        sweeps.fail_job(folder, name)
    sweeps.fail_probe(folder, "speed", "torchdyn")
    sweeps.remove_probe(folder, "stability", "torchdiffeq")
    sweeps.corrupt_probe(folder, "precision", "torchode")
    (folder / "probes/stability/torchdyn.npz").write_bytes(b"PK")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return sweeps.make(tmp_path_factory.mktemp("whole") / "sweep", iterations=60)


@pytest.fixture(scope="module")
def cases(tmp_path_factory, whole):
    folder = tmp_path_factory.mktemp("cases")
    five = (*sweeps.FRAMEWORKS, "fused")
    two = {"frameworks": ("diffrax", "torchode"), "compiled": ()}
    return {
        "whole": read(whole),
        "one seed": read(sweeps.make(folder / "one", seeds=1, iterations=30, held_out=False)),
        "two variants": read(sweeps.make(folder / "two", **two, iterations=30, rounds=1)),
        "five frameworks": read(sweeps.make(folder / "five", frameworks=five, iterations=30, seeds=3)),
        "an odd name": read(sweeps.make(folder / "odd", frameworks=("diffrax", "a_very_$long_^name_"), iterations=9)),
        "one iteration": read(sweeps.make(folder / "short", **two, iterations=1, seeds=1)),
        "damaged": read(hurt(shutil.copytree(whole, folder / "hurt"))),
    }


def texts(figure):
    """What is written in a figure."""
    found = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible())
    return [artist for artist in found if artist.get_text().strip()]


def written(figure):
    return "\n".join(artist.get_text() for artist in texts(figure))


def colours(figure):
    """Every colour of a line, bar or legend handle."""
    found = set()
    for artist in figure.findobj():
        for name in ("get_color", "get_facecolor", "get_edgecolor", "get_markeredgecolor"):
            if hasattr(artist, name) and not isinstance(artist, Text):
                value = getattr(artist, name)()
                for one in [value] if isinstance(value, str) or len(value) in (3, 4) else value:
                    found.add(to_hex(one).upper())
    return found


def figure_of(cases, case, name, drawn={}):  # noqa: B006
    """A figure, laid out; kept, since that takes a second."""
    key = (id(cases), case, name)
    if key not in drawn:
        drawn[key] = FIGURES[name](cases[case])
        drawn[key].draw_without_rendering()
    return drawn[key]


CASES = ("whole", "one seed", "two variants", "five frameworks", "an odd name", "one iteration", "damaged")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_every_figure_can_be_drawn(cases, case, name):
    figure = figure_of(cases, case, name)
    assert figure.axes


def test_the_figures_are_those_promised_each_with_its_caption():
    assert tuple(FIGURES) == tuple(CAPTIONS) == NAMES


def test_captions_are_sentences_without_numbers():
    for caption in CAPTIONS.values():
        assert re.fullmatch(r"[A-Z][^.0-9]+\.", caption)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_measured_is_no_figure(tmp_path, name):
    folder = sweeps.make(tmp_path / "none", frameworks=("diffrax",), compiled=(), seeds=1, iterations=3, probes=())
    sweeps.kill_job(folder, "0")
    assert FIGURES[name](read(folder)) is None


@pytest.mark.parametrize("name", NAMES)
def test_without_probes_there_are_the_figures_of_fits(tmp_path, name):
    folder = sweeps.make(tmp_path / "fits", frameworks=("diffrax",), compiled=(), seeds=1, iterations=3, probes=())
    assert (FIGURES[name](read(folder)) is not None) == (name in OF_FITS)


def test_without_fits_there_are_the_figures_of_probes(tmp_path):
    folder = sweeps.make(tmp_path / "probes", frameworks=("diffrax",), compiled=(), seeds=1, iterations=3)
    sweeps.corrupt_result(folder, "0")
    drawn = {name for name, draw in FIGURES.items() if draw(read(folder)) is not None}
    assert drawn == set(NAMES) - {"accuracy", "loss_curves"}


@pytest.mark.parametrize("name", COLOURED)
def test_a_framework_has_its_own_colour_in_every_figure(cases, name):
    assert set(COLOURS.values()) <= colours(figure_of(cases, "five frameworks", name))


@pytest.mark.parametrize("name", COLOURED)
def test_a_colour_does_not_depend_on_who_else_is_there(cases, name):
    found = colours(figure_of(cases, "two variants", name))
    own = {COLOURS["diffrax"], COLOURS["torchode"]}
    assert own <= found
    assert not found & (set(COLOURS.values()) - own)


def test_a_plug_in_has_a_colour_of_its_own_and_a_compiled_variant_its_frameworks():
    look = Look(["diffrax", "mine", "diffrax-compiled", "yours", "mine-compiled"])
    assert look.colour("diffrax-compiled") == look.colour("diffrax")
    assert look.colour("mine-compiled") == look.colour("mine")
    assert len({look.colour(name) for name in ("mine", "yours", *COLOURS)}) == len(COLOURS) + 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["whole", "damaged"])
def test_no_text_is_smaller_than_nine_points(cases, case, name):
    assert min(artist.get_fontsize() for artist in texts(figure_of(cases, case, name))) >= 9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["whole", "five frameworks", "damaged"])
def test_no_text_covers_another_or_leaves_the_figure(cases, case, name):
    figure = figure_of(cases, case, name)
    idle = {id(label) for axis in figure.axes for side in (axis.xaxis, axis.yaxis) for label in _idle(side)}
    shown = [artist for artist in texts(figure) if id(artist) not in idle]
    # An annotation's own extent holds its leader as well.
    boxes = [(Text.get_window_extent(artist).padded(-1), artist.get_text()) for artist in shown]
    assert [(a[1], b[1]) for a, b in itertools.combinations(boxes, 2) if a[0].overlaps(b[0])] == []
    assert [text for box, text in boxes if box.x0 < -1 or box.x1 > figure.bbox.x1 + 1] == []


def _idle(side):
    """Labels of ticks outside of the axis' view, or left for later use."""
    low, high = sorted(side.get_view_interval())
    kept = [] if not side.axes.axison else [tick for tick in side._update_ticks() if low <= tick.get_loc() <= high]
    shown = {id(label) for tick in kept for label in (tick.label1, tick.label2) if label.get_visible()}
    every = [label for tick in [*side.majorTicks, *side.minorTicks] for label in (tick.label1, tick.label2)]
    return [label for label in every if id(label) not in shown]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("training_time", "failed"), ("memory", "failed"), ("accuracy", "failed"), ("gradients", "failed"),
        ("stability", "missing"), ("stability", "cannot do that"), ("treatments", "cannot do that"),
        ("work_precision", "torchode: damaged"), ("dosing_event", "torchdiffeq: missing"),
        ("accuracy", "has other settings: solver.rtol=0.001"), ("loss_curves", "0 (diffrax) damaged"),
        ("dashboard", "7 of 11 fits completed"), ("treatments", "missed the dose"),
    ],
)  # fmt: skip
def test_what_is_lacking_is_said_in_the_figure(cases, name, told):
    assert told in " ".join(written(figure_of(cases, "damaged", name)).split())


@pytest.mark.parametrize("name", ["training_time", "memory", "accuracy", "work_precision", "gradients", "loss_curves"])
def test_units_are_named(cases, name):
    labels = [side.get_text() for axis in figure_of(cases, "whole", name).axes for side in (axis.xaxis.label,)]
    labels = [label for label in labels if label]
    assert all(re.search(r"\((ms|s|MB|mg|h|%)\)|iteration|relative", label) for label in labels)
    assert labels


def test_a_bar_is_as_long_as_the_mean(cases):
    (axis, *_) = FIGURES["training_time"](cases["whole"]).axes
    step = cases["whole"].probes["speed"]["diffrax"]["modes"]["direct"]["step_ms"]
    assert axis.patches[0].get_width() == pytest.approx(sum(step) / len(step))


def test_a_run_with_other_settings_is_not_in_the_mean(tmp_path):
    folder = sweeps.make(tmp_path / "s", frameworks=("diffrax",), compiled=(), seeds=3, iterations=3, probes=())
    sweeps.change_tolerance(folder, "2")
    dots = FIGURES["accuracy"](read(folder)).axes[0].lines[0].get_xdata()
    kept = [run.result["accuracy"]["rmse"] for run in read(folder).runs[:2]]
    assert list(dots) == kept


def test_the_same_sweep_gives_the_same_bytes(tmp_path, whole, monkeypatch):
    few = ("training_time", "treatments", "loss_curves")
    monkeypatch.setattr(plots, "FIGURES", {name: FIGURES[name] for name in few})
    one, two = (write_figures(read(whole), tmp_path / name) for name in ("one", "two"))
    assert tuple(one) == few
    for name in few:
        assert one[name].read_bytes() == two[name].read_bytes()
        assert one[name].with_suffix(".png").read_bytes() == two[name].with_suffix(".png").read_bytes()
        assert b"<dc:date>" not in one[name].read_bytes()
        assert b"<text" not in one[name].read_bytes()  # paths, which look the same everywhere


def test_svgs_need_nothing_from_elsewhere(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(plots, "FIGURES", {"memory": FIGURES["memory"]})
    svg = write_figures(read(whole), tmp_path)["memory"].read_text()
    assert set(re.findall(r'href="(.)', svg)) <= {"#"}
    assert "<title>" in svg


def test_a_figure_of_what_is_no_longer_measured_is_removed(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(plots, "FIGURES", {"memory": lambda sweep: None})
    for kind in ("svg", "png"):
        (tmp_path / f"memory.{kind}").write_text("old")
    assert write_figures(read(whole), tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(26.31, "26.3"), (129.4, "129"), (1.1, "1.10"), (0.075, "0.0750"), (999.9, "1,000"), (12345.6, "12,346")],
)
def test_a_number_has_three_figures(value, text):
    assert figures(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1e-5, "1e-5"), (1.24e-10, "1.2e-10"), (0.4, "0.4"), (31.0, "31"), (150.2, "150"), (12345.0, "1.2e4")],
)
def test_a_number_of_a_table_is_short(value, text):
    assert compact(value) == text


@pytest.mark.parametrize("one", COLOURS.values())
def test_colours_are_far_apart(one):
    others = [to_rgb(other) for other in COLOURS.values() if other != one]
    assert min(sum((a - b) ** 2 for a, b in zip(to_rgb(one), other, strict=True)) for other in others) > 0.05
