"""Text tables: what a file may look like, what its rows mean, what is refused, and that writing loses nothing."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pk_event_fit import nonmem
from pk_event_fit.errors import DataError, ScheduleError
from pk_event_fit.records import Dose, Infusion, Records, Reset, check, records

EVERY_KIND = Path(__file__).parent / "data" / "every_kind.csv"
NAMES = ("ID", "TIME", "EVID", "AMT", "CMT", "RATE", "ADDL", "II", "SS", "DV", "MDV", "CENS", "LLOQ", "WT")
NAN = np.nan


def parse(*lines, **options):
    return nonmem.parse("\n".join(lines) + "\n", "a.csv", **options)


def row(**values):
    """Fields in the order of `NAMES`, of ID 1 at 1 h, missing where not given."""
    return ",".join(str({"ID": 1, "TIME": 1, "WT": 70, **values}.get(name, ".")) for name in NAMES)


def rows(*many, **options):
    return parse(",".join(NAMES), *(row(**values) for values in many), **options)


def field(name, *many):
    return getattr(rows(*many).records, name).tolist()


def same(found, wanted):
    """Equal in all but the line numbers."""
    assert found._replace(records=None) == wanted._replace(records=None)
    for name, one, other in zip(Records._fields, found.records, wanted.records, strict=True):
        if name != "line":
            assert (one is None) == (other is None), name
            assert one is None or one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("subject", [0] * 9 + [1] * 5 + [2] * 5),
        ("time", [0, 0, 2, 12, 24, 36, 40.5, 48, 49, 0, 47.9, 48, 49, 73.5, 0, 0.1, 6, 24, 30]),
        ("kind", [0, 1, 0, 1, 1, 1, 2, 0, 0, 1, 0, 3, 4, 0, 1, 0, 1, 1, 0]),
        ("amount", [0, 100, 0, 100, 100, 100, 0, 0, 0, 50, 0, 0, 50, 0, 80, 0, 40, 0, 0]),
        ("compartment", [0, 1, 2, 2, 1, 1, 1, 2, 2, 1, 2, 1, 1, 0, 1, 2, 1, 1, 2]),
        ("rate", [0, 0, 0, 50, -1, -2, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 0, 4, 0]),
        ("additional", [0] * 9 + [3, 0, 0, 2] + [0] * 6),
        ("interval", [0] * 9 + [12, 0, 0, 12, 0, 24, 0, 12, 0, 0]),
        ("steady", [0] * 14 + [1, 0, 2, 1, 0]),
        ("observed", [0.05, NAN, 4.25, *[NAN] * 4, 3.125, NAN, NAN, 1.5, NAN, NAN, 20, NAN, 6.5, NAN, NAN, 1e-7]),
        ("used", [n in (0, 2, 10, 13, 15, 18) for n in range(19)]),
        ("censored", [1] + [0] * 12 + [-1] + [0] * 5),
        ("limit", [0.05, NAN, 0.05, *[NAN] * 4, 0.05, 0.05, NAN, 0.05, NAN, NAN, 20, NAN, 0.05, NAN, NAN, NAN]),
        ("covariates", np.repeat([[70.5], [71], [71.5], [60], [59.25], [55], [54.5]], [4, 2, 3, 3, 2, 3, 2], axis=0)),
        ("line", list(range(2, 21))),
    ],
)
def test_every_kind_of_record_is_read(name, values):
    np.testing.assert_array_equal(getattr(nonmem.read(EVERY_KIND).records, name), values)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ids", ("1", "2", "A-3")), ("covariates", ("WT",)), ("columns", (*NAMES, "NOTE"))],
)
def test_every_kind_of_record_has(name, value):
    assert getattr(nonmem.read(EVERY_KIND), name) == value


def test_a_comment_column_is_kept_as_it_stands():
    assert nonmem.read(EVERY_KIND).extra["NOTE"][:4] == ("below the limit", "bolus", ".", "infusion, 2 h")


def test_a_canonical_file_is_written_as_it_was():
    assert nonmem.render(nonmem.read(EVERY_KIND)) == EVERY_KIND.read_text(encoding="utf-8")


def test_without_evid_a_row_with_an_amount_is_a_dose():
    """A reader without EVID has been seen that took all rows for observations."""
    table = parse("ID,TIME,AMT,DV", "1,0,100,.", "1,1,0,5", "1,2,.,6")
    assert (table.records.kind.tolist(), table.records.used.tolist()) == ([1, 0, 0], [False, True, True])


def test_without_evid_a_row_with_a_rate_is_a_dose():
    assert field("kind", {"RATE": 5, "SS": 1}, {"RATE": -2}, {"RATE": 0}) == [1, 1, 0]


def test_a_missing_evid_is_derived_in_its_row_alone():
    assert field("kind", {"AMT": 5, "EVID": 4}, {"AMT": 5}, {"EVID": 2}, {}) == [4, 1, 2, 0]


@pytest.mark.parametrize("text", [".", "", "NA", "NaN"])
def test_an_observation_is_missing(text):
    table = rows({"DV": text})
    assert (np.isnan(table.records.observed).tolist(), table.records.used.tolist()) == ([True], [False])


@pytest.mark.parametrize(
    ("values", "used"),
    [({"DV": 3}, True), ({"DV": 3, "MDV": 0}, True), ({"DV": 3, "MDV": 1}, False), ({"MDV": 0}, False),
     ({"DV": 3, "MDV": 0, "EVID": 2}, False), ({"DV": 3, "MDV": 0, "AMT": 5}, False)],
    ids=str,
)  # fmt: skip
def test_a_value_counts(values, used):
    assert field("used", values) == [used]


@pytest.mark.parametrize("text", [".", 0])
def test_the_usual_compartment_is_the_first_but_open_in_an_observation(text):
    many = ({"DV": 1}, {"AMT": 5}, {"EVID": 3}, {"EVID": 2}, {"EVID": 4})
    assert field("compartment", *({**values, "CMT": text} for values in many)) == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("delimiter", [",", "\t", " ", "   ", " , ", " \t "])
def test_columns_are_parted_by(delimiter):
    lines = [",".join(NAMES), row(AMT=100), row(DV=2.5), row(ID="B", DV=3)]
    same(parse(*(line.replace(",", delimiter) for line in lines)), parse(*lines))


def test_columns_are_found_in_any_order_and_case():
    wanted = parse("ID,TIME,AMT,DV,WT", "1,2,3,4,5").records
    for order in itertools.permutations(range(5)):
        lines = (["id", "Time", "amt", "Dv", "wt"], ["1", "2", "3", "4", "5"])
        found = parse(*(",".join(line[k] for k in order) for line in lines)).records
        np.testing.assert_equal(found._asdict(), wanted._asdict())


def test_limit_is_another_name_of_lloq():
    assert parse("ID,TIME,DV,limit", "1,0,2,0.1").records.limit.tolist() == [0.1]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_with(end):
    text = "\ufeffID,TIME,DV,NOTE\n1,0,2,a\n\n1,1,3,b".replace("\n", end)
    same(nonmem.parse(text, "a.csv"), parse("ID,TIME,DV,NOTE", "1,0,2,a", "1,1,3,b"))


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfID,TIME,DV\r\n1,0,2\r\n")
    assert nonmem.read(tmp_path / "a.csv").columns == ("ID", "TIME", "DV")


@pytest.mark.parametrize(
    "lines",
    [
        ("#ID,TIME,DV", "1,0,2", "1,1,3"),
        ("# ID TIME DV", "1 0 2", "# not a row", "1 1 3"),
        ("", "ID,TIME,DV", "# 5,0", "1,0,2", "  #7,0,2", "1,1,3", "", "   "),
    ],
)
def test_blank_lines_and_rows_with_a_hash_are_skipped(lines):
    same(parse(*lines), parse("ID,TIME,DV", "1,0,2", "1,1,3"))


@pytest.mark.parametrize("delimiter", [",", " "])
def test_rows_with_a_c_in_the_comment_column_are_skipped(delimiter):
    lines = ("C,ID,TIME,DV", ".,1,0,2", "C,1,0.5,high", "C,any,text", "0,1,1,3")
    table = parse(*(line.replace(",", delimiter) for line in lines))
    assert (table.records.time.tolist(), table.extra, table.covariates) == ([0, 1], {"C": (".", "0")}, ())


def test_a_c_elsewhere_is_no_comment():
    assert parse("ID,TIME,DV,C", "1,0,2,C").extra == {"C": ("C",)}


def test_lines_are_counted_as_an_editor_does():
    table = parse("", "ID,TIME,DV,NOTE", "# a", '1,0,2,"two', 'lines"', "", "1,1,3,.")
    assert (table.records.line.tolist(), table.extra["NOTE"]) == ([4, 7], ("two\nlines", "."))


def test_quoted_fields_hold_commas_and_quotes():
    assert parse('ID,TIME,DV,"a, b"', '"1",0,2,"say ""x"", y"').extra == {"a, b": ('say "x", y',)}


def test_ids_are_text():
    assert parse("ID,TIME,DV", "007,0,2", "P-1,0,2", "8,0,2").ids == ("007", "P-1", "8")


def test_ids_that_are_one_number_are_one_subject():
    table = parse("ID,TIME,DV", "1,0,2", "1.0,1,2", "1e0,2,2", "2,0,2")
    assert (table.ids, table.records.subject.tolist()) == (("1", "2"), [0, 0, 0, 1])


def test_long_ids_are_not_rounded():
    assert len(parse("ID,TIME,DV", "90071992547409921,0,2", "90071992547409922,0,2").ids) == 2


def test_times_begin_anew_in_each_subject():
    assert parse("ID,TIME,DV", "1,5,2", "2,-3,2").records.time.tolist() == [5, -3]


def test_a_column_of_numbers_is_a_covariate_and_one_with_a_text_is_not():
    table = parse("ID,TIME,DV,SEX,WT,ROUTE,NONE", "1,0,2,M,70,inf,.", "1,1,3,1,71,.,.")
    assert (table.covariates, table.records.covariates.tolist()) == (("WT",), [[70], [71]])
    assert table.extra == {"SEX": ("M", "1"), "ROUTE": ("inf", "."), "NONE": (".", ".")}


def test_without_covariates_there_are_none():
    assert parse("ID,TIME,DV", "1,0,2").records.covariates is None


def test_covariates_are_those_asked_for_in_that_order():
    table = parse("ID,TIME,DV,WT,AGE,SEX", "1,0,2,70,30,1", covariates=["age", "WT"])
    assert (table.covariates, table.records.covariates.tolist()) == (("AGE", "WT"), [[30, 70]])
    assert table.extra == {"SEX": ("1",)}


def test_no_covariates_may_be_asked_for():
    table = parse("ID,TIME,DV,WT", "1,0,2,70", covariates=())
    assert (table.records.covariates, table.extra) == (None, {"WT": ("70",)})


def test_a_missing_covariate_is_carried_forward_and_the_first_backward_within_the_subject():
    texts = [".", "70", ".", "71", "NA", ".", "60", "."]
    table = parse("ID,TIME,DV,WT", *(f"{1 + k // 5},{k},2,{text}" for k, text in enumerate(texts)))
    assert table.records.covariates.ravel().tolist() == [70, 70, 70, 71, 71, 60, 60, 60]


@pytest.mark.parametrize(
    ("weights", "told"), [(["70", "."], "line 3: WT '.'"), ([".", "70"], "line 2: WT '.'")], ids=["last", "first"]
)
def test_a_subject_without_a_value_of_a_covariate_is_refused(weights, told):
    with pytest.raises(DataError, match=told):
        parse("ID,TIME,DV,WT", *(f"{k},0,2,{weight}" for k, weight in enumerate(weights)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"covariates": ["BMI"]}, r"no covariate 'BMI'; there is WT, SEX$"),
        ({"covariates": ["TIME"]}, "no covariate 'TIME'"),
        ({"covariates": ["SEX"]}, r"a\.csv, line 3: SEX 'M': must be a finite number"),
    ],
    ids=str,
)
def test_a_covariate_that_is_not_to_be_had_is_refused(options, told):
    with pytest.raises(DataError, match=told):
        parse("ID,TIME,DV,WT,SEX", "1,0,2,70,1", "1,1,2,70,M", **options)


FAULTS = [
    ({"DV": "high"}, "DV 'high': must be a finite number"),
    ({"DV": "1 2"}, "DV '1 2'"),
    ({"DV": "1_0"}, "DV '1_0'"),
    ({"DV": "٣"}, "DV '٣'"),
    ({"DV": "inf"}, "DV 'inf'"),
    ({"DV": "-Infinity"}, "DV '-Infinity'"),
    ({"DV": "1e999"}, "DV '1e999'"),
    ({"AMT": "inf"}, "AMT 'inf'"),
    ({"LLOQ": "<1"}, "LLOQ '<1'"),
    ({"TIME": "10:30"}, "TIME '10:30'"),
    ({"TIME": "."}, "TIME '.': must be a finite number"),
    ({"ID": "NaN"}, "ID 'NaN': is missing"),
    ({"ID": ""}, "ID '': is missing"),
    ({"TIME": 0.5}, "TIME 0.5: must not be before"),
    ({"AMT": -3}, r"AMT -3: must not be negative \(negative=True"),
    ({"AMT": 5, "RATE": -3}, "RATE -3: must be 0 or more, -1 or -2"),
    ({"AMT": 5, "RATE": -1.5}, "RATE -1.5: "),
    ({"EVID": 5}, "EVID 5: "),
    ({"EVID": -1}, "EVID -1: "),
    ({"EVID": 0.5}, "EVID 0.5: "),
    ({"AMT": 5, "II": 12, "SS": 3}, "SS 3: "),
    ({"AMT": 5, "II": 12, "SS": 0.5}, "SS 0.5: "),
    ({"MDV": 2}, "MDV '2': must be 0 or 1"),
    ({"CENS": 2}, "CENS 2: "),
    ({"AMT": 5, "II": 12, "ADDL": -1}, "ADDL -1: "),
    ({"AMT": 5, "II": 12, "ADDL": 1.5}, "ADDL 1.5: "),
    ({"AMT": 5, "II": 12, "ADDL": "1e300"}, r"ADDL 1e\+300: "),
    ({"CMT": -1}, "CMT -1: "),
    ({"CMT": 1.5}, "CMT 1.5: "),
    ({"AMT": 5, "II": -12}, "II -12: "),
    ({"AMT": 5, "ADDL": 2}, "II 0: must be above 0 where ADDL is"),
    ({"AMT": 5, "SS": 1}, "II 0: must be above 0 where SS is"),
    ({"RATE": -2, "SS": 1}, "II 0: must be above 0 where SS is"),
    ({"EVID": 2, "II": 12, "SS": 1}, "SS 1: must be 0 in a row that is no dose"),
    ({"EVID": 0, "II": 12, "SS": 1}, "SS 1: must be 0 in a row that is no dose"),
    ({"EVID": 3, "II": 12, "SS": 2}, "SS 2: must be 0 in a row that is no dose"),
    ({"RATE": 5}, "AMT 0: must be above 0 where RATE is"),
    ({"RATE": 5, "SS": 1, "II": 12}, "AMT 0: must be above 0 where RATE is"),
    ({"RATE": 5, "SS": 1, "II": 12, "ADDL": 1}, "AMT 0: must be above 0 where RATE is"),
    ({"EVID": 0, "AMT": 5}, "AMT 5: must be 0 in an observation or a reset"),
    ({"EVID": 0, "RATE": 5}, "RATE 5: must be 0 in an observation or a reset"),
    ({"EVID": 0, "ADDL": 5, "II": 12}, "ADDL 5: must be 0 in an observation or a reset"),
    ({"EVID": 3, "AMT": 5}, "AMT 5: must be 0 in an observation or a reset"),
    ({"EVID": 3, "RATE": -1}, "RATE -1: must be 0 in an observation or a reset"),
    ({"EVID": 3, "ADDL": 5, "II": 12}, "ADDL 5: must be 0 in an observation or a reset"),
]


@pytest.mark.parametrize(("values", "told"), FAULTS, ids=str)
def test_a_row_that_means_nothing_is_refused_with_line_column_and_value(values, told):
    with pytest.raises(DataError, match=rf"^a\.csv, line 3: {told}"):
        rows({"DV": 1}, values, {"DV": 1})


@pytest.mark.parametrize(
    "values",
    [{"RATE": 5, "SS": 1}, {"RATE": 5, "SS": 2}, {"RATE": -1, "SS": 1}, {"AMT": 5, "RATE": 5, "SS": 1, "II": 12},
     {"AMT": 5, "ADDL": 2, "II": 12}, {"EVID": 1, "SS": 1, "RATE": 0}, {"EVID": 1}, {"EVID": 0, "II": 12}],
    ids=str,
)  # fmt: skip
def test_a_row_that_looks_odd_but_means_something_is_read(values):
    assert len(rows(values).records.time) == 1


def test_negative_amounts_are_read_when_asked_for():
    assert rows({"AMT": -3}, negative=True).records.amount.tolist() == [-3]


def test_an_id_that_comes_back_is_refused():
    with pytest.raises(DataError, match=r"^a\.csv, line 4: ID '1.0': comes back after another ID"):
        parse("ID,TIME,DV", "1,0,2", "2,0,2", "1.0,1,2")


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_the_first_row_that_is_wrong_is_told(order):
    faults = [row(AMT=-3), row(DV="high"), "1,2", row(ID=".")]
    told = ["AMT -3", "DV 'high'", "2 fields", "ID '.'"][order[0]]
    with pytest.raises(DataError, match=rf"line 3: {told}"):
        parse(",".join(NAMES), row(DV=1), *(faults[k] for k in order))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ((), "line 1: no column ID; there is nothing"),
        (("ID,TIME,DV",), "has a header and no rows"),
        (("ID,TIME,DV", "# 1,0,2", ""), "has a header and no rows"),
        (("TIME,DV", "0,2"), "line 1: no column ID; there is TIME, DV"),
        (("ID,DV", "1,2"), "line 1: no column TIME"),
        (("ID,TIME,WT", "1,2,70"), "line 1: no column DV or AMT"),
        (("ID,TIME,DV,dv", "1,2,3,3"), "line 1: column 4, dv, is there as column 3 already"),
        (("ID,TIME,DV,WT,wt", "1,2,3,70,70"), "line 1: column 5, wt, is there as column 4"),
        (("ID,TIME,DV,LLOQ,LIMIT", "1,2,3,1,1"), "line 1: column 5, LIMIT, is there as column 4"),
        (("", "ID,TIME,DV,", "1,2,3,"), "line 2: column 4 is named ''"),
        (("ID,TIME,DV", "1,2"), "line 2: 2 fields, the last '2'; the header has 3, the last DV"),
        (("ID,TIME,DV", "1,2,3", "1,2,3,4"), "line 3: 4 fields"),
        (("ID TIME DV", "1 2 3", "1,2,3"), "line 3: 1 fields"),
        (("ID,TIME,DV,NOTE", "1,2,3,a", '1,2,3,"open'), "line 3: cannot be split into fields"),
        (("ID,TIME,DV", "1,2,3\0"), "line 2: holds a NUL character"),
    ],
    ids=str,
)
def test_what_is_no_table_is_refused(lines, told):
    with pytest.raises(DataError, match=rf"^a\.csv[:,] {told}"):
        parse(*lines)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_is_not_there_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="there is no such file"):
        nonmem.read(tmp_path / name)


def test_a_file_that_is_no_text_is_refused_with_the_line(tmp_path):
    (tmp_path / "a.csv").write_bytes("ID,TIME,DV,UNIT\n1,0,2,µg\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.csv, line 2: byte 0xb5 is no text in UTF-8"):
        nonmem.read(tmp_path / "a.csv")


def test_a_file_that_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_bytes(b"\xff" * 21)
    monkeypatch.setattr(nonmem.reader, "LARGEST", 20)
    with pytest.raises(DataError, match=r"a\.csv: has 21 bytes, more than the limit of 20"):
        nonmem.read(tmp_path / "a.csv")


def of_python(**columns):
    """One bolus at 1 h, with other values."""
    return records([[Dose(1.0, 100.0)]])._replace(**{name: np.array([value]) for name, value in columns.items()})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"compartment": 1.5}, "CMT 1.5"),
        ({"compartment": 0}, "CMT 0"),
        ({"compartment": NAN}, "CMT nan"),
        ({"time": NAN}, "TIME nan"),
        ({"time": np.inf}, "TIME inf"),
        ({"amount": NAN}, "AMT nan"),
        ({"amount": -1}, "AMT -1"),
        ({"rate": NAN}, "RATE nan"),
        ({"interval": NAN}, "II nan"),
        ({"kind": 7}, "EVID 7"),
        ({"subject": -1}, "ID -1"),
        ({"observed": 3.0, "used": True}, "DV 3: is used"),
        ({"kind": 0, "amount": 0, "used": True}, "DV nan: is used"),
    ],
    ids=str,
)
def test_records_of_python_are_checked_too(changed, told):
    with pytest.raises(ScheduleError, match=f"^here 0: {told}"):
        check(of_python(**changed), lambda row: f"here {row}", ScheduleError)


def test_records_of_python_that_mean_something_pass():
    history = [Dose(0, 100, 2, every=12, count=3), Infusion(1, 50, rate=5, every=24, steady_state=True), Reset(50)]
    check(records([history, [], [Dose(3, 0)]]), str)


def test_no_records_pass():
    check(records([[]]), str)


def test_subjects_that_are_not_together_are_refused():
    with pytest.raises(DataError, match=r"^2: ID 0: the rows of a subject"):
        check(records([[Dose(0, 1)]] * 3)._replace(subject=np.array([0, 1, 0])), str)


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.0, "12"), (0.1, "0.1"), (1e-7, "1e-07"), (0.1 + 0.2, "0.30000000000000004"), (1e22, "1e+22"),
     (5e-324, "5e-324"), (-0.0, "-0"), (1e15, "1000000000000000"), (NAN, ".")],
    ids=str,
)  # fmt: skip
def test_numbers_are_written_in_their_shortest_form(value, text):
    table = parse("ID,TIME,DV", "1,0,1")
    changed = table._replace(records=table.records._replace(observed=np.array([value])))
    assert nonmem.render(changed) == f"ID,TIME,DV\n1,0,{text}\n"


@pytest.mark.parametrize(
    "lines",
    [
        ("ID,TIME,DV,MDV", "1,0,.,0", "1,1,.,1", "1,2,5,0"),
        ("TIME,dv,id,Amt,mdv", "0,.,1,100,0", "0,5,1,.,0"),
        ("C,ID,TIME,DV", "0,1,0,2", ".,1,1,2"),
        ("ID,TIME,DV,NOTE", '1,0,2," a ""b"", c"', '1,1,2,"two', 'lines"', "1,2,3, spaced "),
        ("ID,TIME,DV,CENS,LIMIT", "1,0,2,0,.", "1,1,2,-1,3"),
        ('"1, 2",ID,TIME,DV', "5,a b,0,2", '6,"x,y",0,2'),
    ],
    ids=str,
)
def test_what_is_canonical_is_written_as_it_was(lines):
    assert nonmem.render(parse(*lines)) == "\n".join(lines) + "\n"


def test_a_value_that_no_longer_counts_is_written_so():
    table = parse("ID,TIME,DV,MDV", "1,0,.,0", "1,1,5,0", "1,2,5,1")
    changed = table._replace(records=table.records._replace(used=np.array([False, False, True])))
    assert nonmem.render(changed) == "ID,TIME,DV,MDV\n1,0,.,0\n1,1,5,1\n1,2,5,0\n"


def test_a_written_file_is_read_as_it_was(tmp_path):
    table = nonmem.read(EVERY_KIND)
    nonmem.write(tmp_path / "new" / "a.csv", table)
    same(nonmem.read(tmp_path / "new" / "a.csv"), table)


def test_covariates_asked_for_in_another_order_come_back():
    table = parse("ID,TIME,DV,WT,AGE,SEX", "1,0,2,70,30,1", covariates=["AGE", "WT"])
    same(nonmem.parse(nonmem.render(table), "a.csv", covariates=table.covariates), table)


def test_a_column_without_values_is_not_written():
    with pytest.raises(DataError, match="column WT: the table has no values"):
        nonmem.render(parse("ID,TIME,DV", "1,0,2")._replace(columns=("ID", "TIME", "DV", "WT")))


@pytest.mark.parametrize(
    ("history", "columns"),
    [
        ([Dose(0, 100)], "ID TIME AMT"),
        ([Dose(0, 100, 2)], "ID TIME AMT CMT"),
        ([Dose(0, 100, every=12, count=3)], "ID TIME AMT ADDL II"),
        ([Infusion(0, 100, rate=5, every=12, steady_state=True)], "ID TIME AMT RATE II SS"),
        ([Dose(0, 100), Reset(3)], "ID TIME EVID AMT"),
        ([Reset(3)], "ID TIME EVID DV"),
    ],
    ids=str,
)
def test_columns_are_those_that_the_records_need(history, columns):
    assert nonmem.of_records(records([history])).columns == tuple(columns.split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ids": ["a"]}, "1 ids for 2 subjects"),
        ({"ids": ["a", "b", "c"]}, "subject 2 has no row"),
        ({"ids": ["1", "1.0"]}, r"ids\[1\] '1.0'"),
        ({"ids": ["a", "#b"]}, r"ids\[1\] '#b'"),
        ({"ids": ["NaN", "b"]}, r"ids\[0\] 'NaN'"),
        ({"ids": [" a", "b"]}, r"ids\[0\] ' a'"),
        ({"covariates": ["WT"]}, r"1 names of covariates, and values of shape \[2, 0\]"),
    ],
    ids=str,
)
def test_names_that_could_not_be_read_again_are_refused(options, told):
    with pytest.raises(DataError, match=told):
        nonmem.of_records(records([[Dose(0, 1)], [Dose(0, 1)]]), **options)


@pytest.mark.parametrize(
    ("name", "value"), [("TIME", 1.0), ("limit", 1.0), ("a\nb", 1.0), ("", 1.0), ("WT", NAN), ("WT", np.inf)], ids=str
)
def test_covariates_that_could_not_be_read_again_are_refused(name, value):
    with pytest.raises(DataError, match="covariate"):
        nonmem.of_records(of_python(covariates=[value]), covariates=[name])


def test_a_subject_without_rows_is_refused():
    with pytest.raises(DataError, match="subject 0 has no row"):
        nonmem.of_records(records([[], [Dose(0, 1)]]))


finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
none, zero, compartments = st.just(NAN), st.just(0.0), st.integers(1, 3)
courses = st.one_of(st.just((0, 0.0, 0)), st.tuples(st.integers(0, 5), positive, st.integers(0, 2)))
gifts = st.tuples(positive, compartments, st.one_of(st.sampled_from([0.0, -1.0, -2.0]), positive), courses)
# Kind, amount, compartment, rate, (additional, interval, steady), observed, whether it is to count.
events = st.one_of(
    st.tuples(st.just(0), zero, st.integers(0, 3), zero, st.just((0, 0.0, 0)), st.one_of(finite, none), st.booleans()),
    st.builds(lambda kind, gift, seen: (kind, *gift, seen, False),
              st.sampled_from([1, 4]), gifts, st.one_of(finite, none)),
    st.builds(lambda kind, place, rate, steady: (kind, 0.0, place, rate, (0, 0.0, steady), NAN, False),
              st.sampled_from([1, 4]), compartments, positive, st.sampled_from([1, 2])),
    st.builds(lambda kind: (kind, 0.0, 1, 0.0, (0, 0.0, 0), NAN, False), st.sampled_from([2, 3])),
)  # fmt: skip
labels = st.text("abZ ,\"'é#0", max_size=4).map(lambda text: f"s{text}e")


@st.composite
def tables(draw):
    subjects = draw(st.lists(st.lists(events, min_size=1, max_size=4), min_size=1, max_size=3))
    flat = [event for subject in subjects for event in subject]
    count, columns = len(flat), draw(st.integers(0, 2))
    kind, amount, compartment, rate, course, observed, wanted = zip(*flat, strict=True)
    additional, interval, steady = zip(*course, strict=True)
    times = [sorted(draw(st.lists(finite, min_size=len(s), max_size=len(s)))) for s in subjects]
    numbers = draw(st.lists(finite, min_size=count * columns, max_size=count * columns))
    censored = draw(st.one_of(st.none(), st.lists(st.sampled_from([-1, 0, 1]), min_size=count, max_size=count)))
    limit = draw(st.one_of(st.none(), st.lists(st.one_of(finite, none), min_size=count, max_size=count)))
    drawn = Records(
        np.repeat(np.arange(len(subjects)), [len(s) for s in subjects]), np.concatenate(times), np.array(kind),
        np.array(amount), np.array(compartment), np.array(rate), np.array(additional), np.array(interval),
        np.array(steady), np.array(observed), np.array(wanted) & ~np.isnan(observed),
        np.array(numbers).reshape(count, columns) if columns else None,
        None if censored is None else np.array(censored), None if limit is None else np.array(limit),
    )  # fmt: skip
    ids = draw(st.lists(labels, min_size=len(subjects), max_size=len(subjects), unique=True))
    return nonmem.of_records(drawn, ids, ("WT", "a, b")[:columns])


@settings(deadline=None)
@given(tables())
def test_any_table_is_read_as_it_was_written(table):
    same(nonmem.parse(nonmem.render(table), "a.csv"), table)


@settings(deadline=None)
@given(tables())
def test_what_was_written_is_written_the_same_again(table):
    text = nonmem.render(table)
    assert nonmem.render(nonmem.parse(text, "a.csv")) == text


def test_a_dose_without_a_column_of_amounts_is_refused():
    with pytest.raises(DataError, match=r"line 2: EVID 1: gives a dose, and there is no column AMT"):
        nonmem.parse("ID,TIME,DV,DOSE,EVID\n1,0,.,100,1\n1,2,5,.,0\n", "mine.csv")
