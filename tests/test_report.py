"""The report of a comparison tells what its sweep's files tell, and nothing else."""

import ast
import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import sweeps

from pk_event_fit.report import build as builder
from pk_event_fit.report import document, page, story
from pk_event_fit.report.__main__ import main
from pk_event_fit.report.document import Bullets, Code, Figure, Heading, Paragraph, Table
from pk_event_fit.report.measures import Evidence, measurements
from pk_event_fit.report.numbers import Numbers
from pk_event_fit.report.results import tables
from pk_event_fit.report.series import Series
from pk_event_fit.report.standing import standing
from pk_event_fit.report.sweep import read

REPORT = Path(builder.__file__).parent
# All that writes or draws, but for those that give colours, formats, markup, shapes of files and codes of metrics; and
# for figures of a regimen and of an evaluation, which are of no sweep and keep no account, nor does the page of a
# cross-validation: tests/test_folds.py compares it with the files.
OTHERS = {
    "closeups", "document", "figures", "files", "fits", "ink", "measures", "numbers", "panels", "phases", "plane",
    "regimen", "residuals", "series", "shapes", "tables", "walkthrough",
}  # fmt: skip
TEMPLATES = sorted({path.stem for path in REPORT.glob("*.py")} - OTHERS)
PICTURE = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg xmlns="http://www.w3.org/2000/svg" '
    'xmlns:xlink="http://www.w3.org/1999/xlink" width="10pt" height="10pt" viewBox="0 0 10 10"><metadata>'
    '<a href="http://example.org/"/></metadata><defs><path id="p0" d="M0 0"/><clipPath id="c1"/></defs>'
    '<g clip-path="url(#c1)"><use xlink:href="#p0"/></g></svg>'
)
VOID = {"meta", "br", "img", "link", "hr"}


@pytest.fixture
def pictures(monkeypatch):
    """Pictures that take no time, with the same ids in each, as matplotlib's have."""

    def write(sweep, folder):
        folder.mkdir(exist_ok=True)
        written = {}
        for name in builder.FIGURES:
            (folder / f"{name}.png").write_bytes(b"")
            written[name] = folder / f"{name}.svg"
            written[name].write_text(PICTURE)
        return written

    monkeypatch.setattr(builder, "write_figures", write)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A complete sweep, made once."""
    return sweeps.make(tmp_path_factory.mktemp("model") / "sweep", iterations=30, subjects=3, points=6)


@pytest.fixture
def sweep(tmp_path, model, pictures):
    """A copy of it, to be spoilt."""
    return Path(shutil.copytree(model, tmp_path / "sweep"))


def rows(folder):
    return list(csv.DictReader(io.StringIO((folder / "measurements.csv").read_text())))


def texts(folder):
    return {name: (folder / name).read_text() for name in ("post.md", "report.html", "summary.md")}


def told(folder):
    """The post as the builder makes it, and who formatted its numbers."""
    evidence = Evidence(read(folder))
    problems = [*evidence.sweep.problems, *evidence.problems]
    figures = builder.write_figures(evidence.sweep, folder / "figures")
    shown = {name: Figure(name, f"figures/{name}.svg", builder.CAPTIONS[name]) for name in figures}
    return document.markdown(story.article(evidence, tables(evidence), shown, problems)), evidence.numbers


def rest(text, numbers):
    """What is left of a text without the numbers, names and messages that were formatted for it."""
    for word in sorted(numbers.written, key=len, reverse=True):
        for form in {word, document.escaped(word)}:
            text = re.sub(rf"(?<![\w.]){re.escape(form)}(?!\w|\.\d)", "", text)
    return text


class Page(HTMLParser):
    """What a page holds: its tags, what they refer to, and whether they close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.stack, self.torn = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.torn.append(tag)

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.attributes if "id" in attributes]


# --- what is written


def test_a_complete_sweep_gives_every_file_and_exit_0(sweep, capsys):
    assert main([str(sweep)]) == 0
    out, err = capsys.readouterr()
    for name in (*builder.FILES, "figures"):
        assert (sweep / name).exists()
        assert str(sweep / name) in out
    assert err == ""


def test_the_same_files_give_the_same_bytes_again(sweep):
    builder.build(sweep)
    before = {name: (sweep / name).read_bytes() for name in builder.FILES}
    builder.build(sweep)
    assert {name: (sweep / name).read_bytes() for name in builder.FILES} == before


def test_real_figures_are_written_and_carried(tmp_path):
    folder = sweeps.make(tmp_path / "s", iterations=20, subjects=2, points=5, seeds=2, compiled=("torchode",))
    assert builder.build(folder) == []
    text = (folder / "report.html").read_text()
    seen = Page(text)
    assert seen.tags.count("svg") == len(list((folder / "figures").glob("*.svg"))) == len(builder.FIGURES)
    check_alone(text)


def test_every_measurement_is_in_a_file_of_the_sweep(sweep):
    builder.build(sweep)
    found = rows(sweep)
    assert {row["dimension"] for row in found} == {"performance", "stability", "accuracy", "reproducibility"}
    assert [row for row in found for source in row["source"].split() if not (sweep / source).is_file()] == []
    assert len({tuple(row.values())[:8] for row in found}) == len(found)


def test_a_measurement_is_the_files_number_to_the_bit(sweep):
    builder.build(sweep)
    content = json.loads((sweep / "probes/speed/torchode.json").read_text())
    steps = content["modes"]["adjoint"]["step_ms"]
    (row,) = [r for r in rows(sweep) if (r["variant"], r["metric"], r["detail"]) == ("torchode", "step", "adjoint")]
    assert (float(row["value"]), row["n"]) == (pytest.approx(sum(steps) / len(steps), rel=1e-15), str(len(steps)))
    result = json.loads((sweep / sweeps.jobs(sweep, "torchode")[1] / "result.json").read_text())
    (row,) = [
        r for r in rows(sweep)
        if (r["variant"], r["metric"], r["detail"], r["seed"]) == ("torchode", "rmse", "central", "1")
    ]  # fmt: skip
    assert float(row["value"]) == result["accuracy"]["by_compartment"]["central"]["rmse"]


def test_the_summary_keeps_its_row_a_run_and_gains_the_comparison(sweep):
    builder.build(sweep)
    with open(sweep / "summary.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(read(sweep).runs)
    text = (sweep / "summary.md").read_text()
    for title in ("# Runs", "A training step", "Gradients", "At the doses, learned field", "Accuracy", "Reproducib"):
        assert title in text


def test_hardware_versions_threads_and_precision_stand_under_each_table(sweep):
    builder.build(sweep)
    grids = [table for parts in tables(Evidence(read(sweep))).values() for table in parts]
    assert len(grids) >= 9
    for table in grids:
        for word in (sweeps.CPU, "threads: 1", "precision: float", "torchode 1.0.1", "Python 3.11.9"):
            assert word in table.note


def test_what_a_library_cannot_do_is_said_in_its_cell(sweep):
    (true, _) = tables(Evidence(read(sweep)))["stability"]
    cells = {(row[0], row[1]): row[2] for row in true.rows}
    assert cells["torchode", "told of the jump"] == "not possible: torchode cannot be told of a discontinuity"


# --- no number by hand


@pytest.mark.parametrize("harm", ["none", "corrupt", "kill", "probe", "no probes"])
def test_the_post_has_no_number_that_was_not_drawn_from_the_files(sweep, harm):
    if harm == "corrupt":
        sweeps.corrupt_result(sweep)
    elif harm == "kill":
        sweeps.kill_job(sweep, "3")
    elif harm == "probe":
        sweeps.fail_probe(sweep, message="out of 17 | GB <at> step 3_5")
    elif harm == "no probes":
        for name in sweeps.PROBES:
            for variant in read(sweep).probes[name]:
                sweeps.remove_probe(sweep, name, variant)
    text, numbers = told(sweep)
    builder.build(sweep)
    assert text == (sweep / "post.md").read_text()
    left = [line for line in rest(text, numbers).splitlines() if re.search(r"\d", line)]
    assert left == []


def test_that_search_finds_a_number_typed_by_hand(sweep):
    text, numbers = told(sweep)
    for typed in ("It takes 26.4 ms.", "9,999 times", "It is 26.31 ms", "x7"):
        assert re.search(r"\d", rest(f"{text}\n{typed}", numbers))


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_template_holds_a_digit(name):
    tree = ast.parse((REPORT / f"{name}.py").read_text())
    about = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        and node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
    }  # fmt: skip
    typed = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in about
        if re.search(r"\d", node.value)
    ]
    assert typed == []


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_number_is_formatted_but_by_who_keeps_account(name):
    tree = ast.parse((REPORT / f"{name}.py").read_text())
    specs = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.FormattedValue) and node.format_spec]
    # The one spec left gives a tolerance as it is typed, and goes through the account.
    assert [spec for spec in specs if not (name == "setting" and "item" in spec)] == []
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    counts = [node for node in called if re.match(r"(n|.*\bnumbers)(\.\w+)?$", ast.unparse(node.func))]
    literal = [
        ast.unparse(node) for node in counts for value in node.args
        if isinstance(value, ast.Constant) and not isinstance(value.value, str)
    ]  # fmt: skip
    assert literal == []


def test_the_command_is_told_as_it_was_typed_but_for_the_place_of_its_files(sweep):
    words = ["+experiment=framework_comparison", "seed=1", "hydra.sweep.dir=/somewhere"]
    sweeps.edit(sweep / "plan.json", lambda plan: plan.update(words=words))
    builder.build(sweep)
    text = (sweep / "post.md").read_text()
    assert "python -m pk_event_fit +experiment=framework_comparison seed=1\n" in text
    assert "/somewhere" not in text


# --- another winner, another text


def swap(folder, one, other):
    """Give two frameworks each other's timed blocks."""
    paths = [folder / f"probes/speed/{name}.json" for name in (one, other)]
    first, second = (json.loads(path.read_text())["modes"] for path in paths)
    for path, modes in zip(paths, (second, first), strict=True):
        sweeps.edit(path, lambda content, modes=modes: content.update(modes=modes))


def section(text, title):
    return text.split(f"## {title}")[1].split("\n## ")[0]


def test_the_winner_of_the_text_is_that_of_the_measurements(sweep):
    builder.build(sweep)
    before = texts(sweep)
    swap(sweep, "diffrax", "torchdyn")
    builder.build(sweep)
    after = texts(sweep)
    for name in ("post.md", "report.html"):
        assert "diffrax has the shortest training step" in before[name]
        assert "torchdyn has the shortest training step" in after[name]
        assert "diffrax has the shortest training step" not in after[name]
    (first,) = [line for line in section(before["post.md"], "Decision matrix").splitlines() if "fast training" in line]
    (second,) = [line for line in section(after["post.md"], "Decision matrix").splitlines() if "fast training" in line]
    assert first.split("|")[2].strip() == "diffrax"
    assert second.split("|")[2].strip() == "torchdyn"
    assert "ratio to torchdyn" in after["summary.md"]


def test_a_difference_within_the_interval_is_no_difference(sweep):
    def alike(content):
        content["modes"]["direct"]["step_ms"] = [26.0, 27.0, 25.0, 26.5, 25.5]

    def noisy(content):
        content["modes"]["direct"]["step_ms"] = [25.9, 27.2, 24.9, 26.7, 25.4]

    sweeps.edit(sweep / "probes/speed/diffrax.json", alike)
    sweeps.edit(sweep / "probes/speed/torchode.json", noisy)
    builder.build(sweep)
    text = (sweep / "post.md").read_text()
    assert (
        "These cannot be told apart as to the shortest training step: diffrax (26.0 ms) and torchode (26.0 ms)" in text
    )
    assert "diffrax has the shortest training step" not in section(text, "Executive summary")


def series(variant, *values, per="round"):
    return Series(variant, "performance", "step", "", "ms", dict(enumerate(values)), per, {})


def test_an_order_tells_apart_what_the_interval_tells_apart():
    order = standing({
        "a": series("a", 2, 2.1, 1.9, 2, 2), "b": series("b", 1, 1.1, 0.9, 1, 1), "c": series("c", 1.1, 1, 1, 1, 1),
    })  # fmt: skip
    assert (order.best, sorted(order.level), order.beaten, order.n) == ("b", ["b", "c"], ["a"], 5)


def test_three_seeds_call_nobody_better():
    draws = np.random.default_rng(0)
    for _ in range(20):
        order = standing({name: series(name, *draws.normal(10, 1, 3), per="seed") for name in "abcdefg"})
        assert order.beaten == []
        assert len(order.unsettled) == 6


def test_what_was_measured_once_is_not_told_apart():
    order = standing({"a": series("a", 5.0), "b": series("b", 9.0)})
    assert (order.best, order.beaten, order.unsettled) == ("a", [], ["b"])
    often = {"b": series("b", 9.0, 9.1, 9, 9, 9), "c": series("c", 8.0, 8.1, 8, 8, 8)}
    order = standing({"a": series("a", 5.0), **often})
    assert (order.best, order.beaten, order.unsettled) == ("c", ["b"], ["a"])


def test_what_is_computed_is_no_ranking():
    order = standing({"b": series("b", 1.0, per="once"), "c": series("c", 2.0, per="once")})
    assert (order.beaten, order.unsettled, order.ratios) == ([], ["c"], {})


def test_the_text_ranks_nothing_that_chance_decides(sweep):
    builder.build(sweep)
    text = (sweep / "post.md").read_text()
    assert "is no ranking" in section(text, "Executive summary")
    assert "too few to tell from chance" in text
    (line,) = [line for line in section(text, "Decision matrix").splitlines() if "exact gradients" in line[:20]]
    assert line.split("|")[2].strip() == "undecided: no ranking"


def test_a_missing_exact_gradient_is_a_problem(sweep):
    (sweep / "probes/exact.json").unlink()
    assert [text for text in builder.build(sweep) if text.startswith("probes/exact.json")]
    assert "nothing to be measured against: missing" in (sweep / "post.md").read_text()


def test_a_solver_that_misses_the_dose_is_not_praised_for_its_calm(sweep):
    builder.build(sweep)
    rows = [
        line for line in (sweep / "post.md").read_text().splitlines() if line.startswith("| torchode | told nothing")
    ]
    assert rows
    assert all(line.count("missed the dose") == 6 for line in rows)


# --- incomplete, mixed, damaged


def kept(found, *variants):
    """Rows of whom nothing happened to; a ratio is of two, so those do not count."""
    return [row for row in found if row["variant"] not in variants and "_ratio" not in row["metric"]]


@pytest.mark.parametrize(
    ("harm", "status"),
    [
        (lambda folder: sweeps.corrupt_result(folder, "2"), "damaged"),
        (lambda folder: sweeps.kill_job(folder, "2"), "missing"),
        (lambda folder: sweeps.kill_job(folder, "2", begun=False), "missing"),
        (lambda folder: sweeps.fail_job(folder, "2", "the step size fell to nothing"), "failed"),
    ],
    ids=["corrupted", "killed", "never begun", "failed"],
)
def test_a_run_that_did_not_end_is_named_and_the_others_stand(sweep, capsys, harm, status):
    builder.build(sweep)
    before = rows(sweep)
    harm(sweep)
    capsys.readouterr()
    assert main([str(sweep)]) == 1
    assert re.search(r"^2/", capsys.readouterr().err, re.MULTILINE)
    for text in texts(sweep).values():
        assert re.search(rf"Job 2 \(torchdiffeq, seed 0\):\D*{status}", text)
    assert re.search(
        rf"\| 2 \| torchdiffeq \| 0 \| {status} \| –", document.markdown(tables(Evidence(read(sweep)))["runs"])
    )
    with open(sweep / "summary.csv", newline="") as stream:
        row = list(csv.DictReader(stream))[2]
    assert (row["framework"], row["status"], row["rmse"]) == ("torchdiffeq", "failed", "")
    after = rows(sweep)
    assert kept(after, "torchdiffeq") == kept(before, "torchdiffeq")
    assert not any(row["source"].startswith("2/") for row in after)
    seed_1 = [row for row in before if row["variant"] == "torchdiffeq" and row["seed"] == "1"]
    assert [row for row in after if row["variant"] == "torchdiffeq" and row["seed"] == "1"] == seed_1


@pytest.mark.parametrize("harm", [sweeps.corrupt_probe, sweeps.remove_probe, sweeps.fail_probe])
def test_a_probe_that_did_not_end_is_named_and_the_others_stand(sweep, capsys, harm):
    builder.build(sweep)
    before = rows(sweep)
    harm(sweep, "speed", "torchode")
    capsys.readouterr()
    assert main([str(sweep)]) == 1
    assert "probes/speed/torchode.json" in capsys.readouterr().err
    for text in texts(sweep).values():
        assert "probes/speed/torchode.json" in text
    assert kept(rows(sweep), "torchode") == kept(before, "torchode")
    step = tables(Evidence(read(sweep)))["performance"][0]
    (row,) = [row for row in step.rows if row[0] == "torchode"]
    assert re.match("damaged|missing|failed", row[2])
    assert not any(re.search(r"\d", cell) for cell in row[3:])


def test_another_tolerance_is_refused_named_and_not_compared(sweep, capsys):
    builder.build(sweep)
    sweeps.change_tolerance(sweep, "2", rtol=1e-3)
    capsys.readouterr()
    assert main([str(sweep)]) == 1
    assert "2 has solver.rtol=0.001" in capsys.readouterr().err
    for text in texts(sweep).values():
        assert "2 has solver.rtol=0.001" in text
        assert not re.search(r"shortest|ratio to|± ", text)
    assert rows(sweep) == []
    assert list((sweep / "figures").iterdir()) == []
    assert len(list(csv.DictReader(io.StringIO((sweep / "summary.csv").read_text())))) == len(read(sweep).runs)


def test_an_ordinary_sweep_keeps_its_table_by_settings(tmp_path, pictures):
    folder = sweeps.make(tmp_path / "s", iterations=10, subjects=2, points=5, plan=False, probes=())
    sweeps.change_tolerance(folder, "2", rtol=1e-3)
    assert main([str(folder)]) == 1
    text = (folder / "summary.md").read_text()
    assert "Mean and standard deviation" in text
    assert "No comparison" in text


def test_without_probes_it_says_that_they_were_not_measured(tmp_path, pictures):
    folder = sweeps.make(tmp_path / "s", iterations=10, subjects=2, points=5, plan=False, probes=())
    assert main([str(folder)]) == 0
    text = (folder / "post.md").read_text()
    assert "Not measured: the shortest training step." in text
    assert "What happens at a dose was not measured." in text
    assert "The shortest whole fit first, " in text


def test_where_no_run_finished_it_says_so(sweep, capsys):
    for run in read(sweep).runs:
        sweeps.kill_job(sweep, run.name)
    assert main([str(sweep)]) == 1
    assert capsys.readouterr().err.startswith("no run finished: ")
    for text in texts(sweep).values():
        assert "o run finished: job 0 missing" in text
        assert "shortest" not in text


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("")])
def test_bad_input_is_refused_in_a_line(tmp_path, capsys, make):
    make(tmp_path / "x")
    assert main([str(tmp_path / "x")]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err.startswith("error: ")) == ("", 1, True)


def test_seeds_without_predictions_are_a_problem_that_is_named(sweep):
    (sweep / "0" / "predictions.npz").write_bytes(b"no")
    assert any("predictions.npz" in problem for problem in builder.build(sweep))


# --- the page


def check_alone(text):
    """Nothing is loaded, ids are unique, references meet their ids, and tags close."""
    seen = Page(text)
    assert (seen.torn, seen.stack) == ([], [])
    assert len(seen.ids) == len(set(seen.ids))
    inner = set(re.findall(r"url\(#([^)]+)\)", text))
    for _, attributes in seen.attributes:
        for key in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            value = attributes.get(key)
            assert value is None or value.startswith("#")
            inner |= {value[1:]} if value else set()
    assert inner <= set(seen.ids)
    assert not re.search(r"@import|url\((?!#)", text)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(seen.tags)
    assert "default-src 'none'" in text


def test_the_page_stands_alone(sweep):
    builder.build(sweep)
    text = (sweep / "report.html").read_text()
    check_alone(text)
    assert text.isascii() or '<meta charset="utf-8">' in text


def test_every_picture_has_words_and_a_caption(sweep):
    builder.build(sweep)
    seen = Page((sweep / "report.html").read_text())
    pictures = [attributes for tag, attributes in seen.attributes if tag == "svg"]
    assert len(pictures) == len(builder.FIGURES)
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in pictures)
    assert seen.tags.count("figcaption") == len(pictures)


def test_the_contents_name_every_section(sweep):
    builder.build(sweep)
    seen = Page((sweep / "report.html").read_text())
    links = [attributes["href"][1:] for tag, attributes in seen.attributes if tag == "a"]
    sections = [attributes["id"] for tag, attributes in seen.attributes if tag == "section"]
    assert links == sections
    assert len(links) >= 10


@pytest.mark.parametrize("mixed", [False, True])
def test_what_a_file_says_is_text_and_never_markup(sweep, mixed):
    message = '<script>alert(1)</script> & <img src=x onerror="x"> | `code` *bold*'
    sweeps.fail_job(sweep, "2", message)
    sweeps.fail_probe(sweep, "repeat", "torchode", message)
    if mixed:
        sweeps.change_tolerance(sweep, "0")
    builder.build(sweep)
    text = (sweep / "report.html").read_text()
    check_alone(text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;img" in text
    assert "<script" not in (sweep / "post.md").read_text()
    for line in (sweep / "post.md").read_text().splitlines():
        if line.startswith("|") and "alert" in line:
            assert r"\|" in line


def test_a_framework_that_nobody_knows_takes_part(tmp_path, pictures):
    folder = sweeps.make(
        tmp_path / "s", frameworks=("diffrax", "mine2"), compiled=("mine2",), iterations=10, subjects=2, points=5
    )
    assert main([str(folder)]) == 0
    assert "mine2-compiled" in (folder / "post.md").read_text()


# --- blocks and numbers


def test_markdown_and_html_of_every_block():
    blocks = [
        Heading(1, "T"), Heading(2, "A & b"), Paragraph("a < b_c _d_"), Bullets([("x:", "y"), ("", "z|")]),
        Code("ls <a>"), Table("t", ["h", "k|"], [["r", "1"]], "n"), Figure("f", "figures/f.svg", "c", PICTURE),
    ]  # fmt: skip
    assert document.markdown(blocks) == (
        "# T\n\n## A &amp; b\n\na &lt; b_c \\_d\\_\n\n* **x:** y\n* z\\|\n\n```bash\nls <a>\n```\n\n**t**\n\n"
        "| h | k\\| |\n| --- | --- |\n| r | 1 |\n\n*n*\n\n![c](figures/f.svg)\n\n*c*\n"
    )
    text = page.page(blocks)
    check_alone(text)
    for part in ('<section id="a-b">', "<h2>A &amp; b</h2>", "<b>x:</b> y", "ls &lt;a&gt;", '<th scope="row">r</th>'):
        assert part in text


def test_two_pictures_on_a_page_keep_their_names_apart():
    text = document.html([Figure("one", "", "c", PICTURE), Figure("two", "", "c", PICTURE)])
    assert Page(text).ids == ["one-p0", "one-c1", "two-p0", "two-c1"]
    assert "example.org" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (3, "3"), (12345, "12,345"), (12345.6, "12,346"), (999.4, "999"), (999.7, "1,000"), (41.0, "41.0"),
        (0.999, "0.999"), (0.9996, "1.00"), (1.234e-5, "1.23e-05"), (-0.00118, "-0.00118"), (None, "not measured"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_readers(value, text):
    assert Numbers()(value) == text


def test_a_mean_and_its_deviation_end_at_the_same_place():
    numbers = Numbers()
    assert numbers.spread(26.31, 1.27) == "26.3 ± 1.3"
    assert numbers.spread(8.0979, 0.0043) == "8.098 ± 0.004"
    assert numbers.spread(8.0979, None, "s") == "8.10 s"


def test_an_interval_shows_on_which_side_of_one_it_ends():
    assert Numbers().ratio(1.0002, 1.0001, 1.0003) == "1.0002 [1.0001, 1.0003]"
    assert Numbers().ratio(1.831, 1.731, 1.941) == "1.83 [1.73, 1.94]"


def test_ratios_are_to_the_best_with_their_interval(sweep):
    found = [row for row in measurements(Evidence(read(sweep))) if row.metric == "step_ratio"]
    direct = {row.variant: row for row in found if row.detail == "direct, to diffrax"}
    assert set(direct) == set(read(sweep).variants) - {"diffrax"}
    assert all(row.low < row.value < row.high and row.n == 5 for row in direct.values())
