"""The table of a sweep, from job folders made by hand."""

import csv
import json
import re

import pytest
import yaml

from pk_event_fit.report.tables import COLUMNS, write_summary

COMPLETED = {
    "status": "completed",
    "framework": "diffrax",
    "seed": 0,
    "accuracy": {"mse": 4.0, "rmse": 2.0, "rmse_floor": 42.37, "skill": 0.5},
    "performance": {
        "import_s": 1.0,
        "compile_s": 3.0,
        "step_ms": {"median": 8.0, "p10": 7.0, "p90": 9.0},
        "training_s": 16.0,
        "rss_baseline_mb": 200.0,
        "rss_peak_mb": 900.0,
    },
    "solver": {"accepted": 40.5, "rejected": 2.0, "evaluations": None, "counted_for": "each subject"},
}
FAILED = {
    "status": "failed",
    "framework": "torchode",
    "seed": 1,
    "error": {"type": "SolverFailure", "message": "the step size | fell\nto nothing"},
    "accuracy": None,
    "performance": {"step_ms": None},
    "solver": None,
}


def job(sweep, name, result=None, **settings):
    """A job's folder; `result` as text is written as it is."""
    folder = sweep / name
    folder.mkdir()
    if result is not None:
        (folder / "result.json").write_text(result if isinstance(result, str) else json.dumps(result))
    if settings:
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def completed(rmse, **other):
    return {**COMPLETED, **other, "accuracy": {**COMPLETED["accuracy"], "rmse": rmse}}


def csv_rows(sweep):
    with open(sweep / "summary.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def tables(sweep):
    """The tables of `summary.md`, as lists of cells."""
    blocks = re.findall(r"(?:^\|.*\n)+", (sweep / "summary.md").read_text(), re.MULTILINE)
    cells = [[re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return [[dict(zip(head, line, strict=True)) for line in lines] for head, _, *lines in cells]


def test_the_csv_has_one_row_a_run_and_the_columns_promised(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", COMPLETED), job(tmp_path, "1", FAILED)])
    rows = csv_rows(tmp_path)
    assert ([row["job"] for row in rows], tuple(rows[0])) == (["0", "1"], COLUMNS)


def test_a_completed_run_is_told_in_numbers(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", COMPLETED)])
    wanted = {
        "job": "0", "framework": "diffrax", "seed": "0", "status": "completed", "rmse": "2.0", "rmse_floor": "42.37",
        "skill": "0.5", "compile_s": "3.0", "step_ms": "8.0", "training_s": "16.0", "rss_baseline_mb": "200.0",
        "rss_peak_mb": "900.0", "accepted": "40.5", "rejected": "2.0", "evaluations": "", "error": "",
    }  # fmt: skip
    assert csv_rows(tmp_path) == [wanted]


def test_the_csv_keeps_every_bit_of_a_number(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", completed(0.1 + 0.2))])
    assert float(csv_rows(tmp_path)[0]["rmse"]) == 0.1 + 0.2


def test_a_failed_run_stands_in_its_row_with_its_message(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", COMPLETED), job(tmp_path, "1", FAILED)])
    row = csv_rows(tmp_path)[1]
    assert (row["status"], row["framework"], row["rmse"]) == ("failed", "torchode", "")
    assert row["error"] == "the step size | fell\nto nothing"


def test_a_message_of_lines_and_bars_stays_one_cell_of_markdown(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", FAILED)])
    assert tables(tmp_path)[0][0]["error"] == r"the step size \| fell to nothing"


@pytest.mark.parametrize(
    "result",
    [
        *(None, "", "{", "\udcff", "[]", "null", "3", '"completed"', "{}", '{"accuracy": 3}', '{"error": "no"}'),
        '{"status": "completed", "accuracy": {"rmse": "low"}}',
    ],
    ids=repr,
)
def test_a_missing_or_damaged_result_is_a_failed_row_that_says_so(tmp_path, result):
    folder = job(tmp_path, "0")
    if result is not None:
        (folder / "result.json").write_bytes(result.encode("utf-8", "surrogateescape"))
    write_summary(tmp_path, [folder, job(tmp_path, "1", COMPLETED)])
    first, second = csv_rows(tmp_path)
    assert (first["status"], second["status"]) == ("failed", "completed")
    assert "result.json" in first["error"]


def test_a_damaged_result_does_not_count_as_completed(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", "{")])
    assert [line["completed"] for line in tables(tmp_path)[1]] == ["0 of 1"]


def test_settings_stand_in_a_column_when_they_differ(tmp_path):
    jobs = [job(tmp_path, str(k), COMPLETED, solver={"rtol": rtol}, seed=0) for k, rtol in enumerate((1e-5, 1e-6))]
    write_summary(tmp_path, jobs)
    assert [row["settings"] for row in csv_rows(tmp_path)] == ["solver.rtol=1e-05", "solver.rtol=1e-06"]


def test_settings_have_no_column_when_only_framework_and_seed_differ(tmp_path):
    jobs = [
        job(tmp_path, str(k), COMPLETED, framework={"name": name}, seed=k, solver={"rtol": 1e-5})
        for k, name in enumerate(("diffrax", "torchode"))
    ]
    write_summary(tmp_path, jobs)
    assert "settings" not in csv_rows(tmp_path)[0]


def test_a_job_without_a_config_leaves_the_others_settings(tmp_path):
    jobs = [job(tmp_path, str(k), COMPLETED, model={"hidden": [width]}) for k, width in enumerate((8, 16))]
    write_summary(tmp_path, [*jobs, job(tmp_path, "2", FAILED)])
    assert [row["settings"] for row in csv_rows(tmp_path)] == ["model.hidden=[8]", "model.hidden=[16]", ""]


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\xfa", b"", b"- 1", b"\x00"], ids=repr)
def test_a_damaged_config_costs_no_more_than_its_settings(tmp_path, content):
    folder = job(tmp_path, "0", COMPLETED)
    (folder / "config.yaml").write_bytes(content)
    write_summary(tmp_path, [folder])
    assert csv_rows(tmp_path)[0]["rmse"] == "2.0"


def test_mean_and_standard_deviation_are_those_of_each_framework(tmp_path):
    # Standard deviation with n - 1: that of 1, 2, 3 is 1.
    jobs = [job(tmp_path, str(k), completed(float(k + 1), seed=k)) for k in range(3)]
    other = job(tmp_path, "3", completed(7.0, framework="torchode"))
    write_summary(tmp_path, [*jobs, other])
    means = {line["framework"]: line["rmse (mg)"] for line in tables(tmp_path)[1]}
    assert means == {"diffrax": "2 ± 1", "torchode": "7"}


def test_a_mean_is_taken_over_completed_runs_and_says_how_many(tmp_path):
    jobs = [job(tmp_path, "0", completed(2.0)), job(tmp_path, "1", completed(4.0, status="failed"))]
    write_summary(tmp_path, jobs)
    (line,) = tables(tmp_path)[1]
    assert (line["completed"], line["rmse (mg)"]) == ("1 of 2", "2")


def test_a_framework_of_failures_has_a_row_without_numbers(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", FAILED)])
    (line,) = tables(tmp_path)[1]
    assert (line["completed"], line["rmse (mg)"], line["skill"]) == ("0 of 1", "-", "-")


def test_a_skill_that_is_null_is_left_out_of_the_mean(tmp_path):
    alike = {**COMPLETED, "accuracy": {**COMPLETED["accuracy"], "rmse_floor": 0.0, "skill": None}}
    write_summary(tmp_path, [job(tmp_path, "0", alike), job(tmp_path, "1", COMPLETED)])
    assert tables(tmp_path)[1][0]["skill"] == "0.5"


def test_means_are_taken_apart_by_settings(tmp_path):
    jobs = [job(tmp_path, str(k), completed(float(k)), solver={"rtol": rtol}) for k, rtol in enumerate((1e-5, 1e-6))]
    write_summary(tmp_path, jobs)
    means = {line["settings"]: line["rmse (mg)"] for line in tables(tmp_path)[1]}
    assert means == {"solver.rtol=1e-05": "0", "solver.rtol=1e-06": "1"}


def test_a_bar_in_a_setting_stays_in_its_cell(tmp_path):
    jobs = [job(tmp_path, str(k), COMPLETED, data={"path": path}) for k, path in enumerate(("a|b", "c"))]
    write_summary(tmp_path, jobs)
    for table in tables(tmp_path):
        assert table[0]["settings"] == r"data.path=a\|b"


def test_markdown_names_the_units(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", COMPLETED)])
    units = {"rmse (mg)", "rmse floor (mg)", "compile (s)", "step (ms)", "training (s)", "rss peak (MB)"}
    assert units <= set(tables(tmp_path)[0][0])


def test_errors_have_the_unit_of_the_runs_or_none_where_they_differ(tmp_path):
    other = {**COMPLETED, "accuracy": {**COMPLETED["accuracy"], "unit": "ug/L"}}
    first, second = job(tmp_path, "0", other), job(tmp_path, "1", COMPLETED)
    for jobs, name in (([first], "rmse (ug/L)"), ([first, second], "rmse")):
        write_summary(tmp_path, jobs)
        for table in tables(tmp_path):
            assert name in table[0]


def test_the_rows_returned_are_those_written(tmp_path):
    rows = write_summary(tmp_path, [job(tmp_path, "0", COMPLETED), job(tmp_path, "1", FAILED)])
    written = csv_rows(tmp_path)
    assert [{column: "" if row[column] is None else str(row[column]) for column in COLUMNS} for row in rows] == written


def held_out(rmse):
    return {**COMPLETED, "accuracy": {**COMPLETED["accuracy"], "held_out": {"rmse": rmse}}}


def test_errors_of_held_out_subjects_have_a_column(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", held_out(3.0)), job(tmp_path, "1", COMPLETED)])
    assert [row["held_out_rmse"] for row in csv_rows(tmp_path)] == ["3.0", ""]


def test_the_mean_over_folds_is_that_of_the_cross_validation(tmp_path):
    jobs = [job(tmp_path, str(k), held_out(1.0 + k), data={"folds": 3, "fold": k}, model={}) for k in range(3)]
    write_summary(tmp_path, jobs)
    (means,) = tables(tmp_path)[1]
    assert (means["completed"], means["held out rmse (mg)"]) == ("3 of 3", "2 ± 1")


def test_an_error_of_held_out_subjects_that_is_no_number_is_damage(tmp_path):
    write_summary(tmp_path, [job(tmp_path, "0", held_out("small"))])
    assert csv_rows(tmp_path)[0]["status"] == "failed"
