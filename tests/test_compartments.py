"""Known kinetics: fields against matrices, matrices against textbook formulas, steady states against many doses."""

import itertools

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.special import lambertw

from pk_event_fit import compartments
from pk_event_fit.arrays.jax import JaxArrays
from pk_event_fit.arrays.torch import TorchArrays
from pk_event_fit.compartments import KINETICS, TYPICAL, TwoCompartment, advance, lookup, propagators, steady_state
from pk_event_fit.errors import ConfigError, ScheduleError

EPS = np.finfo(np.float64).eps
ALL = list(KINETICS.values())
LINEAR = [model for model in ALL if model.linear]
SUBSTRATE = KINETICS["michaelis_menten"]
PATIENTS = [model for model in ALL if model is not SUBSTRATE]
SATURABLE = [model for model in PATIENTS if "vmax" in model.parameters]
CLEARANCES = [model for model in LINEAR if "clearance" in model.parameters]
ONE, TWO, THREE = KINETICS["pk_1c"], KINETICS["pk_2c"], KINETICS["pk_3c"]
DEPOT, EFFECT, INDIRECT = KINETICS["pk_1c_depot"], KINETICS["pk_1c_effect"], KINETICS["pk_1c_indirect"]
HOURS = np.array([0.5, 1.0, 2.0, 6.0, 12.0, 24.0, 48.0])
# Of these the slowest rate is 0.06 1/h, in three compartments: what 720 h leave of anything is 2e-19.
QUICK = {
    "clearance": 5.0, "elimination_rate": 0.5, "central_volume": 10.0, "intercompartmental_clearance": 4.0,
    "peripheral_volume": 15.0, "second_intercompartmental_clearance": 2.0, "second_peripheral_volume": 20.0,
    "k12": 0.4, "k21": 0.27, "k13": 0.2, "k31": 0.1, "absorption_rate": 1.2, "ke0": 0.3,
}  # fmt: skip
# Exponentials of matrices with a norm up to 70 are squared some 5 times, and each time a few rounding errors double:
# 1e-14 of what is exact; of the largest amounts, hundreds of mg, where an entry is much smaller than others.
EXACT = {"rtol": 1e-11, "atol": 1e-10}
COURSES = {"bolus": (100.0, 0.0), "infusion of 2 h": (100.0, 50.0), "infusion of 30 h": (120.0, 4.0)}


def over(models):
    return pytest.mark.parametrize("kinetics", models, ids=lambda model: model.name)


def drawn(kinetics, subjects=6):
    """Parameters around the typical patient's and amounts from 0 to 100 mg, at random."""
    random = np.random.default_rng(7)
    spread = np.exp(0.3 * random.standard_normal((subjects, len(kinetics.parameters))))
    return np.array(kinetics.typical) * spread, random.uniform(0, 100, (subjects, len(kinetics.compartments)))


def quick(kinetics):
    return np.array([QUICK[name] for name in kinetics.parameters])


def named(kinetics, parameters):
    return {name: parameters[..., k] for k, name in enumerate(kinetics.parameters)}


def field(kinetics, parameters, amounts):
    return kinetics(np, {}, None, amounts, parameters)


def times(matrix, vector):
    return (matrix @ vector[..., None])[..., 0]


def unit(kinetics, compartment):
    return np.eye(len(kinetics.compartments))[compartment - 1]


def solved(kinetics, parameters, initial, hours, rate=0.0):
    """The field by an adaptive solver, at its limit."""
    solution = solve_ivp(
        lambda t, y: field(kinetics, parameters, y) + rate,
        (0.0, hours[-1]), initial, "DOP853", t_eval=hours, rtol=1e-12, atol=1e-12,
    )  # fmt: skip
    assert solution.success
    return solution.y.T


def test_the_models_are_a_closed_set():
    sizes = [f"pk_{size}c{depot}" for size in (1, 2, 3) for depot in ("", "_depot")]
    wanted = {size + suffix for size in sizes for suffix in ("", "_rates", "_mm")} | {"pk_1c_effect", "pk_1c_indirect"}
    assert set(KINETICS) == wanted | {"michaelis_menten"}


def test_a_model_is_looked_up_by_its_name():
    assert lookup("pk_3c_depot_rates").name == "pk_3c_depot_rates"


def test_an_unknown_name_is_refused_with_all_that_there_are():
    with pytest.raises(ConfigError, match=r"kinetics=pk_4c: .*pk_1c, .*pk_3c_depot_mm, pk_1c_effect, pk_1c_indirect"):
        lookup("pk_4c")


@over(ALL)
def test_every_parameter_has_a_name_of_its_own_a_unit_and_a_typical_value(kinetics):
    size = len(kinetics.parameters)
    assert len(set(kinetics.parameters)) == len(kinetics.units) == len(kinetics.typical) == size
    assert min(kinetics.typical) > 0


@over(PATIENTS)
def test_a_depot_is_the_first_compartment_and_the_central_one_is_observed(kinetics):
    assert ("depot" in kinetics.compartments) == ("depot" in kinetics.name)
    assert kinetics.compartments[: kinetics.observed + 1] in (("central",), ("depot", "central"))


def test_parameters_stand_in_the_order_that_they_are_written_in():
    flows = ("intercompartmental_clearance", "peripheral_volume")
    second = ("second_intercompartmental_clearance", "second_peripheral_volume")
    assert KINETICS["pk_3c_depot"].parameters == ("clearance", "central_volume", *flows, *second, "absorption_rate")
    assert KINETICS["pk_2c_mm"].parameters == ("vmax", "km", "central_volume", *flows)
    assert KINETICS["pk_3c_rates"].parameters == ("elimination_rate", "central_volume", "k12", "k21", "k13", "k31")


def test_the_two_compartment_model_keeps_its_names_and_values():
    assert compartments.PARAMETERS[:2] == ("clearance", "central_volume")
    assert compartments.PARAMETERS[2:] == ("intercompartmental_clearance", "peripheral_volume")
    assert compartments.UNITS == ("L/h", "L", "L/h", "L")
    assert TYPICAL == (1.0, 10.0, 0.5, 20.0)
    assert compartments.COMPARTMENTS == ("central", "peripheral")


def test_the_two_compartment_field_keeps_its_bits():
    parameters, amounts = drawn(TWO, 50)
    (clearance, v1, q, v2), (central, peripheral) = parameters.T, amounts.T
    flow = q / v1 * central - q / v2 * peripheral
    wanted = np.stack([-clearance / v1 * central - flow, flow], -1)
    np.testing.assert_array_equal(field(TwoCompartment(), parameters, amounts), wanted)


def test_the_two_compartment_matrix_keeps_its_bits():
    parameters, _ = drawn(TWO, 50)
    clearance, v1, q, v2 = parameters.T
    wanted = np.array([[-(clearance + q) / v1, q / v2], [q / v1, -q / v2]]).transpose(2, 0, 1)
    np.testing.assert_array_equal(compartments.rate_matrix(parameters), wanted)


def test_the_two_compartment_propagators_keep_their_bits():
    parameters, _ = drawn(TWO)
    wanted = expm(compartments.rate_matrix(parameters)[:, None] * HOURS[:, None, None])
    np.testing.assert_array_equal(propagators(parameters, HOURS), wanted)


@over(LINEAR)
def test_the_field_is_the_matrix_times_the_state(kinetics):
    parameters, amounts = drawn(kinetics)
    matrix = kinetics.rate_matrix(parameters)
    off = abs(field(kinetics, parameters, amounts) - times(matrix, amounts))
    # Relative to the terms of the sums, which may cancel: some tens of roundings of each.
    assert (off <= 1e-13 * times(abs(matrix), amounts)).all()


@pytest.mark.parametrize("arrays", [JaxArrays("float64"), TorchArrays("float64")], ids=["jax", "torch"])
@over(ALL)
def test_the_field_is_the_same_in_every_array_library(kinetics, arrays):
    parameters, amounts = drawn(kinetics)
    found = arrays.to_numpy(kinetics(arrays.xp, {}, None, arrays.asarray(amounts), arrays.asarray(parameters)))
    # Sums of a few flows up to 200 mg/h, each right to some rounding errors.
    np.testing.assert_allclose(found, field(kinetics, parameters, amounts), rtol=0, atol=20 * EPS * 200)


@over(ALL)
def test_the_field_takes_one_subject_as_well_as_many(kinetics):
    parameters, amounts = drawn(kinetics)
    many = field(kinetics, parameters, amounts)
    np.testing.assert_array_equal([field(kinetics, *row) for row in zip(parameters, amounts, strict=True)], many)


@pytest.mark.parametrize("name", [f"pk_{size}c{depot}" for size in (1, 2, 3) for depot in ("", "_depot")])
def test_rate_constants_are_clearances_over_volumes(name):
    one, other = KINETICS[name], KINETICS[f"{name}_rates"]
    parameters, amounts = drawn(one)
    p = named(one, parameters)
    micro = {"elimination_rate": p["clearance"] / p["central_volume"]} | p
    for prefix, there, back in (("", "k12", "k21"), ("second_", "k13", "k31")):
        if (flow := p.get(f"{prefix}intercompartmental_clearance")) is not None:
            micro |= {there: flow / p["central_volume"], back: flow / p[f"{prefix}peripheral_volume"]}
    same = np.stack([micro[name] for name in other.parameters], -1)
    # Products of the same numbers, rounded in another order; sums of a few, below 200 mg/h.
    wanted = field(one, parameters, amounts)
    np.testing.assert_allclose(field(other, same, amounts), wanted, rtol=0, atol=20 * EPS * 200)
    np.testing.assert_allclose(other.rate_matrix(same), one.rate_matrix(parameters), rtol=10 * EPS)
    np.testing.assert_array_equal(other.concentration(same, amounts), one.concentration(parameters, amounts))


@over([model for model in CLEARANCES + SATURABLE if model is not EFFECT])
def test_what_leaves_the_body_is_what_is_eliminated(kinetics):
    parameters, amounts = drawn(kinetics)
    p, concentration = named(kinetics, parameters), kinetics.concentration(parameters, amounts)
    cleared = p["clearance"] if "clearance" in p else p["vmax"] / (p["km"] + concentration)
    # Of flows below 200 mg/h that cancel, each right to some rounding errors.
    total = field(kinetics, parameters, amounts).sum(-1)
    np.testing.assert_allclose(total, -cleared * concentration, rtol=0, atol=20 * EPS * 200)


@over(PATIENTS)
def test_the_concentration_is_the_central_amount_over_its_volume(kinetics):
    parameters, amounts = drawn(kinetics)
    central = amounts[:, kinetics.compartments.index("central")]
    wanted = central / named(kinetics, parameters)["central_volume"]
    np.testing.assert_array_equal(kinetics.concentration(parameters, amounts), wanted)


def three_compartments(clearance, v1, q2, v2, q3, v3):
    """Written out here again, so that a slip in the package's own has something to disagree with."""
    return np.array([[-(clearance + q2 + q3) / v1, q2 / v2, q3 / v3], [q2 / v1, -q2 / v2, 0], [q3 / v1, 0, -q3 / v3]])


def test_the_three_compartment_matrix_is_that_of_the_textbook():
    # Sums of three quotients.
    np.testing.assert_allclose(THREE.rate_matrix(THREE.typical), three_compartments(*THREE.typical), rtol=4 * EPS)


def test_a_depot_feeds_the_central_compartment_and_nothing_feeds_it():
    kinetics = KINETICS["pk_3c_depot"]
    wanted = np.zeros((4, 4))
    wanted[:2, 0] = -1.5, 1.5
    wanted[1:, 1:] = three_compartments(*THREE.typical)
    np.testing.assert_allclose(kinetics.rate_matrix([*THREE.typical, 1.5]), wanted, rtol=4 * EPS)


@over(LINEAR)
def test_the_exact_solution_is_that_of_the_field(kinetics):
    parameters, amounts = drawn(kinetics, 1)
    rate = 3.0 * unit(kinetics, 1)
    found = advance(kinetics, parameters[0], amounts[0], HOURS, rate)
    # Hundreds of the solver's steps, each within 1e-12 of amounts up to 300 mg.
    wanted = solved(kinetics, parameters[0], amounts[0], HOURS, rate)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@over(LINEAR)
def test_propagators_carry_as_the_exact_solution_does(kinetics):
    parameters, amounts = drawn(kinetics)
    found = np.einsum("bkij,bj->bki", propagators(parameters, HOURS, kinetics), amounts)
    wanted = advance(kinetics, parameters[:, None], amounts[:, None], HOURS)
    np.testing.assert_allclose(found, wanted, **EXACT)


@over(LINEAR)
def test_no_time_changes_nothing(kinetics):
    parameters, amounts = drawn(kinetics)
    found = advance(kinetics, parameters, amounts, 0.0, np.ones_like(amounts))
    np.testing.assert_allclose(found, amounts, rtol=4 * EPS)


def test_a_bolus_into_one_compartment_decays_exponentially():
    found = advance(ONE, [1.0, 10.0], [100.0], HOURS)
    np.testing.assert_allclose(found[:, 0], 100 * np.exp(-0.1 * HOURS), **EXACT)


def test_an_infusion_into_one_compartment_rises_and_decays():
    during = advance(ONE, [1.0, 10.0], [0.0], HOURS, [5.0])
    np.testing.assert_allclose(during[:, 0], 5 / 0.1 * -np.expm1(-0.1 * HOURS), **EXACT)
    after = advance(ONE, [1.0, 10.0], during[3], HOURS)
    np.testing.assert_allclose(after[:, 0], 5 / 0.1 * -np.expm1(-0.1 * 6.0) * np.exp(-0.1 * HOURS), **EXACT)


def test_absorption_follows_the_bateman_function():
    found = advance(DEPOT, [1.0, 10.0, 1.0], [100.0, 0.0], HOURS)
    wanted = 100 * 1.0 / (1.0 - 0.1) * (np.exp(-0.1 * HOURS) - np.exp(-1.0 * HOURS))
    np.testing.assert_allclose(found[:, 0], 100 * np.exp(-HOURS), **EXACT)
    np.testing.assert_allclose(found[:, 1], wanted, **EXACT)


@pytest.mark.parametrize("nearly", [0.0, 1e-9])
def test_absorption_may_be_as_fast_as_elimination(nearly):
    found = advance(DEPOT, [1.0, 10.0, 0.1 * (1 + nearly)], [100.0, 0.0], HOURS)
    # The Bateman function is 0 / 0 there; its limit is D k t exp(-k t), and moves by no more than `nearly` times 5.
    wanted = 100 * 0.1 * HOURS * np.exp(-0.1 * HOURS)
    np.testing.assert_allclose(found[:, 1], wanted, rtol=1e-11 + 5 * nearly, atol=1e-10)


def test_a_bolus_into_two_compartments_is_biexponential():
    clearance, v1, q, v2 = TYPICAL
    k10, k12, k21 = clearance / v1, q / v1, q / v2
    total = k10 + k12 + k21
    alpha = (total + np.sqrt(total**2 - 4 * k10 * k21)) / 2
    beta = k10 * k21 / alpha
    fast, slow = np.exp(-alpha * HOURS), np.exp(-beta * HOURS)
    central = 100 / (alpha - beta) * ((alpha - k21) * fast + (k21 - beta) * slow)
    peripheral = 100 * k12 / (alpha - beta) * (slow - fast)
    found = advance(TWO, TYPICAL, [100.0, 0.0], HOURS)
    np.testing.assert_allclose(found, np.stack([central, peripheral], -1), **EXACT)


def test_a_bolus_into_three_compartments_is_the_sum_of_three_eigenvectors():
    rates, vectors = np.linalg.eig(three_compartments(*THREE.typical))
    shares = np.linalg.solve(vectors, [100.0, 0.0, 0.0])
    wanted = np.exp(HOURS[:, None] * rates) * shares @ vectors.T
    # Three terms up to 100 mg, whose eigenvectors are right to rounding errors times their condition, about 10.
    np.testing.assert_allclose(advance(THREE, THREE.typical, [100.0, 0.0, 0.0], HOURS), wanted, rtol=0, atol=1e-10)


@over([DEPOT, KINETICS["pk_2c"], KINETICS["pk_3c_depot"]])
def test_without_elimination_nothing_is_lost(kinetics):
    parameters = np.array(kinetics.typical)
    parameters[0] = 0.0
    start = 100 * unit(kinetics, 1)
    found = advance(kinetics, parameters, start, HOURS, 5 * unit(kinetics, 1))
    np.testing.assert_allclose(found.sum(-1), 100 + 5 * HOURS, **EXACT)


@over(LINEAR)
def test_ten_thousand_hours_overflow_nothing(kinetics):
    parameters, rate = quick(kinetics), 5 * unit(kinetics, 1)
    found = advance(kinetics, parameters, 100 * unit(kinetics, 1), 1e4, rate)
    # Norms of 2e4 are squared 13 times: 2^13 rounding errors at the worst, 2e-12.
    np.testing.assert_allclose(found, steady_state(kinetics, parameters, rate=5.0), rtol=1e-9)


def test_spans_of_subjects_broadcast():
    parameters, amounts = drawn(TWO, 3)
    spans, rates = np.array([1.0, 0.0, 30.0]), np.array([[0.0, 0.0], [5.0, 0.0], [1.0, 2.0]])
    wanted = [advance(TWO, *row) for row in zip(parameters, amounts, spans, rates, strict=True)]
    np.testing.assert_allclose(advance(TWO, parameters, amounts, spans, rates), wanted, rtol=100 * EPS)


def test_boluses_accumulate_by_the_textbook_ratio():
    peak = steady_state(ONE, [1.0, 10.0], amount=100.0, interval=12.0, phase=0.0)
    np.testing.assert_allclose(peak, [100 / -np.expm1(-0.1 * 12)], **EXACT)


def test_the_trough_is_a_dose_below_the_peak():
    peak = steady_state(TWO, TYPICAL, amount=100.0, interval=12.0, phase=0.0)
    trough = steady_state(TWO, TYPICAL, amount=100.0, interval=12.0)
    np.testing.assert_allclose(peak - trough, [100.0, 0.0], rtol=0, atol=1e-12 * 1000)


def test_short_infusions_accumulate_by_the_textbook_ratio():
    found = steady_state(ONE, [1.0, 10.0], amount=100.0, rate=50.0, interval=12.0)
    wanted = 50 / 0.1 * -np.expm1(-0.1 * 2) * np.exp(-0.1 * 10) / -np.expm1(-0.1 * 12)
    np.testing.assert_allclose(found, [wanted], **EXACT)


@over(CLEARANCES)
def test_an_infusion_without_end_holds_the_rate_over_the_clearance(kinetics):
    parameters, _ = drawn(kinetics)
    found = steady_state(kinetics, parameters, rate=5.0)
    # A linear system whose condition is about 1e3.
    np.testing.assert_allclose(kinetics.concentration(parameters, found), 5 / parameters[:, 0], **EXACT)


@over(LINEAR)
def test_an_infusion_of_two_intervals_is_one_without_end_at_twice_the_rate(kinetics):
    parameters, phase = quick(kinetics), np.array([0.0, 5.0, 12.0])
    found = steady_state(kinetics, parameters, amount=96.0, rate=4.0, interval=12.0, phase=phase)
    wanted = steady_state(kinetics, parameters, rate=8.0)
    np.testing.assert_allclose(found, np.stack([wanted] * 3), **EXACT)


@over(LINEAR)
def test_a_dose_and_an_interval_lead_the_steady_state_back_to_itself(kinetics):
    parameters, _ = drawn(kinetics)
    for compartment in range(1, len(kinetics.compartments) + 1):
        before = steady_state(kinetics, parameters, compartment=compartment, amount=100.0, interval=12.0)
        again = advance(kinetics, parameters, before + 100 * unit(kinetics, compartment), 12.0)
        # I - Phi has a condition up to 1 / (12 h * the slowest rate, some 0.002 1/h) = 40, of thousands of mg.
        np.testing.assert_allclose(again, before, rtol=1e-11, atol=1e-9)


def piled_up(kinetics, parameters, amount, rate, interval, phase, doses=60):
    """The state so long after the last of many doses, from cut to cut; just before the next at `phase = interval`."""
    starts = interval * np.arange(doses)
    ends = starts + (amount / rate if rate else 0.0)
    end = starts[-1] + phase
    cuts = np.unique([*starts, *ends, end])
    state, into = np.zeros(len(kinetics.compartments)), unit(kinetics, 1)
    for now, then in itertools.pairwise(cuts[cuts <= end]):
        state = state + (amount * into if not rate and now in starts else 0.0)
        running = np.sum((starts <= now) & (now < ends))
        state = advance(kinetics, parameters, state, then - now, rate * running * into)
    return state


@pytest.mark.parametrize("phase", [5.0, 7.0, 12.0])
@pytest.mark.parametrize("course", COURSES)
@over(LINEAR)
def test_the_steady_state_is_where_many_doses_lead(kinetics, course, phase):
    amount, rate = COURSES[course]
    wanted = piled_up(kinetics, quick(kinetics), amount, rate, 12.0, phase)
    given = None if phase == 12.0 else phase
    found = steady_state(kinetics, quick(kinetics), amount=amount, rate=rate, interval=12.0, phase=given)
    np.testing.assert_allclose(found, wanted, **EXACT)


@over(LINEAR)
def test_at_the_end_of_the_interval_it_is_just_before_the_next_dose(kinetics):
    parameters, _ = drawn(kinetics)
    course = {"amount": 120.0, "rate": 4.0, "interval": 12.0}
    wanted = steady_state(kinetics, parameters, **course)
    np.testing.assert_allclose(steady_state(kinetics, parameters, phase=12.0, **course), wanted, **EXACT)


def test_subjects_of_a_batch_have_their_own_courses():
    parameters, _ = drawn(TWO, 3)
    courses = [
        {"amount": 100.0, "rate": 0.0, "interval": 12.0, "phase": 0.0},
        {"amount": 50.0, "rate": 25.0, "interval": 8.0, "phase": 1.0},
        {"amount": 120.0, "rate": 4.0, "interval": 24.0, "phase": 24.0},
    ]
    together = {name: np.array([course[name] for course in courses]) for name in courses[0]}
    alone = [steady_state(TWO, row, **course) for row, course in zip(parameters, courses, strict=True)]
    np.testing.assert_allclose(steady_state(TWO, parameters, **together), alone, **EXACT)


def test_what_the_dose_does_not_reach_need_not_be_eliminated_and_is_empty():
    # Without exchange, the peripheral compartment would keep for ever what it does not have.
    found = steady_state(TWO, [1.0, 10.0, 0.0, 20.0], amount=100.0, interval=12.0)
    wanted = steady_state(ONE, [1.0, 10.0], amount=100.0, interval=12.0)
    np.testing.assert_allclose(found, [wanted[0], 0.0], **EXACT)


@pytest.mark.parametrize(
    ("name", "parameters", "compartment"),
    [
        ("pk_1c", [0.0, 10.0], 1),
        ("pk_2c", [0.0, 10.0, 0.5, 20.0], 1),
        ("pk_2c_rates", [0.1, 10.0, 0.05, 0.0], 1),
        ("pk_2c", [1.0, 10.0, 0.0, 20.0], 2),
        ("pk_1c_depot", [1.0, 10.0, 0.0], 1),
    ],
    ids=["no clearance", "no clearance of two", "a trap", "a dose into a trap", "no absorption"],
)
@pytest.mark.parametrize("course", [{"amount": 100.0, "interval": 12.0}, {"rate": 5.0}], ids=["bolus", "endless"])
def test_without_elimination_there_is_no_steady_state(name, parameters, compartment, course):
    with pytest.raises(ConfigError, match=rf"kinetics={name}, .*no steady state, with .*{parameters[-1]}"):
        steady_state(KINETICS[name], parameters, compartment=compartment, **course)


def test_a_subject_without_a_steady_state_is_named():
    with pytest.raises(ConfigError, match=r"subject 1: .*clearance 0\.0 L/h, central_volume 20\.0 L"):
        steady_state(ONE, [[1.0, 10.0], [0.0, 20.0]], amount=100.0, interval=12.0)


@pytest.mark.parametrize(
    ("course", "words"),
    [
        ({"amount": -1.0, "interval": 12.0}, r"amount -1\.0 mg"),
        ({"amount": np.nan, "interval": 12.0}, "amount nan mg"),
        ({"amount": 100.0, "interval": np.inf}, "interval inf h"),
        ({"amount": 100.0, "interval": 12.0, "rate": -2.0}, r"rate -2\.0 mg/h"),
        ({"amount": 100.0}, "needs an interval above 0"),
        ({}, "needs a rate"),
        ({"amount": 100.0, "rate": 5.0}, "needs an interval above 0"),
        ({"rate": 5.0, "interval": 12.0}, "an infusion needs an amount"),
        ({"amount": [100.0, 0.0], "rate": 5.0, "interval": [12.0, 0.0]}, "a call of their own"),
        ({"amount": 100.0, "interval": 12.0, "phase": 12.5}, r"phase 12\.5 h"),
        ({"amount": 100.0, "interval": 12.0, "phase": -0.5}, r"phase -0\.5 h"),
        ({"amount": 100.0, "interval": 12.0, "compartment": 0}, "compartment 0: pk_2c has 1 to 2"),
        ({"amount": 100.0, "interval": 12.0, "compartment": 3}, "compartment 3: pk_2c has 1 to 2"),
    ],
    ids=str,
)
def test_an_impossible_course_is_refused(course, words):
    with pytest.raises(ScheduleError, match=rf"steady state, .*{words}"):
        steady_state(TWO, TYPICAL, **course)


@over([model for model in ALL if not model.linear])
def test_what_is_not_linear_has_no_closed_form(kinetics):
    with pytest.raises(ConfigError, match=f"kinetics={kinetics.name}: is not linear"):
        advance(kinetics, kinetics.typical, np.zeros(len(kinetics.compartments)), 1.0)
    with pytest.raises(ConfigError, match=f"kinetics={kinetics.name}: is not linear"):
        steady_state(kinetics, kinetics.typical, amount=100.0, interval=12.0)


def test_another_number_of_parameters_is_refused_with_what_they_are():
    with pytest.raises(ConfigError, match=r"pk_1c_depot: .*\[4\]; needs 3: clearance, central_volume, absorption_rate"):
        DEPOT.rate_matrix(TYPICAL)


@pytest.mark.parametrize("volume", [0.0, np.nan])
def test_a_rate_that_is_not_finite_is_refused(volume):
    with pytest.raises(ConfigError, match=rf"pk_1c, subject 1: a rate is not finite.*central_volume {volume} L"):
        ONE.rate_matrix([[1.0, 10.0], [1.0, volume]])


@over(SATURABLE)
def test_far_below_saturation_elimination_is_that_of_the_clearance_vmax_over_km(kinetics):
    parameters, amounts = drawn(kinetics)
    linear, p = KINETICS[kinetics.name.removesuffix("_mm")], named(kinetics, parameters)
    same = np.stack([p["vmax"] / p["km"] if name == "clearance" else p[name] for name in linear.parameters], -1)
    # 1e-8 mg in 10 L are 1e-9 mg/L: 1e-9 of a km above 1 mg/L.
    found, wanted = field(kinetics, parameters, 1e-10 * amounts), field(linear, same, 1e-10 * amounts)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8 * abs(wanted).max())


def test_far_above_saturation_elimination_is_vmax():
    kinetics = KINETICS["pk_1c_mm"]
    # 5e10 mg are 1e9 times km V.
    np.testing.assert_allclose(field(kinetics, np.array([5.0, 5.0, 10.0]), np.array([5e10])), [-5.0], rtol=2e-9)


def test_at_km_elimination_is_half_of_vmax():
    found = field(KINETICS["pk_1c_mm"], np.array([5.0, 4.0, 8.0]), np.array([32.0]))
    assert found.tolist() == [-2.5]


def test_a_saturating_bolus_follows_the_lambert_function():
    vmax, km, volume = 5.0, 5.0, 10.0
    hours = np.linspace(0, 120, 25)
    # Beal, J. Pharmacokinet. Biopharm. 10 (1982) 109: a + log(a) falls by vmax / (km V) an hour, where a = A / (km V).
    start = 300 / (km * volume)
    wanted = km * volume * lambertw(start * np.exp(start - vmax / (km * volume) * hours)).real
    found = solved(KINETICS["pk_1c_mm"], np.array([vmax, km, volume]), [300.0], hours)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-9)


def test_a_substrate_is_used_up_as_the_lambert_function_tells():
    vmax, km, minutes = 7.0, 100.0, np.linspace(0, 100, 20)
    # Schnell & Mendoza, J. Theor. Biol. 187 (1997) 207.
    for start in (300.0, 50.0):
        wanted = km * lambertw(start / km * np.exp((start - vmax * minutes) / km)).real
        found = solved(SUBSTRATE, np.array([vmax, km]), [start], minutes)
        np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-9)


def test_a_substrate_is_a_concentration():
    assert SUBSTRATE.concentration(np.array([7.0, 100.0]), np.array([30.0])) == 30.0
    assert (SUBSTRATE.units, SUBSTRATE.amount_unit) == (("mmol/L/min", "mmol/L"), "mmol/L")


def test_an_effect_compartment_takes_nothing_out_of_the_central_one():
    parameters, amounts = drawn(EFFECT)
    found = field(EFFECT, parameters, amounts)[:, :1]
    np.testing.assert_array_equal(found, field(ONE, parameters[:, :2], amounts[:, :1]))


def test_at_equilibrium_the_effect_compartment_holds_the_central_concentration():
    parameters, _ = drawn(EFFECT)
    found = steady_state(EFFECT, parameters, rate=5.0)
    np.testing.assert_allclose(found[:, 1] / parameters[:, 1], 5 / parameters[:, 0], **EXACT)


def test_the_effect_compartment_lags_as_absorption_does():
    found = advance(EFFECT, [1.0, 10.0, 0.3], [100.0, 0.0], HOURS)
    wanted = 100 * 0.3 / (0.3 - 0.1) * (np.exp(-0.1 * HOURS) - np.exp(-0.3 * HOURS))
    np.testing.assert_allclose(found[:, 1], wanted, **EXACT)


@over(ALL)
def test_before_any_dose_every_model_stands_still(kinetics):
    parameters, _ = drawn(kinetics)
    rest = kinetics.resting(parameters)
    # kin less kout times kin / kout, where kin is about 10 an hour.
    np.testing.assert_allclose(field(kinetics, parameters, rest), np.zeros_like(rest), rtol=0, atol=4 * EPS * 40)


def test_only_a_response_rests_above_nothing():
    np.testing.assert_array_equal(INDIRECT.resting(INDIRECT.typical), [0.0, 100.0])
    assert not any(kinetics.resting(kinetics.typical).any() for kinetics in ALL if kinetics is not INDIRECT)


def test_a_constant_concentration_moves_the_response_to_its_inhibited_level():
    # 20 mg in 10 L are the ic50, which inhibits by half of imax.
    found = field(INDIRECT, np.array([1.0, 10.0, 10.0, 0.1, 0.9, 2.0]), np.array([20.0, 100 * (1 - 0.45)]))
    np.testing.assert_allclose(found, [-2.0, 0.0], rtol=4 * EPS, atol=4 * EPS * 10)


def test_a_response_falls_after_a_dose_and_returns():
    hours = np.linspace(0, 480, 97)
    start = INDIRECT.resting(INDIRECT.typical) + np.array([100.0, 0.0])
    response = solved(INDIRECT, np.array(INDIRECT.typical), start, hours)[:, 1]
    # For 10 h it is inhibited by 0.58 or more, and so falls below 100 (1 - 0.58 (1 - exp(-1))).
    assert response.min() < 63.4
    # Of the deviation 10 * 480 * 4.5 * exp(-48) = 3e-17 is left, and the solver's error.
    np.testing.assert_allclose(response[-1], 100.0, rtol=1e-9)
